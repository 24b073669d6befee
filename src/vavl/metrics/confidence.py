"""Risk against coverage: how much more often a model is right where it is surer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.errors import InputError, all_problems
from vavl.metrics.categories import UNKNOWN_CATEGORY

_ROUNDING = 1e-6
"""A softmax in single precision may be above 1 by so much."""


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """What a threshold on the confidence costs, and what it is worth.

    Attributes:
        thresholds: ``(K,)`` the confidences that occur, from the highest down. An item is accepted
            where its confidence is at least the threshold: below it, the label is unsure.
        coverage: ``(K,)`` share of the items that are accepted, rising to 1.
        risk: ``(K,)`` share of the accepted items that are wrong.
        aurc: Area under the curve in [0, 1], the lower the better: the mean risk over the
            thresholds of all N items; NaN without any item.

    Example:
        >>> found = risk_coverage([0, 1], [[0.9, 0.1], [0.6, 0.4]])
        >>> found.thresholds.tolist(), found.coverage.tolist(), found.risk.tolist()
        ([0.9, 0.6], [0.5, 1.0], [0.0, 0.5])
    """

    thresholds: NDArray[np.float64]
    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    aurc: float


def risk_coverage(labels: ArrayLike, probabilities: ArrayLike) -> RiskCoverage:
    """Risk against coverage of a classifier that may abstain by its confidence.

    The confidence of an item is its highest probability. Items of equal confidence are accepted
    together, as one threshold does, so that their order does not matter.

    Args:
        labels: ``(N,)`` indices of the true categories, or -1 where unknown (left out).
        probabilities: ``(N, C)``, as calibrated as the threshold is to be.

    Raises:
        InputError: Shapes or labels that do not fit, or numbers outside [0, 1].

    Example:
        >>> found = risk_coverage([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> found.coverage.round(2).tolist(), found.risk.round(2).tolist(), round(found.aurc, 2)
        ([0.33, 0.67, 1.0], [0.0, 0.0, 0.33], 0.11)

    Source: El-Yaniv, Wiener, "On the foundations of noise-free selective classification", 2010
    (coverage and risk); Geifman, El-Yaniv, "Selective classification for deep neural networks",
    2017, arXiv 1705.08500 (by the highest probability); Geifman, Uziel, El-Yaniv, "Bias-reduced
    uncertainty estimation for deep neural classifiers", 2019, arXiv 1805.08206 (the area).
    """
    truth, rows = _checked(labels, probabilities)
    confidence, wrong = rows.max(1), rows.argmax(1) != truth
    order = np.argsort(-confidence)
    accepted = np.arange(1, len(truth) + 1)
    # The last item of each run of equal confidences: there, all of them are accepted.
    last = np.flatnonzero(np.diff(confidence[order], append=-1.0))
    risk = wrong[order].cumsum()[last] / accepted[last]
    coverage = accepted[last] / max(len(truth), 1)
    aurc = float(risk @ np.diff(coverage, prepend=0.0)) if len(truth) else float("nan")
    return RiskCoverage(confidence[order][last], coverage, risk, aurc)


def _checked(
    labels: ArrayLike, probabilities: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and probabilities of the items whose category is known."""
    truth, rows = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or not rows.shape[1] or truth.shape != rows.shape[:1]:
        raise InputError(
            f"labels, probabilities: expected (N,) and (N, C) with C >= 1, got {truth.shape} and "
            f"{rows.shape}"
        )
    known = truth != UNKNOWN_CATEGORY
    truth, rows = truth[known], rows[known]
    problems = []
    if truth.size and not np.issubdtype(truth.dtype, np.integer):
        problems.append(f"labels: expected whole numbers, got {truth.dtype}")
    elif truth.size and not (truth.min() >= 0 and truth.max() < rows.shape[1]):
        problems.append(
            f"labels: expected indices from 0 to {rows.shape[1] - 1}, or -1 where unknown, got "
            f"{truth.min()} to {truth.max()}"
        )
    if not ((rows >= 0) & (rows <= 1 + _ROUNDING)).all():  # NaN is neither
        problems.append("probabilities: expected numbers in [0, 1], got others; logits, or NaN?")
    if problems:
        raise InputError(all_problems("risk_coverage", problems))
    return truth.astype(np.int64), rows
