"""What training minimises: a model's own steps, on augmented sequences, with the task loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.config.experiment import TrainingConfig
from vavl.distributed import anywhere, draw_below, gathered
from vavl.models.base import EmotionModel, Losses, Step
from vavl.models.sequences import Sequences, drop_modalities
from vavl.types import STREAMS, Batch, Modality


def category_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy against a distribution over categories, averaged over the clips that have one.

    Args:
        logits: ``(n, C)``.
        targets: ``(n, C)``, rows that sum to 1, or rows of NaN where the category is unknown.
        class_weights: ``(C,)``; the average is weighted by them.
        label_smoothing: Share of each target spread evenly over the categories.

    Returns:
        Scalar; 0 (without a gradient that matters) if no clip has a category.
    """
    known = ~targets.isnan().any(1)
    logits, targets = logits[known], targets[known]
    smooth = (1 - label_smoothing) * targets + label_smoothing / targets.shape[1]
    losses = -(smooth * logits.log_softmax(1)).sum(1)  # (n,)
    weights = (
        torch.ones_like(losses) if class_weights is None else targets @ class_weights.to(targets)
    )
    return (losses * weights).sum() / weights.sum().clamp_min(1e-12)


def concordance_correlation(outputs: Tensor, targets: Tensor) -> Tensor:
    """Concordance correlation coefficient of ``(n,)`` outputs with ``(n,)`` targets.

    Source: Lin 1989, "A concordance correlation coefficient to evaluate reproducibility",
    with population moments. Two constants that are equal count as 0, not as undefined.
    """
    output_mean, target_mean = outputs.mean(), targets.mean()
    covariance = ((outputs - output_mean) * (targets - target_mean)).mean()
    spread = outputs.var(correction=0) + targets.var(correction=0)
    return 2 * covariance / (spread + (output_mean - target_mean) ** 2).clamp_min(1e-8)


def attribute_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over the attributes of ``1 - CCC``, each over the clips where it is known.

    Args:
        outputs: ``(n, A)``.
        targets: ``(n, A)`` in [0, 1], NaN where unknown.

    Returns:
        Scalar; an attribute known for fewer than two clips has no correlation and adds 0.
    """
    total = outputs.sum() * 0.0  # keeps the graph when nothing is known
    for output, target in zip(outputs.unbind(1), targets.unbind(1), strict=True):
        known = ~target.isnan()
        if int(known.sum()) >= 2:
            total = total + 1 - concordance_correlation(output[known], target[known])
    return total


def task_terms(
    outputs: Tensor,
    targets: Targets,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> list[Tensor]:
    """The terms of the task loss: that of the categories, then that of the attributes.

    Args:
        outputs: ``(n, outputs)`` category logits, then attributes.
        targets: Of the same n clips; what they lack has no term.
        class_weights: ``(C,)`` or None.
        label_smoothing: See :func:`category_loss`.
    """
    terms = []
    split = 0 if targets.categories is None else targets.categories.shape[1]
    if targets.categories is not None:
        terms.append(
            category_loss(
                outputs[:, :split],
                targets.categories,
                class_weights=class_weights,
                label_smoothing=label_smoothing,
            )
        )
    if targets.attributes is not None:
        terms.append(attribute_loss(outputs[:, split:], targets.attributes))
    return terms


@dataclass(frozen=True)
class Targets:
    """Targets of n clips, see :class:`vavl.types.Batch`."""

    categories: Tensor | None
    attributes: Tensor | None

    def __len__(self) -> int:
        known = self.attributes if self.categories is None else self.categories
        return 0 if known is None else len(known)

    def at(self, rows: Tensor) -> Targets:
        """The targets of some of the clips."""
        return Targets(
            None if self.categories is None else self.categories[rows],
            None if self.attributes is None else self.attributes[rows],
        )

    def of_all_ranks(self) -> Targets:
        """The targets of the clips of all ranks, see :func:`vavl.distributed.gathered`."""
        return Targets(
            None if self.categories is None else gathered(self.categories),
            None if self.attributes is None else gathered(self.attributes),
        )

    def mixed(self, partner: Tensor, share: float) -> Targets:
        """``share`` of each clip's target and the rest of its partner's; unknown if either is."""
        return Targets(
            None if self.categories is None else _blended(self.categories, partner, share),
            None if self.attributes is None else _blended(self.attributes, partner, share),
        )


def _blended(values: Tensor, partner: Tensor, share: float) -> Tensor:
    return values.lerp(values[partner], 1 - share)


def augmented(
    sequences: Mapping[Modality, Sequences], targets: Targets, config: TrainingConfig
) -> tuple[dict[Modality, Sequences], Targets]:
    """Applies what the configuration asks for: modality dropout, mixup, time masking, noise.

    Where several ranks share a batch, each draws its own random numbers, and mixes clips among its
    own ones.
    """
    if config.modality_dropout:
        sequences = drop_modalities(sequences, config.modality_dropout)
    sequences = {modality: part for modality, part in sequences.items() if len(part)}
    if config.mixup and sequences:
        sequences, targets = mix_clips(sequences, targets, config.mixup)
    noise = {Modality.ACOUSTIC: config.acoustic_noise, Modality.VISUAL: config.visual_noise}
    return {
        modality: replace(
            part,
            x=add_noise(mask_time(part.x, part.mask, config.time_masking), noise[modality]),
            clean=part.x,
        )
        for modality, part in sequences.items()
    }, targets


def mix_clips(
    sequences: Mapping[Modality, Sequences], targets: Targets, beta: float
) -> tuple[dict[Modality, Sequences], Targets]:
    """Blends each clip with another one of the batch, sound, face and targets alike.

    A partner has the same modalities; a clip whose drawn partner has not stays as it is. Where only
    one of a pair has a valid step, the other counts as zeros, the mean of normalised features.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization" (arXiv 1710.09412); one
    share per batch, drawn from Beta(beta, beta).
    """
    device = next(iter(sequences.values())).x.device
    batch = len(targets)
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
        place[part.rows] = torch.arange(len(part), device=device)
        other = place[partner[part.rows]]  # (n,)
        x = part.x * part.mask[..., None].to(part.x.dtype)
        mixed[modality] = Sequences(
            part.rows,
            x.lerp_(x[other], 1 - share),
            part.mask | part.mask[other],
            summary=None if part.summary is None else _blended(part.summary, other, share),
        )
    return mixed, targets.mixed(partner, share)


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


class Objective(nn.Module):
    """The model with its losses.

    Args:
        model: What is trained; it says which steps there are and what each minimises.
        config: Weights of the losses and augmentation.
        class_weights: ``(C,)`` or None.
    """

    class_weights: Tensor | None

    def __init__(
        self, model: EmotionModel, config: TrainingConfig, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.steps = model.steps(config)
        """The steps of the optimizer on each batch, for :meth:`forward`."""
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch, step: Step) -> Losses:
        """Losses of one step, by the prediction that they train.

        Args:
            batch: Clips with their targets; in :func:`vavl.distributed.together`, this
                rank's share.
            step: One of :attr:`steps`.

        Returns:
            Prediction to scalar, over the clips of all ranks; a prediction that none of them has is
            left out.
        """
        sequences, targets = augmented(
            self.model.sequences(batch.inputs),
            Targets(batch.category_targets, batch.attribute_targets),
            self.config,
        )
        return step(self._as_on_all_ranks(sequences), BatchCriterion(self, targets))

    def _as_on_all_ranks(
        self, sequences: Mapping[Modality, Sequences]
    ) -> dict[Modality, Sequences]:
        """The same modalities on all ranks, for no clips where this one has none of them.

        All ranks go the same way through the model, so that each exchange finds its partners.
        """
        return {
            m: sequences[m] if m in sequences else self.model.clips_without(m)
            for m in self.model.config.inputs
            if anywhere(m in sequences)
        }

    def task_loss(
        self, outputs: Tensor, targets: Targets, *, label_smoothing: float | None = None
    ) -> Tensor:
        """Cross-entropy of the categories plus ``1 - CCC`` of each attribute.

        Args:
            outputs: ``(n, outputs)`` category logits, then attributes.
            targets: Of the same n clips.
            label_smoothing: None takes the configured one.
        """
        if label_smoothing is None:
            label_smoothing = self.config.label_smoothing
        terms = task_terms(
            outputs,
            targets,
            class_weights=self.class_weights,
            label_smoothing=label_smoothing,
        )
        return sum(terms, start=outputs.new_zeros(()))


@dataclass(frozen=True)
class BatchCriterion:
    """What the outputs for one batch are judged by, see :class:`vavl.models.base.Criterion`.

    Attributes:
        objective: With the settings of the losses.
        targets: Of this rank's clips of the batch.
    """

    objective: Objective
    targets: Targets

    def task_loss(self, values: Tensor, rows: Tensor) -> Tensor | None:
        """See the protocol."""
        values = gathered(values)
        if not len(values):
            return None
        return self.objective.task_loss(values, self.targets.at(rows).of_all_ranks())

    def squared_error(self, values: Tensor, targets: Tensor) -> Tensor:
        """See the protocol."""
        return F.mse_loss(gathered(values), gathered(targets))

    def draw_below(self, count: int) -> int:
        """See the protocol."""
        return draw_below(count)
