"""Pretrained encoders: the layer asked for, on the clip's own length, and nothing loaded above."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vavl.errors import InputError, MediaError
from vavl.features import speech_encoder
from vavl.features.registry import build_extractor, rebuild_extractor
from vavl.features.speech_encoder import SpeechEncoder, Wav2Vec2LargeRobust12
from vavl.types import FeatureSpec

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TinyEncoder = Callable[..., Path]


pytestmark = pytest.mark.usefixtures("one_thread")


KINDS = {
    "wav2vec2": ("Wav2Vec2Model", {}),
    "wav2vec2 with pre-norm": ("Wav2Vec2Model", {"do_stable_layer_norm": True}),
    "wav2vec2 for words": ("Wav2Vec2ForCTC", {}),
    "wav2vec2 with adapter": ("Wav2Vec2Model", {"add_adapter": True, "output_hidden_size": 16}),
    "hubert": ("HubertModel", {}),
    "hubert with pre-norm": ("HubertModel", {"do_stable_layer_norm": True}),
    "wavlm": ("WavLMModel", {}),
    "wavlm with pre-norm": ("WavLMModel", {"do_stable_layer_norm": True}),
    "unispeech": ("UniSpeechModel", {}),
    "unispeech-sat": ("UniSpeechSatModel", {}),
    "conformer": ("Wav2Vec2ConformerModel", {"position_embeddings_type": "relative"}),
}


def reference(folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """Hidden states 0 to 2 and the output, by transformers itself, of the normalised waveform."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.add_adapter = False
    model = transformers.AutoModel.from_pretrained(folder, config=config).float().eval()
    normalised = torch.from_numpy((samples - samples.mean()) / samples.std())[None]
    with torch.inference_mode():
        output = model(normalised, output_hidden_states=True)
    states = [*output.hidden_states[:3], output.last_hidden_state]
    return [state[0].numpy() for state in states]


@pytest.mark.parametrize(("class_name", "settings"), KINDS.values(), ids=KINDS)
def test_layers_are_those_of_transformers(
    tiny_encoder: TinyEncoder, noise, class_name: str, settings: dict[str, object]
) -> None:
    folder = tiny_encoder(class_name, **settings)
    samples = noise(0.5)
    expected = reference(folder, samples)
    for layer in (0, 1, 2):
        features = SpeechEncoder(str(folder), layer=layer).extract(samples)
        np.testing.assert_allclose(features, expected[layer], atol=1e-5)
    output = SpeechEncoder(str(folder))
    np.testing.assert_allclose(output.extract(samples), expected[-1], atol=1e-5)
    assert output.extract(samples).dtype == np.float32
    assert (output.spec.dim, output.spec.frame_rate_hz) == (16, 50.0)


@pytest.mark.parametrize("class_name", ["Wav2Vec2Model", "WhisperModel"])
def test_several_layers_stand_beside_each_other(
    tiny_encoder: TinyEncoder, noise, class_name: str
) -> None:
    folder = tiny_encoder(class_name)
    samples = noise(0.5)
    several = SpeechEncoder(str(folder), layer=(2, 0, 3))
    alone = [SpeechEncoder(str(folder), layer=k).extract(samples) for k in (2, 0, 3)]
    assert several.spec.dim == 48
    np.testing.assert_array_equal(several.extract(samples), np.concatenate(alone, axis=1))
    again = FeatureSpec.from_dict(json.loads(json.dumps(several.spec.to_dict())))
    assert again.key == several.spec.key == SpeechEncoder(str(folder), layer=[2, 0, 3]).spec.key
    assert again.key != SpeechEncoder(str(folder), layer=(0, 2, 3)).spec.key


def test_the_last_layer_is_taken_before_the_final_norm(tiny_encoder: TinyEncoder, noise) -> None:
    folder = tiny_encoder("Wav2Vec2Model", do_stable_layer_norm=True)
    last = SpeechEncoder(str(folder), layer=3).extract(noise(0.5))
    output = SpeechEncoder(str(folder)).extract(noise(0.5))
    normed = (last - last.mean(1, keepdims=True)) / np.sqrt(last.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(output, normed, atol=1e-4)  # weights of the norm are 1 at first


def whisper_reference(folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """The same for Whisper, with an encoder that has as many positions as the clip."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    mel = transformers.WhisperFeatureExtractor.from_pretrained(folder)(
        samples, sampling_rate=16_000, padding=False, return_tensors="pt"
    ).input_features
    frames = mel.shape[-1] // 2
    encoder = transformers.WhisperModel.from_pretrained(folder).float().eval().encoder
    weights = encoder.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:frames]
    config = encoder.config
    config.max_source_positions = frames
    cut = WhisperEncoder(config).eval()
    cut.load_state_dict(weights)
    with torch.inference_mode():
        output = cut(mel[..., : 2 * frames], output_hidden_states=True)
    states = [*output.hidden_states[:3], output.last_hidden_state]
    return [state[0].numpy() for state in states]


@pytest.mark.parametrize("class_name", ["WhisperModel", "WhisperForConditionalGeneration"])
def test_whisper_on_the_length_of_the_clip(
    tiny_encoder: TinyEncoder, noise, class_name: str
) -> None:
    folder = tiny_encoder(class_name)
    encoders = [SpeechEncoder(str(folder), layer=k) for k in (0, 1, 2)] + [
        SpeechEncoder(str(folder))
    ]
    for duration_s in (0.61, 0.3, 1.0):  # shorter after longer: the positions are cut anew
        samples = noise(duration_s)
        normalised = (samples - samples.mean()) / samples.std()
        expected = whisper_reference(folder, normalised)
        for encoder, state in zip(encoders, expected, strict=True):
            features = encoder.extract(samples)
            assert features.shape == (len(samples) // 320, 16)
            np.testing.assert_allclose(features, state, atol=1e-5)


def test_whisper_takes_longer_clips_in_windows(tiny_encoder: TinyEncoder, noise) -> None:
    encoder = SpeechEncoder(
        str(tiny_encoder("WhisperModel")), layer=2, normalization="none"
    )  # a window is one second
    samples = noise(2.51)
    expected = [encoder.extract(samples[s : s + 16_000]) for s in (0, 16_000, 32_000)]
    np.testing.assert_allclose(encoder.extract(samples), np.concatenate(expected), atol=1e-6)
    # A rest that is shorter than a frame makes no frame of its own.
    assert encoder.extract(samples[:32_100]).shape == (100, 16)


@pytest.mark.parametrize("size", [3 * 16_000 + 1, 85_199, 85_200, 85_201, 16_000 * 5])
def test_in_windows_what_has_a_local_context_is_that_of_the_whole(
    tiny_encoder: TinyEncoder, noise, size: int
) -> None:
    folder = str(tiny_encoder("Wav2Vec2Model", feat_extract_norm="layer", conv_bias=True))
    samples = noise(6)[:size]
    whole = SpeechEncoder(folder, layer=0).extract(samples)
    windows = SpeechEncoder(folder, layer=0, window_s=1.37).extract(samples)
    np.testing.assert_allclose(windows, whole, atol=1e-5)


def test_a_window_is_all_that_an_encoder_is_given(
    tiny_encoder: TinyEncoder, noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = SpeechEncoder(str(tiny_encoder("Wav2Vec2Model")), window_s=2)
    encoder.load()
    forward, sizes = encoder._hidden_states._forward, []

    def noted(layers, inputs, precision):
        sizes.append(inputs.shape[1])
        return forward(layers, inputs, precision)

    monkeypatch.setattr(encoder._hidden_states, "_forward", noted)
    samples = noise(20)
    features = encoder.extract(samples)
    assert features.shape == (1 + (len(samples) - 400) // 320, 16)
    assert len(sizes) == 10
    assert max(sizes) <= 6 * 16_000 + 400  # two seconds, and two on either side
    # Attention sees its window alone, so these are other features, by another key.
    whole = SpeechEncoder(str(tiny_encoder("Wav2Vec2Model")))
    assert not np.allclose(features, whole.extract(samples), atol=1e-4)
    assert encoder.spec.key != whole.spec.key
    assert rebuild_extractor(encoder.spec).spec == encoder.spec
    short = noise(2)
    np.testing.assert_array_equal(encoder.extract(short), whole.extract(short))


def test_what_is_too_long_to_be_attended_to_at_once_is_refused(
    tiny_encoder: TinyEncoder, noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_encoder, "LONGEST_S", 3.0)
    folder = str(tiny_encoder("Wav2Vec2Model"))
    assert len(SpeechEncoder(folder).extract(noise(3))) == 149
    with pytest.raises(MediaError, match=r"4 s of sound: expected at most 3 s.*--window-s"):
        SpeechEncoder(folder).extract(noise(4))
    assert len(SpeechEncoder(folder, window_s=3).extract(noise(4))) == 199
    for window_s in (0.5, 3.1, float("nan")):
        with pytest.raises(InputError, match="window_s: expected 1 to 3 seconds"):
            SpeechEncoder(folder, window_s=window_s)
    with pytest.raises(InputError, match=r"window_s: expected none for .*windows of 30 s"):
        SpeechEncoder(str(tiny_encoder("WhisperModel")), window_s=2)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_single_and_has_a_key_of_its_own(
    tiny_encoder: TinyEncoder, noise, precision: str
) -> None:
    for name in (f"hf:{tiny_encoder('Wav2Vec2Model')}", "whisper-base"):
        single = build_extractor("acoustic", name, layer=2)
        half = build_extractor("acoustic", name, layer=2, precision=precision)
        expected, features = (extractor.extract(noise(0.5)) for extractor in (single, half))
        assert features.dtype == np.float32
        error = np.sqrt(np.square(features - expected).mean() / np.square(expected).mean())
        assert 1e-6 < error < 0.02
        assert half.spec.parameters["precision"] == precision
        assert rebuild_extractor(half.spec).spec == half.spec != single.spec
        assert "precision" not in single.spec.parameters
        with pytest.raises(InputError, match="precision: expected one of"):
            build_extractor("acoustic", name, precision="float8")


@pytest.mark.parametrize(
    ("class_name", "size", "frames"),
    [
        ("Wav2Vec2Model", 1, 1),
        ("Wav2Vec2Model", 399, 1),
        ("Wav2Vec2Model", 719, 1),
        ("Wav2Vec2Model", 720, 2),
        ("WhisperModel", 1, 1),
        ("WhisperModel", 319, 1),
        ("WhisperModel", 639, 1),
        ("WhisperModel", 640, 2),
    ],
)
def test_clips_shorter_than_a_frame_are_padded_to_one(
    tiny_encoder: TinyEncoder, class_name: str, size: int, frames: int
) -> None:
    encoder = SpeechEncoder(str(tiny_encoder(class_name)))
    features = encoder.extract(np.linspace(-1, 1, size, dtype=np.float32))
    assert features.shape == (frames, 16)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("class_name", ["Wav2Vec2Model", "WhisperModel"])
def test_silence_is_finite(tiny_encoder: TinyEncoder, class_name: str) -> None:
    encoder = SpeechEncoder(str(tiny_encoder(class_name)))
    assert np.isfinite(encoder.extract(np.zeros(16_000, np.float32))).all()


@pytest.mark.parametrize("class_name", ["Wav2Vec2Model", "WhisperModel"])
def test_layers_above_are_not_even_loaded(tiny_encoder: TinyEncoder, class_name: str) -> None:
    encoder = SpeechEncoder(str(tiny_encoder(class_name)), layer=2)
    encoder.load()
    assert loaded_layers(encoder) == {0, 1}


def loaded_layers(encoder: SpeechEncoder) -> set[int]:
    names = [name.removeprefix("encoder.") for name in encoder._hidden_states._model.state_dict()]
    return {int(name.split(".")[1]) for name in names if name.startswith("layers.")}


def test_half_precision_weights_are_run_in_single(
    tiny_encoder: TinyEncoder, tmp_path, noise
) -> None:
    for class_name in ("Wav2Vec2Model", "WhisperModel"):
        folder = tmp_path / class_name
        shutil.copytree(tiny_encoder(class_name), folder)
        transformers.AutoModel.from_pretrained(folder).half().save_pretrained(folder)
        features = SpeechEncoder(str(folder), layer=2).extract(noise(0.3))
        single = SpeechEncoder(str(tiny_encoder(class_name)), layer=2).extract(noise(0.3))
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, single, atol=0.02)


def test_the_key_depends_on_all_that_changes_the_numbers(
    tiny_encoder: TinyEncoder, tmp_path
) -> None:
    folder = tiny_encoder("Wav2Vec2Model")
    base = SpeechEncoder(str(folder), layer=2).spec
    others = [
        SpeechEncoder(str(folder), layer=1),
        SpeechEncoder(str(folder)),
        SpeechEncoder(str(folder), layer=2, normalization="none"),
        SpeechEncoder(str(folder), layer=2, max_duration_s=12),
        SpeechEncoder(str(tiny_encoder("HubertModel")), layer=2),
        SpeechEncoder(str(tiny_encoder("Wav2Vec2Model", num_attention_heads=4)), layer=2),
    ]
    assert len({base.key, *(other.spec.key for other in others)}) == 7

    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert SpeechEncoder(str(moved), layer=2).spec.key == base.key
    assert SpeechEncoder(str(moved), layer=2).spec.source == str(moved)

    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (moved / "model.safetensors").write_bytes(weights)
    assert SpeechEncoder(str(moved), layer=2).spec.key != base.key


def test_sharded_weights(tiny_encoder: TinyEncoder, tmp_path, noise) -> None:
    for class_name in ("Wav2Vec2Model", "WhisperModel"):
        folder = tiny_encoder(class_name)
        model = transformers.AutoModel.from_pretrained(folder)
        sharded = tmp_path / class_name
        model.save_pretrained(sharded, max_shard_size="10KB")
        assert len(list(sharded.glob("model-*.safetensors"))) > 1
        np.testing.assert_allclose(
            SpeechEncoder(str(sharded), layer=2).extract(noise(0.3)),
            SpeechEncoder(str(folder), layer=2).extract(noise(0.3)),
            atol=1e-6,
        )


def test_an_encoder_is_sent_to_a_worker_without_its_weights(
    tiny_encoder: TinyEncoder, noise
) -> None:
    for class_name in ("Wav2Vec2Model", "WhisperModel"):
        encoder = SpeechEncoder(str(tiny_encoder(class_name)), layer=2)
        features = encoder.extract(noise(0.3))
        content = pickle.dumps(encoder)
        assert len(content) < 10_000
        np.testing.assert_array_equal(pickle.loads(content).extract(noise(0.3)), features)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lacking_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "encoder.layers.0" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def setting(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def broken_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def index_that_leads_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("class_name", ["Wav2Vec2Model", "WhisperModel"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("config.json"), r"no config\.json"),
        (without("model.safetensors"), "expected safetensors weights"),
        (pickled_weights, "can run code"),
        (truncated_weights, "cannot load the weights"),
        (lacking_a_tensor, "lack 1 tensors"),
        (setting(model_type="bert"), "expected a speech encoder, one of .*'whisper'.*got 'bert'"),
        (setting(hidden_size=32, d_model=32), "cannot load the weights"),
        (broken_json, "not valid JSON"),
        (index_that_leads_out, "missing"),
    ],
)
def test_checkpoints_that_cannot_be_used(
    tiny_encoder: TinyEncoder, tmp_path: Path, class_name: str, damage, message: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_encoder(class_name), folder)
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        SpeechEncoder(str(folder), layer=2).load()
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("layer", [-1, 4, 1.0, "2", True, (1, 4), (1, "2"), ()])
def test_layers_that_do_not_exist(tiny_encoder: TinyEncoder, layer: object) -> None:
    for class_name in ("Wav2Vec2Model", "WhisperModel"):
        with pytest.raises(InputError, match=r"layer: expected 0 .* to 3"):
            SpeechEncoder(str(tiny_encoder(class_name)), layer=layer)
    with pytest.raises(InputError, match="layer: expected each layer once"):
        SpeechEncoder(str(tiny_encoder("WhisperModel")), layer=(2, 1, 2))


def test_code_of_a_checkpoint_is_never_run(tiny_encoder: TinyEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "custom"
    shutil.copytree(tiny_encoder("Wav2Vec2Model"), folder)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\n")
    setting(auto_map={"AutoConfig": "code.C", "AutoModel": "code.C"})(folder)
    SpeechEncoder(str(folder), layer=1).extract(np.ones(1000, np.float32))
    assert not (tmp_path / "ran").exists()


# --- the preset of the paper -----------------------------------------------------------------

# The width of the real one, everything else as small as can be.
LARGE = {
    "hidden_size": 1024,
    "num_attention_heads": 1,
    "intermediate_size": 2,
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 2,
    "num_conv_pos_embedding_groups": 16,
}
TUNED = {"id2label": {0: "arousal", 1: "dominance", 2: "valence"}}


@pytest.fixture(scope="module")
def large(tiny_encoder: TinyEncoder) -> Path:
    """A checkpoint with 13 layers, of which the preset keeps 12; made once: it takes 100 MB."""
    folder = tiny_encoder("Wav2Vec2Model", half=True, num_hidden_layers=13, **LARGE, **TUNED)
    setting(vocab_size=None)(folder)  # as in the public checkpoint
    return folder


def test_the_preset_of_the_paper(large: Path, noise) -> None:
    preset = Wav2Vec2LargeRobust12(str(large))
    assert (preset.spec.dim, preset.spec.frame_rate_hz) == (1024, 50.0)
    assert preset.spec.extractor == "wav2vec2-large-robust-12"
    samples = noise(13.0)
    features = preset.extract(samples)
    assert features.shape == (599, 1024)  # 12 s
    # The output of the pruned model: layer 12, then the final norm.
    whole = SpeechEncoder(str(large), layer=12, max_duration_s=12).extract(samples)
    normed = (whole - whole.mean(1, keepdims=True)) / np.sqrt(whole.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(features, normed, atol=1e-3)
    assert loaded_layers(preset) == set(range(12))


def test_weights_never_tuned_for_emotion_give_a_warning(large: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "model.safetensors").hardlink_to(large / "model.safetensors")
    shutil.copy(large / "config.json", plain)
    setting(id2label={0: "LABEL_0"}, architectures=["Wav2Vec2ForPreTraining"])(plain)
    with pytest.warns(UserWarning, match="never tuned for emotion") as warned:
        Wav2Vec2LargeRobust12(str(plain))
    assert str(plain) in str(warned[0].message)
    setting(id2label={0: "Happy", 1: "Neutral"})(plain)
    Wav2Vec2LargeRobust12(str(plain))  # pytest makes a warning an error


@pytest.mark.parametrize(
    ("class_name", "settings", "message"),
    [
        ("HubertModel", {}, "expects a wav2vec2 model, got hubert"),
        ("Wav2Vec2Model", {}, "expected at least 12 layers, it has 3"),
        ("Wav2Vec2Model", {"num_hidden_layers": 12}, "expects hidden size 1024, got 16"),
    ],
)
def test_the_preset_refuses_other_architectures(
    tiny_encoder: TinyEncoder, class_name: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Wav2Vec2LargeRobust12(str(tiny_encoder(class_name, **settings)))


# --- real weights ----------------------------------------------------------------------------


@pytest.mark.shared
def test_real_whisper_weights(shared: Path) -> None:
    encoder = SpeechEncoder(str(shared / "models" / "whisper-base-encoder"), layer=3)
    assert (encoder.spec.dim, encoder.spec.frame_rate_hz) == (512, 50.0)
    with (shared / "data" / "ravdess" / "manifest.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    features = encoder.extract_file(shared / "data" / "ravdess" / row["audio"])
    assert features.shape == (int(float(row["duration_s"]) * 50), 512)
    assert np.isfinite(features).all()
    # Speech is not noise: neighbouring frames are alike, distant ones are not.
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert (unit[1:] * unit[:-1]).sum(axis=1).mean() > 0.5
    assert abs((unit[40:] * unit[:-40]).sum(axis=1).mean()) < 0.3
