"""Fits the linear models of clips' statistics, before the rest of a model is trained.

A logistic regression (of attributes: a linear one, by the loss that they are trained by) that sees
each clip as it is: whole, without noise, and not in batches. It is convex and small, so that it is
solved here in one go; by the steps of the network's optimizer it ends up clearly worse.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vavl.data.dataset import UtteranceDataset, sorted_batches
from vavl.models.base import EmotionModel
from vavl.models.branches import StatisticsHead
from vavl.models.vavl import VAVL
from vavl.training.objective import Targets, attribute_loss, category_loss
from vavl.types import Modality

INVERSE_PENALTY = 0.03
"""As ``C`` of scikit-learn's LogisticRegression. The best of 0.003, 0.01 and 0.03 on development
speakers of RAVDESS, for sound and face together."""

MOST_CLIPS = 20_000
"""Of more, so many are drawn: their statistics are all in memory at once."""

_BATCH = 32
_ITERATIONS = 200
_SMALLEST_DEVIATION = 1e-6


def fit_statistics_heads(model: EmotionModel, train: UtteranceDataset) -> None:
    """Fits those heads of a model that are linear in the statistics of a clip, if it has any.

    Args:
        model: With the normalisation that it is trained with; changed in place.
        train: The training split; clips are read from their first store.
    """
    if not isinstance(model, VAVL) or not model.config.input_statistics:
        return
    for modality, (statistics, targets) in _training_clips(model, train).items():
        head = model.branch(modality).statistics
        if head is not None:
            fit_head(head, statistics, targets)


def _training_clips(model: VAVL, train: UtteranceDataset) -> dict[Modality, tuple[Tensor, Targets]]:
    """Of each modality ``(n, 2 D)`` statistics of the clips that have it, and their targets."""
    drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:MOST_CLIPS]
    read: dict[Modality, list[tuple[Tensor, Tensor]]] = {}
    for batch in sorted_batches(train.lengths.max(0)[drawn].tolist(), _BATCH):
        rows = drawn[batch]
        for modality, part in model.sequences(train[rows.tolist()]).items():
            assert part.statistics is not None
            read.setdefault(modality, []).append((part.statistics, rows[part.rows]))
    targets = Targets(train.category_targets, train.attribute_targets)
    clips = {}
    for modality, parts in read.items():
        statistics = torch.cat([found for found, _ in parts])
        clips[modality] = statistics, targets.at(torch.cat([rows for _, rows in parts]))
    return clips


def fit_head(head: StatisticsHead, statistics: Tensor, targets: Targets) -> None:
    """Solves for the weights of one head: task loss plus an L2 penalty on the scaled weights.

    Args:
        head: Changed in place.
        statistics: ``(n, 2 D)``.
        targets: Of the n clips.
    """
    mean, deviation = statistics.mean(0), statistics.std(0, correction=0)
    scale = torch.where(deviation > _SMALLEST_DEVIATION, 1 / deviation, 0.0)  # 0: it never varies
    scaled = (statistics - mean) * scale
    weight = torch.zeros_like(head.weight, requires_grad=True)
    bias = torch.zeros_like(head.bias, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=1e-5
    )

    def loss() -> Tensor:
        solver.zero_grad()
        outputs = torch.nn.functional.linear(scaled, weight, bias)
        total = weight.square().sum() / (2 * INVERSE_PENALTY * len(scaled))
        split = 0
        if targets.categories is not None:
            split = targets.categories.shape[1]
            total = total + category_loss(outputs[:, :split], targets.categories)
        if targets.attributes is not None:
            total = total + attribute_loss(outputs[:, split:], targets.attributes)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        solver.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.copy_(weight * scale)
        head.bias.copy_(bias - head.weight @ mean)
