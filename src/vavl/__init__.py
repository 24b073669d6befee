"""Audio-visual emotion recognition that works with whatever modality is there.

The public names are loaded when they are first used, so that ``import vavl`` does not import torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vavl.config.models import VAVLConfig
    from vavl.inference import Recognizer, load
    from vavl.models.vavl import VAVL
    from vavl.types import UNSURE, Modality, Prediction

__all__ = [
    "UNSURE",
    "VAVL",
    "Modality",
    "Prediction",
    "Recognizer",
    "VAVLConfig",
    "__version__",
    "load",
]

__version__ = version("vavl")

# OpenMP's threads wait for work in a busy loop unless told otherwise, before torch is imported.
# Where another process needs the cores, that makes small networks ten times slower and more.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "UNSURE": "vavl.types",
    "VAVL": "vavl.models.vavl",
    "VAVLConfig": "vavl.config.models",
    "Modality": "vavl.types",
    "Prediction": "vavl.types",
    "Recognizer": "vavl.inference",
    "load": "vavl.inference",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vavl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
