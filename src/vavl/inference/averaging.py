"""The weighted mean of predictions, for what was predicted in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vavl.types import Modality, TimedPrediction


def mean(weighted: Sequence[tuple[TimedPrediction, float]]) -> TimedPrediction:
    """The mean of predictions that were made from something, from the first to the last.

    Its modality is the one that weighs most; its label is the most probable one, however unsure.

    Args:
        weighted: At least one prediction, each of a modality, and its weight; the sum of the
            weights is above 0.

    Example:
        >>> sad, glad = ({"sad": p, "happy": 1 - p} for p in (0.75, 0.25))
        >>> first = TimedPrediction(0, 10, Modality.VISUAL, "sad", sad, {})
        >>> last = TimedPrediction(10, 12, Modality.VISUAL, "happy", glad, {})
        >>> round(mean([(first, 10), (last, 2)]).probabilities["sad"], 2)
        0.67
    """
    parts, weights = [part for part, _ in weighted], [weight for _, weight in weighted]
    shares = dict.fromkeys(Modality, 0.0)
    for part, weight in zip(parts, weights, strict=True):
        if part.modality is not None:
            shares[part.modality] += weight
    probabilities = _means([part.probabilities for part in parts], weights)
    return replace(
        parts[0],
        end_s=parts[-1].end_s,
        modality=max(Modality, key=shares.__getitem__),
        label=most_probable(probabilities),
        probabilities=probabilities,
        attributes=_means([part.attributes for part in parts], weights),
    )


def _means(parts: Sequence[Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
    return {
        key: float(np.average([part[key] for part in parts], weights=weights)) for key in parts[0]
    }


def most_probable(probabilities: Mapping[str, float]) -> str | None:
    """The most probable category; None without categories."""
    return max(probabilities, key=probabilities.__getitem__, default=None)
