"""Corpora by name: from what lies on disk, or from nothing, to a manifest.

:data:`CORPORA` is the only list of their names. Each function writes ``OUT/manifest.parquet`` and
what belongs to it, and returns the manifest; its keyword arguments are the corpus's options, and
with its docstring they make the command ``vavl prepare NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vavl.data.corpora.cmu_mosei import prepare_cmu_mosei
from vavl.data.corpora.crema_d import prepare_crema_d
from vavl.data.corpora.folder import prepare_folder
from vavl.data.corpora.msp_improv import prepare_msp_improv
from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.data.corpora.synthetic import prepare_synthetic
from vavl.data.manifest import Manifest
from vavl.errors import InputError, did_you_mean

CORPORA: Mapping[str, Callable[..., Manifest]] = MappingProxyType(
    {
        "cmu_mosei": prepare_cmu_mosei,
        "crema_d": prepare_crema_d,
        "folder": prepare_folder,
        "msp_improv": prepare_msp_improv,
        "ravdess": prepare_ravdess,
        "synthetic": prepare_synthetic,
    }
)
"""Name to the function that prepares the corpus."""


def prepare(name: str, **arguments: Any) -> Manifest:
    """Prepares a corpus by its name.

    Args:
        name: One of :data:`CORPORA`.
        **arguments: What the function of that corpus takes, e.g. ``root`` and ``out``.

    Raises:
        InputError: There is no such corpus, or what the corpus raises.

    Example:
        >>> import tempfile
        >>> len(prepare("synthetic", out=tempfile.mkdtemp(), speakers=1, clips_per_speaker=2))
        2
    """
    if name not in CORPORA:
        hint = did_you_mean(name, CORPORA)
        raise InputError(f"corpus: expected one of {', '.join(CORPORA)}, got {name!r}{hint}")
    return CORPORA[name](**arguments)
