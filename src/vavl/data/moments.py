"""Means and variances of feature sequences: of a clip, of a speaker, and shrunk to the training's.

Statistics of few clips are poor, so those of a speaker are pooled with those of training, as if
:data:`PRIOR_CLIPS` clips like the training ones had been the speaker's first::

    mean     = (n m + k m0) / (n + k)
    variance = (n v + k v0) / (n + k) + n k (m - m0)^2 / (n + k)^2

with n clips of mean m and variance v, and k clips of mean m0 and variance v0. Without clips these
are the training statistics, with many they are the speaker's. The last term is what keeps them
honest where a clip is a single step: it has no variance of its own, and yet lies somewhere.

Each clip counts once, however long it is: the steps of a clip resemble each other, so a long clip
is not much more evidence than a short one, and a sequence of one step is as good as any.

Source: pooled moments are those of Chan, Golub, LeVeque, "Updating formulae and a pairwise
algorithm for computing sample variances", 1979; the estimate is the mean of the posterior of a
normal-inverse-gamma prior, up to its degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vavl.data.store import known_steps
from vavl.errors import InputError
from vavl.types import Modality

PRIOR_CLIPS = 5.0
"""Clips that the training statistics count as when those of a speaker are shrunk to them."""

SequenceMap = Callable[[Modality, str, NDArray[np.floating]], NDArray[np.floating]]
"""``(modality, utterance id, (T, D))`` to the ``(T, D)`` that is read in its place."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance per dimension, and how many clips they stand for. ``+`` pools two of them.

    Attributes:
        clips: Weight, at least 0.
        mean: ``(D,)`` float64.
        variance: ``(D,)`` float64, not negative; of the steps within and between the clips.

    Example:
        >>> both = Moments.of_clip(np.array([[0.0], [2.0]])) + Moments.of_clip(np.array([[5.0]]))
        >>> both.clips, both.mean.tolist(), both.variance.tolist()
        (2.0, [3.0], [4.5])
    """

    clips: float
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of_clip(cls, frames: NDArray[np.floating]) -> Moments:
        """The moments of one clip.

        Args:
            frames: ``(T, D)``; a row of NaN is a step that is not known.

        Raises:
            InputError: Another shape, no known step, or values that are not finite.
        """
        if frames.ndim != 2 or not frames.size:
            raise InputError(f"frames: expected (T, D) with T >= 1, got {frames.shape}")
        known = frames[known_steps(frames)].astype(np.float64)
        if not len(known) or not np.isfinite(known).all():
            raise InputError("frames: expected finite features, got NaN or infinity")
        return cls(1.0, known.mean(0), known.var(0))

    @classmethod
    def nothing(cls, dim: int) -> Moments:
        """No clip at all."""
        return cls(0.0, np.zeros(dim), np.zeros(dim))

    @property
    def std(self) -> NDArray[np.float64]:
        """``(D,)`` standard deviation."""
        return np.sqrt(self.variance)

    def __add__(self, other: Moments) -> Moments:
        """Both together."""
        clips = self.clips + other.clips
        if clips == 0:
            return self
        share = other.clips / clips
        apart = other.mean - self.mean
        return Moments(
            clips,
            self.mean + share * apart,
            (1 - share) * self.variance + share * other.variance + share * (1 - share) * apart**2,
        )


def pooled(clips: Iterable[Moments], dim: int) -> Moments:
    """The moments of some clips of ``dim`` dimensions together."""
    return sum(clips, start=Moments.nothing(dim))


def training_moments(
    mean: NDArray[np.floating], std: NDArray[np.floating], clips: float = PRIOR_CLIPS
) -> Moments:
    """The training statistics, as that many clips.

    Args:
        mean: ``(D,)``.
        std: ``(D,)``.
        clips: What they count as, more than 0.
    """
    if not clips > 0:
        raise InputError(f"clips: expected a prior of more than 0 clips, got {clips}")
    return Moments(clips, mean.astype(np.float64), std.astype(np.float64) ** 2)


def towards_training(
    frames: NDArray[np.floating], speaker: Moments, training: Moments
) -> NDArray[np.float32]:
    """Features of a speaker, moved and scaled to where the training speakers' features lie.

    Args:
        frames: ``(T, D)`` as extracted; rows of NaN stay.
        speaker: Of the speaker's unlabelled clips; unless there are any, nothing is changed.
        training: As :func:`training_moments` gives them.

    Returns:
        ``(T, D)``: with the shrunk statistics of the speaker taken out, and those of training put
        in their place, so that a model normalises them as it does its training speakers'.

    Example:
        >>> training = training_moments(np.zeros(1), np.ones(1))
        >>> ann = Moments(1e9, np.array([100.0]), np.array([4.0]))
        >>> towards_training(np.array([[100.0], [102.0]]), ann, training).round(3).tolist()
        [[0.0], [1.0]]
    """
    shrunk = speaker + training
    ratio = np.divide(training.std, shrunk.std, out=np.ones_like(shrunk.std), where=shrunk.std > 0)
    return ((frames - shrunk.mean) * ratio + training.mean).astype(np.float32)
