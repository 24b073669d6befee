"""Exported models: graphs that run without vavl's code, checked against the model they come from.

One graph per use (acoustic, visual, audiovisual), each with everything in it: normalisation, masks,
branch, head. Batch and time are dynamic. :mod:`vavl.inference.exported` reads what is written here.
"""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vavl.atomic import atomic_folder, write_json
from vavl.errors import ExportError, InputError
from vavl.inference.exported import (
    EXPORT_FILE,
    EXPORT_SCHEMA_VERSION,
    PREDICTION,
    Graph,
    uses,
)
from vavl.inference.loading import COMPACT, COMPACT_NOTICE, model_folder
from vavl.models.pretrained import CALIBRATION_FILE, CONFIG_FILE, FEATURES_FILE
from vavl.models.vavl import VAVL
from vavl.onnx_files import onnx_extra, open_session
from vavl.training.run import package_versions
from vavl.types import STREAMS, Modality

Format = Literal["onnx", "torch"]
Quantization = Literal["int8"]

TOLERANCE = 1e-4
"""Largest difference of an output that counts as the same; relative where outputs exceed 1."""
QUANTIZED_TOLERANCE = 0.1
"""Largest difference of a probability, or of an attribute in [0, 1], after quantisation."""

CHECKED_SHAPES = ((1, 1, 1), (1, 2, 5), (2, 7, 3), (3, 64, 24), (1, 200, 50))
"""Clips, acoustic steps and visual steps of the batches that a graph is checked with."""

_SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        folder: Where it lies.
        graph_bytes: Size of the graph of each use.
        largest_difference: Between the graphs' outputs and the model's, over all checks; of
            probabilities and attributes for quantised graphs.
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
) -> ExportReport:
    """Exports a model, and checks the files that were written against it.

    Args:
        source: As for :func:`vavl.load`.
        out: Folder to write; it must not hold anything yet. Nothing is left there on failure.
        format: ``"onnx"`` for onnxruntime, or ``"torch"`` for programs of ``torch.export`` (.pt2).
        quantize: ``"int8"`` keeps the weights of matrix products in 8 bits, and rounds what they
            are multiplied with on the fly; only for ONNX.

    Raises:
        InputError: The folder is not empty, arguments contradict each other, or the extra
            ``vavl[onnx]`` is not installed.
        StoreError: No usable model at the source.
        ExportError: A graph does not predict what the model predicts.

    Example:
        >>> export_model("runs/my-run/fold-0", Path("my-model-onnx"))  # doctest: +SKIP
    """
    if quantize is not None and format != "onnx":
        raise InputError(f"quantize: expected the format onnx for it, got {format!r}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"out: expected a folder that is empty or not there yet, got {out}")
    if format == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            onnx_extra(module)
    folder = model_folder(source)
    if (folder / EXPORT_FILE).is_file():
        raise InputError(f"model: expected a model, got {folder}, which was exported already")
    model = VAVL.from_pretrained(folder)
    difference, sizes = 0.0, {}
    with atomic_folder(out) as temporary:
        for use in uses(model.config):
            path = temporary / f"{use}{_SUFFIXES[format]}"
            graph = UseGraph(model, use, zero_padding=quantize is not None).eval()
            _write_torch(graph, path) if format == "torch" else _write_onnx(graph, path)
            found = check_graph(model, use, _open(path, format))
            if quantize is not None:
                quantize_graph(path)
                found = check_graph(model, use, _open(path, format), quantized=True)
            difference = max(difference, found)
            sizes[use] = path.stat().st_size
        for name in (CONFIG_FILE, FEATURES_FILE, CALIBRATION_FILE):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, temporary / name)
        content = {
            "format": format,
            "quantize": quantize,
            "largest_difference": difference,
            "notice": COMPACT_NOTICE if source in (None, COMPACT) else None,
            "versions": package_versions(),
        }
        write_json(temporary / EXPORT_FILE, EXPORT_SCHEMA_VERSION, content)
    return ExportReport(out, sizes, difference)


class UseGraph(nn.Module):
    """One use of a model as a function of tensors alone: nothing in it depends on their values.

    Args:
        model: The model.
        use: The prediction that is wanted.
        zero_padding: Set to zero what is not valid before the projection and not after it, which
            is slower: for 8 bits, whose range is that of all values, valid or not.
    """

    def __init__(self, model: VAVL, use: Modality, *, zero_padding: bool = False) -> None:
        super().__init__()
        self.model = model
        self.use = use
        self.zero_padding = zero_padding

    @property
    def streams(self) -> tuple[Modality, ...]:
        """What it takes: a sequence and a mask of each."""
        return STREAMS if self.use is Modality.AUDIOVISUAL else (self.use,)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Predicts.

        Args:
            *inputs: For each of :attr:`streams`, ``(B, T, D)`` features as extracted and the
                ``(B, T)`` mask, at least one True per row. What stands where the mask is False
                does not matter: the projection sets it to zero.

        Returns:
            ``(B, outputs)``.
        """
        representations = []
        for stream, x, mask in zip(self.streams, inputs[::2], inputs[1::2], strict=True):
            x = self.model.normalise(stream, x)
            if self.zero_padding:
                x = x.masked_fill(~mask[..., None], 0.0)
            representations.append(self.model.represent(stream, x, mask))
        if self.use is Modality.AUDIOVISUAL and self.use in self.model.config.predictions:
            return self.model.fuse(*representations)
        predictions = [
            self.model.branch(stream).head(representation)
            for stream, representation in zip(self.streams, representations, strict=True)
        ]
        return predictions[0] if len(predictions) == 1 else self.model.average(*predictions)


def check_graph(model: VAVL, use: Modality, graph: Graph, *, quantized: bool = False) -> float:
    """Compares a graph with its model on batches of several sizes, with gaps in the masks.

    Args:
        model: The model, in evaluation mode.
        use: The use that the graph is for.
        graph: What was exported.
        quantized: Compare probabilities and attributes in place of logits, more leniently.

    Returns:
        The largest difference.

    Raises:
        ExportError: Outputs of another shape, or further from the model's than is allowed.
    """
    tolerance = QUANTIZED_TOLERANCE if quantized else TOLERANCE
    largest = 0.0
    for shape in CHECKED_SHAPES:
        inputs = example_inputs(model, use, shape)
        with torch.inference_mode():
            expected = model(**inputs).prediction
        garbage = {name: _with_garbage(inputs, name).numpy() for name in inputs}
        found = torch.as_tensor(graph.run([PREDICTION], garbage)[0])
        if found.shape != expected.shape:
            raise ExportError(
                f"{use}: expected outputs {tuple(expected.shape)}, got {tuple(found.shape)}"
            )
        if quantized:
            split = len(model.config.categories)
            expected, found = (
                torch.cat([y[:, :split].softmax(1), y[:, split:].clamp(0, 1)], dim=1)
                for y in (expected, found)
            )
        differences = (found - expected).abs() / expected.abs().clamp_min(1.0)
        difference = float(differences.nan_to_num(math.inf).max())
        if difference > tolerance:
            raise ExportError(
                f"{use}: for {shape[0]} clips of {shape[1:]} steps the graph differs from the "
                f"model by {difference:.2g}, more than {tolerance:g}; nothing was exported"
            )
        largest = max(largest, difference)
    return largest


def example_inputs(model: VAVL, use: Modality, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """A seeded batch with the mean and deviation of the training features, and gaps in the masks.

    Args:
        model: The model.
        use: The use.
        shape: Clips, acoustic steps and visual steps.

    Returns:
        The arguments of :meth:`vavl.VAVL.forward`.
    """
    generator = torch.Generator().manual_seed(0)
    clips = shape[0]
    inputs = {}
    for stream, steps in zip(STREAMS, shape[1:], strict=True):
        if use not in (stream, Modality.AUDIOVISUAL):
            continue
        projection = model.branch(stream).projection
        x = torch.randn(clips, steps, len(projection.mean), generator=generator)
        mask = torch.rand(clips, steps, generator=generator) > 0.3
        mask[0, steps // 2 + 1 :] = False  # a shorter clip than the others
        mask[:, 0] = True
        inputs[str(stream)] = projection.mean + x / projection.scale
        inputs[f"{stream}_mask"] = mask
    return inputs


def _with_garbage(inputs: Mapping[str, Tensor], name: str) -> Tensor:
    """An input with NaN where nothing is valid."""
    if name not in STREAMS:
        return inputs[name]
    return inputs[name].masked_fill(~inputs[f"{name}_mask"][..., None], math.nan)


class _Program:
    """A program of torch.export as a :class:`Graph`."""

    def __init__(self, path: Path) -> None:
        # Guards on how tensors lie in memory were noted for the example's length; what is computed
        # is right for all lengths, which is what is checked here.
        self._module = torch.export.load(path).module(check_guards=False)

    def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
        """See :class:`Graph`; programs take their inputs in order."""
        assert list(names) == [PREDICTION]
        with torch.inference_mode():
            return [self._module(*(torch.from_numpy(value) for value in inputs.values()))]


def _open(path: Path, format: Format) -> Graph:
    if format == "torch":
        return _Program(path)
    session: Graph = open_session(path.read_bytes(), path.name, threads=1)
    return session


def _examples(graph: UseGraph) -> dict[str, Tensor]:
    # Sizes that are neither 1 nor equal to each other: the exporter takes those to be constants.
    return example_inputs(graph.model, graph.use, (2, 21, 9))


def _write_torch(graph: UseGraph, path: Path) -> None:
    dynamic = torch.export.Dim.DYNAMIC
    inputs = _examples(graph)
    with _exporting():
        program = torch.export.export(
            graph,
            tuple(inputs.values()),
            dynamic_shapes=(tuple({0: dynamic, 1: dynamic} for _ in inputs),),
        )
        torch.export.save(program, path)


def _write_onnx(graph: UseGraph, path: Path) -> None:
    inputs = _examples(graph)
    axes = ({0: "batch", 1: f"{name.removesuffix('_mask')}_steps"} for name in inputs)
    with _exporting():
        program: Any = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[PREDICTION],
            dynamic_shapes=(tuple(axes),),
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it comes from, with paths of this machine
    path.write_bytes(model.SerializeToString())


def quantize_graph(path: Path) -> None:
    """Rounds the weights of matrix products in an ONNX file to 8 bits, in place.

    Convolutions stay as they are: onnxruntime is slower with them in 8 bits.
    """
    quantization = onnx_extra("onnxruntime.quantization")
    with _quiet():
        # Weights that both modalities share are transposed in the graph until this folds it.
        preparation = onnx_extra("onnxruntime.quantization.shape_inference")
        preparation.quant_pre_process(path, path, skip_symbolic_shape=True)
        quantization.quantize_dynamic(
            path,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,  # 7 bits: older processors overflow with 8
            weight_type=quantization.QuantType.QInt8,
        )


@contextmanager
def _exporting() -> Iterator[None]:
    """What an export needs: no gradients, and attention as products where torch could fuse it."""
    with _quiet(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on packages and steps that are not needed here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
