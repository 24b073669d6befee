"""Compares exported graphs with the model they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vavl.errors import ExportError
from vavl.inference.exported import PREDICTION, Graph
from vavl.models.vavl import VAVL
from vavl.types import STREAMS, Modality

TOLERANCE = 1e-4
"""Largest difference of an output that counts as the same; relative where outputs exceed 1."""
QUANTIZED_TOLERANCE = 0.1
"""Largest difference of a probability, or of an attribute in [0, 1], after quantisation."""

CHECKED_SHAPES = ((1, 1, 1), (1, 2, 5), (2, 7, 3), (3, 64, 24), (1, 200, 50))
"""Clips, acoustic steps and visual steps of the batches that a graph is checked with."""


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
        statistics = model.normalisation(stream)
        x = torch.randn(clips, steps, len(statistics.mean), generator=generator)
        mask = torch.rand(clips, steps, generator=generator) > 0.3
        mask[0, steps // 2 + 1 :] = False  # a shorter clip than the others
        mask[:, 0] = True
        inputs[str(stream)] = statistics.mean + x / statistics.scale
        inputs[f"{stream}_mask"] = mask
    return inputs


def _with_garbage(inputs: Mapping[str, Tensor], name: str) -> Tensor:
    """An input with NaN where nothing is valid."""
    if name not in STREAMS:
        return inputs[name]
    return inputs[name].masked_fill(~inputs[f"{name}_mask"][..., None], math.nan)


class Program:
    """A program of torch.export as a :class:`Graph`.

    Opening one can run code that is in it: only for files that were written a moment ago.
    """

    def __init__(self, path: Path) -> None:
        # Guards on how tensors lie in memory were noted for the example's length; what is computed
        # is right for all lengths, which is what is checked here.
        self._module = torch.export.load(path).module(check_guards=False)

    def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
        """See :class:`Graph`; programs take their inputs in order."""
        assert list(names) == [PREDICTION]
        with torch.inference_mode():
            return [self._module(*(torch.from_numpy(value) for value in inputs.values()))]
