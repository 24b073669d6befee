"""Comparisons against the evaluation's own differences, scipy, plain numpy, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from evaluation.conftest import make_table
from scipy import stats

from vavl.errors import InputError
from vavl.evaluation.bootstrap import speaker_weights
from vavl.evaluation.compare import (
    Predicted,
    adjusted,
    compare,
    corrected_resampled_t,
    holm,
    predicted,
    standardised_difference,
    variant_scores,
)
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import evaluate_tables
from vavl.evaluation.views import View, view_outputs

SEEDS = (0, 1, 2)
DIFFERENCES = [0.021, -0.004, 0.013, 0.030, 0.008]


def variant(view: View | None = None, *, first: int = 0, **options: object) -> Predicted:
    tables = [make_table(model_seed=first + seed, **options) for seed in SEEDS]  # type: ignore[arg-type]
    return predicted(tables, SEEDS, view)


@pytest.mark.parametrize("measure", ["accuracy", "uar"])
@pytest.mark.parametrize("baseline", [View.AVERAGE, View.ACOUSTIC])
def test_two_views_of_one_model_compare_as_the_evaluation_says(
    measure: str, baseline: View
) -> None:
    options = {"without_sound": 0.2, "unknown": 0.1}
    found = compare(
        ("fusion", "other"),
        variant(View.AUDIOVISUAL, **options),
        variant(baseline, **options),
        measure,
        test_share=0.5,
        replicates=300,
    )
    tables = [make_table(model_seed=seed, **options) for seed in SEEDS]  # type: ignore[arg-type]
    evaluation = evaluate_tables(tables, seeds=SEEDS, replicates=300)
    expected = next(
        d for d in evaluation.differences if (d.against, d.measure) == (baseline, measure)
    )
    assert found.clips == expected.clips
    assert found.difference.estimate == pytest.approx(expected.difference.estimate)
    if baseline is not View.ACOUSTIC:  # there, fewer speakers' clips make up the resamples
        assert found.difference.low == pytest.approx(expected.difference.low)
        assert found.difference.high == pytest.approx(expected.difference.high)


def right(side: Predicted) -> np.ndarray:
    """``(seeds, clips)`` whether each clip is right."""
    said = [view_outputs(t, side.view).probabilities.argmax(1) for t in side.tables]
    return np.stack([s == side.tables[0].category_targets for s in said]).astype(float)


def test_every_number_by_hand() -> None:
    a, b = variant(View.AUDIOVISUAL), variant(View.AUDIOVISUAL, first=10)
    found = compare(("a", "b"), a, b, "accuracy", test_share=0.5, replicates=500, margin=0.01)
    difference = (right(a) - right(b)).mean(0)  # (clips,) seeds averaged first
    table = a.tables[0]
    assert found.difference.estimate == pytest.approx(difference.mean())

    partitions = np.array(table.partitions)
    folds = [difference[partitions == f].mean() for f in ("fold-0", "fold-1", "fold-2")]
    t = (np.mean(folds) - 0.01) / np.sqrt((1 / 3 + 0.5) * np.var(folds, ddof=1))
    assert found.test.t == pytest.approx(t)
    assert found.test.p == pytest.approx(2 * stats.t.sf(abs(t), 2))

    names = np.unique(table.speakers)
    mine = [np.array(table.speakers) == name for name in names]
    speakers = np.array([difference[rows].mean() for rows in mine])
    assert found.effect == pytest.approx(speakers.mean() / speakers.std(ddof=1))
    tied = abs(speakers) < 1e-9
    assert found.ahead == pytest.approx(((speakers > 0) & ~tied).mean() + tied.mean() / 2)

    weights = speaker_weights(len(names), 500, (0, 0, 0))
    totals = np.array([difference[rows].sum() for rows in mine])
    drawn = weights @ totals / (weights @ [rows.sum() for rows in mine])
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    smaller = min((drawn <= 0.01).sum(), (drawn >= 0.01).sum())
    assert found.p == pytest.approx(2 * (1 + smaller) / 501)


def test_a_variant_against_itself_differs_by_nothing() -> None:
    found = compare(("a", "a"), variant(), variant(), "uar", test_share=0.5, replicates=100)
    assert (found.difference.estimate, found.p, found.test.p, found.effect) == (0, 1, 1, 0)
    assert found.ahead == 0.5
    assert found.same


def test_more_seeds_do_not_pass_for_more_speakers() -> None:
    """The same model three times over is one model: nothing gets narrower."""
    a, b = (make_table(model_seed=seed) for seed in (0, 9))
    one = compare(
        ("a", "b"),
        predicted([a], [0], None),
        predicted([b], [0], None),
        "uar",
        test_share=0.5,
        replicates=200,
    )
    three = compare(
        ("a", "b"),
        predicted([a] * 3, SEEDS, None),
        predicted([b] * 3, SEEDS, None),
        "uar",
        test_share=0.5,
        replicates=200,
    )
    assert three.difference.low == pytest.approx(one.difference.low)
    assert three.p == one.p
    assert three.test.p == pytest.approx(one.test.p)


def test_the_interval_holds_no_difference_as_often_as_it_should() -> None:
    """Two equally good variants: about one in twenty intervals may miss 0, and p follows it."""
    missed = 0
    for trial in range(80):
        a, b = (
            predicted(
                [make_table(clips=240, speakers=24, data_seed=trial, model_seed=m)], [0], None
            )
            for m in (2 * trial, 2 * trial + 1)
        )
        found = compare(("a", "b"), a, b, "accuracy", test_share=0.5, replicates=199)
        missed += found.p < 0.05
    assert missed <= 12  # 15 %; with clips for samples or seeds for samples it would be more


def test_clips_of_one_variant_alone_are_left_out() -> None:
    a = variant()
    part = [t.take(range(0, len(t), 2)) for t in variant(first=5).tables]
    found = compare(
        ("a", "b"), a, predicted(part, SEEDS, None), "uar", test_share=0.5, replicates=100
    )
    assert found.clips == len(part[0])


def test_other_targets_cannot_be_compared() -> None:
    a, b = variant(), variant()
    changed = [replace(t, category_targets=np.roll(t.category_targets, 1)) for t in b.tables]
    with pytest.raises(InputError, match="same category targets"):
        compare(("a", "b"), a, replace_tables(b, changed), "uar", test_share=0.5, replicates=100)


def replace_tables(side: Predicted, tables: list[PredictionTable]) -> Predicted:
    return Predicted(side.seeds, tuple(tables), side.view)


def test_both_p_values_are_adjusted_over_the_family() -> None:
    a = variant()
    family = [
        compare(("v", "a"), variant(first=n), a, "uar", test_share=0.5, replicates=100)
        for n in (10, 20, 30)
    ]
    done = adjusted(family)
    smallest = min(range(3), key=lambda n: family[n].p)
    assert done[smallest].p_adjusted == pytest.approx(min(1, 3 * family[smallest].p))
    assert all(after.p == before.p for after, before in zip(done, family, strict=True))
    assert all(after.test_adjusted >= after.test.p for after in done)


def test_scores_are_those_of_the_evaluation() -> None:
    side = variant(View.AVERAGE, attributes=("arousal",))
    scores = variant_scores(side, ["uar", "arousal_ccc"], replicates=100)
    tables = [make_table(model_seed=seed, attributes=("arousal",)) for seed in SEEDS]
    evaluation = evaluate_tables(tables, seeds=SEEDS, replicates=100)
    for measure, score in scores.items():
        assert score == evaluation.score(View.AVERAGE, measure)
    with pytest.raises(InputError, match="metrics: expected some of"):
        variant_scores(side, ["f2"], replicates=100)


def test_without_overlap_the_t_test_is_the_ordinary_one() -> None:
    expected = stats.ttest_1samp(DIFFERENCES, 0.0)
    found = corrected_resampled_t(DIFFERENCES, test_share=0.0)
    assert found.t == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.degrees == expected.df


def test_the_correction_by_hand() -> None:
    # Nadeau and Bengio 2003: the variance of the mean is (1/K + n_test/n_train) s^2, here with
    # mean 0.0136, s^2 = 0.0001663 (n - 1) and 1/5 + 1/4 = 0.45.
    found = corrected_resampled_t(DIFFERENCES, test_share=0.25)
    t = 0.0136 / math.sqrt(0.45 * 0.0001663)
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 4))
    ordinary = corrected_resampled_t(DIFFERENCES, test_share=0.0)
    assert found.t == pytest.approx(ordinary.t * math.sqrt(0.2 / 0.45))
    assert found.p > ordinary.p


def test_the_t_test_of_what_does_not_vary() -> None:
    assert corrected_resampled_t([0.0, 0.0, 0.0], 0.25).p == 1.0
    same = corrected_resampled_t([0.5, 0.5, 0.5], 0.25)
    assert (same.t, same.p) == (math.inf, 0.0)
    assert math.isnan(corrected_resampled_t([0.1], 0.25).p)
    with pytest.raises(InputError, match="differences"):
        corrected_resampled_t([0.1, math.nan], 0.25)
    with pytest.raises(InputError, match="test_share"):
        corrected_resampled_t([0.1, 0.2], -1.0)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with_gap = holm([0.02, math.nan, 0.03])
    assert with_gap[0] == pytest.approx(0.04)
    assert math.isnan(with_gap[1])


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        p = rng.uniform(0, 0.1, 6)
        order = np.argsort(p)
        rejected = np.zeros(6, bool)
        for rank, index in enumerate(order):  # Holm 1979: stop at the first that is not rejected
            if p[index] > 0.05 / (6 - rank):
                break
            rejected[index] = True
        assert np.array_equal(np.array(holm(p.tolist())) <= 0.05, rejected)


def test_standardised_difference_is_t_over_the_root_of_the_count() -> None:
    values = np.array([0.1, 0.0, -0.05, 0.2, 0.15, math.nan])
    t = stats.ttest_1samp(values[:5], 0.0).statistic
    assert standardised_difference(values) == pytest.approx(t / math.sqrt(5))
    assert standardised_difference(np.zeros(4)) == 0.0
    assert math.isnan(standardised_difference(np.array([0.1])))
