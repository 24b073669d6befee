"""Transformers in which each modality looks at the other: what MulT and AuxFormer share.

Source: Tsai et al. 2019 (arXiv 1906.00295), section 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vavl.config.baselines import CrossmodalConfig, MulTConfig
from vavl.models.base import EmotionModel, Normalisation
from vavl.models.baselines.transformer import TransformerLayer, with_positions
from vavl.models.conformer import Dropout
from vavl.models.sequences import Predicted, Sequences, last_step, subsampled
from vavl.models.vavl import InputProjection
from vavl.types import STREAMS, Modality

Frames = tuple[Tensor, Tensor]
"""``(B, T, width)`` and its mask ``(B, T)``, True = valid, at least one valid step per clip."""


class TransformerEncoder(nn.Module):
    """The transformer of MulT and AuxFormer, over one sequence or from one into another.

    Args:
        config: Sizes.
        positions: Whether sines and cosines of the place in time are added.
        causal: Whether a step sees itself and earlier ones alone; within one sequence.
        gated: See :class:`TransformerLayer`.
    """

    def __init__(
        self,
        config: CrossmodalConfig,
        *,
        positions: bool = True,
        causal: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.positions = positions
        self.causal = causal
        self.dropout = Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.dropout, gated=gated)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, frames: Frames, source: Frames | None = None) -> Frames:
        """Encodes a sequence, by what it finds in itself or in another one.

        Args:
            frames: The sequence that is encoded.
            source: The other sequence; its embedding is what all layers attend over.

        Returns:
            Of the shape of ``frames``, with their mask.
        """
        x, mask = frames
        x, seen = self._embedded(x), mask[:, None]
        keys = None
        if source is not None:
            keys, seen = self._embedded(source[0]), source[1][:, None]
        elif self.causal:
            earlier = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            # Steps that are not valid see themselves: they count nowhere, but must stay finite.
            seen = (seen & earlier) | earlier.logical_and(earlier.T)  # (B, T, T)
        for layer in self.layers:
            x = layer(x, seen, keys)
        return self.norm(x), mask

    def _embedded(self, x: Tensor) -> Tensor:
        x = x * math.sqrt(x.shape[2])
        return self.dropout(with_positions(x) if self.positions else x)


class ResidualHead(nn.Module):
    """Linear layers with a residual connection over them, and an output layer.

    Args:
        widths: Of the layers, from the input's to the same again.
        outputs: Number of outputs.
        dropout: Of the hidden units.
    """

    def __init__(self, widths: Sequence[int], outputs: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.Linear(inner, outer), nn.ReLU(), Dropout(dropout)]
        self.layers = nn.Sequential(*layers[:-2])
        self.out = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, width)`` to ``(B, outputs)``."""
        return self.out(x + self.layers(x))


class CrossmodalNetwork(nn.Module):
    """Rewrites each modality by the other, looks over both results, predicts from their last steps.

    Args:
        config: Sizes.
        memory: Options of the transformers that look over the results, see
            :class:`TransformerEncoder`.
    """

    def __init__(self, config: CrossmodalConfig, **memory: bool) -> None:
        super().__init__()
        self.crossmodal = by_modality(lambda: TransformerEncoder(config))
        self.memory = by_modality(lambda: TransformerEncoder(config, **memory))
        width = 2 * config.width
        self.head = ResidualHead((width, width, width), config.outputs, config.head_dropout)

    def forward(self, acoustic: Frames, visual: Frames) -> Tensor:
        """``(B, outputs)`` from the projected frames of the same clips."""
        last = []
        for modality, frames, other in zip(
            STREAMS, (acoustic, visual), (visual, acoustic), strict=True
        ):
            rewritten = self.crossmodal[modality](frames, other)
            last.append(last_step(*self.memory[modality](rewritten)))
        return self.head(torch.cat(last, dim=1))


def by_modality(make: Callable[[], nn.Module]) -> nn.ModuleDict:
    """A module for each modality."""
    return nn.ModuleDict({str(modality): make() for modality in STREAMS})


def input_projections(config: CrossmodalConfig) -> nn.ModuleDict:
    """Normalises the frames of each modality and projects them to the common width."""
    return nn.ModuleDict(
        {str(m): InputProjection(config.dim(m), config.width, 1, 0.0) for m in STREAMS}
    )


class MulT(EmotionModel):
    """See the module's docstring and :class:`vavl.config.baselines.MulTConfig`."""

    config_class = MulTConfig

    def __init__(self, config: MulTConfig) -> None:
        super().__init__(config)
        self.projections = input_projections(config)
        self.network = CrossmodalNetwork(config)

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return cast(Normalisation, self.projections[modality])

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        pair = self.pair(subsampled(sequences, self.config))
        if pair is None:
            return {}
        frames = [
            self.projections[m](part.x, part.mask) for m, part in zip(STREAMS, pair, strict=True)
        ]
        return {Modality.AUDIOVISUAL: Predicted(pair[0].rows, self.network(*frames))}
