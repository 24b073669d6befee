"""Models on disk and on the Hugging Face hub.

A folder holds ``config.json`` (sizes and outputs), ``model.safetensors`` (weights and the
normalisation of the features); for a model that shall read media, ``features.json`` (how the
features of each modality were made); and for one whose probabilities were calibrated,
``calibration.json`` (a temperature per prediction).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from vavl.config.base import validated
from vavl.config.experiment import model_config_class
from vavl.config.models import SCHEMA_VERSION, ModelConfig
from vavl.errors import StoreError
from vavl.system.atomic import atomic_write, read_json, write_json
from vavl.types import FeatureSpec, Modality

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FEATURES_FILE = "features.json"
CALIBRATION_FILE = "calibration.json"


def write_model(directory: Path, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """Writes a model into a folder, made if needed; each file appears whole or not at all."""
    from safetensors.torch import save

    write_json(directory / CONFIG_FILE, SCHEMA_VERSION, config.model_dump(mode="json"))
    with atomic_write(directory / WEIGHTS_FILE) as temporary:
        # Not save_file: what it writes is private to its owner.
        content = save({name: value.contiguous().cpu() for name, value in state.items()})
        temporary.write_bytes(content)


def resolve_model(
    source: Path | str,
    *,
    revision: str | None,
    cache_dir: Path | str | None,
    local_files_only: bool,
) -> Path:
    """The local folder of a model: the source itself, or the hub's snapshot in the cache.

    Raises:
        StoreError: The source is no folder with a model, and no hub id that can be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        return _checked_folder(folder)
    if folder.is_absolute() or len(folder.parts) > 2 or folder.parts[:1] == ("..",):
        raise StoreError(
            f"model: expected a folder or a hub id, got {str(source)!r}, which is no folder here"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                str(source),
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, FEATURES_FILE, CALIBRATION_FILE],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise StoreError(
            f"model: expected a folder or a hub id, got {str(source)!r}, which is no folder here "
            f"and could not be had from the hub ({type(error).__name__}: {error})"
        ) from error
    return _checked_folder(folder)


def _checked_folder(folder: Path) -> Path:
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise StoreError(f"model: {folder} lacks {' and '.join(missing)}; is it a model folder?")
    return folder


def read_model_config(folder: Path) -> ModelConfig:
    """Reads ``config.json``; without a name, as in files of the first releases, it is VAVL's.

    Raises:
        StoreError: Missing, not JSON, or written by a release with another schema.
        InputError: Values that do not fit.
    """
    path = folder / CONFIG_FILE
    content = read_json(path, SCHEMA_VERSION)
    cls = model_config_class(str(content.get("name", "vavl")), f"{path}: name")
    return validated(cls, content, str(path))


def write_features(folder: Path, features: Mapping[Modality, FeatureSpec]) -> None:
    """Writes ``features.json``: how the features of each modality were made."""
    content = {str(modality): spec.to_dict() for modality, spec in features.items()}
    write_json(folder / FEATURES_FILE, SCHEMA_VERSION, content)


def read_features(folder: Path) -> dict[Modality, FeatureSpec]:
    """Reads ``features.json``.

    Raises:
        StoreError: Missing, damaged, or written by a release with another schema.
    """
    path = folder / FEATURES_FILE
    content = read_json(path, SCHEMA_VERSION)
    try:
        return {Modality(name): FeatureSpec.from_dict(spec) for name, spec in content.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error})") from None


def write_calibration(folder: Path, temperatures: Mapping[Modality, float]) -> None:
    """Writes ``calibration.json``: what the logits of each prediction are divided by."""
    content = {str(modality): float(value) for modality, value in temperatures.items()}
    write_json(folder / CALIBRATION_FILE, SCHEMA_VERSION, content)


def read_calibration(folder: Path) -> dict[Modality, float]:
    """Reads ``calibration.json``; empty where there is none.

    Raises:
        StoreError: Damaged, or written by a release with another schema.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return {}
    content = read_json(path, SCHEMA_VERSION)
    try:
        temperatures = {Modality(name): float(value) for name, value in content.items()}
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if not all(0 < value < math.inf for value in temperatures.values()):
        raise StoreError(f"{path}: expected temperatures above 0, got {content}")
    return temperatures


def load_weights(model: nn.Module, folder: Path) -> None:
    """Loads ``model.safetensors`` into a model.

    Raises:
        StoreError: The file is damaged, or its tensors do not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS_FILE
    try:
        model.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise StoreError(f"{path}: damaged or cut short ({error}); copy it again") from error
    except RuntimeError as error:
        raise StoreError(f"{path}: does not fit the configuration beside it: {error}") from error
