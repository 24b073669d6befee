"""Where a recogniser comes from: the package, a run, a folder or the hub."""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path

from vavl.errors import StoreError
from vavl.inference.recognizer import Recognizer
from vavl.models.pretrained import (
    FEATURES_FILE,
    read_calibration,
    read_features,
    resolve_model,
)
from vavl.models.registry import load_model
from vavl.training.run import folds_of_run

COMPACT = "compact"
"""Name of the model that comes with the package."""

COMPACT_NOTICE = (
    "compact: trained on RAVDESS (CC BY-NC-SA 4.0) and FER2013 (research use): not for commercial "
    "use; see docs/models/compact.md"
)
"""Logged as a warning when the model of the package is loaded."""

_log = logging.getLogger(__name__)


def load(
    source: Path | str | None = None,
    *,
    device: str = "cpu",
    revision: str | None = None,
    local_files_only: bool = False,
) -> Recognizer:
    """Loads a recogniser.

    Args:
        source: A run or one fold of it, as ``vavl train`` writes them; a model folder; or a hub id
            ``"owner/name"``. Default: ``"compact"``, the model that comes with the package.
        device: ``"cpu"``, ``"cuda"`` or any other torch device.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never ask the network.

    Raises:
        StoreError: Nothing usable at the source, or a run of several folds: name one of them.

    Example:
        >>> import vavl
        >>> recognizer = vavl.load("runs/my-run/fold-0")  # doctest: +SKIP
        >>> recognizer.predict("clip.mp4").label  # doctest: +SKIP
        'happy'
    """
    if source is None or source == COMPACT:
        source = _compact_folder()
    folder = Path(source)
    if (folder / "config.toml").is_file():
        folds = folds_of_run(folder)
        if len(folds) > 1:
            names = ", ".join(str(fold.path) for fold in folds)
            raise StoreError(f"model: {folder} holds a model per fold; load one of {names}")
        folder = folds[0].path
        source = folder
    folder = resolve_model(
        source, revision=revision, cache_dir=None, local_files_only=local_files_only
    )
    features = read_features(folder) if (folder / FEATURES_FILE).is_file() else {}
    return Recognizer(load_model(folder), features, read_calibration(folder), device=device)


def _compact_folder() -> Path:
    """Where the model of the package lies; tells on the way what it may be used for."""
    _log.warning(COMPACT_NOTICE)
    return Path(str(resources.files("vavl.inference") / "assets" / COMPACT))
