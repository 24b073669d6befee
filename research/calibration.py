"""Whether probabilities mean what they say, and the temperature that mends them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.errors import InputError

BINS = 15


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean distance between confidence and accuracy, over 15 bins of equal width.

    Args:
        labels: ``(N,)`` indices of the true categories.
        probabilities: ``(N, C)``, rows summing to 1.

    Returns:
        In [0, 1]; 0 is perfectly calibrated.

    Raises:
        InputError: Shapes that do not fit, or no clip.

    Example:
        >>> expected_calibration_error([0, 0, 1, 1], [[0.5, 0.5]] * 4)
        0.0

    Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599.
    """
    truth, shares = _checked(labels, probabilities, "probabilities")
    confidence = shares.max(1)
    right = shares.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(truth))


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """The temperature T in [0.1, 10] with which ``softmax(logits / T)`` is most probable.

    Fit it on development data, never on the data that is reported.

    Args:
        labels: ``(N,)`` indices of the true categories.
        logits: ``(N, C)``.

    Raises:
        InputError: Shapes that do not fit, or no clip.

    Example:
        >>> round(fit_temperature([0, 0, 0, 1], [[4.0, 0.0]] * 4), 2)  # 4 / T = ln 3
        3.64

    Source: Guo et al. 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    truth, values = _checked(labels, logits, "logits")

    def loss(log_temperature: float) -> float:
        chances = log_softmax(values / np.exp(log_temperature), axis=1)
        return -float(chances[np.arange(len(truth)), truth].mean())

    best = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10.0)), method="bounded")
    return float(np.exp(best.x))


def _checked(
    labels: ArrayLike, values: ArrayLike, name: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    truth, rows = np.asarray(labels), np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or truth.shape != rows.shape[:1] or not len(truth):
        raise InputError(
            f"labels, {name}: expected (N,) and (N, C) with N >= 1, got {truth.shape} and "
            f"{rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise InputError(f"{name}: expected finite numbers, got NaN or infinite ones")
    if truth.min() < 0 or truth.max() >= rows.shape[1]:
        raise InputError(
            f"labels: expected indices from 0 to {rows.shape[1] - 1}, got {truth.min()} to "
            f"{truth.max()}"
        )
    return truth.astype(np.int64), rows
