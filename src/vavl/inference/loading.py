"""Where a recogniser comes from: the package, a run, a folder or the hub."""

from __future__ import annotations

import hashlib
import logging
from importlib import resources
from itertools import chain
from pathlib import Path

from vavl.features import compact_face
from vavl.inference.arguments import check_path
from vavl.inference.ensemble import Ensemble
from vavl.inference.exported import EXPORT_FILE, NORMALISATION_FILE, ExportedModel
from vavl.inference.recognizer import Recognizer
from vavl.models.base import EmotionModel
from vavl.models.pretrained import (
    CALIBRATION_FILE,
    CARD_FILE,
    CONFIG_FILE,
    ENCODERS_FILE,
    FEATURES_FILE,
    WEIGHTS_FILE,
    read_calibration,
    read_features,
    resolve_model,
)
from vavl.system.notices import say_once
from vavl.training.run_folder import (
    CONFIGURATION_FILE,
    FINAL,
    FoldDirectory,
    folds_of_run,
)
from vavl.training.trained import load_trained

COMPACT = "compact"
"""Name of the model that comes with the package."""

COMPACT_NOTICE = (
    "compact: for research and other non-commercial use only; `vavl model-card` says why"
)
"""Said once when the model of the package is loaded, or what was exported of it."""

_log = logging.getLogger(__name__)


def load(
    source: Path | str | None = None,
    *,
    device: str = "cpu",
    revision: str | None = None,
    local_files_only: bool | None = None,
    unsure_below: float | None = None,
) -> Recognizer:
    """Loads a recogniser.

    Args:
        source: A run, as ``vavl train`` writes it: its final model if it has one, else all of its
            folds, whose probabilities are averaged; one fold of it; a model folder; a folder that
            ``vavl export`` wrote, which onnxruntime runs; or a hub id ``"owner/name"``.
            Default: ``"compact"``, the model that comes with the package.
        device: Where the model and the networks of its features run: ``"cpu"``, ``"cuda"``,
            ``"cuda:N"``, ``"mps"`` or ``"auto"``; with an exported model, all on the CPU.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never ask the network. Default: ask it where ``source`` is a hub id, for
            the model and for encoders on the hub that it names; the weights that a folder of this
            machine names are sought on this machine alone.
        unsure_below: In [0, 1): with a confidence below it, the label is ``"unsure"``. Default:
            the model's own threshold (``calibration.json``), which is 0 (never) where it has none.

    Raises:
        InputError: A threshold that is none, or a device that cannot be used here.
        StoreError: Nothing usable at the source.

    Example:
        >>> import vavl
        >>> recognizer = vavl.load("runs/my-run")  # doctest: +SKIP
        >>> recognizer.predict("clip.mp4").label  # doctest: +SKIP
        'happy'
    """
    if source is not None:
        check_path("model", source)
    if local_files_only is None:
        local_files_only = source in (None, COMPACT) or Path(str(source)).is_dir()
    folder = model_folder(source, revision=revision, local_files_only=local_files_only)
    if source in (None, COMPACT):
        say_once(_log, COMPACT_NOTICE, instead_of=[compact_face.NOTICE])
    folders = _parts(folder)
    features = read_features(folders[0]) if (folders[0] / FEATURES_FILE).is_file() else {}
    model: EmotionModel | Ensemble | ExportedModel
    if (folder / EXPORT_FILE).is_file():
        model = ExportedModel.from_folder(folder)
    else:
        model = (
            Ensemble.of_folders(folders)
            if len(folders) > 1
            else load_trained(folder, local_files_only=local_files_only)
        )
    calibration = read_calibration(folder)
    return Recognizer(
        model,
        features,
        calibration.temperatures,
        unsure_below=calibration.unsure_below if unsure_below is None else unsure_below,
        device=device,
        local_files_only=local_files_only,
    )


def model_folder(
    source: Path | str | None, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """The folder of the model that :func:`load` would load; arguments and errors are the same.

    Where it would load all folds of a run, that is the run's folder.
    """
    if source in (None, COMPACT):
        return Path(str(resources.files("vavl.inference") / "assets" / COMPACT))
    assert source is not None
    folder = Path(source)
    if (folder / EXPORT_FILE).is_file():
        return folder
    if (folder / CONFIGURATION_FILE).is_file():
        final = FoldDirectory(folder / FINAL)
        models = [final] if final.finished else folds_of_run(folder)
        if len(models) > 1:
            return folder
        source = models[0].path
    return resolve_model(
        source, revision=revision, cache_dir=None, local_files_only=local_files_only
    )


def _parts(folder: Path) -> list[Path]:
    """The folders of the models that answer together: a run's folds, else this one alone."""
    if (folder / CONFIGURATION_FILE).is_file():
        return [fold.path for fold in folds_of_run(folder)]
    return [folder]


def model_card(folder: Path) -> str | None:
    """What a model is, in Markdown: the card in its folder, or in its run's; None without any."""
    run = [folder.parent] if (folder.parent / CONFIGURATION_FILE).is_file() else []
    for path in (place / CARD_FILE for place in (folder, *run)):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def model_sha256(folder: Path) -> str:
    """Hash of all files that the predictions of a model depend on, in its folder."""
    names = (
        *(CONFIG_FILE, WEIGHTS_FILE, FEATURES_FILE, ENCODERS_FILE),
        *(CALIBRATION_FILE, NORMALISATION_FILE),
    )
    digest = hashlib.sha256()
    for path in chain.from_iterable(
        (*(part / name for name in names), *sorted(part.glob("*.onnx"))) for part in _parts(folder)
    ):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
