"""Sequences of the clips of a batch, and what models do with clips that lack a modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vavl.config.models import ModelConfig
from vavl.distributed import anywhere
from vavl.types import STREAMS, Modality


@dataclass(frozen=True)
class Sequences:
    """Normalised sequences of the n clips of a batch that have a modality.

    Attributes:
        x: ``(n, T, D)``; what stands where ``mask`` is False does not matter, but is finite.
        mask: ``(n, T)``, True = valid; at least one valid step per clip.
        rows: ``(n,)`` their places in the batch, ascending.
        target: ``(n, D)`` mean before masking and noise, which a reconstruction aims at; None
            where that is the mean of ``x``.
        statistics: ``(n, 2 D)`` mean and deviation over time before masking and noise, of blended
            clips a blend of theirs; None where no model asks for them.
    """

    x: Tensor
    mask: Tensor
    rows: Tensor
    target: Tensor | None = None
    statistics: Tensor | None = None

    def at(self, keep: Tensor) -> Sequences:
        """Those of the clips where ``(n,)`` ``keep`` is True."""
        target = None if self.target is None else self.target[keep]
        statistics = None if self.statistics is None else self.statistics[keep]
        return Sequences(self.x[keep], self.mask[keep], self.rows[keep], target, statistics)


Pair = tuple[Sequences, Sequences]
"""Sound and face of the same clips, in the same order."""


def paired(sequences: Mapping[Modality, Sequences]) -> Pair | None:
    """Sound and face of the clips that have both, or None if no clip (of any rank) has."""
    if len(sequences) < len(STREAMS):
        return None
    acoustic, visual = (sequences[modality] for modality in STREAMS)
    acoustic = acoustic.at(torch.isin(acoustic.rows, visual.rows))
    visual = visual.at(torch.isin(visual.rows, acoustic.rows))
    return (acoustic, visual) if anywhere(len(acoustic.rows) > 0) else None


def drop_modalities(
    sequences: dict[Modality, Sequences], chance: float
) -> dict[Modality, Sequences]:
    """Takes the sound or the face, evenly, from some of the clips that have both."""
    if len(sequences) < len(STREAMS):
        return sequences
    acoustic, visual = (sequences[modality] for modality in STREAMS)
    both = acoustic.rows[torch.isin(acoustic.rows, visual.rows)]
    draw = torch.rand(len(both), device=both.device)
    kept = {
        Modality.ACOUSTIC: acoustic.at(~torch.isin(acoustic.rows, both[draw < chance / 2])),
        Modality.VISUAL: visual.at(~torch.isin(visual.rows, both[draw >= 1 - chance / 2])),
    }
    return {modality: part for modality, part in kept.items() if anywhere(len(part.rows) > 0)}


def completed(sequences: Mapping[Modality, Sequences], config: ModelConfig) -> Pair:
    """Sound and face of all clips, with one step of zeros where a clip lacks one of them.

    Zero is the mean of normalised features. One step and not as many as a clip usually has: nobody
    knows how long a sequence is that is not there.
    """
    rows = torch.unique(torch.cat([part.rows for part in sequences.values()]))  # ascending
    like = next(iter(sequences.values()))
    whole = []
    for modality in STREAMS:
        part = sequences.get(modality)
        steps = 1 if part is None else part.x.shape[1]
        x = like.x.new_zeros(len(rows), steps, config.dim(modality))
        mask = like.mask.new_zeros(len(rows), steps)
        mask[:, 0] = True
        if part is not None:
            places = torch.searchsorted(rows, part.rows)
            x = x.index_copy(0, places, part.x)
            mask = mask.index_copy(0, places, part.mask)
        whole.append(Sequences(x, mask, rows))
    return whole[0], whole[1]


def stacked(parts: Sequence[Sequences]) -> Sequences:
    """Several of them as one, one below the other; rows may repeat."""
    steps = max(part.x.shape[1] for part in parts)

    def longer(part: Sequences) -> tuple[Tensor, Tensor]:
        missing = steps - part.x.shape[1]
        return F.pad(part.x, (0, 0, 0, missing)), F.pad(part.mask, (0, missing))

    xs, masks = zip(*map(longer, parts), strict=True)
    return Sequences(torch.cat(xs), torch.cat(masks), torch.cat([part.rows for part in parts]))


def subsampled(
    sequences: Mapping[Modality, Sequences], config: ModelConfig
) -> dict[Modality, Sequences]:
    """Joins neighbouring steps into their mean over the valid ones, as the configuration says."""
    return {m: _averaged(part, config.subsampling(m)) for m, part in sequences.items()}


def _averaged(part: Sequences, step: int) -> Sequences:
    """``(n, T, D)`` to ``(n, ceil(T / step), D)``; a mean is valid if one of its steps is."""
    if step == 1:
        return part
    missing = -part.x.shape[1] % step
    x = F.pad(part.x.masked_fill(~part.mask[..., None], 0.0), (0, 0, 0, missing))
    clips, steps, dim = x.shape
    mask = F.pad(part.mask, (0, missing)).view(clips, steps // step, step)
    total = x.view(clips, steps // step, step, dim).sum(2)
    mean = total / mask.sum(2, keepdim=True).clamp_min(1)
    return Sequences(mean, mask.any(2), part.rows, part.target)


def last_valid(mask: Tensor) -> Tensor:
    """``(n, T)`` to ``(n,)`` index of the last valid step."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    return (mask * steps).amax(1)


def last_step(x: Tensor, mask: Tensor) -> Tensor:
    """``(n, T, width)`` to ``(n, width)``: the last valid step of each clip."""
    return x[torch.arange(len(x), device=x.device), last_valid(mask)]
