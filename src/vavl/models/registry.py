"""Models by their configuration: the only place that knows which class builds which model."""

from __future__ import annotations

from pathlib import Path

from vavl.config import ModelConfig, VAVLConfig
from vavl.models.base import EmotionModel
from vavl.models.pretrained import read_model_config, resolve_model
from vavl.models.vavl import VAVL

BUILDERS: dict[type[ModelConfig], type[EmotionModel]] = {
    VAVLConfig: VAVL,
}
"""The model of each configuration; the names of the models stand in the configurations."""


def build_model(config: ModelConfig) -> EmotionModel:
    """A model with fresh weights.

    Example:
        >>> from vavl.config import VAVLConfig
        >>> config = VAVLConfig.preset(
        ...     "small", acoustic_dim=80, visual_dim=17, categories=["happy", "sad"]
        ... )
        >>> type(build_model(config)).__name__
        'VAVL'
    """
    return BUILDERS[type(config)](config)


def load_model(
    source: Path | str, *, revision: str | None = None, local_files_only: bool = False
) -> EmotionModel:
    """Loads whichever model a folder or a hub id holds, in evaluation mode.

    Args:
        source: Folder written by ``save_pretrained``, or a hub id ``"owner/name"``.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never ask the network.

    Raises:
        StoreError: See :meth:`vavl.models.base.EmotionModel.from_pretrained`.
    """
    folder = resolve_model(
        source, revision=revision, cache_dir=None, local_files_only=local_files_only
    )
    return BUILDERS[type(read_model_config(folder))].from_pretrained(folder)
