"""The study of enrolment: who is known from what, never from the clip itself; and its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import TinyCorpus

from vavl.data.speakers import Moments, pooled, towards_training, training_moments
from vavl.errors import InputError
from vavl.evaluation.run import predict_fold
from vavl.evaluation.views import View
from vavl.studies import enrolment as study
from vavl.studies.enrolment import (
    MIXED,
    NOTHING,
    Condition,
    KnownSpeakers,
    clip_moments,
    run_enrolment,
)
from vavl.studies.enrolment_report import write_enrolment
from vavl.training.experiment import open_stores, train_experiment
from vavl.types import Modality

FIVE = Condition(MIXED, 5)
EVERYTHING = Condition(MIXED, None)


@pytest.fixture(scope="module")
def speakers(tiny_corpus: TinyCorpus) -> KnownSpeakers:
    """All six speakers; statistics that stand for those of training."""
    store = open_stores(tiny_corpus.experiment(Path()))[Modality.VISUAL]
    mean, std = np.zeros(store.spec.dim), np.ones(store.spec.dim)
    ids = [utterance.utterance_id for utterance in tiny_corpus.manifest]
    moments = {Modality.VISUAL: clip_moments(store, ids)}
    training = {Modality.VISUAL: training_moments(mean, std)}
    return KnownSpeakers(tiny_corpus.manifest, ids, moments, training)


def test_a_clip_is_known_by_other_clips_of_its_speaker(
    tiny_corpus: TinyCorpus, speakers: KnownSpeakers
) -> None:
    by_id = tiny_corpus.manifest.by_id
    for condition, amount in ((FIVE, 5), (EVERYTHING, 11), (NOTHING, 0)):
        known = speakers.known(condition)
        assert set(known) == set(by_id)
        for name, others in known.items():
            assert len(set(others)) == amount
            assert name not in others
            assert {by_id[other].speaker for other in others} <= {by_id[name].speaker}
    assert speakers.known(FIVE, draw=0) != speakers.known(FIVE, draw=1)
    ten = speakers.known(Condition(MIXED, 10))
    assert all(ten[name][:5] == others for name, others in speakers.known(FIVE).items())


def test_a_pool_of_one_category_holds_nothing_else(
    tiny_corpus: TinyCorpus, speakers: KnownSpeakers
) -> None:
    by_id = tiny_corpus.manifest.by_id
    category = tiny_corpus.manifest.categories[0]
    known = speakers.known(Condition(category, None))
    for name, others in known.items():
        assert {by_id[other].category for other in others} == {category}
        assert name not in others


def test_a_clip_is_normalised_by_the_statistics_of_the_others(
    tiny_corpus: TinyCorpus, speakers: KnownSpeakers
) -> None:
    store = open_stores(tiny_corpus.experiment(Path()))[Modality.VISUAL]
    name, others = next(iter(speakers.known(FIVE, draw=2).items()))
    own = pooled((Moments.of_clip(store.read(other)) for other in others), store.spec.dim)
    training = training_moments(np.zeros(store.spec.dim), np.ones(store.spec.dim))
    expected = towards_training(store.read(name), own, training)
    found = speakers.sequence_map(FIVE, draw=2)(Modality.VISUAL, name, store.read(name))
    np.testing.assert_allclose(found, expected)
    sound = np.ones((3, 2), np.float32)
    assert speakers.sequence_map(FIVE)(Modality.ACOUSTIC, name, sound) is sound


def test_more_clips_than_there_are_is_no_condition(speakers: KnownSpeakers) -> None:
    with pytest.raises(InputError, match="expected 12 other clips"):
        speakers.sequence_map(Condition(MIXED, 12))
    with pytest.raises(InputError, match="expected all other clips"):
        speakers.sequence_map(Condition("no such mood", None))
    found = study.possible_conditions([speakers], [MIXED, "no such mood"])
    assert [c.name for c in found] == [
        "nothing known",
        *(f"mixed, {amount}" for amount in (1, 2, 5, 10, "all")),
    ]


def test_the_study_of_a_run(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    folds = train_experiment(config, only=["fold-0", "fold-1"])
    category = tiny_corpus.manifest.categories[0]
    options = {"pools": (MIXED, category), "draws": 2, "replicates": 50}
    out = tmp_path / "out"
    results = run_enrolment([config.run_dir], out / "predictions", **options)
    assert results[0].condition == NOTHING
    assert {r.condition.pool for r in results} >= {MIXED}
    assert len({score.clips for r in results for score in r.scores.values()}) == 1

    # Where nothing is known, the study says what the evaluation says.
    stores = open_stores(config)
    tables = [predict_fold(fold, tiny_corpus.manifest, stores) for fold in folds]
    right = np.concatenate(
        [t.logits[Modality.AUDIOVISUAL].argmax(1) == t.category_targets for t in tables]
    )
    found = results[0].scores[View.AUDIOVISUAL, "accuracy"].pooled.estimate
    assert found == pytest.approx(right.mean())
    assert not results[0].differences
    for result in results[1:]:
        by_view = result.differences[View.AUDIOVISUAL, "accuracy"]
        score = result.scores[View.AUDIOVISUAL, "accuracy"].pooled.estimate
        assert by_view.difference.estimate == pytest.approx(score - found)

    # What was predicted is not predicted again, and the report is the same.
    report = write_enrolment(results, out, "A tiny corpus.").read_text(encoding="utf-8")
    monkeypatch.setattr(study, "run_model", None)
    again = run_enrolment([config.run_dir], out / "predictions", **options)
    assert write_enrolment(again, out, "A tiny corpus.").read_text(encoding="utf-8") == report
    assert "| mixed, 5 |" in report
    assert "never labels" in " ".join(report.split())
    assert (out / "curve-accuracy.svg").is_file()
    rows = (out / "results.csv").read_text(encoding="utf-8").splitlines()
    views = len({view for view, _ in results[0].scores})
    measures = len({measure for _, measure in results[0].scores})
    assert len(rows) == 1 + len(results) * views * measures
