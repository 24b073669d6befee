"""Scores of sentiment as they are reported on CMU-MOSI and CMU-MOSEI.

Sentiment runs from -3 (highly negative) to 3 (highly positive). An attribute of the name
:data:`ATTRIBUTE` is taken to be on that scale. As in :mod:`vavl.metrics`, every score is a function
of sums over clips, so that speakers can be resampled.

Source: A. Zadeh et al., "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and
Interpretable Dynamic Fusion Graph", ACL 2018; for both binary tasks, and for rounding to seven
classes, Y.-H. H. Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences",
ACL 2019, and what was published with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.metrics import moments, pearson_of_moments
from vavl.metrics.attributes import SENTIMENT

ATTRIBUTE = "sentiment"
"""The attribute that has these scores."""

SENTIMENT_MEASURES = (
    "sentiment_mae",
    "sentiment_correlation",
    "sentiment_accuracy_7",
    "sentiment_accuracy_2",
    "sentiment_f1_2",
    "sentiment_accuracy_2_with_neutral",
    "sentiment_f1_2_with_neutral",
)
"""Names of the scores, in the order of tables. Two classes are negative and positive, without clips
that are rated 0; or, ``with_neutral``, negative and not negative. F1 is the mean of both classes,
weighted by their clips. Seven classes are the whole numbers from -3 to 3."""

LOWER_IS_BETTER = frozenset({"sentiment_mae"})
"""Those among them that are errors."""

_MOMENTS = 6


def sentiment_items(targets: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.float64]:
    """What each clip adds to the sums that the scores are functions of.

    Args:
        targets: ``(...)`` in [-3, 3].
        predictions: ``(...)`` finite. What lies beyond the scale counts as it is for the error,
            and as the end of the scale for the seven classes.

    Returns:
        ``(..., 16)``: six moments, the absolute error, whether the class of seven is hit, and a
        confusion matrix (2, 2) of either binary task, rows being targets, negative first.
    """
    classes = [
        np.round(np.clip(values, SENTIMENT.low, SENTIMENT.high))
        for values in (targets, predictions)
    ]
    strict = _confusion(targets > 0, predictions > 0) * (targets != 0)[..., None]
    with_neutral = _confusion(targets >= 0, predictions >= 0)
    columns = [np.abs(targets - predictions), classes[0] == classes[1]]
    return np.concatenate(
        [moments(targets, predictions), np.stack(columns, axis=-1), strict, with_neutral], axis=-1
    )


def measures_of_items(sums: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """All scores from sums of :func:`sentiment_items`, possibly weighted.

    Args:
        sums: ``(..., 16)``.

    Returns:
        For each name of :data:`SENTIMENT_MEASURES` an array of shape ``(...)``; NaN where nothing
        was measured.

    Example:
        >>> targets, predictions = np.array([-2.0, 0.0, 1.0, 3.0]), np.array([-1.0, 0.2, 1.2, 2.8])
        >>> found = measures_of_items(sentiment_items(targets, predictions).sum(axis=0))
        >>> round(float(found["sentiment_mae"]), 2), float(found["sentiment_accuracy_7"])
        (0.4, 0.75)
    """
    sums = np.asarray(sums, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums[..., _MOMENTS : _MOMENTS + 2] / sums[..., :1]
        binary = [_binary_measures(sums[..., start : start + 4]) for start in (8, 12)]
    values = (shares[..., 0], pearson_of_moments(sums[..., :_MOMENTS]), shares[..., 1])
    return dict(zip(SENTIMENT_MEASURES, (*values, *binary[0], *binary[1]), strict=True))


def _confusion(target: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``(..., 4)``: one of them is 1."""
    cells = [target == t for t in (False, True)], [prediction == p for p in (False, True)]
    return np.stack([t & p for t in cells[0] for p in cells[1]], axis=-1).astype(np.float64)


def _binary_measures(cells: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Accuracy and weighted F1 of confusion matrices ``(..., 4)``."""
    matrix = cells.reshape(*cells.shape[:-1], 2, 2)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)  # (..., 2)
    support, predicted = matrix.sum(-1), matrix.sum(-2)
    total = support.sum(-1)
    f1 = np.where(hits > 0, 2 * hits / (support + predicted), 0.0)
    return hits.sum(-1) / total, (support * f1).sum(-1) / total
