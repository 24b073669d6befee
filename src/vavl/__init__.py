"""Audio-visual emotion recognition that works with whatever modality is there.

The public names are loaded when they are first used, so that ``import vavl`` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vavl.config import VAVLConfig
    from vavl.models.vavl import VAVL

__all__ = ["VAVL", "VAVLConfig", "__version__"]

__version__ = version("vavl")

_HOMES = {
    "VAVL": "vavl.models.vavl",
    "VAVLConfig": "vavl.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vavl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
