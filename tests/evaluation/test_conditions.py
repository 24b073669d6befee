"""What is done to test clips: gaps, lost modalities, known speakers; and that nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TinyCorpus

from vavl.data.dataset import UtteranceDataset
from vavl.data.partition import Partition
from vavl.data.speakers import Moments, pooled, towards_training, training_moments
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.evaluation.conditions import (
    ClipsWithGaps,
    Condition,
    KnownClips,
    clip_moments,
    hidden_span,
    known_clips,
    take_away,
)
from vavl.evaluation.evaluate import predict_fold, predictions_file
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import evaluate_tables
from vavl.evaluation.views import View
from vavl.models.registry import load_model
from vavl.training.experiment import open_stores, train_experiment
from vavl.training.run_folder import FoldDirectory
from vavl.training.scoring import run_model
from vavl.types import STREAMS, Modality

Make = Callable[..., PredictionTable]


def test_the_name_tells_what_the_model_is_given_and_a_draw_is_one_seed() -> None:
    assert Condition(without_acoustic=0.5, seed=3).name == ""
    assert Condition(acoustic_gaps=0.25, seed=3).name == "gaps-0.25-0-3"
    both = Condition(known_clips=5, known_category="very calm", average_variants=True)
    assert both.name == "known-very%20calm-5-0-variants"
    assert [c.seed for c in Condition(visual_gaps=0.5, seed=1, draws=3).single_draws()] == [1, 2, 3]
    # Where nothing is drawn, seeds and draws make no difference.
    for clips in (None, 0, "all"):
        condition = Condition(known_clips=clips, seed=4, draws=3)
        assert condition.single_draws() == (Condition(known_clips=clips),)
    (nothing,) = Condition(known_clips=0, known_category="calm", draws=2).single_draws()
    assert nothing == Condition(known_clips=0)


def test_conditions_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="acoustic_gaps"):
        Condition(acoustic_gaps=1.0)
    with pytest.raises(
        ValueError, match=r'known_clips\s+Value error, expected a number of clips, or "all"'
    ):
        Condition(known_clips=-1)
    with pytest.raises(ValueError, match="no clip can lose both"):
        Condition(without_acoustic=0.7, without_visual=0.7)
    with pytest.raises(ValueError, match="draws: expected 1 where clips lose a modality"):
        Condition(without_acoustic=0.7, draws=2)


# Gaps


def datasets(corpus: TinyCorpus, condition: Condition) -> tuple[UtteranceDataset, UtteranceDataset]:
    stores = {m: FeatureStore.open(corpus.folder / "stores" / m) for m in STREAMS}
    ids = [utterance.utterance_id for utterance in corpus.manifest][:10]
    return (
        UtteranceDataset(corpus.manifest, ids, stores),
        ClipsWithGaps(corpus.manifest, ids, stores, condition=condition),
    )


def test_the_asked_share_is_hidden_in_one_span_and_the_rest_is_as_before(
    tiny_corpus: TinyCorpus,
) -> None:
    whole, gappy = datasets(tiny_corpus, Condition(visual_gaps=0.4))
    rows = list(range(10))
    before, after = whole[rows], gappy[rows]
    assert before.visual_mask is not None
    assert after.visual_mask is not None
    assert torch.equal(before.visual, after.visual)  # type: ignore[arg-type]
    assert torch.equal(before.acoustic_mask, after.acoustic_mask)  # type: ignore[arg-type]
    for full, left in zip(before.visual_mask.numpy(), after.visual_mask.numpy(), strict=True):
        assert not (left & ~full).any()
        hidden = np.flatnonzero(full & ~left)
        assert len(hidden) == round(0.4 * full.sum())
        assert np.array_equal(hidden, np.arange(hidden[0], hidden[-1] + 1))


def test_the_gap_of_a_clip_depends_on_neither_its_neighbours_nor_their_order(
    tiny_corpus: TinyCorpus,
) -> None:
    _, gappy = datasets(tiny_corpus, Condition(acoustic_gaps=0.5))
    together, alone = gappy[[3, 5, 7]], gappy[[5]]
    assert together.acoustic_mask is not None
    assert alone.acoustic_mask is not None
    steps = alone.acoustic_mask.shape[1]
    assert torch.equal(together.acoustic_mask[1, :steps], alone.acoustic_mask[0])
    _, other = datasets(tiny_corpus, Condition(acoustic_gaps=0.5, seed=1))
    assert not torch.equal(other[[3, 5, 7]].acoustic_mask, together.acoustic_mask)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [0.0, 0.31, 0.5, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_a_longer_gap_covers_a_shorter_one_and_leaves_a_step(steps: int, place: float) -> None:
    before: set[int] = set()
    for share in np.linspace(0, 0.99, 34):
        hidden = set(range(steps)[hidden_span(steps, float(share), place)])
        assert before <= hidden
        assert len(hidden) < steps
        before = hidden


# Clips that lose a modality


def test_clips_are_drawn_within_speakers_and_nest(make: Make) -> None:
    table = make()
    speakers = np.array(table.speakers)
    before = np.zeros(len(table), bool)
    for share in (0.0, 0.3, 0.5, 1.0):
        condition = Condition(without_acoustic=share)
        lost = ~take_away(table, condition).present(Modality.ACOUSTIC)
        assert not (before & ~lost).any()
        for speaker in set(table.speakers):
            assert lost[speakers == speaker].mean() == pytest.approx(share)
        before = lost


def test_what_the_model_says_about_the_rest_stays(make: Make) -> None:
    table = make(attributes=("arousal",))
    left = take_away(table, Condition(without_acoustic=0.3, without_visual=0.4))
    sound, face = (left.present(modality) for modality in (Modality.ACOUSTIC, Modality.VISUAL))
    assert (sound | face).all()
    assert np.array_equal(left.present(Modality.AUDIOVISUAL), sound & face)
    for modality in Modality:
        kept = left.present(modality)
        assert np.array_equal(left.logits[modality][kept], table.logits[modality][kept])


def test_lost_clips_give_the_curve_of_missing_modalities(make: Make) -> None:
    table = make(clips=1200)
    evaluation = evaluate_tables([table], replicates=2)
    curve = next(
        c
        for c in evaluation.missing_curves
        if (c.view, c.missing, c.measure) == (View.AUDIOVISUAL, Modality.ACOUSTIC, "accuracy")
    )
    for share, mean in zip(curve.shares, curve.values, strict=True):
        lost = take_away(table, Condition(without_acoustic=share))
        one = evaluate_tables([lost], replicates=2)
        view = View.VISUAL if share == 1 else View.AUDIOVISUAL
        # One draw against the mean of twenty.
        assert one.score(view, "accuracy").pooled.estimate == pytest.approx(mean, abs=0.02)


# Known speakers


def known(corpus: TinyCorpus, **condition: object) -> dict[str, list[str]]:
    return known_clips(Condition(**condition), corpus.manifest)  # type: ignore[arg-type]


def test_a_clip_is_known_by_other_clips_of_its_speaker(tiny_corpus: TinyCorpus) -> None:
    by_id = tiny_corpus.manifest.by_id
    for clips, amount in ((5, 5), ("all", 11), (0, 0)):
        found = known(tiny_corpus, known_clips=clips)
        assert set(found) == set(by_id)
        for name, others in found.items():
            assert len(set(others)) == amount
            assert name not in others
            assert {by_id[other].speaker for other in others} <= {by_id[name].speaker}
    five = known(tiny_corpus, known_clips=5)
    assert five != known(tiny_corpus, known_clips=5, seed=1)
    ten = known(tiny_corpus, known_clips=10)
    assert all(ten[name][:5] == others for name, others in five.items())


def test_clips_of_one_category_are_known_alone(tiny_corpus: TinyCorpus) -> None:
    by_id = tiny_corpus.manifest.by_id
    category = tiny_corpus.manifest.categories[0]
    found = known(tiny_corpus, known_clips="all", known_category=category)
    for name, others in found.items():
        assert {by_id[other].category for other in others} == {category}
        assert name not in others


def test_more_clips_than_there_are_cannot_be_known(tiny_corpus: TinyCorpus) -> None:
    with pytest.raises(InputError, match="expected 12 other clips"):
        known(tiny_corpus, known_clips=12)
    with pytest.raises(InputError, match="expected all other 'no such mood' clips"):
        known(tiny_corpus, known_clips="all", known_category="no such mood")


def test_a_clip_is_normalised_by_the_statistics_of_the_others(tiny_corpus: TinyCorpus) -> None:
    store = open_stores(tiny_corpus.experiment(Path()))[Modality.VISUAL]
    training = training_moments(np.zeros(store.spec.dim), np.ones(store.spec.dim))
    clips = known(tiny_corpus, known_clips=5, seed=2)
    name, others = next(iter(clips.items()))
    own = pooled((Moments.of_clip(store.read(other)) for other in others), store.spec.dim)
    expected = towards_training(store.read(name), own, training)
    moments = {Modality.VISUAL: clip_moments(store, clips)}
    normalise = KnownClips(clips, moments, {Modality.VISUAL: training})
    found = normalise(Modality.VISUAL, name, store.read(name))
    np.testing.assert_allclose(found, expected)
    sound = np.ones((3, 2), np.float32)
    assert normalise(Modality.ACOUSTIC, name, sound) is sound


@pytest.fixture(scope="module", params=[False, True], ids=["strangers", "known"])
def trained(
    request: pytest.FixtureRequest,
    tiny_corpus: TinyCorpus,
    tmp_path_factory: pytest.TempPathFactory,
) -> FoldDirectory:
    """A fold that was trained without, or with normalisation by speaker."""
    config = tiny_corpus.experiment(
        tmp_path_factory.mktemp("runs"),
        training__epochs=1,
        data__speaker_normalisation=request.param,
    )
    return train_experiment(config, only=["fold-0"])[0]


def test_a_fold_predicts_its_test_clips_as_those_of_known_speakers(
    tiny_corpus: TinyCorpus, trained: FoldDirectory
) -> None:
    manifest, stores = tiny_corpus.manifest, open_stores(tiny_corpus.experiment(Path()))
    model = load_model(trained.path)
    partition = Partition.load(trained.partition_file)

    def logits(**condition: object) -> np.ndarray:
        table = predict_fold(trained, manifest, stores, Condition(**condition))  # type: ignore[arg-type]
        return table.logits[Modality.AUDIOVISUAL]

    # Nothing is known: the model is given the clips as they were extracted.
    plain = UtteranceDataset(manifest, partition.test, stores, categories=model.config.categories)
    raw = run_model(model, plain).by_modality[Modality.AUDIOVISUAL].numpy()
    np.testing.assert_allclose(logits(known_clips=0), raw, atol=1e-6)
    as_trained = "speaker_normalisation = true" in (trained.path.parent / "config.toml").read_text(
        "utf-8"
    )
    assert np.allclose(logits(), raw, atol=1e-6) != as_trained

    # All others are known: each clip by the moments of the others, shrunk to those of training.
    def by_the_others(modality: Modality, name: str, frames: np.ndarray) -> np.ndarray:
        speaker = manifest.by_id[name].speaker
        others = [
            Moments.of_clip(stores[modality].read(u.utterance_id))
            for u in manifest
            if u.speaker == speaker and u.utterance_id != name
        ]
        mean, std = model.normalisation(modality).statistics()
        training = training_moments(mean.numpy(), std.numpy())
        return towards_training(frames, pooled(others, frames.shape[1]), training)

    plain.sequence_map = by_the_others
    expected = run_model(model, plain).by_modality[Modality.AUDIOVISUAL].numpy()
    np.testing.assert_allclose(logits(known_clips="all"), expected, atol=1e-5)

    # The more clips, the closer; another draw, another prediction.
    away = [np.abs(logits(known_clips=n) - expected).mean() for n in (0, 2, 10)]
    assert away[0] > away[1] > away[2] > 0
    assert not np.allclose(logits(known_clips=2), logits(known_clips=2, seed=1))
    assert (
        predictions_file(trained, Condition(known_clips=2)).name == "predictions-known-2-0.parquet"
    )
