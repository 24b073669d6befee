"""Exported models: graphs that run without vavl's code, checked against the model they come from.

One graph per use (acoustic, visual, audiovisual), each with everything in it. Those of features
hold normalisation, masks, branch and head; batch and time are dynamic;
:mod:`vavl.inference.exported` reads them. Standalone ones go from samples and pictures of faces to
calibrated probabilities (:mod:`vavl.export.standalone`), and are for programs without vavl.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from vavl.errors import InputError
from vavl.export.graphs import Exportable, Format, Quantization, write_graphs
from vavl.export.standalone import write_standalone
from vavl.features import compact_face
from vavl.inference.exported import EXPORT_FILE, EXPORT_SCHEMA_VERSION, uses, write_normalisations
from vavl.inference.loading import COMPACT, COMPACT_NOTICE, load, model_card, model_folder
from vavl.models.pretrained import (
    CALIBRATION_FILE,
    CARD_FILE,
    CONFIG_FILE,
    ENCODERS_FILE,
    FEATURES_FILE,
)
from vavl.system.atomic import atomic_folder, write_json
from vavl.system.notices import say_once
from vavl.system.onnx import onnx_extra
from vavl.system.progress import with_progress
from vavl.training.run_folder import package_versions
from vavl.types import Modality

__all__ = ["ExportReport", "export_model"]

_log = logging.getLogger(__name__)

_SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
_KEPT = (CONFIG_FILE, FEATURES_FILE, CALIBRATION_FILE)
"""Files of a model that an export of features keeps."""
_COMPACT_LICENCE = "LICENSE-WEIGHTS.md"


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        folder: Where it lies.
        graph_bytes: Size of the graph of each use.
        largest_difference: Between the graphs' outputs and the model's, over all checks; of
            probabilities and attributes for graphs that are quantised or standalone.

    Example:
        >>> report = ExportReport(Path("my-model-onnx"), {Modality.ACOUSTIC: 41_000}, 2e-7)
        >>> sum(report.graph_bytes.values())
        41000
    """

    folder: Path
    graph_bytes: dict[Modality, int]
    largest_difference: float


def export_model(
    source: Path | str | None,
    out: Path,
    *,
    format: Format = "onnx",
    quantize: Quantization | None = None,
    standalone: bool = False,
    progress: bool = False,
) -> ExportReport:
    """Exports a model, and checks the files that were written against it.

    Args:
        source: As for :func:`vavl.load`: ``vavl``, ``vavl+`` or ``linear``; other models have no
            export.
        out: Folder to write; it must not hold anything yet. Nothing is left there on failure.
        format: ``"onnx"`` for onnxruntime, or ``"torch"`` for programs of ``torch.export`` (.pt2).
        quantize: ``"int8"`` keeps the weights of matrix products in 8 bits, and rounds what they
            are multiplied with on the fly; only for ONNX.
        standalone: Whether the graphs take samples and pictures of faces instead of features, and
            give calibrated probabilities, so that nothing of vavl is needed to run them. Only for
            ONNX, and for features of whisper-base and compact-face.
        progress: Whether to show a progress bar on standard error; a graph takes a while.

    Raises:
        InputError: The folder is not empty, arguments contradict each other, it is another model
            or was exported already, or the extra ``vavl[onnx]`` is not installed.
        StoreError: No usable model at the source.
        ExportError: A graph does not predict what the model predicts.

    Example:
        >>> export_model("runs/my-run/fold-0", Path("my-model-onnx"))  # doctest: +SKIP
    """
    if quantize is not None and format != "onnx":
        raise InputError(f"quantize: expected the format onnx for it, got {format!r}")
    if standalone and (format != "onnx" or quantize is not None):
        raise InputError(
            "standalone: expected the format onnx without quantisation, got "
            f"format={format!r}, quantize={quantize!r}"
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"out: expected a folder that is empty or not there yet, got {out}")
    if format == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            onnx_extra(module)
    folder = model_folder(source)
    notice = COMPACT_NOTICE if source in (None, COMPACT) else None
    if notice is not None:
        say_once(_log, notice, instead_of=[compact_face.NOTICE])
    if (folder / EXPORT_FILE).is_file():
        raise InputError(f"model: expected a model, got {folder}, which was exported already")
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(
            f"model: expected one model, got the folds of {folder}; name one of them, or train the "
            "model of all speakers (`vavl train ... --final`)"
        )
    if (folder / ENCODERS_FILE).is_file():
        raise InputError(
            f"model: expected one of features that are given, got {folder}, which has a tuned "
            "encoder of its own; it cannot be exported"
        )
    recognizer = load(folder)
    model = recognizer.model
    if not isinstance(model, Exportable):
        raise InputError(
            f"model: expected vavl, vavl+ or linear, which can be exported, got {model.config.name}"
        )
    difference, sizes = 0.0, {}
    with atomic_folder(out) as temporary:
        wanted = uses(model.config)
        paths = {use: temporary / f"{use}{_SUFFIXES[format]}" for use in wanted}
        if standalone:
            licences = {}
            if notice is not None:
                licences[COMPACT] = (folder.parent / _COMPACT_LICENCE).read_text("utf-8")
            written = write_standalone(
                recognizer, paths, COMPACT if notice else model.config.name, licences
            )
            if (card := model_card(folder)) is not None:
                (temporary / CARD_FILE).write_text(card, encoding="utf-8")
        else:
            written = write_graphs(model, paths, format, quantize)
            write_normalisations(temporary, model)
            for name in _KEPT:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, temporary / name)
        for use, found in with_progress(written, len(wanted), what="exporting", progress=progress):
            difference = max(difference, found)
            sizes[use] = paths[use].stat().st_size
        content = {
            "format": format,
            "standalone": standalone,
            "quantize": quantize,
            "largest_difference": difference,
            "notice": notice,
            "versions": package_versions(),
        }
        write_json(temporary / EXPORT_FILE, EXPORT_SCHEMA_VERSION, content)
    return ExportReport(out, sizes, difference)
