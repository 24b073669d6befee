"""Training with normalisation by speaker: the same in training and in the test, and said aloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import TinyCorpus

import vavl
from vavl.data.dataset import UtteranceDataset
from vavl.data.partition import Partition
from vavl.data.speakers import (
    SEEN_SPEAKERS,
    Moments,
    SpeakerNormalisation,
    pooled,
    towards_training,
    training_moments,
)
from vavl.errors import StoreError
from vavl.evaluation.evaluate import evaluate_runs, predict_fold
from vavl.models.base import priors
from vavl.models.registry import load_model
from vavl.training.experiment import open_stores, train_experiment
from vavl.training.run_folder import FoldDirectory
from vavl.training.scoring import run_model
from vavl.types import STREAMS, Modality


@pytest.fixture(scope="module")
def fold(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> FoldDirectory:
    """Trained with normalisation by speaker."""
    folder = tmp_path_factory.mktemp("runs")
    config = tiny_corpus.experiment(folder, data__speaker_normalisation=True)
    return train_experiment(config, only=["fold-0"])[0]


def test_each_speaker_is_normalised_by_all_their_clips(
    tiny_corpus: TinyCorpus, fold: FoldDirectory
) -> None:
    manifest = tiny_corpus.manifest
    stores = open_stores(tiny_corpus.experiment(fold.path))
    model = load_model(fold.path)
    normalisation = SpeakerNormalisation.of_stores(manifest, stores, priors(model, stores))
    partition = Partition.load(fold.partition_file)
    for modality in STREAMS:
        # The model keeps the statistics of the training features as they were extracted.
        plain = UtteranceDataset(manifest, partition.train, stores)
        mean, std = (x.numpy() for x in plain.feature_statistics(modality))
        for speaker in manifest.speakers:
            names = [u.utterance_id for u in manifest if u.speaker == speaker]
            frames = [stores[modality].read(name) for name in names]
            own = pooled(map(Moments.of_clip, frames), len(mean))
            expected = towards_training(frames[0], own, training_moments(mean, std))
            found = normalisation(modality, names[0], frames[0])
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_test_speakers_are_normalised_and_the_report_says_so(
    tiny_corpus: TinyCorpus, fold: FoldDirectory
) -> None:
    manifest, stores = tiny_corpus.manifest, open_stores(tiny_corpus.experiment(fold.path))
    table = predict_fold(fold, manifest, stores)
    model = load_model(fold.path)
    categories = model.config.categories
    plain = UtteranceDataset(manifest, table.utterance_ids, stores, categories=categories)
    raw = run_model(model, plain).by_modality[Modality.ACOUSTIC].numpy()
    assert not np.allclose(table.logits[Modality.ACOUSTIC], raw)
    plain.sequence_map = SpeakerNormalisation.of_stores(manifest, stores, priors(model, stores))
    known = run_model(model, plain).by_modality[Modality.ACOUSTIC].numpy()
    np.testing.assert_allclose(table.logits[Modality.ACOUSTIC], known, atol=1e-5)
    remarks = evaluate_runs([fold.path.parent], replicates=20).evaluation.remarks
    assert any(SEEN_SPEAKERS in remark for remark in remarks)


def test_a_recogniser_that_knows_the_speaker_says_what_the_evaluation_says(
    tiny_corpus: TinyCorpus, fold: FoldDirectory
) -> None:
    stores = open_stores(tiny_corpus.experiment(fold.path))
    table = predict_fold(fold, tiny_corpus.manifest, stores)
    recognizer = vavl.load(fold.path)
    by_id = tiny_corpus.manifest.by_id

    def clip(name: str) -> dict[str, np.ndarray]:
        return {str(m): stores[m].read(name).astype(np.float32) for m in STREAMS}

    first = table.utterance_ids[0]
    speaker = by_id[first].speaker
    clips = [clip(name) for name in by_id if by_id[name].speaker == speaker]
    recognizer.adapt(clips, speaker=speaker)
    found = recognizer.predict(**clip(first), speaker=speaker).probabilities
    logits = table.logits[Modality.AUDIOVISUAL][0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-4)


def test_results_with_and_without_are_kept_apart(
    tiny_corpus: TinyCorpus, fold: FoldDirectory, tmp_path: Path
) -> None:
    plain = tiny_corpus.experiment(tmp_path, training__epochs=2)
    train_experiment(plain, only=["fold-0"])
    remarks = evaluate_runs([plain.run_dir], replicates=20).evaluation.remarks
    assert not any(SEEN_SPEAKERS in remark for remark in remarks)
    with pytest.raises(StoreError, match="speaker_normalisation: was True, now False"):
        evaluate_runs([fold.path.parent, plain.run_dir], replicates=20)
