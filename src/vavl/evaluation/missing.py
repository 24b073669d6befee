"""How scores fall as more and more clips lack a modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.data.partition import seeded_order
from vavl.errors import InputError
from vavl.evaluation.predictions import PredictionTable
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


def take_away(
    table: PredictionTable, *, acoustic: float, visual: float, seed: int = 0
) -> PredictionTable:
    """The predictions as they were if some clips lacked their sound, and others their face.

    Clips are drawn within each speaker, so that all speakers lose the same share; of two shares the
    smaller one's clips are among the larger one's.

    Args:
        table: Predictions for clips with both modalities, and perhaps others, which stay.
        acoustic: Share of the clips with both that lose their sound.
        visual: Share that lose their face; no clip loses both.
        seed: Draws the clips; the draw depends on it and the clips' names alone.

    Raises:
        InputError: The shares add up to more than 1.
    """
    if not (0 <= acoustic <= 1 and 0 <= visual <= 1 and acoustic + visual <= 1):
        raise InputError(
            f"acoustic, visual: expected shares that add up to at most 1, got {acoustic}, {visual}"
        )
    sound, face = (table.present(modality) for modality in STREAMS)
    by_speaker: dict[tuple[str, str], dict[str, int]] = {}
    for row in np.flatnonzero(sound & face):
        own = by_speaker.setdefault((table.partitions[row], table.speakers[row]), {})
        own[table.utterance_ids[row]] = int(row)
    lost: dict[Modality, list[int]] = {modality: [] for modality in STREAMS}
    for rows in by_speaker.values():
        order = [rows[name] for name in seeded_order(rows, seed, "missing")]
        from_start = round(acoustic * len(order))
        lost[Modality.ACOUSTIC] += order[:from_start]
        lost[Modality.VISUAL] += order[max(from_start, len(order) - round(visual * len(order))) :]
    lost[Modality.AUDIOVISUAL] = [row for rows in lost.values() for row in rows]

    def without(outputs: Mapping[Modality, NDArray[np.float32]]) -> dict[Modality, NDArray[Any]]:
        left = {modality: values.copy() for modality, values in outputs.items()}
        for modality, rows in lost.items():
            left[modality][rows] = np.nan
        return left

    return replace(
        table, logits=without(table.logits), attribute_outputs=without(table.attribute_outputs)
    )
