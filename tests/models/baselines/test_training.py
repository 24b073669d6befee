"""Each model through the whole way: train, resume, evaluate, load, predict."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from small_models import TINY
from tiny import Killed, TinyCorpus, kill_in_the_second_epoch

import vavl
from vavl.cli.options import parse_assignments
from vavl.config.experiment import MODEL_CONFIGS, ExperimentConfig, load_experiment, to_toml
from vavl.data.manifest import Manifest
from vavl.errors import InputError, MediaError
from vavl.evaluation.evaluate import evaluate_runs
from vavl.evaluation.views import View
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.inference.windows import Window
from vavl.training.experiment import train_experiment
from vavl.types import STREAMS, Modality

BASELINES = [name for name in MODEL_CONFIGS if name != "vavl"]


def experiment(
    corpus: TinyCorpus, runs_dir: Path, name: str, **overrides: object
) -> ExperimentConfig:
    model = {"name": name, "preset": "small", **TINY[name]}
    return corpus.experiment(runs_dir, model=model, **overrides)


@pytest.mark.parametrize("name", BASELINES)
def test_the_whole_way(
    tiny_corpus: TinyCorpus, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(tiny_corpus, tmp_path / "whole", name, data__attributes=["arousal"])
    [fold] = train_experiment(config, only=["fold-0"])
    possible = MODEL_CONFIGS[name].possible_predictions()
    read = MODEL_CONFIGS[name](**json_of(fold.path / "config.json")).inputs
    assert set(json_of(fold.path / "features.json")) == set(read)
    assert set(possible) <= set(fold.history()[-1]["development"])

    scores = evaluate_runs([config.run_dir], replicates=20).evaluation
    scored = {score.view for score in scores.scores}
    assert {View(modality) for modality in possible} <= scored
    assert not {View(m) for m in set(STREAMS) - set(possible)} & scored

    recognizer = vavl.load(fold.path)
    random = np.random.default_rng(0)
    features = {Modality.ACOUSTIC: random.normal(size=(40, 80)), Modality.VISUAL: np.ones((9, 17))}
    both = recognizer.predict(**{str(m): features[m] for m in read})
    assert both.modality == (Modality.AUDIOVISUAL if len(read) > 1 else read[0])
    assert sum(both.probabilities.values()) == pytest.approx(1)
    assert 0 <= both.attributes["arousal"] <= 1
    for modality in read:
        if modality in possible:
            assert recognizer.predict(**{str(modality): features[modality]}).modality == modality
        else:
            with pytest.raises(InputError, match=f"sound and a face together.*{modality} features"):
                recognizer.predict(**{str(modality): features[modality]})

    # Killed in the second epoch, and begun again: bit for bit the same weights.
    broken = experiment(tiny_corpus, tmp_path / "broken", name, data__attributes=["arousal"])
    kill_in_the_second_epoch(monkeypatch)
    with pytest.raises(Killed):
        train_experiment(broken, only=["fold-0"])
    [resumed] = train_experiment(broken, only=["fold-0"])
    expected, found = (load_file(f.path / "model.safetensors") for f in (fold, resumed))
    assert all(found[key].equal(value) for key, value in expected.items())


def json_of(path: Path) -> dict[str, object]:
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["schema_version"]
    return content


@pytest.mark.parametrize("name", ["averaging", "mult", "auxformer", "uavm", "sfav"])
def test_it_learns(tiny_corpus: TinyCorpus, tmp_path: Path, name: str) -> None:
    config = experiment(
        tiny_corpus,
        tmp_path,
        name,
        training__epochs=20,
        training__learning_rate=4e-3,
    )
    [fold] = train_experiment(config, only=["fold-0"])
    losses = [record["train"]["loss"] for record in fold.history()]
    # Of several epochs: what a single one loses depends on what was drawn, e.g. for UAVM on which
    # modality a batch was trained with.
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.fixture(scope="module")
def partly_paired(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Every third clip has no face."""
    folder = tmp_path_factory.mktemp("partly-paired")
    manifest = Manifest(
        [
            replace(u, visual_features_path=None) if index % 3 == 0 else u
            for index, u in enumerate(tiny_corpus.manifest)
        ],
        root=tiny_corpus.manifest.root,
    )
    manifest.save(folder / "manifest.parquet")
    manifest = Manifest.load(folder / "manifest.parquet")
    shutil.copytree(tiny_corpus.folder / "stores" / "acoustic", folder / "stores" / "acoustic")
    visual = build_extractor(Modality.VISUAL, "arrays")
    extract(manifest, visual, folder / "stores" / "visual", progress=False)
    return TinyCorpus(manifest, folder)


@pytest.mark.parametrize("name", BASELINES)
def test_clips_without_a_face(partly_paired: TinyCorpus, tmp_path: Path, name: str) -> None:
    """Clips that a model cannot predict are left out of its scores, and the report says so."""
    config = experiment(partly_paired, tmp_path, name, training__epochs=1)
    [fold] = train_experiment(config, only=["fold-0"])
    evaluation = evaluate_runs([config.run_dir], replicates=20).evaluation
    test = json.loads(fold.partition_file.read_text())["test"]
    faceless = [i for i in test if partly_paired.manifest.by_id[i].visual_features_path is None]
    needs_face = Modality.ACOUSTIC not in MODEL_CONFIGS[name].possible_predictions()
    left_out = len(faceless) if needs_face else 0
    assert evaluation.clips == len(test) - left_out
    told = [r for r in evaluation.remarks if "lack features that the model needs" in r]
    assert [f"{left_out} of {len(test)}" in r for r in told] == ([True] if left_out else [])


def test_a_model_without_its_modality_is_refused_before_a_run_begins(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    for name, lacking in (
        ("mult", "data__visual"),
        ("concatenation", "data__acoustic"),
        ("visual-conformer", "data__visual"),
    ):
        config = experiment(tiny_corpus, tmp_path, name, **{lacking: None})
        with pytest.raises(InputError, match=rf"model\.name: expected training clips .* {name}"):
            train_experiment(config)
        assert not config.run_dir.exists()


@pytest.mark.parametrize("name", ["averaging", "auxformer", "uavm", "sfav"])
def test_one_modality_alone(tiny_corpus: TinyCorpus, tmp_path: Path, name: str) -> None:
    config = experiment(tiny_corpus, tmp_path, name, data__visual=None, training__epochs=1)
    [fold] = train_experiment(config, only=["fold-0"])
    recognizer = vavl.load(fold.path)
    assert recognizer.model.config.predictions == (Modality.ACOUSTIC,)
    assert recognizer.predict(acoustic=np.ones((40, 80))).modality is Modality.ACOUSTIC
    assert evaluate_runs([config.run_dir], replicates=20).evaluation.score("acoustic", "uar")


def test_media_without_what_the_model_needs(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = experiment(tiny_corpus, tmp_path, "mult", training__epochs=1)
    [fold] = train_experiment(config, only=["fold-0"])
    recognizer = vavl.load(fold.path)
    sound = np.sin(np.arange(32_000) / 9).astype(np.float32) * 0.2
    with pytest.raises(MediaError, match=r"nothing to go by: .*expected sound and a face together"):
        recognizer.predict(audio=sound)
    window = recognizer.predict_window(Window(0.0, 2.0, sound, ()))
    assert (window.modality, window.label) == (None, None)


def test_the_model_is_chosen_by_one_word(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(
        'name = "x"\n[data]\nmanifest = "m.parquet"\nacoustic = "a"\n[model]\npreset = "small"\n'
    )
    for assignment in ("model=mult", "model.name=mult"):
        config = load_experiment(path, parse_assignments([assignment]))
        assert config.model.as_table() == {"preset": "small", "name": "mult"}
    stored = tmp_path / "stored.toml"
    stored.write_text(to_toml(config))
    assert load_experiment(stored) == config
    with pytest.raises(InputError, match="model: name: unknown name 'mul'; did you mean 'mult'"):
        load_experiment(path, {"model.name": "mul"})
    with pytest.raises(InputError, match="unknown name 'residual'"):
        load_experiment(path, {"model.name": "mult", "model.residual": False})
