"""Sums over clips by speaker, and the same sums of resampled speakers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vavl.evaluation.bootstrap import speaker_weights
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.quantities import Floats, Quantity
from vavl.evaluation.views import View


class Scope:
    """Some of the clips (all, or a fold), their speakers, and the resamples of these.

    Args:
        rows: ``(N,)`` True for the clips of the scope.
        speakers: N speakers.
        replicates: Number of resamples (R).
        seed: The same seed and number of speakers give the same resamples, whatever is scored:
            that is what pairs two scores.
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

    def sums(self, quantity: Quantity, view: View, rows: NDArray[np.bool_]) -> Floats:
        """Sums per seed and speaker of the scope: ``(K, S, ...)``."""
        return quantity.sums_by_group(view, rows & self.rows, self.speaker_of, self.speakers)

    def resampled(self, sums: Floats) -> list[Floats]:
        """For each seed the sums of every resample: ``(R, ...)``."""
        return [np.tensordot(self.weights, per_speaker, axes=1) for per_speaker in sums]

    def contributing(self, rows: NDArray[np.bool_]) -> int:
        """Number of speakers with at least one of ``rows``."""
        return len(np.unique(self.speaker_of[rows & self.rows]))


class Resampling:
    """The scopes that are scored: everything together, and each fold by itself.

    Args:
        table: The clips, their speakers and folds.
        replicates: Number of resamples.
        seed: Seed of the resamples.
    """

    def __init__(self, table: PredictionTable, replicates: int, seed: int) -> None:
        def scope(rows: NDArray[np.bool_], number: int) -> Scope:
            return Scope(rows, table.speakers, replicates, (seed, 0, number))

        partitions = np.asarray(table.partitions)
        names = dict.fromkeys(table.partitions)
        self.everything = scope(np.ones(len(table), np.bool_), 0)
        self.folds = {name: scope(partitions == name, n) for n, name in enumerate(names, start=1)}
