"""Scores for categories and attributes, on plain arrays.

Every category score is a function of the confusion matrix, and CCC is a function of six sums, so
each formula stands here once: :func:`category_measures` and :func:`ccc_of_moments` work on any
number of leading dimensions, which is what makes thousands of bootstrap replicates one matrix
product. The functions on label arrays (:func:`accuracy`, :func:`uar`, ...) are thin fronts.

Conventions, the same in all of them:

* A category target of -1 and an attribute target of NaN mean *unknown*: those items are left out.
* Averages over classes (UAR, F1-macro) run over the classes that occur in the targets. A class
  that is only predicted lowers the precision of nothing else, and has no score of its own.
* With no known target at all the score is NaN: nothing was measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.errors import InputError, all_problems

CATEGORY_MEASURES = ("accuracy", "uar", "f1_macro", "f1_micro")
"""Names of the scores that :func:`category_measures` returns, in the order of tables."""

UNKNOWN_CATEGORY = -1
"""Category target of an item whose category is not known."""


def accuracy(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Share of items that are predicted correctly; also called weighted average recall (WAR).

    Args:
        targets: ``(N,)`` class indices >= 0, or -1 where the class is unknown (left out).
        predictions: ``(N,)`` class indices >= 0.

    Returns:
        A value in [0, 1], or NaN without any known target.

    Raises:
        InputError: The arrays are not two equally long vectors of class indices.

    Example:
        >>> accuracy([0, 1, 1, -1], [0, 1, 0, 1])
        0.6666666666666666
    """
    return _measure("accuracy", targets, predictions)


war = accuracy
"""Weighted average recall: another name of :func:`accuracy`."""


def uar(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Unweighted average recall: the mean recall of the classes that occur in the targets.

    Chance is one over the number of classes however unbalanced they are. Arguments, result and
    errors as for :func:`accuracy`.

    Source: Schuller, Steidl, Batliner, "The INTERSPEECH 2009 Emotion Challenge".

    Example:
        >>> uar([0, 0, 0, 1], [0, 0, 0, 0])
        0.5
    """
    return _measure("uar", targets, predictions)


def f1_macro(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Mean F1 of the classes that occur in the targets; a class never predicted counts as 0.

    Equal to ``sklearn.metrics.f1_score(..., average="macro", labels=<those that occur>,
    zero_division=0)``. Arguments, result and errors as for :func:`accuracy`.

    Source: Sokolova, Lapalme, "A systematic analysis of performance measures for classification
    tasks", 2009 (macro average of the F-score with beta = 1).

    Example:
        >>> f1_macro([0, 0, 1, 1], [0, 0, 0, 0])
        0.3333333333333333
    """
    return _measure("f1_macro", targets, predictions)


def f1_micro(targets: ArrayLike, predictions: ArrayLike) -> float:
    """F1 over the pooled decisions for the classes that occur in the targets.

    The same number as :func:`accuracy` unless something is predicted as a class that no target
    has: that decision is no false alarm of any class that occurs, so F1-micro is then the higher.
    Equal to ``sklearn.metrics.f1_score(..., average="micro", labels=<those that occur>)``.
    Arguments, result and errors as for :func:`accuracy`.

    Source: Sokolova, Lapalme, "A systematic analysis of performance measures for classification
    tasks", 2009 (micro average of the F-score with beta = 1).

    Example:
        >>> f1_micro([0, 0, 1, 1], [0, 1, 1, 1])
        0.75
    """
    return _measure("f1_micro", targets, predictions)


def confusion_matrix(
    targets: ArrayLike, predictions: ArrayLike, *, classes: int
) -> NDArray[np.int64]:
    """Counts how often each class is predicted as which.

    Args:
        targets: ``(N,)`` class indices in [0, classes), or -1 where unknown (left out).
        predictions: ``(N,)`` class indices in [0, classes).
        classes: Number of classes (C), at least 1.

    Returns:
        ``(C, C)`` counts: rows are targets, columns are predictions.

    Raises:
        InputError: The arrays are not two equally long vectors of indices below ``classes``.

    Example:
        >>> confusion_matrix([0, 1, 1], [0, 0, 1], classes=2).tolist()
        [[1, 0], [1, 1]]
    """
    if classes < 1:
        raise InputError(f"classes: expected at least 1, got {classes}")
    target, prediction = _labels(targets, predictions)
    problems = [
        f"{name}: expected class indices below classes = {classes}, got {int(values.max())}"
        for name, values in (("targets", target), ("predictions", prediction))
        if values.size and values.max() >= classes
    ]
    if problems:
        raise InputError(all_problems("confusion_matrix", problems))
    cells = np.bincount(target * classes + prediction, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def category_measures(confusion: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """All category scores of one or many confusion matrices.

    Args:
        confusion: ``(..., C, C)`` counts >= 0: rows are targets, columns are predictions. They need
            not be whole numbers.

    Returns:
        For each name of :data:`CATEGORY_MEASURES` an array of shape ``(...)``; NaN where a matrix
        is empty.

    Example:
        >>> float(category_measures(np.array([[3, 1], [0, 4]]))["uar"])
        0.875
    """
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)  # (..., C)
    support = counts.sum(-1)  # (..., C)
    occurs = support > 0
    predicted = np.where(occurs, counts.sum(-2), 0.0)  # (..., C)
    total, classes = support.sum(-1), occurs.sum(-1)
    recalls = _ratio(hits, support, empty=0.0)
    f1 = _ratio(2 * hits, support + predicted, empty=0.0)
    return {
        "accuracy": _ratio(hits.sum(-1), total),
        "uar": _ratio(recalls.sum(-1), classes),
        "f1_macro": _ratio(f1.sum(-1), classes),
        "f1_micro": _ratio(2 * hits.sum(-1), total + predicted.sum(-1)),
    }


def class_recalls(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Recall of each class of one or many confusion matrices.

    Args:
        confusion: ``(..., C, C)`` counts >= 0: rows are targets, columns are predictions.

    Returns:
        ``(..., C)`` in [0, 1], NaN for a class that does not occur in the targets.

    Example:
        >>> class_recalls(np.array([[3, 1], [0, 4]])).tolist()
        [0.75, 1.0]
    """
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


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
    value = _ratio(2 * spread.covariance, total, empty=0.0)
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
    value = np.clip(_ratio(spread.covariance, norm, empty=0.0), -1.0, 1.0)
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
        t, p, tt, pp, tp = np.moveaxis(_ratio(sums[..., 1:], weight[..., None]), -1, 0)
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


def _measure(name: str, targets: ArrayLike, predictions: ArrayLike) -> float:
    target, prediction = _labels(targets, predictions)
    classes, index = np.unique(np.concatenate([target, prediction]), return_inverse=True)
    if not classes.size:
        return float("nan")
    target, prediction = index[: target.size], index[target.size :]
    counts = confusion_matrix(target, prediction, classes=classes.size)
    return float(category_measures(counts)[name])


def _labels(
    targets: ArrayLike, predictions: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as index vectors of the items whose target is known."""
    arrays = {"targets": np.asarray(targets), "predictions": np.asarray(predictions)}
    problems = _shape_problems(arrays)
    for name, values in arrays.items():
        lowest = UNKNOWN_CATEGORY if name == "targets" else 0
        if values.size and not np.issubdtype(values.dtype, np.integer):
            hint = "; take the argmax of scores first" if values.dtype.kind == "f" else ""
            problems.append(f"{name}: expected integer class indices, got {values.dtype}{hint}")
        elif values.size and values.min() < lowest:
            problems.append(f"{name}: expected indices >= {lowest}, got {int(values.min())}")
    if problems:
        raise InputError(all_problems("category scores", problems))
    target, prediction = (values.astype(np.int64) for values in arrays.values())
    known = target != UNKNOWN_CATEGORY
    return target[known], prediction[known]


def _values(
    targets: ArrayLike, predictions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as value vectors of the items whose target is known."""
    arrays = {"targets": np.asarray(targets), "predictions": np.asarray(predictions)}
    problems = _shape_problems(arrays)
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


def _shape_problems(arrays: dict[str, NDArray[Any]]) -> list[str]:
    problems = [
        f"{name}: expected a vector (N,), got shape {values.shape}"
        for name, values in arrays.items()
        if values.ndim != 1
    ]
    sizes = {name: values.size for name, values in arrays.items()}
    if not problems and len(set(sizes.values())) > 1:
        problems.append(f"expected one prediction per target, got {sizes}")
    return problems


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(values.min() == values.max())


def _ratio(
    numerator: NDArray[Any], denominator: NDArray[Any], empty: float = float("nan")
) -> NDArray[np.float64]:
    """``numerator / denominator``, and ``empty`` where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, np.shape(denominator))
    result = np.full(shape, empty, dtype=np.float64)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) != 0)
    return result
