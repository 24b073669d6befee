"""The folds of a run as one model: the mean of what each of them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TinyCorpus

import vavl
from vavl.errors import StoreError
from vavl.inference.ensemble import Ensemble
from vavl.inference.loading import model_card, model_folder, model_sha256
from vavl.training.experiment import train_experiment
from vavl.training.trained import load_trained
from vavl.types import Modality


@pytest.fixture(scope="module")
def run(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_corpus.experiment(
        tmp_path_factory.mktemp("runs"), data__attributes=["arousal"], training__epochs=1
    )
    train_experiment(config)
    return config.run_dir


@pytest.fixture
def clip() -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(0)
    return {"acoustic": drawn.normal(size=(40, 80)), "visual": drawn.normal(size=(30, 17))}


@pytest.mark.parametrize("given", [("acoustic", "visual"), ("acoustic",), ("visual",)])
def test_probabilities_and_attributes_are_means_of_the_folds(
    run: Path, clip: dict[str, np.ndarray], given: tuple[str, ...]
) -> None:
    part = {name: clip[name] for name in given}
    whole = vavl.load(run).predict(**part)
    folds = [vavl.load(run / f"fold-{number}").predict(**part) for number in range(3)]
    assert whole.modality == folds[0].modality
    for name, value in whole.probabilities.items():
        each = [fold.probabilities[name] for fold in folds]
        assert value == pytest.approx(np.mean(each), abs=1e-6)
        assert max(each) > min(each)
    mean = np.mean([fold.attributes["arousal"] for fold in folds])
    assert whole.attributes["arousal"] == pytest.approx(mean, abs=1e-6)


def test_a_person_is_known_to_it_as_to_a_model(run: Path, clip: dict[str, np.ndarray]) -> None:
    recognizer = vavl.load(run)
    recognizer.adapt([clip, {name: x + 1 for name, x in clip.items()}], speaker="ann")
    adapted = recognizer.predict(**clip, speaker="ann")
    assert sum(adapted.probabilities.values()) == pytest.approx(1)
    assert adapted.probabilities != recognizer.predict(**clip).probabilities


def test_its_statistics_are_those_of_all_their_training_clips(run: Path) -> None:
    ensemble = Ensemble.of_folders(sorted(run.glob("fold-*")))
    torch.manual_seed(0)
    parts = [torch.randn(1000, 80) * (k + 1) + k for k in range(3)]
    for model, part in zip(ensemble.models, parts, strict=True):
        model.normalisation(Modality.ACOUSTIC).set_statistics(
            part.mean(0), part.std(0, correction=0)
        )
    mean, deviation = ensemble.normalisation(Modality.ACOUSTIC).statistics()
    together = torch.cat(parts)
    torch.testing.assert_close(mean, together.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(deviation, together.std(0, correction=0), atol=1e-5, rtol=1e-5)


def test_one_fold_more_is_another_model(run: Path, tmp_path: Path) -> None:
    assert model_folder(run) == run
    before = model_sha256(run)
    assert before == model_sha256(run)
    assert before != model_sha256(run / "fold-0")


def test_models_that_differ_are_no_ensemble(run: Path, tmp_path: Path) -> None:
    other = load_trained(run / "fold-1")
    other.config = other.config.model_copy(
        update={"categories": tuple(other.config.categories[::-1])}
    )
    other.save_pretrained(tmp_path)
    with pytest.raises(StoreError, match="take and predict the same"):
        Ensemble.of_folders([run / "fold-0", tmp_path])


def test_the_card_of_a_fold_is_that_of_its_run(run: Path) -> None:
    (run / "README.md").write_text("# A card")
    assert model_card(model_folder(run)) == model_card(run / "fold-0") == "# A card"
    (run / "README.md").unlink()
    assert model_card(run / "fold-0") is None
