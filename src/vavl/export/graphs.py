"""Uses of a model as graphs: their files (ONNX, also with 8 bits, or torch), and their check."""

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

from vavl import __version__
from vavl.errors import ExportError
from vavl.inference.exported import PREDICTION, Graph
from vavl.models.baselines.linear import Linear
from vavl.models.sequences import Sequences, average_values
from vavl.models.vavl import VAVL
from vavl.system.onnx import onnx_extra, open_session
from vavl.types import STREAMS, Modality

Exportable = VAVL | Linear
"""Models that read each modality by itself, and then put both together."""
Unimodal = dict[Modality, Any]
"""What a model's ``encode`` gives for each modality, and its ``fuse`` takes."""
Format = Literal["onnx", "torch"]
Quantization = Literal["int8"]

TOLERANCE = 1e-4
"""Largest difference of an output that counts as the same; relative where outputs exceed 1."""
QUANTIZED_TOLERANCE = 0.1
"""Largest difference of a probability, or of an attribute in [0, 1], after quantisation."""

CHECKED_SHAPES = ((1, 1, 1), (1, 2, 5), (2, 7, 3), (3, 64, 24), (1, 200, 50))
"""Clips, acoustic steps and visual steps of the batches that a graph is checked with."""


class UseGraph(nn.Module):
    """Some uses of a model as a function of tensors alone: nothing in it depends on their values.

    Args:
        model: The model.
        *uses: The predictions that are wanted.
        zero_padding: Set to zero what is not valid before the projection and not after it, which
            is slower: for 8 bits, whose range is that of all values, valid or not.
    """

    def __init__(self, model: Exportable, *uses: Modality, zero_padding: bool = False) -> None:
        super().__init__()
        self.model = model
        self.uses = uses
        self.zero_padding = zero_padding
        self.streams = streams_of(*uses)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Predicts ``(B, outputs)`` for each use; for a single one, not as a tuple.

        Args:
            *inputs: For each modality of the uses, ``(B, T, D)`` features as extracted and the
                ``(B, T)`` mask, at least one True per row. The projection sets to zero what is not
                valid.
        """
        unimodal: Unimodal = {}
        for stream, x, mask in zip(self.streams, inputs[::2], inputs[1::2], strict=True):
            x = self.model.normalisation(stream).normalise(x)
            if self.zero_padding:
                x = x.masked_fill(~mask[..., None], 0.0)
            unimodal[stream] = self.model.encode(stream, Sequences.whole(x, mask))
        values = tuple(use_values(self.model, use, unimodal) for use in self.uses)
        return values if len(values) > 1 else values[0]


def streams_of(*uses: Modality) -> tuple[Modality, ...]:
    """The modalities that some uses of a model read."""
    return tuple(s for s in STREAMS if {s, Modality.AUDIOVISUAL} & set(uses))


def use_values(model: Exportable, use: Modality, unimodal: Unimodal) -> Tensor:
    """``(B, outputs)`` for one use, from what the model makes of each modality."""
    if use is not Modality.AUDIOVISUAL:
        return unimodal[use].values
    if use in model.config.predictions:
        return model.fuse(*(unimodal[stream] for stream in STREAMS))
    return average_values([unimodal[stream].values for stream in STREAMS], model.config)


def example_inputs(
    model: Exportable, streams: Sequence[Modality], shape: tuple[int, int, int]
) -> dict[str, Tensor]:
    """A seeded batch with the mean and deviation of the training features, and gaps in the masks.

    ``shape`` is the number of clips, acoustic steps and visual steps. Returns the arguments of
    :meth:`vavl.models.base.EmotionModel.forward`.
    """
    generator = torch.Generator().manual_seed(0)
    clips = shape[0]
    inputs = {}
    for stream, steps in zip(STREAMS, shape[1:], strict=True):
        if stream not in streams:
            continue
        statistics = model.normalisation(stream)
        x = torch.randn(clips, steps, len(statistics.mean), generator=generator)
        mask = torch.rand(clips, steps, generator=generator) > 0.3
        mask[0, steps // 2 + 1 :] = False  # a shorter clip than the others
        mask[:, 0] = True
        inputs[str(stream)] = statistics.mean + x / statistics.scale
        inputs[f"{stream}_mask"] = mask
    return inputs


def write_graphs(
    model: Exportable,
    paths: Mapping[Modality, Path],
    format: Format,
    quantize: Quantization | None,
) -> Iterator[tuple[Modality, float]]:
    """Writes the graph of each use, checks it, and yields by how much it differs from the model.

    Raises:
        ExportError: As :func:`check_graph`.
    """
    if format == "torch":
        for use, path in paths.items():
            _write_torch(UseGraph(model, use).eval(), path)
            yield use, check_graph(model, use, _Program(path))
        return
    graph = UseGraph(model, *paths, zero_padding=quantize is not None).eval()
    inputs = _examples(graph)
    axes = [{0: "batch", 1: f"{name.removesuffix('_mask')}_steps"} for name in inputs]
    whole = onnx_model(graph, inputs, axes, [f"{use}.{PREDICTION}" for use in paths])
    for use, path in paths.items():
        own = [name for stream in streams_of(use) for name in (str(stream), f"{stream}_mask")]
        path.write_bytes(cut_use(whole, use, own).SerializeToString())
        difference = check_graph(model, use, _session(path))
        if quantize is not None:
            quantize_graph(path)
            difference = check_graph(model, use, _session(path), quantized=True)
        yield use, difference


def _session(path: Path) -> Graph:
    return open_session(path.read_bytes(), path.name, threads=1)


def _examples(graph: UseGraph) -> dict[str, Tensor]:
    # Sizes that are neither 1 nor equal to each other: the exporter takes those to be constants.
    return example_inputs(graph.model, graph.streams, (2, 21, 9))


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


def onnx_model(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Sequence[Mapping[int, str]],
    outputs: Sequence[str],
) -> Any:
    """Traces a network into an ``onnx.ModelProto``.

    Args:
        graph: Takes the inputs in order.
        inputs: Examples by name. No free length may be 1 or equal to another: the exporter takes
            those to be constants.
        axes: Of each input, names of the axes whose length is free.
        outputs: Names.
    """
    with _exporting():
        program: Any = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(tuple(axes),),
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it comes from, with paths of this machine
    return model


def cut_use(whole: Any, use: Modality, inputs: Sequence[str], shared: Sequence[str] = ()) -> Any:
    """Cuts one use out of a graph of several, since tracing them one by one takes as often as long.

    Args:
        whole: An ``onnx.ModelProto``; what it gives for a use is named ``use.name``.
        use: The use.
        inputs: Names of what it takes.
        shared: Names of outputs that belong to several uses, and to this one.

    Returns:
        A model that gives ``name`` for each ``use.name``, and what is shared.
    """
    names = {output.name: output.name.removeprefix(f"{use}.") for output in whole.graph.output}
    own = [name for name, short in names.items() if short != name]
    part = onnx_extra("onnx.utils").Extractor(whole).extract_model(inputs, [*own, *shared])
    # The number of clips, which is the same of all inputs, may be read off one that is left out.
    names |= {i.name: inputs[0] for i in whole.graph.input if i.name not in inputs}
    for output in part.graph.output:
        output.name = names[output.name]
    for node in part.graph.node:
        for places in (node.input, node.output):
            places[:] = [names.get(name, name) for name in places]
    part.graph.name, part.producer_name, part.producer_version = use, "vavl", __version__
    return part


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
        inputs = example_inputs(model, streams_of(use), shape)
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
