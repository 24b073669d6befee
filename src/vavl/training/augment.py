"""Augmentation of normalised feature sequences in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vavl.config import TrainingConfig
from vavl.types import STREAMS, Modality

if TYPE_CHECKING:
    from vavl.training.objective import Targets


@dataclass(frozen=True)
class Sequences:
    """Normalised sequences of the n clips of a batch that have a modality.

    Attributes:
        x: ``(n, T, D)``.
        lengths: ``(n,)`` valid steps, each at least 1.
        rows: ``(n,)`` their places in the batch, ascending.
    """

    x: Tensor
    lengths: Tensor
    rows: Tensor

    def at(self, keep: Tensor) -> Sequences:
        """Those of the clips where ``(n,)`` ``keep`` is True."""
        return Sequences(self.x[keep], self.lengths[keep], self.rows[keep])


def augmented(
    sequences: dict[Modality, Sequences], targets: Targets, config: TrainingConfig
) -> tuple[dict[Modality, Sequences], Targets]:
    """Applies what the configuration asks for: modality dropout, mixup, time masking, noise."""
    if config.modality_dropout:
        sequences = drop_modalities(sequences, config.modality_dropout)
    if config.time_masking or config.feature_noise:
        sequences = {
            modality: replace(
                part,
                x=add_noise(
                    mask_time(part.x, part.lengths, config.time_masking), config.feature_noise
                ),
            )
            for modality, part in sequences.items()
        }
    return sequences, targets


def drop_modalities(
    sequences: dict[Modality, Sequences], chance: float
) -> dict[Modality, Sequences]:
    """Takes the sound or the face, evenly, from some of the clips that have both."""
    if len(sequences) < len(STREAMS):
        return sequences
    acoustic, visual = (sequences[modality] for modality in STREAMS)
    paired = acoustic.rows[torch.isin(acoustic.rows, visual.rows)]
    draw = torch.rand(len(paired), device=paired.device)
    kept = {
        Modality.ACOUSTIC: acoustic.at(~torch.isin(acoustic.rows, paired[draw < chance / 2])),
        Modality.VISUAL: visual.at(~torch.isin(visual.rows, paired[draw >= 1 - chance / 2])),
    }
    return {modality: part for modality, part in kept.items() if len(part.rows)}


def mask_time(x: Tensor, lengths: Tensor, share: float) -> Tensor:
    """Sets one random span of each sequence to zero, the mean of normalised features.

    The span covers up to ``share`` of the valid steps, and never all of them.
    Source: Park et al. 2019, "SpecAugment" (arXiv 1904.08779).
    """
    if share == 0 or x.shape[1] < 2:
        return x
    draws = torch.rand(2, len(x), device=x.device)
    spans = torch.minimum((draws[0] * share * lengths).long(), lengths - 1)
    starts = (draws[1] * (lengths - spans + 1)).long()
    steps = torch.arange(x.shape[1], device=x.device)
    hidden = (steps >= starts[:, None]) & (steps < (starts + spans)[:, None])  # (n, T)
    return x.masked_fill(hidden[..., None], 0.0)


def add_noise(x: Tensor, std: float) -> Tensor:
    """Adds white Gaussian noise; padding stays without meaning."""
    return x + torch.randn_like(x) * std if std else x
