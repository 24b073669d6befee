"""One use of a model as a graph: its files (ONNX, also with 8 bits, or torch), and their check."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vavl.errors import ExportError
from vavl.inference.exported import PREDICTION, Graph
from vavl.models.baselines.linear import Linear
from vavl.models.sequences import Sequences, average_values
from vavl.models.vavl import VAVL
from vavl.system.onnx import onnx_extra, open_session
from vavl.types import STREAMS, Modality

Exportable = VAVL | Linear
"""Models that read each modality by itself, and then put both together."""
Format = Literal["onnx", "torch"]
Quantization = Literal["int8"]

TOLERANCE = 1e-4
"""Largest difference of an output that counts as the same; relative where outputs exceed 1."""
QUANTIZED_TOLERANCE = 0.1
"""Largest difference of a probability, or of an attribute in [0, 1], after quantisation."""

CHECKED_SHAPES = ((1, 1, 1), (1, 2, 5), (2, 7, 3), (3, 64, 24), (1, 200, 50))
"""Clips, acoustic steps and visual steps of the batches that a graph is checked with."""


class UseGraph(nn.Module):
    """One use of a model as a function of tensors alone: nothing in it depends on their values.

    Args:
        model: The model.
        use: The prediction that is wanted.
        zero_padding: Set to zero what is not valid before the projection and not after it, which
            is slower: for 8 bits, whose range is that of all values, valid or not.
    """

    def __init__(self, model: Exportable, use: Modality, *, zero_padding: bool = False) -> None:
        super().__init__()
        self.model = model
        self.use = use
        self.zero_padding = zero_padding
        self.streams = STREAMS if use is Modality.AUDIOVISUAL else (use,)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Predicts ``(B, outputs)``.

        Args:
            *inputs: For each modality of the use, ``(B, T, D)`` features as extracted and the
                ``(B, T)`` mask, at least one True per row. The projection sets to zero what is not
                valid.
        """
        unimodal: list[Any] = []  # what the model's encode gives, and its fuse takes
        for stream, x, mask in zip(self.streams, inputs[::2], inputs[1::2], strict=True):
            x = self.model.normalisation(stream).normalise(x)
            if self.zero_padding:
                x = x.masked_fill(~mask[..., None], 0.0)
            unimodal.append(self.model.encode(stream, Sequences.whole(x, mask)))
        if self.use is Modality.AUDIOVISUAL and self.use in self.model.config.predictions:
            return self.model.fuse(*unimodal)
        predictions = [each.values for each in unimodal]
        if len(predictions) == 1:
            return predictions[0]
        return average_values(predictions, self.model.config)


def example_inputs(
    model: Exportable, use: Modality, shape: tuple[int, int, int]
) -> dict[str, Tensor]:
    """A seeded batch with the mean and deviation of the training features, and gaps in the masks.

    ``shape`` is the number of clips, acoustic steps and visual steps. Returns the arguments of
    :meth:`vavl.models.base.EmotionModel.forward`.
    """
    generator = torch.Generator().manual_seed(0)
    clips = shape[0]
    inputs = {}
    for stream, steps in zip(STREAMS, shape[1:], strict=True):
        if use not in (stream, Modality.AUDIOVISUAL):
            continue
        statistics = model.normalisation(stream)
        x = torch.randn(clips, steps, len(statistics.mean), generator=generator)
        mask = torch.rand(clips, steps, generator=generator) > 0.3
        mask[0, steps // 2 + 1 :] = False  # a shorter clip than the others
        mask[:, 0] = True
        inputs[str(stream)] = statistics.mean + x / statistics.scale
        inputs[f"{stream}_mask"] = mask
    return inputs


def write_graph(
    model: Exportable, use: Modality, path: Path, format: Format, quantize: Quantization | None
) -> float:
    """Writes the graph of one use, and checks the file as :func:`check_graph` does."""
    graph = UseGraph(model, use, zero_padding=quantize is not None).eval()
    if format == "torch":
        _write_torch(graph, path)
        return check_graph(model, use, _Program(path))
    _write_onnx(graph, path)
    difference = check_graph(model, use, _session(path))
    if quantize is None:
        return difference
    quantize_graph(path)
    return check_graph(model, use, _session(path), quantized=True)


def _session(path: Path) -> Graph:
    return open_session(path.read_bytes(), path.name, threads=1)


def _examples(graph: UseGraph) -> dict[str, Tensor]:
    # Sizes that are neither 1 nor equal to each other: the exporter takes those to be constants.
    return example_inputs(graph.model, graph.use, (2, 21, 9))


def _write_torch(graph: UseGraph, path: Path) -> None:
    """Writes a program of torch.export; it takes the graph's inputs in order."""
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
    """Writes an ONNX file, complete in itself, with named inputs and axes."""
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


def check_graph(
    model: Exportable, use: Modality, graph: Graph, *, quantized: bool = False
) -> float:
    """The largest difference of a graph from its model (in evaluation mode).

    Args:
        model: The model.
        use: The use that the graph is for.
        graph: The graph, called with batches of several sizes, with gaps in the masks.
        quantized: Whether to compare probabilities and attributes instead of logits, less strictly.

    Raises:
        ExportError: Outputs of another shape, or further from the model's than is allowed.
    """
    tolerance = QUANTIZED_TOLERANCE if quantized else TOLERANCE
    largest = 0.0
    for shape in CHECKED_SHAPES:
        inputs = example_inputs(model, use, shape)
        with torch.inference_mode():
            expected = model(**inputs).prediction
        arrays = {name: x.numpy() for name, x in inputs.items()}
        for stream in STREAMS:  # what is not valid must not matter
            if stream in arrays:
                arrays[stream][~arrays[f"{stream}_mask"]] = math.nan
        found = torch.as_tensor(graph.run([PREDICTION], arrays)[0])
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


class _Program:
    """A program of torch.export as a :class:`Graph`.

    Opening one can run code that is in it: only for files that were written a moment ago.
    """

    def __init__(self, path: Path) -> None:
        # Guards on how tensors lie in memory hold for the example's length alone; the results are
        # right for all lengths, as the check shows.
        self._module = torch.export.load(path).module(check_guards=False)

    def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:  # noqa: ARG002
        """See :class:`Graph`; programs take their inputs in order, and have one output."""
        with torch.inference_mode():
            return [self._module(*(torch.from_numpy(value) for value in inputs.values()))]
