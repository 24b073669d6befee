"""Two variants on the same clips: how far apart they are, and whether that can be told from chance.

Each number has one unit of sampling, and it is never a fold or a seed taken for a new sample:

- the interval and its p-value resample *speakers*, the same ones for both variants, and take the
  trained models as they are;
- the t-test compares *folds*, and with them models of other training speakers, with the overlap of
  the folds corrected for;
- the effect size is over *speakers*.

Scores of several seeds are averaged first, within each resample, fold or speaker.

Two folds of a cross-validation share most of their training clips, and two seeds share all clips. A
t-test that counts either as independent finds differences that are not there: Dietterich 1998,
"Approximate statistical tests for comparing supervised classification learning algorithms"; Bengio
and Grandvalet 2004, "No unbiased estimator of the variance of k-fold cross-validation".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.data.partition import Partition
from vavl.errors import InputError
from vavl.evaluation.bootstrap import Scope, bootstrap_p, smallest_p
from vavl.evaluation.predictions import PredictionTable, align, differing_targets
from vavl.evaluation.scores import Difference, Score, resampled_scores, scopes, view_scores
from vavl.evaluation.views import Floats, View, quantity_of, readable_view
from vavl.metrics.sentiment import LOWER_IS_BETTER
from vavl.system.extras import extra


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


@dataclass(frozen=True, kw_only=True)
class Comparison(Difference):
    """The difference of two variants, and how sure it is.

    Attributes:
        p: From the resamples of speakers; two-sided, and never below what an exact test of so few
            speakers can give.
        p_adjusted: After Holm over the family that the comparison is reported in.
        test: Corrected resampled t-test over the folds.
        test_adjusted: Its p-value after Holm.
        effect: Mean difference over speakers in standard deviations of it.
        ahead: Share of the speakers for whom the variant is ahead; ties count half.
        same: Whether the two score the same for every speaker and in every resample: they predict
            the same, and there is nothing to decide.
    """

    p: float
    p_adjusted: float
    test: TTest
    test_adjusted: float
    effect: float
    ahead: float
    same: bool = False


@dataclass(frozen=True)
class TTest:
    """A t-test of one mean.

    Attributes:
        t: The statistic; infinite where the differences are all the same and not 0.
        degrees: Degrees of freedom.
        p: Two-sided p-value; NaN with fewer than two differences.
    """

    t: float
    degrees: int
    p: float


def corrected_resampled_t(differences: ArrayLike, test_share: float) -> TTest:
    """Tests whether the mean of differences over folds is 0; the folds' overlap is accounted for.

    ``t = mean / sqrt((1 / K + n_test / n_train) * variance)`` with K - 1 degrees of freedom. With
    ``test_share = 0`` it is the ordinary t-test, which takes the folds for independent.

    Args:
        differences: ``(K,)`` one per fold, seeds averaged within the fold.
        test_share: ``n_test / n_train``: clips of a test fold over clips that the model of the fold
            was trained on; 0.25 for five folds without development speakers.

    Raises:
        InputError: Not a vector of finite numbers, or a negative share.

    Source: Nadeau and Bengio 2003, "Inference for the generalization error", section 3 (derived
    for random divisions). Bouckaert and Frank 2004, "Evaluating the replicability of significance
    tests for comparing learning algorithms", use it for cross-validation, as is done here: an
    approximation that keeps its level better than the ordinary test.

    Example:
        >>> test = corrected_resampled_t([0.02, 0.01, 0.03, 0.02, 0.02], test_share=0.25)
        >>> round(test.t, 3), test.degrees, round(test.p, 3)
        (4.216, 4, 0.014)
    """
    with extra("train", "comparisons"):
        from scipy.stats import t as student

    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError("differences: expected a vector (K,) of finite numbers")
    if not test_share >= 0:
        raise InputError(f"test_share: expected at least 0, got {test_share}")
    folds = len(values)
    if folds < 2:
        return TTest(math.nan, 0, math.nan)
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    error = math.sqrt((1 / folds + test_share) * variance)
    certain = math.copysign(math.inf, mean) if mean else 0.0
    t = mean / error if error > 0 else certain
    return TTest(t, folds - 1, float(2 * student.sf(abs(t), folds - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, adjusted so that all together keep the level; NaN stays NaN.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = list(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(known, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def standardised_difference(differences: NDArray[np.float64]) -> float:
    """Mean difference over speakers in units of their standard deviation (Cohen's d for pairs).

    Args:
        differences: ``(S,)`` one per speaker; NaN (nothing known about a speaker) are left out.

    Returns:
        0 where no speaker differs at all; NaN with fewer than two speakers.

    Source: Cohen 1988, "Statistical power analysis for the behavioral sciences", section 2.3.5
    (``d_z``). Speakers, not folds, are the units: the folds are few, and an accident of the
    partition.
    """
    known = differences[np.isfinite(differences)]
    if known.size < 2:
        return math.nan
    spread = float(known.std(ddof=1))
    if spread > 0:
        return float(known.mean()) / spread
    return 0.0 if not known.any() else math.copysign(math.inf, float(known.mean()))


def predicted(
    tables: Sequence[PredictionTable], seeds: Sequence[str | int], view: View | None
) -> Predicted:
    """Brings the tables of a variant's folds and seeds together; each table has its seed beside it.

    Raises:
        InputError: The tables do not fit each other, or lack the view (see
            :func:`vavl.evaluation.views.readable_view`).
    """
    labels, aligned = align(tables, seeds)
    return Predicted(labels, aligned, readable_view(aligned[0], view))


def variant_scores(
    variant: Predicted, measures: Sequence[str], *, replicates: int, seed: int = 0
) -> dict[str, Score]:
    """The scores of a variant by measure: pooled with interval, per fold, over seeds."""
    everything, folds = scopes(variant.tables[0], replicates, seed)
    scores: dict[str, Score] = {}
    for measure in measures:
        if measure not in scores:
            quantity = quantity_of(variant.tables, measure)
            found = view_scores(quantity, variant.view, everything, folds)
            scores |= {score.measure: score for score in found}
    return {measure: scores[measure] for measure in measures}


def fold_scores(variant: Predicted, measure: str) -> dict[tuple[str, str], float]:
    """The score of every single model, by seed and fold."""
    quantity = quantity_of(variant.tables, measure)
    partitions = variant.tables[0].partitions
    names = list(dict.fromkeys(partitions))
    folds = np.array([names.index(name) for name in partitions], np.int64)
    scores = quantity.group_scores(measure, variant.view, quantity.scored(variant.view), folds)
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
        measure: E.g. ``uar`` or ``arousal_ccc``.
        test_share: Clips of a test fold over clips of its training split, mean over the folds.
        replicates: Resamples of speakers.
        margin: What the difference is tested against.
        seed: Seed of the resamples.

    Raises:
        InputError: The two have no clip in common, or give it different targets.
    """
    mine, others = _common(variant.tables, other.tables)
    sides = [(quantity_of(mine, measure), variant.view), (quantity_of(others, measure), other.view)]
    first = mine[0]
    rows = np.logical_and.reduce([quantity.scored(view) for quantity, view in sides])
    if not rows.any():
        raise InputError(f"{names[0]}, {names[1]}: expected clips that both predict, got none")
    scope = Scope(rows, first.speakers, replicates, (seed, 0, 0))
    folds = np.unique(np.asarray(first.partitions), return_inverse=True)[1].astype(np.int64)
    tested = np.unique(folds[rows])  # a fold may have no clip that both predict

    def by_group(groups: NDArray[np.int64]) -> Floats:
        """``(G,)`` differences of the scores of groups, seeds averaged within each."""
        ours, theirs = (q.group_scores(measure, view, rows, groups).mean(0) for q, view in sides)
        return np.asarray(ours - theirs)

    ours, theirs = (resampled_scores(*side, rows, scope) for side in sides)
    replicated = ours.drawn[measure] - theirs.drawn[measure]
    by_speaker = by_group(scope.speaker_of)
    p = max(bootstrap_p(replicated, margin), smallest_p(scope.speakers))
    test = corrected_resampled_t(by_group(folds)[tested] - margin, test_share)
    return Comparison(
        *(sides[0][0].name, *names, measure),
        ours.minus(theirs, measure),
        clips=int(rows.sum()),
        p=p,
        p_adjusted=p,
        test=test,
        test_adjusted=test.p,
        effect=standardised_difference(by_speaker),
        ahead=share_ahead(by_speaker, measure),
        same=not any(np.nan_to_num(found).round(9).any() for found in (replicated, by_speaker)),
    )


def share_ahead(differences: NDArray[np.float64], measure: str) -> float:
    """Share of the speakers for whom a variant is ahead; ties count half.

    Args:
        differences: ``(S,)`` variant minus the other; NaN (nothing known about a speaker, e.g. no
            clip that is rated positive or negative) are left out.
        measure: An error is the better the lower it is.

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
    p_values = holm([comparison.p for comparison in family])
    of_tests = holm([comparison.test.p for comparison in family])
    return [
        replace(comparison, p_adjusted=p, test_adjusted=t)
        for comparison, p, t in zip(family, p_values, of_tests, strict=True)
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
    mine, theirs = (
        [table.take([place[key] for key in shared]) for table in tables]
        for place, tables in zip(places, (ours, others), strict=True)
    )
    different = differing_targets(mine[0], theirs[0])
    if different:
        raise InputError(f"variants: expected the same {' and '.join(different)} to be comparable")
    return mine, theirs
