"""Scores of prediction tables: pooled and per fold, with intervals, for every view.

Everything here is made of one step, :func:`resampled_scores`: the scores of a view on some clips,
and on resamples of their speakers. Two views that are resampled in the same scope can be subtracted
resample by resample, which is how a difference gets its interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vavl import metrics
from vavl.errors import InputError
from vavl.evaluation.bootstrap import CONFIDENCE, Interval, Scope, percentile_interval
from vavl.evaluation.predictions import PredictionTable, align
from vavl.evaluation.views import CATEGORY, FUSED, Floats, Quantity, Rows, View, quantities
from vavl.types import STREAMS, Modality

SCHEMA_VERSION = 1
"""Version of :meth:`Evaluation.to_dict`, and with it of ``scores.json``."""

COMPARISONS = (View.AVERAGE, View.PRODUCT, View.ACOUSTIC, View.VISUAL)
"""What the learned fusion is compared with."""

SHARES = tuple(tenths / 10 for tenths in range(11))
"""Shares of clips that lack a modality, at which scores are taken."""

DRAWS = 20
"""Random orders in which clips lose the modality; scores are averaged over them."""

# As `scores.json` has named them from the start.
_STORED_NAMES = {"variant": "view", "against": "baseline", "difference": "pooled"}


@dataclass(frozen=True)
class Score:
    """One measure of one view.

    Attributes:
        quantity: ``"category"``, or the name of an attribute.
        view: What the predictions were made from.
        measure: One of :data:`vavl.metrics.CATEGORY_MEASURES`, ``"<attribute>_ccc"``, or one of
            :data:`vavl.metrics.sentiment.SENTIMENT_MEASURES`.
        pooled: Over the clips of all partitions together; mean over seeds.
        folds: Partition to its own score; mean over seeds.
        fold_mean: Of the folds.
        fold_std: Standard deviation of the folds (n - 1); NaN with a single one.
        seed_std: Of the pooled score over seeds, likewise.
        clips: How many are scored.
        fallbacks: For how many of them a fused view had to do with one modality.
    """

    quantity: str
    view: View
    measure: str
    pooled: Interval
    folds: Mapping[str, Interval]
    fold_mean: float
    fold_std: float
    seed_std: float
    clips: int
    fallbacks: int


@dataclass(frozen=True)
class Difference:
    """How far one prediction is above another, on the clips that both make.

    Attributes:
        quantity: As of a :class:`Score`.
        variant: The prediction that is looked at: a view of a model, or a variant of a study.
        against: What it is compared with, of the same kind.
        measure: As of a :class:`Score`.
        difference: Of the pooled scores, variant minus the other, with the interval from the same
            resamples for both.
        clips: How many both predict.
    """

    quantity: str
    variant: str
    against: str
    measure: str
    difference: Interval
    clips: int

    @property
    def distinguishable(self) -> bool:
        """True where the interval does not hold 0."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of one view, pooled over partitions.

    Attributes:
        view: What the predictions were made from.
        counts: Rows are targets, columns are predictions, both in the order of the categories; mean
            over seeds, so not always whole numbers.
        recalls: Recall of each category with its interval; NaN where it does not occur.
    """

    view: View
    counts: tuple[tuple[float, ...], ...]
    recalls: tuple[Interval, ...]


@dataclass(frozen=True)
class MissingCurve:
    """Score against the share of clips that lack a modality.

    Attributes:
        quantity: As of a :class:`Score`.
        view: A fused view: where the modality is missing it becomes the other modality's.
        missing: What the clips lack: ``acoustic`` (no sound) or ``visual`` (no face).
        measure: As of a :class:`Score`.
        shares: In [0, 1].
        values: The score at each share, mean over draws and seeds.
        clips: How many have both modalities and a known target.
    """

    quantity: str
    view: View
    missing: Modality
    measure: str
    shares: tuple[float, ...]
    values: tuple[float, ...]
    clips: int


@dataclass(frozen=True)
class GroupScore:
    """One measure of one view on the clips that have one value in a column of the table.

    Attributes:
        column: Of the utterance table, e.g. ``sex``.
        group: The value.
        quantity: As of a :class:`Score`.
        view: As of a :class:`Score`.
        measure: As of a :class:`Score`.
        score: On the clips of the group; of their categories alone, where a group has not all.
        above_rest: The score minus that of all other clips that have a value.
        clips: How many are scored.
        speakers: Of how many speakers.
    """

    column: str
    group: str
    quantity: str
    view: View
    measure: str
    score: Interval
    above_rest: Interval
    clips: int
    speakers: int


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known about a set of prediction tables.

    Attributes:
        categories: Their names, possibly none.
        attributes: Likewise.
        partitions: Names of the folds.
        seeds: Labels of the seeds averaged over; empty when none were given.
        clips: How many, each counted once for every partition that tests it.
        speakers: How many.
        without: Modality to the number of clips that lack it.
        replicates: Number of bootstrap resamples.
        confidence: Share of the bootstrap distribution within an interval.
        draws: Random orders that the curves of missing modalities are averaged over.
        scores: Every measure of every view.
        differences: The learned fusion against the other views.
        confusions: One for each view; none for a model of attributes only.
        missing_curves: None where no clip has both modalities.
        groups: Scores by columns of the table, where they were asked for.
        remarks: What else a reader has to know, such as folds that are not trained yet.
    """

    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    partitions: tuple[str, ...]
    seeds: tuple[str, ...]
    clips: int
    speakers: int
    without: Mapping[Modality, int]
    replicates: int
    confidence: float
    draws: int
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    confusions: tuple[Confusion, ...]
    missing_curves: tuple[MissingCurve, ...]
    groups: tuple[GroupScore, ...] = ()
    remarks: tuple[str, ...] = ()

    def score(self, view: View | str, measure: str) -> Score:
        """The score of a view by the name of its measure.

        Raises:
            InputError: Not scored; the message lists what is.
        """
        for score in self.scores:
            if (score.view, score.measure) == (view, measure):
                return score
        known = sorted({f"{score.view} {score.measure}" for score in self.scores})
        raise InputError(f"{view} {measure}: not among the scores of this evaluation: {known}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON-compatible values; what is not a number (NaN) becomes None."""
        content: dict[str, Any] = _json_compatible(asdict(self))
        content["differences"] = [
            {_STORED_NAMES.get(name, name): value for name, value in found.items()}
            for found in content["differences"]
        ]
        return {"schema_version": SCHEMA_VERSION, **content}


def evaluate_tables(
    tables: Sequence[PredictionTable],
    *,
    seeds: Sequence[str | int] | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Scores what models predicted for their test sets.

    Pooled scores are taken over the clips of all partitions together. Intervals resample speakers
    (:mod:`vavl.evaluation.bootstrap`). Scores of several seeds are averaged within each resample:
    another seed is another look at the same speakers, not more speakers, so it makes the
    estimate steadier and never counts as more data.

    Args:
        tables: One or more tables, e.g. one per fold and seed.
        seeds: The seed that each table was trained with; None where all tables are of one seed.
        replicates: Bootstrap resamples, at least 1.
        seed: Seed of the resamples and of the clips that lose a modality.

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
    everything, folds = scopes(first, replicates, seed)
    return Evaluation(
        categories=first.categories,
        attributes=first.attributes,
        partitions=tuple(folds),
        seeds=labels,
        clips=len(first),
        speakers=everything.speakers,
        without={modality: int((~first.present(modality)).sum()) for modality in STREAMS},
        replicates=replicates,
        confidence=CONFIDENCE,
        draws=DRAWS,
        scores=tuple(
            score for q in scored for v in q.views for score in view_scores(q, v, everything, folds)
        ),
        differences=tuple(d for q in scored for d in _differences(q, everything)),
        confusions=tuple(
            _confusion(q, v, everything) for q in scored if q.name == CATEGORY for v in q.views
        ),
        missing_curves=tuple(c for q in scored for c in _missing_curves(q, seed)),
    )


def scopes(table: PredictionTable, replicates: int, seed: int) -> tuple[Scope, dict[str, Scope]]:
    """What is scored of a table: everything together, and each fold by itself."""
    partitions = np.asarray(table.partitions)

    def scope(rows: Rows, number: int) -> Scope:
        return Scope(rows, table.speakers, replicates, (seed, 0, number))

    names = dict.fromkeys(table.partitions)
    return (
        scope(np.ones(len(table), np.bool_), 0),
        {name: scope(partitions == name, n) for n, name in enumerate(names, start=1)},
    )


@dataclass(frozen=True, eq=False)
class ResampledScores:
    """Scores of one view on some clips, and on resamples of their speakers."""

    by_seed: Mapping[str, Floats]
    """Measure to ``(K,)``: the score of each seed."""
    drawn: Mapping[str, Floats]
    """Measure to ``(R,)``: the score of each resample, mean over seeds."""
    speakers: int
    """How many contributed."""

    def estimate(self, measure: str) -> float:
        """Mean over seeds."""
        return float(self.by_seed[measure].mean())

    def interval(self, measure: str) -> Interval:
        """The score with its interval."""
        return percentile_interval(self.estimate(measure), self.drawn[measure], self.speakers)

    def minus(self, other: ResampledScores, measure: str) -> Interval:
        """The difference to another view's score, or another group's, in the same resamples."""
        estimate = self.estimate(measure) - other.estimate(measure)
        replicates = self.drawn[measure] - other.drawn[measure]
        return percentile_interval(estimate, replicates, min(self.speakers, other.speakers))


def resampled_scores(quantity: Quantity, view: View, rows: Rows, scope: Scope) -> ResampledScores:
    """Scores a view on those of the clips ``rows``, ``(N,)``, that lie in the scope."""
    sums = _sums(quantity, view, rows, scope)
    drawn = [quantity.scores(resample) for resample in scope.resampled(sums)]
    return ResampledScores(
        quantity.scores(sums.sum(axis=1)),
        {m: np.mean([scores[m] for scores in drawn], axis=0) for m in quantity.measures},
        scope.contributing(rows),
    )


def _sums(quantity: Quantity, view: View, rows: Rows, scope: Scope) -> Floats:
    return quantity.sums_by_group(view, rows & scope.rows, scope.speaker_of, scope.speakers)


def view_scores(
    quantity: Quantity, view: View, everything: Scope, folds: Mapping[str, Scope]
) -> list[Score]:
    """Every measure of one view, over everything and by fold."""
    rows = quantity.scored(view)
    pooled = resampled_scores(quantity, view, rows, everything)
    by_fold = {
        name: resampled_scores(quantity, view, rows, scope)
        for name, scope in folds.items()
        if (rows & scope.rows).any()
    }
    scores = []
    for measure in quantity.measures:
        intervals = {name: scores.interval(measure) for name, scores in by_fold.items()}
        estimates = np.array([interval.estimate for interval in intervals.values()])
        scores.append(
            Score(
                quantity=quantity.name,
                view=view,
                measure=measure,
                pooled=pooled.interval(measure),
                folds=intervals,
                fold_mean=float(estimates.mean()),
                fold_std=_std(estimates),
                seed_std=_std(pooled.by_seed[measure]),
                clips=int(rows.sum()),
                fallbacks=int((rows & quantity.outputs[view].fallback).sum()),
            )
        )
    return scores


def _differences(quantity: Quantity, scope: Scope) -> list[Difference]:
    """The learned fusion against every other view."""
    view = View.AUDIOVISUAL
    differences: list[Difference] = []
    if view not in quantity.views:
        return differences
    for baseline in (other for other in COMPARISONS if other in quantity.views):
        rows = quantity.scored(view) & quantity.scored(baseline)
        if not rows.any():
            continue
        fused, other = (resampled_scores(quantity, v, rows, scope) for v in (view, baseline))
        differences += [
            Difference(
                *(quantity.name, view, baseline, measure),
                fused.minus(other, measure),
                int(rows.sum()),
            )
            for measure in quantity.compared
        ]
    return differences


def _confusion(quantity: Quantity, view: View, scope: Scope) -> Confusion:
    rows = quantity.scored(view)
    sums = _sums(quantity, view, rows, scope)
    recalls = metrics.class_recalls(sums.sum(axis=1)).mean(axis=0)  # (C,)
    drawn = np.mean([metrics.class_recalls(r) for r in scope.resampled(sums)], axis=0)  # (R, C)
    intervals = []
    for category, recall in enumerate(recalls):
        speakers = scope.contributing(rows & (quantity.targets == category))
        intervals.append(percentile_interval(float(recall), drawn[:, category], speakers))
    counts = sums.sum(axis=1).mean(axis=0)
    return Confusion(view, tuple(tuple(row) for row in counts.tolist()), tuple(intervals))


def _missing_curves(quantity: Quantity, seed: int) -> tuple[MissingCurve, ...]:
    """How scores fall as more and more clips lack a modality; no model runs for it.

    A clip that lacks its sound is predicted from its face alone, and the other way round: this is
    exactly what the model would answer, because its unimodal outputs never see the other modality.
    In each draw clips lose the modality in one random order, so that the clips that lack it at 30 %
    lack it at 40 % too, and curves do not jump from noise alone.

    Returns:
        One curve per missing modality, fused view and compared measure; none where no clip has both
        modalities.
    """
    views = [view for view in FUSED if view in quantity.views]
    needed = [*views, *(View(modality) for modality in STREAMS)]
    if not views or not quantity.compared or not set(needed) <= set(quantity.views):
        return ()
    rows = np.logical_and.reduce([quantity.known, *map(quantity.unaided, needed)])
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


def _std(values: Floats) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def _json_compatible(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_compatible(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_compatible(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, (View, Modality)) else value
