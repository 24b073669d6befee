"""Scores of attributes, each a function of six sums over items."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.errors import InputError, all_problems
from vavl.metrics.categories import ratio, shape_problems


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
        targets: ``(...)`` finite values; shift targets and predictions by the same constant, close
            to the mean of the targets, where that is far from 0: CCC does not change, and the sums
            keep their digits.
        predictions: ``(...)`` finite values.

    Returns:
        ``(..., 6)``: 1, t, p, t^2, p^2, t p. Sum over items, then :func:`ccc_of_moments`.
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
    spread = _Spread.of_moments(sums)
    total = spread.target + spread.prediction + spread.bias**2
    value = ratio(2 * spread.covariance, total, empty=0.0)
    return np.where(spread.known, value, np.nan)


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
    spread = _Spread.of_moments(sums)
    norm = np.sqrt(spread.target) * np.sqrt(spread.prediction)
    value = np.clip(ratio(spread.covariance, norm, empty=0.0), -1.0, 1.0)
    return np.where(spread.known, value, np.nan)


class _Spread(NamedTuple):
    """Population moments of targets and predictions, each of shape ``(...)``."""

    target: NDArray[np.float64]
    """Variance."""
    prediction: NDArray[np.float64]
    """Variance."""
    covariance: NDArray[np.float64]
    """0 where either is constant."""
    bias: NDArray[np.float64]
    known: NDArray[np.bool_]
    """Where there is any item."""

    @classmethod
    def of_moments(cls, sums: NDArray[Any]) -> _Spread:
        sums = np.asarray(sums, dtype=np.float64)
        weight = sums[..., 0]
        t, p, tt, pp, tp = np.moveaxis(ratio(sums[..., 1:], weight[..., None]), -1, 0)
        t_variance, p_variance = tt - t * t, pp - p * p
        # A variance that is only the rounding of its two terms is the variance of a constant.
        epsilon = 64 * np.finfo(np.float64).eps
        varies = (t_variance > epsilon * tt) & (p_variance > epsilon * pp)
        return cls(
            np.maximum(t_variance, 0),
            np.maximum(p_variance, 0),
            np.where(varies, tp - t * p, 0.0),
            t - p,
            weight > 0,
        )


def _values(
    targets: ArrayLike, predictions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as value vectors of the items whose target is known."""
    arrays = {"targets": np.asarray(targets), "predictions": np.asarray(predictions)}
    problems = shape_problems(arrays)
    problems += [
        f"{name}: expected real numbers, got {values.dtype}"
        for name, values in arrays.items()
        if values.dtype.kind not in "iuf"
    ]
    if problems:
        raise InputError(all_problems("attribute scores", problems))
    target, prediction = (values.astype(np.float64) for values in arrays.values())
    if np.isinf(target).any():
        problems.append("targets: expected finite values or NaN (unknown), got an infinite one")
    bad = int((~np.isfinite(prediction[~np.isnan(target)])).sum())
    if bad:
        problems.append(f"predictions: expected finite values, got {bad} that are NaN or infinite")
    if problems:
        raise InputError(all_problems("attribute scores", problems))
    known = ~np.isnan(target)
    return target[known], prediction[known]


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(values.min() == values.max())
