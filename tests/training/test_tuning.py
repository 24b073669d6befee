"""Training on waveforms: the encoder learns with the model, resumes, is kept, and predicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import Killed, TinyCorpus, kill_in_the_second_epoch, tuning_options

import vavl
from vavl.config.experiment import ExperimentConfig, load_experiment
from vavl.errors import InputError, StoreError
from vavl.evaluation.evaluate import evaluate_runs
from vavl.export import export_model
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.features.tunable import TunableEncoder
from vavl.models.registry import load_model
from vavl.training.experiment import make_datasets, make_partitions, open_stores, train_experiment
from vavl.training.run_folder import FoldDirectory
from vavl.training.setup import make_model, make_optimizer, prepare_model
from vavl.training.trained import load_trained
from vavl.types import Modality

TinyEncoder = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whisper(tiny_encoder: TinyEncoder) -> Path:
    return tiny_encoder("WhisperModel")


def experiment(
    corpus: TinyCorpus, runs: Path, waveforms: tuple[str, str], encoder: Path, **options: object
) -> ExperimentConfig:
    return corpus.experiment(runs, **tuning_options(waveforms[0], encoder) | options)


def tuned(fold: FoldDirectory) -> dict[str, torch.Tensor]:
    state = load_file(fold.path / "model.safetensors")
    return {name: value for name, value in state.items() if name.startswith("fronts.")}


def assert_same_run(fold: FoldDirectory, expected: FoldDirectory) -> None:
    found, whole = (load_file(f.path / "model.safetensors") for f in (fold, expected))
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(value, found[name]), name
    one, other = ([r | {"seconds": 0} for r in f.history()] for f in (fold, expected))
    assert one == other


@pytest.mark.parametrize("tune", ["lora", "last:1"])
def test_resumed_equals_uninterrupted_bit_for_bit(
    tiny_corpus: TinyCorpus,
    waveforms: tuple[str, str],
    whisper: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tune: str,
) -> None:
    """With everything drawn that can be, in two epochs of which the second dies."""
    options: dict[str, object] = {
        "acoustic_encoder__tune": tune,
        "data__acoustic_variants": [waveforms[1]],
        "training__mixup": 0.5,
        "training__acoustic_noise": 0.3,
        "training__modality_dropout": 0.2,
        "training__time_masking": 0.2,
        "training__schedule": "alternating",
        "training__gradient_clip": 5.0,
        "training__decoupled_weight_decay": True,
    }
    whole = experiment(tiny_corpus, tmp_path / "whole", waveforms, whisper, **options)
    [expected] = train_experiment(whole, only=["fold-0"])
    broken = experiment(tiny_corpus, tmp_path / "broken", waveforms, whisper, **options)
    kill_in_the_second_epoch(monkeypatch)
    with pytest.raises(Killed):
        train_experiment(broken, only=["fold-0"])
    fold = FoldDirectory(broken.run_dir / "fold-0")
    assert fold.checkpoint_file.is_file()
    train_experiment(broken, only=["fold-0"])
    assert_same_run(fold, expected)
    assert tuned(fold)

    # What is kept of the encoder is what was tuned, and it has learned.
    encoder = load_trained(fold.path).front(Modality.ACOUSTIC)
    assert isinstance(encoder, TunableEncoder)
    fresh = TunableEncoder(encoder.config)
    names = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert {f"fronts.acoustic.{name}" for name in names} == tuned(fold).keys()
    for (name, one), (_, other) in zip(
        encoder.named_parameters(), fresh.named_parameters(), strict=True
    ):
        if name in names and name.endswith((".b", ".weight")):
            assert not torch.equal(one, other), name
        elif name not in names:
            assert torch.equal(one, other), name


def test_a_run_loads_predicts_and_is_evaluated(
    tiny_corpus: TinyCorpus,
    waveforms: tuple[str, str],
    whisper: Path,
    noise,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vavl.training import experiment as way

    trainings = []
    monkeypatch.setattr(way, "finish", lambda t, own=way.finish: (own(t), trainings.append(t)))
    config = experiment(
        tiny_corpus,
        tmp_path,
        waveforms,
        whisper,
        data__visual=None,
        training__precision="bf16-mixed",
    )
    [fold] = train_experiment(config, only=["fold-0"])
    recognizer = vavl.load(fold.path)
    assert recognizer.features[Modality.ACOUSTIC].extractor == "waveform"
    samples = noise(0.4)
    prediction = recognizer.predict(audio=samples)

    trained = trainings[0].model.eval()
    frames = build_extractor("acoustic", "waveform", max_duration_s=0.4).extract(samples)
    with torch.no_grad():
        output = trained(acoustic=torch.from_numpy(frames)[None]).prediction
    found = np.array(list(prediction.probabilities.values()))
    np.testing.assert_allclose(found, output.softmax(1)[0].numpy(), rtol=1e-5)

    scores = evaluate_runs([config.run_dir], replicates=10)
    assert len(scores.tables[0]) == 24

    # Others say what they lack instead of predicting nonsense.
    with pytest.raises(StoreError, match="has a tuned acoustic encoder of its own"):
        load_model(fold.path)
    with pytest.raises(InputError, match="it cannot be exported"):
        export_model(fold.path, tmp_path / "exported", format="torch")
    with pytest.raises(InputError, match="cannot be adapted to a person"):
        recognizer.adapt([{"audio": samples}], speaker="ann")
    again = tmp_path / "again"
    trained.save_pretrained(again)
    for name in ("config.json", "encoders.json", "model.safetensors"):
        assert (again / name).read_bytes() == (fold.path / name).read_bytes()


def test_the_model_begins_as_on_frozen_features(
    tiny_corpus: TinyCorpus, waveforms: tuple[str, str], whisper: Path, tmp_path: Path
) -> None:
    """Same weights, same normalisation, same outputs; then each part has its learning rate."""
    base = build_extractor("acoustic", "hf", source=str(whisper), layer=[1, 2], max_duration_s=0.4)
    store = tmp_path / "features"
    extract(tiny_corpus.manifest, base, store, progress=False)
    config = experiment(tiny_corpus, tmp_path, waveforms, whisper)
    frozen = config.model_copy(
        update={
            "acoustic_encoder": None,
            "data": config.data.model_copy(update={"acoustic": str(store)}),
        }
    )
    models, outputs = [], []
    for one in (config, frozen):
        stores = open_stores(one)
        partition = make_partitions(one, tiny_corpus.manifest)[0]
        train, _ = make_datasets(one, tiny_corpus.manifest, stores, partition)
        torch.manual_seed(1)
        model = make_model(one, train).eval()
        prepare_model(model, train)
        batch = train[[3, 1, 7]]
        with torch.no_grad():
            outputs.append(model(batch.acoustic, acoustic_mask=batch.acoustic_mask).prediction)
        models.append(model)
    expected = models[1].state_dict()
    for name, value in models[0].state_dict().items():
        if name.endswith(("projection.mean", "projection.scale")):  # of what was stored as halves
            torch.testing.assert_close(value, expected[name], rtol=0.03, atol=0.005)
        elif name in expected:
            assert torch.equal(value, expected[name]), name
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0.01)

    settings = config.training
    groups = make_optimizer(models[0], settings).param_groups
    [plain] = make_optimizer(models[1], settings).param_groups
    assert len(groups[0]["params"]) == len(plain["params"])
    assert groups[1]["relative_rate"] == 1e-2 / settings.learning_rate
    assert {id(p) for p in groups[1]["params"]} == {
        id(p) for p in models[0].fronts.parameters() if p.requires_grad
    }


def test_what_does_not_go_together_is_said(
    tiny_corpus: TinyCorpus, waveforms: tuple[str, str], whisper: Path, tmp_path: Path
) -> None:
    def given(**options: object) -> ExperimentConfig:
        return experiment(tiny_corpus, tmp_path, waveforms, whisper, **options)

    for options, message in (
        ({"acoustic_encoder__tune": "all"}, "encoder.tune: expected lora, or last:N .* got 'all'"),
        ({"acoustic_encoder__tune": "last:0"}, "encoder.tune: expected lora, or last:N"),
        ({"acoustic_encoder__extractor": "logmel"}, "extractor: expected whisper-base or hf:"),
        ({"acoustic_encoder__lora_modules": ["norms"]}, "acoustic_encoder.lora_modules"),
        ({"acoustic_encoder__rank": 2}, "acoustic_encoder: unknown name 'rank'"),
        ({"data__acoustic": None}, "expected a store of waveforms to tune on, got none"),
        ({"data__speaker_normalisation": True}, "speaker_normalisation: expected false"),
        ({"model__input_statistics": True}, "expected one that learns step by step"),
    ):
        with pytest.raises(InputError, match=message):
            given(**options)
    features = given(data__acoustic=tiny_corpus.folder / "stores" / "acoustic")
    with pytest.raises(InputError, match=r"expected waveforms for \[acoustic_encoder\]"):
        open_stores(features)
    plain = given().model_copy(update={"acoustic_encoder": None})
    with pytest.raises(InputError, match=r"data.acoustic: expected features, got the waveforms"):
        open_stores(plain)
    with pytest.raises(InputError, match="tune: expected at most the 2 blocks"):
        train_experiment(given(acoustic_encoder__tune="last:3"), only=["fold-0"])
    assert not given().run_dir.exists(), "it is found before anything is written"
    with pytest.raises(InputError, match="acoustic encoder: expected a model that reads"):
        train_experiment(given(model__predictions=["visual"]), only=["fold-0"])


def test_other_weights_are_refused_when_a_run_goes_on(
    tiny_corpus: TinyCorpus,
    waveforms: tuple[str, str],
    whisper: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = experiment(tiny_corpus, tmp_path, waveforms, whisper, data__visual=None)
    kill_in_the_second_epoch(monkeypatch)
    with pytest.raises(Killed):
        train_experiment(config, only=["fold-0"])
    description = TunableEncoder.description
    monkeypatch.setattr(
        TunableEncoder, "description", lambda self: description(self) | {"weights_sha256": "0"}
    )
    with pytest.raises(StoreError, match="weights of the encoder that is tuned have changed"):
        train_experiment(config, only=["fold-0"])


def test_a_run_without_the_section_has_no_trace_of_it(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    [fold] = train_experiment(tiny_corpus.experiment(tmp_path, training__epochs=1), only=["fold-0"])
    assert not (fold.path / "encoders.json").exists()
    assert not tuned(fold)
    assert "acoustic_encoder" not in (fold.path.parent / "config.toml").read_text()
    assert load_experiment(fold.path.parent / "config.toml").acoustic_encoder is None
