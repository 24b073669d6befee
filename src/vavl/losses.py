"""What training minimises: tensors in, scalars out."""

from __future__ import annotations

import torch
from torch import Tensor


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
