"""How scores fall as more and more clips lack a modality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vavl.evaluation.quantities import Quantity
from vavl.evaluation.views import FUSED, View
from vavl.types import STREAMS, Modality

SHARES = tuple(tenths / 10 for tenths in range(11))
"""Shares of clips that lack a modality, at which scores are taken."""

DRAWS = 20
"""Random orders in which clips lose the modality; scores are averaged over them."""


@dataclass(frozen=True)
class MissingCurve:
    """Score against the share of clips that lack a modality.

    Attributes:
        quantity: ``"category"``, or the name of an attribute.
        view: The fused view: where the modality is missing it becomes the other modality's.
        missing: What the clips lack: ``acoustic`` (no sound) or ``visual`` (no face).
        measure: Name of the score.
        shares: Shares in [0, 1].
        values: The score at each share, mean over draws and seeds.
        clips: Number of clips: those that have both modalities and a known target.
    """

    quantity: str
    view: View
    missing: Modality
    measure: str
    shares: tuple[float, ...]
    values: tuple[float, ...]
    clips: int


def missing_curves(quantity: Quantity, *, seed: int) -> tuple[MissingCurve, ...]:
    """Computes the curves from the predictions at hand; no model runs.

    A clip that lacks its sound is predicted from its face alone, and the other way round: this is
    exactly what the model would answer, because its unimodal outputs never see the other modality.
    In each draw clips lose the modality in one random order, so that the clips that lack it at 30 %
    lack it at 40 % too, and curves do not jump from noise alone.

    Args:
        quantity: What is scored.
        seed: Seed of the random orders.

    Returns:
        One curve per missing modality, fused view and compared measure; none where no clip has both
        modalities.
    """
    views = [view for view in FUSED if view in quantity.views]
    needed = [*views, *(View(modality) for modality in STREAMS)]
    if not views or not quantity.compared or not set(needed) <= set(quantity.views):
        return ()
    rows = quantity.known.copy()
    for view in needed:
        rows &= quantity.present[view] & ~quantity.fallback[view]
    clips = int(rows.sum())
    if not clips:
        return ()
    targets = np.tile(quantity.targets[rows], DRAWS)
    groups = np.repeat(np.arange(DRAWS, dtype=np.int64), clips)
    ranks = np.tile(np.arange(clips), (DRAWS, 1))
    ranks = np.random.default_rng((seed, 1)).permuted(ranks, axis=1)  # (draws, clips)

    curves = []
    for missing, left in (STREAMS, STREAMS[::-1]):
        for view in views:
            values: dict[str, list[float]] = {measure: [] for measure in quantity.compared}
            for share in SHARES:
                lost = ranks < round(share * clips)
                per_seed = [
                    quantity.sums(targets, np.where(lost, alone, both).ravel(), groups, DRAWS)
                    for both, alone in zip(
                        quantity.predictions[view][:, rows],
                        quantity.predictions[View(left)][:, rows],
                        strict=True,
                    )
                ]
                scores = quantity.scores(np.stack(per_seed))  # measure -> (seeds, draws)
                for measure in quantity.compared:
                    values[measure].append(float(scores[measure].mean()))
            curves += [
                MissingCurve(quantity.name, view, missing, measure, SHARES, tuple(points), clips)
                for measure, points in values.items()
            ]
    return tuple(curves)
