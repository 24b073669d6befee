"""Scores of categories, each a function of the confusion matrix."""

from __future__ import annotations

from typing import Any

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
    recalls = ratio(hits, support, empty=0.0)
    f1 = ratio(2 * hits, support + predicted, empty=0.0)
    return {
        "accuracy": ratio(hits.sum(-1), total),
        "uar": ratio(recalls.sum(-1), classes),
        "f1_macro": ratio(f1.sum(-1), classes),
        "f1_micro": ratio(2 * hits.sum(-1), total + predicted.sum(-1)),
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
    return ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


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
    problems = shape_problems(arrays)
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


def shape_problems(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """What is wrong with arrays that should be equally long vectors, by their names."""
    problems = [
        f"{name}: expected a vector (N,), got shape {values.shape}"
        for name, values in arrays.items()
        if values.ndim != 1
    ]
    sizes = {name: values.size for name, values in arrays.items()}
    if not problems and len(set(sizes.values())) > 1:
        problems.append(f"expected one prediction per target, got {sizes}")
    return problems


def ratio(
    numerator: NDArray[Any], denominator: NDArray[Any], empty: float = float("nan")
) -> NDArray[np.float64]:
    """``numerator / denominator``, and ``empty`` where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, np.shape(denominator))
    result = np.full(shape, empty, dtype=np.float64)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) != 0)
    return result
