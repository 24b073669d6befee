"""Confidence intervals by resampling speakers.

Clips of one speaker resemble each other, so clips are no independent samples: resampling clips
gives intervals that are far too narrow for "would this hold for other speakers?". Here whole
speakers are drawn with replacement, as many as there are.

Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval); Field,
Welsh, "Bootstrapping clustered data", 2007 (resampling whole clusters).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Share of the bootstrap distribution that an interval holds."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The score on the clips as they are.
        low: Lower end of the interval; NaN where there are fewer than two speakers.
        high: Upper end; NaN likewise.
    """

    estimate: float
    low: float
    high: float


def speaker_weights(speakers: int, replicates: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """How often each speaker is drawn in each resample.

    Args:
        speakers: Number of speakers (S), at least 1.
        replicates: Number of resamples (R), at least 1.
        seed: The same numbers give the same resamples.

    Returns:
        ``(R, S)`` whole numbers >= 0 whose rows sum to S.

    Example:
        >>> speaker_weights(4, 2, seed=(0,)).sum(axis=1).tolist()
        [4.0, 4.0]
    """
    drawn = np.random.default_rng(seed).multinomial(
        speakers, np.full(speakers, 1 / speakers), replicates
    )
    return drawn.astype(np.float64)


def percentile_interval(
    estimate: float, replicates: NDArray[np.float64], speakers: int
) -> Interval:
    """The central :data:`CONFIDENCE` of the bootstrap distribution.

    Args:
        estimate: The score on the clips as they are.
        replicates: ``(R,)`` scores of the resamples; NaN where a resample held no known target,
            which is left out.
        speakers: How many speakers contributed; one alone says nothing about others.

    Returns:
        The interval; its ends are NaN with fewer than two speakers.
    """
    drawn = replicates[np.isfinite(replicates)]
    if speakers < 2 or not drawn.size:
        return Interval(estimate, float("nan"), float("nan"))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(estimate, float(low), float(high))
