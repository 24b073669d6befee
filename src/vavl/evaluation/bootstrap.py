"""Confidence intervals by resampling speakers.

Clips of one speaker resemble each other, so clips are no independent samples: resampling clips
gives intervals that are far too narrow for "would this hold for other speakers?". Here whole
speakers are drawn with replacement, as many as there are.

Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval); Field,
Welsh, "Bootstrapping clustered data", 2007 (resampling whole clusters).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""Share of the bootstrap distribution that an interval holds."""


def smallest_p(speakers: int) -> float:
    """The smallest two-sided p-value that so many speakers can give: ``2 ** (1 - S)``.

    That of an exact test which flips the signs of the speakers' differences, where all are on one
    side. The bootstrap knows no such limit, and is over-sure of few speakers.

    Source: Fisher, "The Design of Experiments", 1935, section 21.

    Example:
        >>> [smallest_p(speakers) for speakers in (2, 5, 6)]
        [0.5, 0.0625, 0.03125]
    """
    return float(2.0 ** (1 - speakers))


FEWEST_SPEAKERS = next(n for n in count(2) if smallest_p(n) <= 1 - CONFIDENCE)
"""Fewer speakers (below 6) can neither give an interval of this confidence nor a verdict."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The score on the clips as they are.
        low: Lower end of the interval; NaN where there are fewer than :data:`FEWEST_SPEAKERS`.
        high: Upper end; NaN likewise.
    """

    estimate: float
    low: float
    high: float


class Scope:
    """Some of the clips (all, or a fold), their speakers, and the resamples of these.

    Args:
        rows: ``(N,)`` True for the clips of the scope.
        speakers: The speaker of each of the N clips.
        replicates: Number of resamples (R).
        seed: The same numbers and number of speakers (S) give the same resamples, whatever is
            scored: that is what pairs two scores.
    """

    def __init__(
        self,
        rows: NDArray[np.bool_],
        speakers: Sequence[str],
        replicates: int,
        seed: tuple[int, ...],
    ) -> None:
        self.rows = rows
        names, index = np.unique(np.asarray(speakers)[rows], return_inverse=True)
        self.speakers = len(names)
        self.speaker_of = np.zeros(len(rows), np.int64)
        self.speaker_of[rows] = index
        self.weights = speaker_weights(self.speakers, replicates, seed)

    def resampled(self, sums: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Sums of every resample ``(R, ...)``, for each seed, from sums by speaker (K, S, ...)."""
        return [np.tensordot(self.weights, per_speaker, axes=1) for per_speaker in sums]

    def contributing(self, rows: NDArray[np.bool_]) -> int:
        """Number of speakers with at least one of ``rows``."""
        return len(np.unique(self.speaker_of[rows & self.rows]))


def speaker_weights(speakers: int, replicates: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """How often each speaker is drawn in each resample: ``(R, S)``, rows sum to S.

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
        replicates: ``(R,)`` scores of the resamples; NaN (no known target) are left out.
        speakers: How many speakers contributed; too few say nothing about others.
    """
    drawn = replicates[np.isfinite(replicates)]
    if speakers < FEWEST_SPEAKERS or not drawn.size:
        return Interval(estimate, math.nan, math.nan)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(estimate, float(low), float(high))


def bootstrap_p(replicates: NDArray[np.float64], margin: float = 0.0) -> float:
    """Two-sided p-value of "the difference is ``margin``" from bootstrap replicates.

    It is below 0.05 where the 95 % percentile interval of the replicates leaves the margin out
    (up to the one resample that is counted for the data themselves).

    Args:
        replicates: ``(R,)`` differences in the resamples; NaN are left out.
        margin: The value in question.

    Returns:
        In (0, 1]; NaN without replicates.

    Source: Efron and Tibshirani 1993, section 15.4 (achieved significance levels by inverting the
    interval); the data count as one more resample, so that p is never 0: Davison and Hinkley 1997,
    "Bootstrap methods and their application", section 4.2.

    Example:
        >>> bootstrap_p(np.linspace(0.01, 0.1, 99))
        0.02
    """
    drawn = replicates[np.isfinite(replicates)]
    if not drawn.size:
        return math.nan
    smaller = min(int((drawn <= margin).sum()), int((drawn >= margin).sum()))
    return min(1.0, 2 * (1 + smaller) / (1 + drawn.size))
