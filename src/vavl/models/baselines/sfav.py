"""SFAV: convolutions over time, in which each modality says which steps of the other matter.

Source: Chumachenko, Iosifidis and Gabbouj 2022, "Self-attention fusion for audiovisual emotion
recognition with incomplete data" (arXiv 2201.11095), the variant with intermediate attention fusion
and its modality dropout, with the sizes of the published code.

Two convolution blocks encode each modality. Attention from the steps of one modality over those of
the other, averaged over the former, weighs the latter: no features cross over. Two more blocks
follow, the mean over time, and one linear layer on both. In training each clip counts four times:
as it is, with the two modalities scaled by c and 1 - c for a random c, without its sound, and
without its face. A missing modality is one step of zeros.

Differs from the published code: features come from an extractor, where it trains its face network
along; padding and gaps are masked in the convolutions, their batch normalisation, the attention and
the mean, and convolutions keep the length; the weights of the steps are scaled to a mean of 1,
where their sum is as large as the other modality is long; the values of the attention, which this
variant never uses, are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.config.baselines import SFAVConfig
from vavl.models.base import Criterion, EmotionModel, Losses, Normalisation
from vavl.models.baselines.transformer import by_head
from vavl.models.conformer import MaskedBatchNorm, masked_mean
from vavl.models.sequences import Pair, Predicted, Sequences, completed, subsampled
from vavl.types import STREAMS, Modality


class ConvolutionBlock(nn.Module):
    """Convolution over time, batch normalisation, ReLU, and the larger of neighbouring steps.

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        kernel: Taps, odd.
        pooled: Whether each step becomes the larger of itself and the next one.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled
        self.convolution = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.batch_norm = MaskedBatchNorm(outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps ``(B, T, inputs)`` to ``(B, T, outputs)``, zero where ``(B, T)`` mask is False."""
        x = x.masked_fill(~mask[..., None], 0.0)
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        x = F.relu(self.batch_norm(x, mask)).masked_fill(~mask[..., None], 0.0)
        # Nothing is below zero here, so that a step that is not valid never is the larger one.
        return torch.maximum(x, F.pad(x[:, 1:], (0, 0, 0, 1))) if self.pooled else x


class TwoBlocks(nn.Module):
    """Two convolution blocks, one after the other; ``widths`` are the input's and the outputs'."""

    def __init__(self, widths: tuple[int, int, int], kernel: int, *, pooled: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvolutionBlock(inputs, outputs, kernel, pooled=pooled)
            for inputs, outputs in itertools.pairwise(widths)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """See :class:`ConvolutionBlock`."""
        for block in self.blocks:
            x = block(x, mask)
        return x


class StepWeights(nn.Module):
    """How much the steps of a sequence matter to another one.

    Args:
        queries: Width of the other sequence, and of the attention.
        keys: Width of the sequence that is weighed.
        heads: Attention heads.
    """

    def __init__(self, queries: int, keys: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(queries, queries, bias=False)
        self.key = nn.Linear(keys, queries, bias=False)

    def forward(self, other: Tensor, other_mask: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, S)`` weights of the steps of ``(B, S, keys)`` ``x``, with a mean of 1.

        Args:
            other: ``(B, T, queries)``.
            other_mask: ``(B, T)``.
            x: ``(B, S, keys)``.
            mask: ``(B, S)``.
        """
        query, key = by_head(self.query(other), self.heads), by_head(self.key(x), self.heads)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])  # (B, heads, T, S)
        shares = scores.masked_fill(~mask[:, None, None], -math.inf).softmax(-1).mean(1)
        return masked_mean(shares, other_mask) * mask.sum(1, keepdim=True)


class SFAV(EmotionModel):
    """See the module's docstring and :class:`vavl.config.baselines.SFAVConfig`."""

    config_class = SFAVConfig

    def __init__(self, config: SFAVConfig) -> None:
        super().__init__(config)
        channels = {
            Modality.ACOUSTIC: config.acoustic_channels,
            Modality.VISUAL: config.visual_channels,
        }

        def blocks(modality: Modality, widths: tuple[int, int, int]) -> TwoBlocks:
            pooled = modality is Modality.ACOUSTIC  # as published
            return TwoBlocks(widths, config.kernel, pooled=pooled)

        self.normalisations = nn.ModuleDict({str(m): Normalisation(config.dim(m)) for m in STREAMS})
        self.early = nn.ModuleDict(
            {str(m): blocks(m, (config.dim(m), *channels[m][:2])) for m in STREAMS}
        )
        self.weights = nn.ModuleDict(
            {
                str(m): StepWeights(channels[other][1], channels[m][1], config.heads)
                for m, other in zip(STREAMS, STREAMS[::-1], strict=True)
            }
        )
        self.late = nn.ModuleDict({str(m): blocks(m, channels[m][1:]) for m in STREAMS})
        self.head = nn.Linear(sum(channels[m][3] for m in STREAMS), config.outputs)

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return cast(Normalisation, self.normalisations[modality])

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        sequences = subsampled(sequences, self.config)
        pairs = {m: completed({m: part}, self.config) for m, part in sequences.items()}
        both = self.pair(sequences)
        if both is not None:
            pairs[Modality.AUDIOVISUAL] = both
        return {m: Predicted(pair[0].rows, self._network(*pair)) for m, pair in pairs.items()}

    def losses(self, sequences: Mapping[Modality, Sequences], criterion: Criterion) -> Losses:
        """The mean of the task losses of the clips as they are, scaled, and with one modality."""
        sequences = subsampled(sequences, self.config)
        cases = [(m, completed({m: part}, self.config)) for m, part in sequences.items()]
        both = self.pair(sequences)
        if both is not None:
            cases += [(Modality.AUDIOVISUAL, both), (Modality.AUDIOVISUAL, _scaled(*both))]
        if not cases:
            return {}
        # One batch of all cases, so that they share the statistics of the batch normalisation.
        acoustic, visual = (stacked([pair[side] for _, pair in cases]) for side in range(2))
        sizes = [len(pair[0]) for _, pair in cases]
        outputs = torch.split(self._network(acoustic, visual), sizes)
        found = [
            (modality, loss)
            for (modality, pair), values in zip(cases, outputs, strict=True)
            if (loss := criterion.task_loss(values, pair[0].rows)) is not None
        ]
        losses: Losses = {}
        for modality, loss in found:
            share = loss / len(found)
            losses[modality] = losses[modality] + share if modality in losses else share
        return losses

    def _network(self, *pair: Sequences) -> Tensor:
        """``(n, outputs)`` from sound and face of n clips."""
        early = [self.early[m](part.x, part.mask) for m, part in zip(STREAMS, pair, strict=True)]
        means = []
        for m, x, part, other, other_part in zip(
            STREAMS, early, pair, early[::-1], pair[::-1], strict=True
        ):
            weights = self.weights[m](other, other_part.mask, x, part.mask)
            x = self.late[m](x * weights[..., None], part.mask)
            means.append(masked_mean(x, part.mask))
        return self.head(torch.cat(means, dim=1))


def stacked(parts: Sequence[Sequences]) -> Sequences:
    """Several of them as one, one below the other; rows may repeat."""
    steps = max(part.x.shape[1] for part in parts)

    def longer(part: Sequences) -> tuple[Tensor, Tensor]:
        missing = steps - part.x.shape[1]
        return F.pad(part.x, (0, 0, 0, missing)), F.pad(part.mask, (0, missing))

    xs, masks = zip(*map(longer, parts), strict=True)
    return Sequences(torch.cat([part.rows for part in parts]), torch.cat(xs), torch.cat(masks))


def _scaled(acoustic: Sequences, visual: Sequences) -> Pair:
    """Sound scaled by c and face by 1 - c, for a random c in [0, 1) of each clip."""
    share = torch.rand(len(acoustic), 1, 1, device=acoustic.x.device)
    return (
        Sequences(acoustic.rows, acoustic.x * share, acoustic.mask),
        Sequences(visual.rows, visual.x * (1 - share), visual.mask),
    )
