"""Augmentation of normalised feature sequences in training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vavl.config import TrainingConfig
from vavl.models.sequences import Sequences, drop_modalities
from vavl.ranks import gathered
from vavl.types import STREAMS, Modality


@dataclass(frozen=True)
class Targets:
    """Targets of n clips, see :class:`vavl.types.Batch`."""

    categories: Tensor | None
    attributes: Tensor | None

    @property
    def count(self) -> int:
        """Number of clips."""
        known = self.attributes if self.categories is None else self.categories
        return 0 if known is None else len(known)

    def at(self, rows: Tensor) -> Targets:
        """The targets of some of the clips."""
        return Targets(
            None if self.categories is None else self.categories[rows],
            None if self.attributes is None else self.attributes[rows],
        )

    def of_all_ranks(self) -> Targets:
        """The targets of the clips of all ranks, see :func:`vavl.ranks.gathered`."""
        return Targets(
            None if self.categories is None else gathered(self.categories),
            None if self.attributes is None else gathered(self.attributes),
        )

    def mixed(self, partner: Tensor, share: float) -> Targets:
        """``share`` of each clip's target and the rest of its partner's; unknown if either is."""
        blended = [
            None if part is None else part.lerp(part[partner], 1 - share)
            for part in (self.categories, self.attributes)
        ]
        return Targets(*blended)


def augmented(
    sequences: dict[Modality, Sequences], targets: Targets, config: TrainingConfig
) -> tuple[dict[Modality, Sequences], Targets]:
    """Applies what the configuration asks for: modality dropout, mixup, time masking, noise.

    Where several ranks share a batch, each draws its own random numbers, and mixes clips among its
    own ones.
    """
    if config.modality_dropout:
        sequences = drop_modalities(sequences, config.modality_dropout)
    if config.mixup and sequences:
        sequences, targets = mix_clips(sequences, targets, config.mixup)
    noise = {Modality.ACOUSTIC: config.acoustic_noise, Modality.VISUAL: config.visual_noise}
    return {
        modality: replace(
            part,
            x=add_noise(mask_time(part.x, part.mask, config.time_masking), noise[modality]),
            # The reconstruction aims at the clip, not at the noise on it.
            target=_mean(part.x, part.mask),
        )
        for modality, part in sequences.items()
    }, targets


def mix_clips(
    sequences: dict[Modality, Sequences], targets: Targets, beta: float
) -> tuple[dict[Modality, Sequences], Targets]:
    """Blends each clip with another one of the batch, sound, face and targets alike.

    A partner has the same modalities; a clip whose drawn partner has not stays as it is. Where only
    one of a pair has a valid step, the other counts as zeros, the mean of normalised features.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization" (arXiv 1710.09412); one
    share per batch, drawn from Beta(beta, beta).
    """
    device = next(iter(sequences.values())).x.device
    batch = targets.count
    present = torch.zeros(batch, len(STREAMS), dtype=torch.bool, device=device)
    for modality, part in sequences.items():
        present[part.rows, STREAMS.index(modality)] = True
    own = torch.arange(batch, device=device)
    drawn = torch.randperm(batch, device=device)
    alike = (present == present[drawn]).all(1)
    partner = torch.where(alike, drawn, own)  # (B,)
    share = float(torch.distributions.Beta(beta, beta).sample())
    mixed = {}
    for modality, part in sequences.items():
        place = torch.empty_like(own)
        place[part.rows] = torch.arange(len(part.rows), device=device)
        other = place[partner[part.rows]]  # (n,)
        x = part.x * part.mask[..., None].to(part.x.dtype)
        mask = part.mask | part.mask[other]
        statistics = part.statistics
        if statistics is not None:
            statistics = statistics.lerp(statistics[other], 1 - share)
        mixed[modality] = Sequences(
            x.lerp_(x[other], 1 - share), mask, part.rows, statistics=statistics
        )
    return mixed, targets.mixed(partner, share)


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """As :func:`vavl.models.conformer.masked_mean`, of finite padding: one pass, and no copy."""
    # Mixed precision would take the product in half precision, and the target lose its digits.
    with torch.autocast(x.device.type, enabled=False):
        weights = mask.float()
        total = torch.bmm(weights[:, None], x.float())[:, 0]  # (n, 1, T) @ (n, T, D)
        return total / weights.sum(1, keepdim=True)


def mask_time(x: Tensor, mask: Tensor, share: float) -> Tensor:
    """Sets one random span of each sequence to zero, the mean of normalised features.

    Args:
        x: ``(n, T, D)``.
        mask: ``(n, T)``, at least one True per row.
        share: The span covers up to this share of the steps up to the last valid one, and never
            all of them.

    Source: Park et al. 2019, "SpecAugment" (arXiv 1904.08779).
    """
    if share == 0 or x.shape[1] < 2:
        return x
    steps = torch.arange(x.shape[1], device=x.device)
    lengths = (mask * (steps + 1)).amax(1)  # (n,)
    draws = torch.rand(2, len(x), device=x.device)
    spans = torch.minimum((draws[0] * share * lengths).long(), lengths - 1)
    starts = (draws[1] * (lengths - spans + 1)).long()
    hidden = (steps >= starts[:, None]) & (steps < (starts + spans)[:, None])  # (n, T)
    return x.masked_fill(hidden[..., None], 0.0)


def add_noise(x: Tensor, std: float) -> Tensor:
    """Adds white Gaussian noise of deviation ``std`` to ``(n, T, D)``, padding included."""
    return x + torch.randn_like(x) * std if std else x
