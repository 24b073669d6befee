from __future__ import annotations

import csv
import doctest
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from vavl import metrics
from vavl.errors import InputError
from vavl.evaluation import bootstrap, scores
from vavl.evaluation.bootstrap import percentile_interval, speaker_weights
from vavl.evaluation.missing import SHARES
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import Evaluation, evaluate_tables
from vavl.evaluation.views import View, view_outputs
from vavl.metrics.sentiment import SENTIMENT_MEASURES, sentiment_measures
from vavl.types import Modality

Make = Callable[..., PredictionTable]


def said(table: PredictionTable, view: View) -> np.ndarray:
    probabilities = view_outputs(table, view).probabilities
    return np.nan_to_num(probabilities).argmax(axis=1)


@pytest.mark.parametrize("module", [scores, bootstrap])
def test_examples_in_the_documentation_run(module: object) -> None:
    failed, run = doctest.testmod(module)  # type: ignore[arg-type]
    assert run > 0
    assert failed == 0


@pytest.mark.parametrize("view", list(View))
def test_pooled_and_fold_scores_equal_scikit_learn(table: PredictionTable, view: View) -> None:
    evaluation = evaluate_tables([table], replicates=10)
    rows = (table.category_targets >= 0) & view_outputs(table, view).present
    predictions = said(table, view)
    partitions = np.array(table.partitions)
    reference = {
        "accuracy": lambda t, p: (t == p).mean(),
        "uar": balanced_accuracy_score,
        "f1_macro": lambda t, p: f1_score(t, p, average="macro"),
        "f1_micro": lambda t, p: f1_score(t, p, average="micro"),
    }
    for measure, expected in reference.items():
        score = evaluation.score(view, measure)
        assert score.clips == rows.sum()
        whole = expected(table.category_targets[rows], predictions[rows])
        assert score.pooled.estimate == pytest.approx(whole)
        folds = []
        for fold in ("fold-0", "fold-1", "fold-2"):
            mine = rows & (partitions == fold)
            folds.append(expected(table.category_targets[mine], predictions[mine]))
            assert score.folds[fold].estimate == pytest.approx(folds[-1])
        assert score.fold_mean == pytest.approx(np.mean(folds))
        assert score.fold_std == pytest.approx(np.std(folds, ddof=1))


def test_attribute_scores_equal_ccc_on_the_known_clips(table: PredictionTable) -> None:
    evaluation = evaluate_tables([table], replicates=10)
    for column, attribute in enumerate(table.attributes):
        for view in (View.ACOUSTIC, View.VISUAL, View.AUDIOVISUAL, View.AVERAGE):
            outputs = view_outputs(table, view)
            rows = outputs.present
            expected = metrics.ccc(
                table.attribute_targets[rows, column], outputs.attributes[rows, column]
            )
            score = evaluation.score(view, f"{attribute}_ccc")
            assert score.pooled.estimate == pytest.approx(expected)
            known = rows & ~np.isnan(table.attribute_targets[:, column])
            assert score.clips == known.sum()


def test_sentiment_has_the_scores_of_its_field_on_the_scale_of_its_raters(make: Make) -> None:
    table = make(categories=(), attributes=("arousal", "sentiment"), unknown=0.2)
    # As raters give them: whole thirds, among them 0, which 32 bits in [0, 1] do not hold exactly.
    ratings = np.round(3 * (6 * table.attribute_targets[:, 1].astype(float) - 3)) / 3
    stored = table.attribute_targets.copy()
    stored[:, 1] = (ratings + 3) / 6
    evaluation = evaluate_tables([replace(table, attribute_targets=stored)], replicates=20)
    for view in (View.ACOUSTIC, View.AUDIOVISUAL):
        outputs = 6 * table.attribute_outputs[Modality(view)][:, 1].astype(float) - 3
        for measure, value in sentiment_measures(ratings, outputs).items():
            score = evaluation.score(view, measure)
            assert score.pooled.estimate == pytest.approx(value, abs=1e-4)
            assert score.pooled.low <= value <= score.pooled.high
            assert score.quantity == "sentiment"
    best = evaluation.score(View.AUDIOVISUAL, "sentiment_mae").pooled.estimate
    assert best < evaluation.score(View.AVERAGE, "sentiment_mae").pooled.estimate
    assert {score.measure for score in evaluation.scores} == {
        "arousal_ccc",
        "sentiment_ccc",
        *SENTIMENT_MEASURES,
    }
    assert {d.measure for d in evaluation.differences} == {"arousal_ccc", "sentiment_ccc"}
    assert {c.measure for c in evaluation.missing_curves} == {"arousal_ccc", "sentiment_ccc"}


def test_intervals_equal_a_plain_bootstrap_over_speakers(table: PredictionTable) -> None:
    replicates, seed = 60, 3
    evaluation = evaluate_tables([table], replicates=replicates, seed=seed)
    names = np.unique(table.speakers)
    weights = speaker_weights(len(names), replicates, (seed, 0, 0))
    known = table.category_targets >= 0
    rows_of = [np.flatnonzero((np.array(table.speakers) == name) & known) for name in names]
    uars = {view: [] for view in (View.AUDIOVISUAL, View.AVERAGE)}
    cccs = []
    values = view_outputs(table, View.AUDIOVISUAL).attributes[:, 0]
    for weight in weights.astype(int):
        drawn = np.concatenate([np.tile(r, w) for r, w in zip(rows_of, weight, strict=True)])
        for view, found in uars.items():
            labels = said(table, view)[drawn]
            found.append(balanced_accuracy_score(table.category_targets[drawn], labels))
        cccs.append(metrics.ccc(table.attribute_targets[drawn, 0], values[drawn]))
    score = evaluation.score(View.AUDIOVISUAL, "uar").pooled
    expected = np.percentile(uars[View.AUDIOVISUAL], [2.5, 97.5])
    np.testing.assert_allclose([score.low, score.high], expected)
    score = evaluation.score(View.AUDIOVISUAL, "arousal_ccc").pooled
    np.testing.assert_allclose([score.low, score.high], np.percentile(cccs, [2.5, 97.5]))
    (difference,) = [
        d for d in evaluation.differences if (d.against, d.measure) == (View.AVERAGE, "uar")
    ]
    paired = np.subtract(uars[View.AUDIOVISUAL], uars[View.AVERAGE])
    expected = np.percentile(paired, [2.5, 97.5])
    np.testing.assert_allclose([difference.difference.low, difference.difference.high], expected)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Speakers differ in how well they are recognised: 95 % intervals must know that."""
    world = np.random.default_rng(0)
    covered = []
    for _ in range(150):
        skills = np.clip(world.normal(0.7, 0.15, 40), 0, 1)
        correct = world.uniform(size=(40, 30)) < skills[:, None]
        weights = speaker_weights(40, 400, (7,))
        drawn = weights @ correct.sum(1) / (40 * 30)
        interval = percentile_interval(float(correct.mean()), drawn, 40)
        covered.append(interval.low <= 0.699 <= interval.high)  # 0.699: mean after clipping
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_same_seed_gives_the_same_numbers_and_another_seed_the_same_estimates(
    table: PredictionTable,
) -> None:
    one, same, other = (evaluate_tables([table], replicates=50, seed=s) for s in (0, 0, 1))
    assert one.to_dict() == same.to_dict()
    for before, after in zip(one.scores, other.scores, strict=True):
        assert before.pooled.estimate == after.pooled.estimate
    assert [s.pooled.low for s in one.scores] != [s.pooled.low for s in other.scores]


def test_the_order_of_rows_and_tables_does_not_matter(table: PredictionTable) -> None:
    whole = evaluate_tables([table], replicates=50)
    order = np.random.default_rng(0).permutation(len(table))
    parts = [table.take(order[:100]), table.take(order[100:101]), table.take(order[101:])]
    assert evaluate_tables(parts, replicates=50).to_dict() == whole.to_dict()


def test_folds_come_in_natural_order(make: Make) -> None:
    evaluation = evaluate_tables([make(speakers=12, folds=12)], replicates=5)
    assert evaluation.partitions == tuple(f"fold-{number}" for number in range(12))


def test_a_run_counted_as_two_seeds_is_no_more_certain(table: PredictionTable) -> None:
    one = evaluate_tables([table], replicates=50)
    twice = evaluate_tables([table, table], seeds=[1, 2], replicates=50)
    assert twice.seeds == ("1", "2")
    assert twice.clips == one.clips
    for before, after in zip(one.scores, twice.scores, strict=True):
        assert after.pooled.estimate == pytest.approx(before.pooled.estimate)
        assert after.pooled.low == pytest.approx(before.pooled.low)
        assert after.pooled.high == pytest.approx(before.pooled.high)
        assert after.seed_std == pytest.approx(0)
    for before, after in zip(one.differences, twice.differences, strict=True):
        assert after.difference.high == pytest.approx(before.difference.high)


def test_scores_of_seeds_are_averaged(make: Make) -> None:
    tables = [make(model_seed=seed, attributes=("arousal",)) for seed in range(3)]
    alone = [evaluate_tables([table], replicates=20) for table in tables]
    together = evaluate_tables(tables, seeds=["a", "b", "c"], replicates=20)
    for index, score in enumerate(together.scores):
        estimates = [evaluation.scores[index].pooled.estimate for evaluation in alone]
        assert score.pooled.estimate == pytest.approx(np.mean(estimates))
        assert score.seed_std == pytest.approx(np.std(estimates, ddof=1))
    for index, difference in enumerate(together.differences):
        estimates = [evaluation.differences[index].difference.estimate for evaluation in alone]
        assert difference.difference.estimate == pytest.approx(np.mean(estimates))


def test_seeds_may_come_fold_by_fold_in_any_order(make: Make) -> None:
    tables = [make(model_seed=seed) for seed in range(2)]
    pieces, labels = [], []
    for fold in ("fold-2", "fold-0", "fold-1"):
        for seed in (1, 0):
            rows = [i for i, p in enumerate(tables[seed].partitions) if p == fold]
            pieces.append(tables[seed].take(rows[::-1]))
            labels.append(seed)
    apart = evaluate_tables(pieces, seeds=labels, replicates=20).to_dict()
    whole = evaluate_tables(tables[::-1], seeds=[1, 0], replicates=20).to_dict()
    assert apart == whole


def test_tables_that_do_not_belong_together_are_refused(make: Make, change: Make) -> None:
    table = make(clips=24)
    with pytest.raises(InputError, match="at least one prediction table"):
        evaluate_tables([])
    with pytest.raises(InputError, match="argument `seeds`"):
        evaluate_tables([table, table])
    with pytest.raises(InputError, match=r"one per table \(2\), got 1"):
        evaluate_tables([table, table], seeds=[0])
    with pytest.raises(InputError, match=r"seed 1: lacks 4 clips, e.g. clip-0021 \(fold-0\)"):
        evaluate_tables([table, table.take(range(20))], seeds=[0, 1])
    moved = change(table, category_targets=(table.category_targets + 1) % 4)
    speakers = change(table, speakers=table.speakers[::-1])
    with pytest.raises(InputError, match=r"2 problems(.|\n)*category targets(.|\n)*speakers"):
        evaluate_tables([table, moved, speakers], seeds=[0, 1, 2])
    deaf = change(table, logits={m: v for m, v in table.logits.items() if m == "visual"})
    with pytest.raises(InputError, match="modalities of the clips"):
        evaluate_tables([table, deaf], seeds=[0, 1])
    with pytest.raises(InputError, match="replicates"):
        evaluate_tables([table], replicates=0)
    with pytest.raises(InputError, match="seed: expected at least 0"):
        evaluate_tables([table], seed=-1)


def test_a_fusion_that_is_the_average_differs_from_it_by_exactly_nothing(
    make: Make, change: Make
) -> None:
    table = make()
    average = np.log(view_outputs(table, View.AVERAGE).probabilities)
    copied = change(table, logits={**table.logits, Modality.AUDIOVISUAL: average})
    evaluation = evaluate_tables([copied], replicates=50)
    for difference in evaluation.differences:
        if difference.against is View.AVERAGE:
            assert difference.difference == bootstrap.Interval(0, 0, 0)
            assert not difference.distinguishable
        if difference.against is View.VISUAL:
            assert difference.distinguishable
            assert difference.difference.low > 0


def test_differences_compare_on_the_clips_that_both_predict(make: Make) -> None:
    table = make(without_sound=0.3)
    has_sound = table.present(Modality.ACOUSTIC)
    evaluation = evaluate_tables([table], replicates=10)
    (difference,) = [
        d for d in evaluation.differences if (d.against, d.measure) == (View.ACOUSTIC, "accuracy")
    ]
    assert difference.clips == has_sound.sum()
    both, alone = (said(table, v)[has_sound] for v in (View.AUDIOVISUAL, View.ACOUSTIC))
    targets = table.category_targets[has_sound]
    expected = (both == targets).mean() - (alone == targets).mean()
    assert difference.difference.estimate == pytest.approx(expected)


def test_missing_modalities_are_counted(make: Make) -> None:
    table = make(without_sound=0.2, without_face=0.1)
    no_sound, no_face = (
        int((~table.present(m)).sum()) for m in (Modality.ACOUSTIC, Modality.VISUAL)
    )
    evaluation = evaluate_tables([table], replicates=5)
    assert evaluation.without == {Modality.ACOUSTIC: no_sound, Modality.VISUAL: no_face}
    for view in View:
        score = evaluation.score(view, "accuracy")
        fused = view not in (View.ACOUSTIC, View.VISUAL)
        assert score.fallbacks == (no_sound + no_face if fused else 0)


def test_confusions_and_recalls_equal_scikit_learn(table: PredictionTable) -> None:
    evaluation = evaluate_tables([table], replicates=30)
    assert [confusion.view for confusion in evaluation.confusions] == list(View)
    for confusion in evaluation.confusions:
        rows = (table.category_targets >= 0) & view_outputs(table, confusion.view).present
        predictions = said(table, confusion.view)[rows]
        expected = confusion_matrix(table.category_targets[rows], predictions, labels=range(4))
        np.testing.assert_array_equal(confusion.counts, expected)
        for recall, row, index in zip(confusion.recalls, expected, range(4), strict=True):
            assert recall.estimate == pytest.approx(row[index] / row.sum())
            assert recall.low <= recall.estimate <= recall.high


def test_one_speaker_has_scores_and_no_interval(make: Make) -> None:
    evaluation = evaluate_tables([make(speakers=1, folds=1, attributes=("arousal",))], replicates=9)
    for score in evaluation.scores:
        assert np.isfinite(score.pooled.estimate)
        assert np.isnan(score.pooled.low)
        assert np.isnan(score.fold_std)
    assert not any(difference.distinguishable for difference in evaluation.differences)


def test_without_any_known_target_nothing_is_scored(make: Make) -> None:
    evaluation = evaluate_tables([make(unknown=1.1, attributes=("arousal",))], replicates=5)
    assert evaluation.scores == evaluation.differences == evaluation.confusions == ()
    assert evaluation.missing_curves == ()


def test_a_fold_without_known_targets_is_left_out_of_the_mean(make: Make, change: Make) -> None:
    table = make()
    unknown = np.array(table.partitions) == "fold-1"
    part = change(table, category_targets=np.where(unknown, -1, table.category_targets))
    score = evaluate_tables([part], replicates=5).score("acoustic", "accuracy")
    assert list(score.folds) == ["fold-0", "fold-2"]
    folds = [interval.estimate for interval in score.folds.values()]
    assert score.fold_mean == pytest.approx(np.mean(folds))


def test_an_unknown_score_lists_the_known_ones(table: PredictionTable) -> None:
    with pytest.raises(InputError, match=r"product arousal_ccc: .*acoustic accuracy"):
        evaluate_tables([table], replicates=5).score(View.PRODUCT, "arousal_ccc")


def test_to_dict_is_json_without_loss(table: PredictionTable) -> None:
    evaluation = evaluate_tables([table], replicates=20)
    content = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert content == evaluation.to_dict()
    assert content["without"]["visual"] == evaluation.without[Modality.VISUAL]
    first = content["scores"][0]
    assert first["pooled"]["low"] == evaluation.scores[0].pooled.low
    assert first["seed_std"] is None  # a single seed


# Score against the share of clips that lack a modality


def curve(evaluation: Evaluation, view: View, missing: str, measure: str) -> np.ndarray:
    (found,) = [
        c
        for c in evaluation.missing_curves
        if (c.view, c.missing, c.measure) == (view, missing, measure)
    ]
    assert found.shares == SHARES
    return np.array(found.values)


def test_curves_run_from_the_fused_score_to_the_unimodal_one(make: Make) -> None:
    tables = [make(attributes=("arousal",), model_seed=seed) for seed in range(2)]
    evaluation = evaluate_tables(tables, seeds=[0, 1], replicates=5)
    for view in (View.AUDIOVISUAL, View.AVERAGE, View.PRODUCT):
        for missing, left in (("acoustic", View.VISUAL), ("visual", View.ACOUSTIC)):
            for measure in ("accuracy", "uar", "arousal_ccc"):
                if (view, measure) != (View.PRODUCT, "arousal_ccc"):
                    values = curve(evaluation, view, missing, measure)
                    ends = (evaluation.score(v, measure).pooled.estimate for v in (view, left))
                    np.testing.assert_allclose(values[[0, -1]], list(ends))


def test_curves_use_only_clips_that_have_both_modalities(make: Make) -> None:
    table = make(without_sound=0.3, without_face=0.2)
    paired = np.flatnonzero(table.present(Modality.AUDIOVISUAL))
    whole, part = (evaluate_tables([t], replicates=5) for t in (table, table.take(paired)))
    assert whole.missing_curves == part.missing_curves
    assert {c.clips for c in whole.missing_curves} == {len(paired)}


def test_clips_that_lack_a_modality_keep_lacking_it(make: Make, change: Make) -> None:
    """Sound always right, face always wrong: without sound accuracy falls in an exact line."""
    table = make(clips=100)
    right = 9.0 * (table.category_targets[:, None] == np.arange(4))
    certain = {"acoustic": right, "audiovisual": right, "visual": -right}
    evaluation = evaluate_tables([change(table, logits=certain)], replicates=5)
    values = curve(evaluation, View.AUDIOVISUAL, "acoustic", "accuracy")
    np.testing.assert_allclose(values, 1 - np.array(SHARES))
    np.testing.assert_allclose(curve(evaluation, View.AUDIOVISUAL, "visual", "uar"), 1)
    # Nested draws: with independent ones at each share the steps of UAR would be ragged.
    steps = [a - b for a, b in pairwise(curve(evaluation, View.AUDIOVISUAL, "acoustic", "uar"))]
    assert np.std(steps) < 0.01


def test_without_paired_clips_there_is_no_curve(make: Make, change: Make) -> None:
    table = make()
    only = {m: v for m, v in table.logits.items() if m is Modality.VISUAL}
    assert evaluate_tables([change(table, logits=only)], replicates=5).missing_curves == ()


@pytest.mark.shared
def test_published_ravdess_predictions_score_as_published(shared: Path) -> None:
    """wav2vec2-XLSR 0.819 and AU-biLSTM 0.624 on the five folds of Luna-Jiménez et al."""
    folder = shared / "data" / "ravdess"
    stored = np.load(folder / "published_logits.npz", allow_pickle=False)
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["clip"]: row for row in csv.DictReader(file)}
    clips, emotions = (tuple(str(name) for name in stored[key]) for key in ("clips", "emotions"))
    table = PredictionTable(
        categories=emotions,
        attributes=(),
        utterance_ids=clips,
        speakers=tuple(rows[clip]["actor"] for clip in clips),
        partitions=tuple(f"fold-{rows[clip]['fold5']}" for clip in clips),
        category_targets=np.array([emotions.index(rows[clip]["emotion"]) for clip in clips]),
        attribute_targets=np.empty((len(clips), 0)),
        logits={"acoustic": stored["wav2vec2"], "visual": stored["au_bilstm"]},
    )
    evaluation = evaluate_tables([table], replicates=200)
    assert evaluation.speakers == 24
    assert round(evaluation.score("acoustic", "accuracy").pooled.estimate, 3) == 0.819
    assert round(evaluation.score("visual", "accuracy").pooled.estimate, 3) == 0.624
    assert evaluation.score("product", "accuracy").pooled.estimate > 0.86
