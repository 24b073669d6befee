"""Scores of attributes, each a function of six sums over items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.errors import InputError, all_problems
from vavl.metrics.categories import paired_vectors, ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.float64]")


@dataclass(frozen=True)
class Scale:
    """The values that raters could give.

    Attributes:
        low: The lowest value of the scale.
        high: The highest value of the scale.
        reversed: Whether ``low`` stands for the most of what the attribute is named after.

    Raises:
        InputError: ``low`` is not below ``high``, or one of them is not finite.

    Example:
        >>> calm_is_5 = Scale(1, 5, reversed=True)
        >>> calm_is_5.to_unit(1.0), calm_is_5.from_unit(0.0)
        (1.0, 5.0)
    """

    low: float
    high: float
    reversed: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"scale: expected low < high, got ({self.low}, {self.high})")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def to_unit(self, value: Values) -> Values:
        """A value of the scale, or an array of them, as a value in [0, 1]."""
        share = (value - self.low) / (self.high - self.low)
        return 1.0 - share if self.reversed else share

    def from_unit(self, value: Values) -> Values:
        """A value in [0, 1], or an array of them, as a value of the scale."""
        share = 1.0 - value if self.reversed else value
        return self.low + share * (self.high - self.low)


SENTIMENT = Scale(-3, 3)
"""From highly negative to highly positive, as CMU-MOSEI and its kin have it."""


def ccc(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Concordance correlation coefficient: correlation, lowered by bias and by a wrong spread.

    ``2 cov(t, p) / (var(t) + var(p) + (mean(t) - mean(p))^2)`` with population (1/N) moments.
    Where nothing varies there is no correlation to speak of, and the value is 0: with a constant
    prediction, with a constant target, and also where both are the same constant.

    Args:
        targets: ``(N,)`` real values, NaN where unknown (left out).
        predictions: ``(N,)`` real values, finite wherever the target is known.

    Returns:
        A value in [-1, 1], or NaN without any known target.

    Raises:
        InputError: The arrays are not two equally long vectors of such values.

    Source: Lin, "A concordance correlation coefficient to evaluate reproducibility", 1989.

    Example:
        >>> round(ccc([0.0, 0.5, 1.0, float("nan")], [0.1, 0.5, 0.9, 0.3]), 4)
        0.9756
    """
    target, prediction = _values(targets, predictions)
    if not target.size:
        return float("nan")
    if _constant(target) or _constant(prediction):
        return 0.0
    bias = target.mean() - prediction.mean()
    target, prediction = target - target.mean(), prediction - prediction.mean()
    spread = np.mean(target**2) + np.mean(prediction**2) + bias**2
    return float(2 * np.mean(target * prediction) / spread) if spread > 0 else 0.0


def pearson(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Pearson's correlation; 0 where the targets or the predictions are constant.

    Arguments, result and errors as for :func:`ccc`, whose value never exceeds this one in size.

    Source: Pearson, "Note on regression and inheritance in the case of two parents", 1895.

    Example:
        >>> round(pearson([0.0, 0.5, 1.0], [0.2, 0.3, 0.4]), 6)
        1.0
    """
    target, prediction = _values(targets, predictions)
    if not target.size:
        return float("nan")
    if _constant(target) or _constant(prediction):
        return 0.0
    target, prediction = target - target.mean(), prediction - prediction.mean()
    # Each norm apart: the product of the two sums of squares would underflow for tiny spreads.
    norms = float(np.linalg.norm(target)), float(np.linalg.norm(prediction))
    if 0.0 in norms:
        return 0.0
    return float(np.clip((target / norms[0]) @ (prediction / norms[1]), -1.0, 1.0))


def moments(targets: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.float64]:
    """What each item adds to the six sums that CCC is a function of.

    Args:
        targets: ``(...)`` finite values. Where their mean is far from 0, subtract it from targets
            and predictions: CCC does not change, and the sums keep their digits.
        predictions: ``(...)`` finite values.

    Returns:
        ``(..., 6)``: 1, t, p, t^2, p^2, t p. Sum over items, then :func:`ccc_of_moments`.

    Example:
        >>> moments(np.array([1.0, 2.0]), np.array([1.0, 3.0])).sum(axis=0).tolist()
        [2.0, 3.0, 4.0, 5.0, 10.0, 7.0]
    """
    target, prediction = np.broadcast_arrays(
        np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    )
    one = np.ones_like(target)
    squares = (target**2, prediction**2, target * prediction)
    return np.stack([one, target, prediction, *squares], axis=-1)


def ccc_of_moments(sums: NDArray[Any]) -> NDArray[np.float64]:
    """CCC from sums of :func:`moments`: one value per set of items, without seeing the items again.

    Args:
        sums: ``(..., 6)`` sums over items, possibly weighted.

    Returns:
        ``(...)`` as :func:`ccc`: 0 where nothing varies, NaN where the weight is 0.

    Example:
        >>> items = moments(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.5, 0.9]))
        >>> round(float(ccc_of_moments(items.sum(0))), 4)
        0.9756
    """
    target, prediction, covariance, bias, unknown = _spreads(sums)
    return ratio(2 * covariance, target + prediction + bias**2, empty=0.0) + unknown


def pearson_of_moments(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's correlation from sums of :func:`moments`, as :func:`ccc_of_moments` gives CCC.

    Args:
        sums: ``(..., 6)`` sums over items, possibly weighted.

    Returns:
        ``(...)`` as :func:`pearson`: 0 where the targets or the predictions are constant, NaN where
        the weight is 0.

    Example:
        >>> items = moments(np.array([0.0, 0.5, 1.0]), np.array([0.2, 0.3, 0.4]))
        >>> round(float(pearson_of_moments(items.sum(0))), 6)
        1.0
    """
    target, prediction, covariance, _, unknown = _spreads(sums)
    norm = np.sqrt(target) * np.sqrt(prediction)
    return np.clip(ratio(covariance, norm, empty=0.0), -1.0, 1.0) + unknown


def _spreads(sums: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    """Population moments, each ``(...)``, from sums of :func:`moments`.

    Returns:
        Variance of the targets, of the predictions, and their covariance (0 where either is
        constant); difference of the means; NaN where there is no item, else 0.
    """
    sums = np.asarray(sums, dtype=np.float64)
    weight = sums[..., 0]
    t, p, tt, pp, tp = np.moveaxis(ratio(sums[..., 1:], weight[..., None]), -1, 0)
    t_variance, p_variance = tt - t * t, pp - p * p
    # A variance that is only the rounding of its two terms is the variance of a constant.
    epsilon = 64 * np.finfo(np.float64).eps
    varies = (t_variance > epsilon * tt) & (p_variance > epsilon * pp)
    covariance = np.where(varies, tp - t * p, 0.0)
    unknown = np.where(weight > 0, 0.0, np.nan)
    return np.maximum(t_variance, 0), np.maximum(p_variance, 0), covariance, t - p, unknown


def _values(
    targets: ArrayLike, predictions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as value vectors of the items whose target is known."""
    arrays, problems = paired_vectors(targets, predictions)
    problems += [
        f"{name}: expected real numbers, got {values.dtype}"
        for name, values in arrays.items()
        if values.dtype.kind not in "iuf"
    ]
    if not problems:
        target, prediction = (values.astype(np.float64) for values in arrays.values())
        known = ~np.isnan(target)
        if np.isinf(target).any():
            problems.append("targets: expected finite values or NaN (unknown), got an infinite one")
        bad = int((~np.isfinite(prediction[known])).sum())
        if bad:
            problems.append(
                f"predictions: expected finite values, got {bad} that are NaN or infinite"
            )
    if problems:
        raise InputError(all_problems("attribute scores", problems))
    return target[known], prediction[known]


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(values.min() == values.max())
