"""Two variants on the same clips: how far apart they are, and whether that can be told from chance.

Each number has one unit of sampling, and it is never a fold or a seed taken for a new sample:

- the interval and its p-value resample *speakers*, the same ones for both variants, and take the
  trained models as they are;
- the t-test compares *folds*, and with them models of other training speakers, with the overlap of
  the folds corrected for;
- the effect size is over *speakers*.

Scores of several seeds are averaged first, within each resample, fold or speaker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vavl.data.partition import Partition
from vavl.errors import InputError
from vavl.evaluation.alignment import align
from vavl.evaluation.bootstrap import Interval, percentile_interval
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.quantities import Floats, Quantity, quantities
from vavl.evaluation.resampling import Resampling, Scope
from vavl.evaluation.results import Score
from vavl.evaluation.scores import view_scores
from vavl.evaluation.views import FUSED, View, available_views
from vavl.metrics.sentiment import LOWER_IS_BETTER
from vavl.studies.statistics import (
    TTest,
    bootstrap_p,
    corrected_resampled_t,
    holm,
    standardised_difference,
)
from vavl.types import STREAMS


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a variant predicted for all clips.

    Attributes:
        seeds: The K seeds.
        tables: One per seed, the same clips in the same order.
        view: Which prediction is scored.
    """

    seeds: tuple[str, ...]
    tables: tuple[PredictionTable, ...]
    view: View


@dataclass(frozen=True)
class Comparison:
    """A variant minus another one, in one measure.

    Attributes:
        variant: Name of the variant.
        against: Name of the other one.
        measure: Name of the measure.
        difference: Of the scores pooled over all folds, seeds averaged; with its interval.
        p: From the resamples of speakers; two-sided.
        p_adjusted: After Holm over the family that the comparison is reported in.
        test: Corrected resampled t-test over the folds.
        test_adjusted: Its p-value after Holm.
        effect: Mean difference over speakers in standard deviations of it.
        ahead: Share of the speakers for whom the variant is ahead; ties count half.
        speakers: Number of speakers.
        clips: Number of clips that both predict.
        margin: What the p-values and the t-test measure the difference against.
    """

    variant: str
    against: str
    measure: str
    difference: Interval
    p: float
    p_adjusted: float
    test: TTest
    test_adjusted: float
    effect: float
    ahead: float
    speakers: int
    clips: int
    margin: float = 0.0


def predicted(
    tables: Sequence[PredictionTable], seeds: Sequence[str | int], view: View | None
) -> Predicted:
    """Brings the tables of a variant's folds and seeds together.

    Args:
        tables: One per fold and seed.
        seeds: The seed of each table.
        view: Which prediction is scored; None is what the model answers: the fusion where there is
            one, else the average of the two modalities, else the modality that there is.

    Raises:
        InputError: The tables do not fit each other, or lack the view.
    """
    labels, aligned = align(tables, seeds)
    return Predicted(labels, aligned, readable_view(aligned[0], view))


def readable_view(table: PredictionTable, view: View | None) -> View:
    """The view that a table is read by.

    A fused view of clips that have all lost the same modality is that of the other modality.

    Raises:
        InputError: The table lacks it.
    """
    available = available_views(table)
    if view in available:
        return view
    if view is None:
        order = (View.AUDIOVISUAL, View.AVERAGE, View.ACOUSTIC, View.VISUAL)
        return next(candidate for candidate in order if candidate in available)
    left = [View(modality) for modality in STREAMS if View(modality) in available]
    if view in FUSED and len(left) == 1:
        return left[0]
    raise InputError(f"view: expected one of {', '.join(available)}, got {view}")


def quantity_of(tables: Sequence[PredictionTable], measure: str) -> Quantity:
    """What a measure is a measure of.

    Raises:
        InputError: The tables have no such measure.
    """
    found = quantities(tables)
    for quantity in found:
        if measure in quantity.measures:
            return quantity
    known = [name for quantity in found for name in quantity.measures]
    raise InputError(f"metrics: expected some of {', '.join(known)}, got {measure!r}")


def variant_scores(
    variant: Predicted, measures: Sequence[str], *, replicates: int, seed: int = 0
) -> dict[str, Score]:
    """The scores of a variant by measure: pooled with interval, per fold, over seeds."""
    resampling = Resampling(variant.tables[0], replicates, seed)
    scores: dict[str, Score] = {}
    for measure in measures:
        if measure not in scores:
            quantity = quantity_of(variant.tables, measure)
            found = view_scores(quantity, variant.view, resampling)
            scores |= {score.measure: score for score in found}
    return {measure: scores[measure] for measure in measures}


def fold_scores(variant: Predicted, measure: str) -> dict[tuple[str, str], float]:
    """The score of every single model, by seed and fold."""
    quantity = quantity_of(variant.tables, measure)
    rows = quantity.known & quantity.present[variant.view]
    names = list(dict.fromkeys(variant.tables[0].partitions))
    places = {name: number for number, name in enumerate(names)}
    folds = np.array([places[name] for name in variant.tables[0].partitions], np.int64)
    sums = quantity.sums_by_group(variant.view, rows, folds, len(names))  # (K, F, ...)
    scores = quantity.scores(sums)[measure]
    return {
        (seed, fold): float(scores[k, f])
        for k, seed in enumerate(variant.seeds)
        for f, fold in enumerate(names)
    }


def compare(
    names: tuple[str, str],
    variant: Predicted,
    other: Predicted,
    measure: str,
    *,
    test_share: float,
    replicates: int,
    margin: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """Compares two variants on the clips that both predict.

    Args:
        names: Of the variant and of the other one.
        variant: What is looked at.
        other: What it is compared with.
        measure: ``accuracy``, ``uar``, ``f1_macro``, ``f1_micro`` or ``ATTRIBUTE_ccc``.
        test_share: Clips of a test fold over clips of its training split, mean over the folds.
        replicates: Resamples of speakers.
        margin: What the difference is tested against.
        seed: Seed of the resamples.

    Raises:
        InputError: The two have no clip in common, or give it different targets.
    """
    tables = _common(variant.tables, other.tables)
    sides = [
        (quantity_of(side, measure), view)
        for side, view in zip(tables, (variant.view, other.view), strict=True)
    ]
    first = tables[0][0]
    rows = np.logical_and.reduce([q.known & q.present[view] for q, view in sides])
    if not rows.any():
        raise InputError(f"{names[0]}, {names[1]}: expected clips that both predict, got none")
    scope = Scope(rows, first.speakers, replicates, (seed, 0, 0))
    folds = np.unique(np.asarray(first.partitions), return_inverse=True)[1].astype(np.int64)
    tested = np.unique(folds[rows])  # a fold may have no clip that both predict

    def scored(quantity: Quantity, view: View) -> tuple[float, Floats, Floats, Floats]:
        """Pooled, per resample ``(R,)``, per speaker ``(S,)`` and per fold ``(F,)``, over seeds."""

        def mean(sums: Floats) -> Floats:
            return np.asarray(quantity.scores(sums)[measure].mean(0))

        sums = scope.sums(quantity, view, rows)  # (K, S, ...)
        drawn = [quantity.scores(resampled)[measure] for resampled in scope.resampled(sums)]
        by_fold = quantity.sums_by_group(view, rows, folds, int(folds.max()) + 1)[:, tested]
        return float(mean(sums.sum(1))), np.mean(drawn, axis=0), mean(sums), mean(by_fold)

    (pooled, drawn, speakers, by_fold), below = (scored(*side) for side in sides)
    differences = speakers - below[2]
    replicated = drawn - below[1]
    p = bootstrap_p(replicated, margin) if scope.speakers > 1 else math.nan
    test = corrected_resampled_t(by_fold - below[3] - margin, test_share)
    return Comparison(
        *names,
        measure,
        percentile_interval(pooled - below[0], replicated, scope.speakers),
        p=p,
        p_adjusted=p,
        test=test,
        test_adjusted=test.p,
        effect=standardised_difference(differences),
        ahead=share_ahead(differences, measure),
        speakers=scope.speakers,
        clips=int(rows.sum()),
        margin=margin,
    )


def share_ahead(differences: NDArray[np.float64], measure: str) -> float:
    """Share of the speakers for whom a variant is ahead; ties count half.

    Args:
        differences: ``(S,)`` variant minus the other; NaN (nothing known about a speaker, e.g. no
            clip that is rated positive or negative) are left out.
        measure: Name of the measure, which may be an error.

    Example:
        >>> differences = np.array([-0.2, 0.0, np.nan])
        >>> share_ahead(differences, "sentiment_mae"), share_ahead(differences, "uar")
        (0.75, 0.25)
    """
    # Rounded, so that a tie is a tie whatever the order of the sums.
    known = differences[np.isfinite(differences)].round(9)
    better = -known if measure in LOWER_IS_BETTER else known
    return float(((np.sign(better) + 1) / 2).mean()) if known.size else math.nan


def adjusted(family: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with both p-values adjusted over the family (Holm)."""
    drawn = holm([comparison.p for comparison in family])
    tested = holm([comparison.test.p for comparison in family])
    return [
        replace(comparison, p_adjusted=p, test_adjusted=t)
        for comparison, p, t in zip(family, drawn, tested, strict=True)
    ]


def mean_test_share(partitions: Mapping[str, Partition]) -> float:
    """Clips of a test fold over clips of its training split, mean over the folds."""
    return float(np.mean([len(p.test) / len(p.train) for p in partitions.values()]))


def _common(
    ours: Sequence[PredictionTable], others: Sequence[PredictionTable]
) -> tuple[list[PredictionTable], list[PredictionTable]]:
    """Both variants' tables, cut to the clips that both hold, in one order."""
    places = [
        {key: row for row, key in enumerate(zip(t.partitions, t.utterance_ids, strict=True))}
        for t in (ours[0], others[0])
    ]
    shared = [key for key in places[0] if key in places[1]]
    if not shared:
        raise InputError("variants: expected clips in common, got none; do their folds differ?")
    rows: list[NDArray[np.int64]] = [
        np.array([place[key] for key in shared], np.int64) for place in places
    ]
    cut = (
        [table.take(rows[0]) for table in ours],
        [table.take(rows[1]) for table in others],
    )
    mine, other = cut[0][0], cut[1][0]
    same = {
        "categories": mine.categories == other.categories,
        "attributes": mine.attributes == other.attributes,
        "targets": np.array_equal(mine.category_targets, other.category_targets)
        and np.array_equal(mine.attribute_targets, other.attribute_targets, equal_nan=True),
    }
    wrong = [name for name, equal in same.items() if not equal]
    if wrong:
        raise InputError(f"variants: expected the same {' and '.join(wrong)} to be comparable")
    return cut
