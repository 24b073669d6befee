"""One use of a model as a graph, and its files: ONNX, ONNX with 8 bits, programs of torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vavl.export.check import example_inputs
from vavl.inference.exported import PREDICTION
from vavl.models.sequences import Sequences, average_values
from vavl.models.vavl import VAVL
from vavl.system.onnx import onnx_extra
from vavl.types import STREAMS, Modality


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
        unimodal = []
        for stream, x, mask in zip(self.streams, inputs[::2], inputs[1::2], strict=True):
            x = self.model.normalise(stream, x)
            if self.zero_padding:
                x = x.masked_fill(~mask[..., None], 0.0)
            unimodal.append(self.model.encode(stream, Sequences.whole(x, mask)))
        if self.use is Modality.AUDIOVISUAL and self.use in self.model.config.predictions:
            return self.model.fuse(*unimodal)
        predictions = [each.values for each in unimodal]
        if len(predictions) == 1:
            return predictions[0]
        return average_values(predictions, self.model.config)


def _examples(graph: UseGraph) -> dict[str, Tensor]:
    # Sizes that are neither 1 nor equal to each other: the exporter takes those to be constants.
    return example_inputs(graph.model, graph.use, (2, 21, 9))


def write_torch(graph: UseGraph, path: Path) -> None:
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


def write_onnx(graph: UseGraph, path: Path) -> None:
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
