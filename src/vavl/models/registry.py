"""Models by their configuration: the only place that knows which class builds which model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vavl.config.experiment import register_model_config
from vavl.config.models import ModelConfig
from vavl.config.plugins import MODELS as PLUGINS
from vavl.config.plugins import load_plugin
from vavl.models.base import EmotionModel, Encoder
from vavl.models.baselines.auxformer import AuxFormer
from vavl.models.baselines.early_late import Concatenation, Conformers
from vavl.models.baselines.linear import Linear
from vavl.models.baselines.mult import MulT
from vavl.models.baselines.sfav import SFAV
from vavl.models.baselines.uavm import UAVM
from vavl.models.pretrained import read_model_config, resolve_model
from vavl.models.vavl import VAVL
from vavl.types import Modality

MODELS: tuple[type[EmotionModel], ...] = (
    VAVL,
    Linear,
    Conformers,
    Concatenation,
    MulT,
    AuxFormer,
    UAVM,
    SFAV,
)
"""Every model of the package; each says which configurations are its own, and these have the
names."""


_others: dict[str, type[EmotionModel]] = {}


def register_model(model: type[EmotionModel]) -> None:
    """Makes a model of your own known by the name of its configuration, in this process.

    docs/extending.md has a template, and says how it is known to every command.

    Args:
        model: Its ``config_class`` has a ``name`` that is not one of the package's.

    Raises:
        InputError: The name does not fit.
    """
    register_model_config(model.config_class)
    _others[model.config_class.of_model()] = model


def model_class(config: type[ModelConfig]) -> type[EmotionModel]:
    """The model that a kind of configuration is for."""
    name = config.of_model()
    other = _others.get(name) or load_plugin(PLUGINS, name)
    if other is not None:
        return other
    return next(model for model in MODELS if issubclass(config, model.config_class))


def build_model(config: ModelConfig) -> EmotionModel:
    """A model with fresh weights.

    Example:
        >>> from vavl.config.baselines import MulTConfig
        >>> config = MulTConfig.preset(
        ...     "small", acoustic_dim=80, visual_dim=17, categories=["happy", "sad"]
        ... )
        >>> type(build_model(config)).__name__
        'MulT'
    """
    return model_class(type(config))(config)


def load_model(
    source: Path | str,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    encoders: Mapping[Modality, Encoder] | None = None,
) -> EmotionModel:
    """Loads whichever model a folder or a hub id holds, in evaluation mode.

    Args:
        source: Folder written by ``save_pretrained``, or a hub id ``"owner/name"``.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never ask the network.
        encoders: Those that the folder describes, as they were before their tuning;
            :func:`vavl.training.trained.load_trained` makes them.

    Raises:
        StoreError: See :meth:`vavl.models.base.EmotionModel.from_pretrained`.
    """
    folder = resolve_model(
        source, revision=revision, cache_dir=None, local_files_only=local_files_only
    )
    cls = model_class(type(read_model_config(folder)))
    return cls.from_pretrained(folder, encoders=encoders)
