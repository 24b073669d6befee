"""Scores of prediction tables: per fold and pooled, with intervals, for every view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vavl import metrics
from vavl.errors import InputError
from vavl.evaluation.alignment import align
from vavl.evaluation.bootstrap import CONFIDENCE, Interval, percentile_interval
from vavl.evaluation.missing import DRAWS, missing_curves
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.quantities import CATEGORY, Floats, Quantity, quantities
from vavl.evaluation.resampling import Resampling, Scope
from vavl.evaluation.results import Confusion, Difference, Evaluation, Score
from vavl.evaluation.views import View
from vavl.types import STREAMS

__all__ = ["COMPARISONS", "Evaluation", "evaluate_tables"]

COMPARISONS = (View.AVERAGE, View.PRODUCT, View.ACOUSTIC, View.VISUAL)
"""What the learned fusion is compared with."""


def evaluate_tables(
    tables: Sequence[PredictionTable],
    *,
    seeds: Sequence[str | int] | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Scores what models said about their test sets.

    Pooled scores are taken over the clips of all partitions together. Intervals resample speakers
    (:mod:`vavl.evaluation.bootstrap`). Scores of several seeds are averaged within each resample:
    another seed is another look at the same speakers, not more speakers, so it makes the
    estimate steadier and never counts as more data.

    Args:
        tables: One or more tables, e.g. one per fold and seed.
        seeds: The seed that each table was trained with; None where all tables are of one seed.
        replicates: Bootstrap resamples, at least 1.
        seed: Seed of the resamples and of the clips that lose a modality.

    Returns:
        The evaluation.

    Raises:
        InputError: The tables do not fit each other, or an argument is out of range.

    Example:
        >>> from vavl.types import Modality
        >>> table = PredictionTable(
        ...     ("calm", "happy"), (), ("clip-1", "clip-2"), ("ann", "bob"), ("fold-0", "fold-0"),
        ...     category_targets=np.array([0, 1]),
        ...     attribute_targets=np.empty((2, 0)),
        ...     logits={Modality.ACOUSTIC: np.array([[2.0, 0.0], [1.0, 0.0]])},
        ... )
        >>> evaluate_tables([table]).score("acoustic", "accuracy").pooled.estimate
        0.5
    """
    if replicates < 1:
        raise InputError(f"replicates: expected at least 1, got {replicates}")
    if seed < 0:
        raise InputError(f"seed: expected at least 0, got {seed}")
    labels, aligned = align(tables, seeds)
    first = aligned[0]
    scored = quantities(aligned)
    resampling = Resampling(first, replicates, seed)
    return Evaluation(
        categories=first.categories,
        attributes=first.attributes,
        partitions=tuple(resampling.folds),
        seeds=labels,
        clips=len(first),
        speakers=resampling.everything.speakers,
        without={modality: int((~first.present(modality)).sum()) for modality in STREAMS},
        replicates=replicates,
        confidence=CONFIDENCE,
        draws=DRAWS,
        scores=tuple(
            score for q in scored for v in q.views for score in view_scores(q, v, resampling)
        ),
        differences=tuple(d for q in scored for d in _differences(q, resampling.everything)),
        confusions=tuple(
            _confusion(quantity, view, resampling.everything)
            for quantity in scored
            if quantity.name == CATEGORY
            for view in quantity.views
        ),
        missing_curves=tuple(c for q in scored for c in missing_curves(q, seed=seed)),
    )


def view_scores(quantity: Quantity, view: View, resampling: Resampling) -> list[Score]:
    """Every measure of one view.

    Args:
        quantity: What is scored.
        view: One of the quantity's views.
        resampling: Resamples of the same clips.
    """
    rows = quantity.known & quantity.present[view]
    pooled, per_seed = _intervals(quantity, view, rows, resampling.everything)
    folds = {
        name: _intervals(quantity, view, rows, scope)[0]
        for name, scope in resampling.folds.items()
        if (rows & scope.rows).any()
    }
    scores = []
    for measure in quantity.measures:
        mine = {name: intervals[measure] for name, intervals in folds.items()}
        estimates = np.array([interval.estimate for interval in mine.values()])
        scores.append(
            Score(
                quantity=quantity.name,
                view=view,
                measure=measure,
                pooled=pooled[measure],
                folds=mine,
                fold_mean=float(estimates.mean()),
                fold_std=_std(estimates),
                seed_std=_std(per_seed[measure]),
                clips=int(rows.sum()),
                fallbacks=int((rows & quantity.fallback[view]).sum()),
            )
        )
    return scores


def _intervals(
    quantity: Quantity, view: View, rows: NDArray[np.bool_], scope: Scope
) -> tuple[dict[str, Interval], dict[str, Floats]]:
    """Intervals by measure, and the scores of the single seeds."""
    sums = scope.sums(quantity, view, rows)
    per_seed = quantity.scores(sums.sum(axis=1))
    drawn = [quantity.scores(resampled) for resampled in scope.resampled(sums)]
    speakers = scope.contributing(rows)
    intervals = {}
    for measure in quantity.measures:
        replicates = np.mean([scores[measure] for scores in drawn], axis=0)
        estimate = float(per_seed[measure].mean())
        intervals[measure] = percentile_interval(estimate, replicates, speakers)
    return intervals, per_seed


def _differences(quantity: Quantity, scope: Scope) -> list[Difference]:
    view = View.AUDIOVISUAL
    differences: list[Difference] = []
    for baseline in COMPARISONS:
        if view not in quantity.views or baseline not in quantity.views:
            continue
        rows = quantity.known & quantity.present[view] & quantity.present[baseline]
        if not rows.any():
            continue
        sums = [scope.sums(quantity, v, rows) for v in (view, baseline)]
        estimates = [quantity.scores(s.sum(axis=1)) for s in sums]
        drawn = [[quantity.scores(r) for r in scope.resampled(s)] for s in sums]
        for measure in quantity.compared:
            above = np.mean([scores[measure] for scores in drawn[0]], axis=0)
            below = np.mean([scores[measure] for scores in drawn[1]], axis=0)
            estimate = float(estimates[0][measure].mean() - estimates[1][measure].mean())
            interval = percentile_interval(estimate, above - below, scope.contributing(rows))
            clips = int(rows.sum())
            differences.append(Difference(quantity.name, view, baseline, measure, interval, clips))
    return differences


def _confusion(quantity: Quantity, view: View, scope: Scope) -> Confusion:
    rows = quantity.known & quantity.present[view]
    sums = scope.sums(quantity, view, rows)
    recalls = metrics.class_recalls(sums.sum(axis=1)).mean(axis=0)  # (C,)
    drawn = np.mean([metrics.class_recalls(r) for r in scope.resampled(sums)], axis=0)  # (R, C)
    intervals = []
    for category, recall in enumerate(recalls):
        speakers = scope.contributing(rows & (quantity.targets == category))
        intervals.append(percentile_interval(float(recall), drawn[:, category], speakers))
    counts = sums.sum(axis=1).mean(axis=0)
    return Confusion(view, tuple(tuple(row) for row in counts.tolist()), tuple(intervals))


def _std(values: Floats) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else float("nan")
