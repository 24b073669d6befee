"""A trained model as it was saved, with the encoders that were tuned together with it."""

from __future__ import annotations

from pathlib import Path

from vavl.errors import StoreError
from vavl.features.tunable import rebuild_encoder
from vavl.models.base import EmotionModel
from vavl.models.pretrained import ENCODERS_FILE, read_encoders
from vavl.models.registry import load_model
from vavl.types import Modality


def load_trained(folder: Path, *, local_files_only: bool = True) -> EmotionModel:
    """Loads whichever model a folder holds, in evaluation mode, with its encoders in front.

    Unless ``local_files_only`` is False, nothing is fetched from a hub that the folder names.

    Raises:
        InputError: The weights that an encoder was tuned from cannot be found, or are others now.
        StoreError: No such model, or a damaged file.
    """
    described = read_encoders(folder)
    if unknown := described.keys() - {Modality.ACOUSTIC}:
        raise StoreError(f"{folder / ENCODERS_FILE}: no {', '.join(unknown)} encoder is known")
    encoders = {
        modality: rebuild_encoder(description, local_files_only=local_files_only)
        for modality, description in described.items()
    }
    return load_model(folder, encoders=encoders)
