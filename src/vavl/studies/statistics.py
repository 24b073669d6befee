"""Tests for scores that were taken on the same folds: none takes folds or seeds for new samples.

Two folds of a cross-validation share most of their training clips, and two seeds share all clips. A
t-test that counts either as independent finds differences that are not there: Dietterich 1998,
"Approximate statistical tests for comparing supervised classification learning algorithms"; Bengio
and Grandvalet 2004, "No unbiased estimator of the variance of k-fold cross-validation". Here seeds
are averaged within a fold, folds are tested with the variance corrected for their overlap, and the
samples of the bootstrap are speakers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.errors import InputError


@dataclass(frozen=True)
class TTest:
    """A t-test of one mean.

    Attributes:
        t: The statistic; infinite where the differences are all the same and not 0.
        degrees: Degrees of freedom.
        p: Two-sided p-value; NaN with fewer than two differences.
    """

    t: float
    degrees: int
    p: float


def corrected_resampled_t(differences: ArrayLike, test_share: float) -> TTest:
    """Whether the mean of differences over folds is 0, with the folds' overlap accounted for.

    ``t = mean / sqrt((1 / K + n_test / n_train) * variance)`` with K - 1 degrees of freedom. With
    ``test_share = 0`` it is the ordinary t-test, which takes the folds for independent.

    Args:
        differences: ``(K,)`` one per fold, seeds averaged within the fold.
        test_share: ``n_test / n_train``: clips of a test fold over clips that the model of the fold
            was trained on; 0.25 for five folds without development speakers.

    Raises:
        InputError: Not a vector of finite numbers, or a negative share.

    Source: Nadeau and Bengio 2003, "Inference for the generalization error", section 3 (derived
    for random divisions). Bouckaert and Frank 2004, "Evaluating the replicability of significance
    tests for comparing learning algorithms", use it for cross-validation, as is done here: an
    approximation that keeps its level better than the ordinary test.

    Example:
        >>> test = corrected_resampled_t([0.02, 0.01, 0.03, 0.02, 0.02], test_share=0.25)
        >>> round(test.t, 3), test.degrees, round(test.p, 3)
        (4.216, 4, 0.014)
    """
    from scipy.stats import t as student

    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError("differences: expected a vector (K,) of finite numbers")
    if not test_share >= 0:
        raise InputError(f"test_share: expected at least 0, got {test_share}")
    folds = len(values)
    if folds < 2:
        return TTest(math.nan, 0, math.nan)
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    error = math.sqrt((1 / folds + test_share) * variance)
    certain = math.copysign(math.inf, mean) if mean else 0.0
    t = mean / error if error > 0 else certain
    return TTest(t, folds - 1, float(2 * student.sf(abs(t), folds - 1)))


def bootstrap_p(replicates: NDArray[np.float64], margin: float = 0.0) -> float:
    """Two-sided p-value of "the difference is ``margin``" from bootstrap replicates.

    It is below 0.05 where the 95 % percentile interval of the replicates leaves the margin out
    (up to the one resample that is counted for the data themselves).

    Args:
        replicates: ``(R,)`` differences in the resamples; NaN are left out.
        margin: The value in question.

    Returns:
        In (0, 1]; NaN without replicates.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", section 15.4 (achieved
    significance levels by inverting the interval); the data count as one more resample, so that p
    is never 0: Davison and Hinkley 1997, "Bootstrap methods and their application", section 4.2.

    Example:
        >>> bootstrap_p(np.linspace(0.01, 0.1, 99))
        0.02
    """
    drawn = replicates[np.isfinite(replicates)]
    if not drawn.size:
        return math.nan
    smaller = min(int((drawn <= margin).sum()), int((drawn >= margin).sum()))
    return min(1.0, 2 * (1 + smaller) / (1 + drawn.size))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, adjusted so that all of them together keep the level.

    Args:
        p_values: One per test; NaN stays NaN and does not count.

    Returns:
        As many values in [0, 1], none below its p-value.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = list(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(known, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def standardised_difference(differences: NDArray[np.float64]) -> float:
    """Mean difference over speakers in units of their standard deviation (Cohen's d for pairs).

    Args:
        differences: ``(S,)`` one per speaker; NaN (nothing known about a speaker) are left out.

    Returns:
        0 where no speaker differs at all; NaN with fewer than two speakers.

    Source: Cohen 1988, "Statistical power analysis for the behavioral sciences", section 2.3.5
    (``d_z``). Speakers, not folds, are the units: the folds are few, and an accident of the
    partition.
    """
    known = differences[np.isfinite(differences)]
    if known.size < 2:
        return math.nan
    spread = float(known.std(ddof=1))
    if spread > 0:
        return float(known.mean()) / spread
    return 0.0 if not known.any() else math.copysign(math.inf, float(known.mean()))
