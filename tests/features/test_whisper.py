"""whisper-base: the numbers of transformers, without it; and the weights in the package."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from voices import babble

from vavl import cli
from vavl.data.manifest import Manifest, Utterance
from vavl.data.store import FeatureStore
from vavl.errors import InputError, MediaError
from vavl.features import whisper
from vavl.features.registry import build_extractor, extractor_names, rebuild_extractor
from vavl.features.speech_encoder import SpeechEncoder
from vavl.features.whisper import WhisperBase, load_encoder, log_mel
from vavl.media.speech import only_speech
from vavl.types import FeatureSpec

ROOT = Path(__file__).parents[2]
ASSETS = resources.files("vavl.features") / "assets"
SHA256 = "ee31b58e63d02bf15d768a0b5635320f1a1a7f139cb1af86cfefbd09b6c1c3dc"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tiny_encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper encoder of three blocks; no bias and no norm is left at its initial value."""
    model = transformers.WhisperModel.from_pretrained(tiny_encoder("WhisperModel"))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.encoder.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    mel = transformers.WhisperFeatureExtractor(feature_size=20)
    mel.save_pretrained(folder)
    return folder


def encoder_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the encoder alone, by their names in it."""
    weights = load_file(folder / "model.safetensors")
    start = "encoder." if any(name.startswith("encoder.") for name in weights) else ""
    return {
        name.removeprefix(start): weight
        for name, weight in weights.items()
        if name.startswith(start)
    }


def run(encoder: whisper.WhisperEncoder, samples: np.ndarray, bands: int, layers: tuple[int, ...]):
    with torch.inference_mode():
        [states] = encoder([log_mel(torch.from_numpy(samples), bands)], layers)
    return states.numpy()


# --- against transformers --------------------------------------------------------------------


@pytest.mark.parametrize("duration_s", [0.02, 0.039, 0.1, 0.61, 0.69, 1.0])
def test_hidden_states_are_those_of_transformers(tiny: Path, noise, duration_s: float) -> None:
    samples = noise(duration_s)
    encoder = load_encoder(encoder_weights(tiny), heads=2)
    reference = SpeechEncoder(str(tiny), layer=(0, 1, 2, 3), normalization="none")
    states = run(encoder, samples, 20, (0, 1, 2, 3))
    assert states.shape == (len(samples) // 320, 64)
    np.testing.assert_allclose(states, reference.extract(samples), atol=1e-5)
    # Blocks above the last one asked for are not needed, and the order is as asked for.
    weights = {k: v for k, v in encoder_weights(tiny).items() if not k.startswith("layers.2")}
    fewer = load_encoder(weights, heads=2)
    assert len(fewer.blocks) == 2
    np.testing.assert_array_equal(
        run(fewer, samples, 20, (2, 0)), np.hstack([states[:, 32:48], states[:, :16]])
    )


def test_log_mel_is_that_of_transformers(noise) -> None:
    mel = transformers.WhisperFeatureExtractor(feature_size=80)
    swell = np.linspace(0, 1, 16_000, dtype=np.float32) ** 4  # reaches below the floor
    for samples in (noise(1), noise(1) * swell, np.zeros(1000, np.float32), noise(0.33)):
        expected = mel(samples, sampling_rate=16_000, padding=False).input_features[0].T
        np.testing.assert_allclose(log_mel(torch.from_numpy(samples)), expected, atol=1e-5)


def test_positions_are_those_of_transformers() -> None:
    from transformers.models.whisper.modeling_whisper import sinusoids

    np.testing.assert_allclose(whisper.sinusoids(1500, 512), sinusoids(1500, 512), atol=6e-4)
    assert whisper.sinusoids(1, 4).tolist() == [[0, 0, 1, 1]]


def test_eight_bit_weights_are_scaled_row_by_row(tiny: Path, noise) -> None:
    stored, expected = {}, {}
    for name, weight in encoder_weights(tiny).items():
        stored[name] = expected[name] = weight
        if weight.ndim > 1 and name != "embed_positions.weight":
            scale = weight.flatten(1).abs().amax(1) / 127
            scales = scale.view(-1, *[1] * (weight.ndim - 1))
            stored[name] = (weight / scales).round().to(torch.int8)
            stored[name + whisper.SCALE_SUFFIX] = scale
            expected[name] = (weight / scales).round() * scales
    rounded, exact = (
        run(load_encoder(weights, heads=2), noise(0.5), 20, (1, 2, 3))
        for weights in (stored, expected)
    )
    np.testing.assert_array_equal(rounded, exact)


def test_transformers_is_not_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from vavl.features.registry import build_extractor\n"
        "features = build_extractor('acoustic', 'whisper-base').extract(np.zeros(8000))\n"
        "assert features.shape == (25, 1536), features.shape\n"
        "print(sorted({'transformers', 'huggingface_hub', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.shared
def test_the_original_weights_give_the_numbers_of_transformers(shared: Path, noise) -> None:
    folder = shared / "models" / "whisper-base-encoder"
    layers = (0, 1, 2, 3, 4)
    samples = noise(1.5) * np.hanning(24_000).astype(np.float32)
    reference = SpeechEncoder(str(folder), layer=layers, normalization="none").extract(samples)
    weights = encoder_weights(folder)
    exact = run(load_encoder(weights), samples, 80, layers)
    rounded = WhisperBase(layer=layers, normalization="none").extract(samples)
    for k in layers:
        layer = slice(512 * k, 512 * (k + 1))
        # Layer 4 has a few values of several hundred.
        scale = np.abs(reference[:, layer]).max()
        np.testing.assert_allclose(exact[:, layer], reference[:, layer], atol=1e-5 * max(scale, 1))
        difference = np.linalg.norm(rounded[:, layer] - reference[:, layer])
        assert 0 < difference < 0.1 * np.linalg.norm(reference[:, layer])


@pytest.mark.shared
def test_the_asset_is_made_from_the_original_weights(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import quantize_whisper

    folder, out = shared / "models" / "whisper-base-encoder", tmp_path / "made.safetensors"
    monkeypatch.setattr(sys, "argv", ["quantize_whisper.py", str(folder), "--out", str(out)])
    quantize_whisper.main()
    assert hashlib.sha256(out.read_bytes()).hexdigest() == SHA256

    other = load_file(folder / "model.safetensors")
    other["embed_positions.weight"] = other["embed_positions.weight"] * 1.01
    save_file(other, tmp_path / "model.safetensors")
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit, match="not Whisper's sinusoids"):
        quantize_whisper.main()


# --- the extractor ---------------------------------------------------------------------------


def test_the_weights_are_in_the_package() -> None:
    content = (ASSETS / "whisper_base.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256 == WhisperBase().spec.weights_sha256
    assert len(content) < 16e6
    notice = (ASSETS / "whisper_base.LICENSE.md").read_text()
    assert "Copyright (c) 2022 OpenAI" in notice
    assert "The above copyright notice and this permission notice shall be included" in notice


def test_fifty_steps_a_second(noise) -> None:
    encoder = WhisperBase(layer=1)
    assert "whisper-base" in extractor_names("acoustic")
    assert (encoder.spec.dim, encoder.spec.frame_rate_hz) == (512, 50.0)
    for size, steps in ((1, 1), (319, 1), (639, 1), (640, 2), (16_000, 50), (16_319, 50)):
        features = encoder.extract(noise(2)[:size])
        assert features.shape == (steps, 512)
        assert features.dtype == np.float32
    assert encoder.extract(noise(1), sampling_rate_hz=8000).shape == (100, 512)


def test_several_layers_stand_beside_each_other(noise) -> None:
    alone = [WhisperBase(layer=k).extract(noise(0.5)) for k in (4, 0, 2)]
    several = WhisperBase(layer=(4, 0, 2))
    assert several.spec.dim == 1536
    np.testing.assert_allclose(several.extract(noise(0.5)), np.hstack(alone), rtol=1e-5, atol=1e-5)
    assert WhisperBase().spec.parameters["layer"] == [2, 3, 4]


def assert_same(features: np.ndarray, expected: np.ndarray) -> None:
    """Equal within 1e-5, or within 1e-5 of the largest value."""
    assert features.shape == expected.shape
    np.testing.assert_allclose(features, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_batch_gives_the_numbers_of_single_clips(noise, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = WhisperBase(layer=(1, 3))
    clips = [
        noise(duration_s, seed=seed)
        for seed, duration_s in enumerate((0.7, 1e-3, 1.005, 2.0, 0.031, 1.5, 1.5))
    ]
    single = [encoder.extract(clip) for clip in clips]
    together = encoder.extract_many(clips)
    monkeypatch.setattr(whisper, "_STEPS_AT_ONCE", 100)  # several passes, one of them too long
    in_passes = encoder.extract_many(clip for clip in clips)
    for expected, *others in zip(single, together, in_passes, strict=True):
        for features in others:
            assert_same(features, expected)
    assert encoder.extract_many([]) == []


def test_a_clip_does_not_depend_on_the_others(noise) -> None:
    encoder = WhisperBase(layer=2)
    quiet, loud, silent = noise(1) * 1e-3, noise(1, seed=1) * 3, np.zeros(20_000)
    for clips in ((quiet, loud), (quiet, silent), (loud, quiet), (silent, quiet)):
        for features, clip in zip(encoder.extract_many(clips), clips, strict=True):
            assert_same(features, encoder.extract(clip))


def test_a_batch_is_conditioned_as_single_clips_are(noise) -> None:
    encoder = WhisperBase(layer=1, speed=1.1, silence_db=30, max_duration_s=1)
    half_silent = np.concatenate([noise(0.5), np.zeros(24_000, np.float32)])
    single = [encoder.extract(clip, 32_000) for clip in (noise(2), half_silent)]
    together = encoder.extract_many([noise(2), half_silent], 32_000)
    assert np.isnan(together[1]).any()
    for features, expected in zip(together, single, strict=True):
        assert_same(np.nan_to_num(features), np.nan_to_num(expected))
        np.testing.assert_array_equal(np.isnan(features), np.isnan(expected))
    with pytest.raises(InputError, match="expected finite samples"):
        encoder.extract_many([noise(1), np.full(400, np.nan)])


def test_of_every_clip_of_a_batch_only_the_speech_is_taken() -> None:
    encoder = WhisperBase(layer=1, speech_only=True)
    clips = [np.pad(babble(duration_s), 16_000) for duration_s in (0.5, 1.0)]
    for features, clip in zip(encoder.extract_many(clips), clips, strict=True):
        assert_same(features, WhisperBase(layer=1).extract(only_speech(clip)))
    with pytest.raises(MediaError, match="silence"):
        encoder.extract_many([*clips, np.zeros(16_000)])


def test_longer_clips_are_taken_in_pieces_of_30_s(noise) -> None:
    encoder = WhisperBase(layer=0, normalization="none")
    samples = noise(61)
    pieces = [encoder.extract(samples[start : start + 480_000]) for start in (0, 480_000, 960_000)]
    assert [len(piece) for piece in pieces] == [1500, 1500, 50]
    assert_same(encoder.extract(samples), np.concatenate(pieces))
    # A rest that is shorter than a step makes none of its own.
    assert encoder.extract(samples[:480_319]).shape == (1500, 512)
    assert encoder.extract(samples[:480_320]).shape == (1501, 512)


def test_silence_is_finite_and_a_constant_is_silence() -> None:
    encoder = WhisperBase()
    silence = encoder.extract(np.zeros(16_000))
    assert np.isfinite(silence).all()
    np.testing.assert_array_equal(encoder.extract(np.full(16_000, 0.3)), silence)


def test_the_gain_does_not_count(noise) -> None:
    encoder = WhisperBase(layer=2)
    assert_same(encoder.extract(noise(1) / 16), encoder.extract(noise(1)))
    unequal = WhisperBase(layer=2, normalization="none")
    assert np.abs(unequal.extract(noise(1) / 16) - unequal.extract(noise(1))).max() > 0.1


def test_absurd_samples_are_refused(noise) -> None:
    with pytest.raises(MediaError, match="whisper-base: the features of this clip are not finite"):
        WhisperBase(layer=0, normalization="none").extract(noise(0.1) * np.float32(1e38))


def test_the_key_depends_on_all_that_changes_the_numbers() -> None:
    extractors = [
        WhisperBase(),
        WhisperBase(layer=3),
        WhisperBase(layer=(4, 3)),
        WhisperBase(layer=(3, 4)),
        WhisperBase(layer=3, normalization="none"),
        WhisperBase(layer=3, speed=0.9),
        WhisperBase(layer=3, silence_db=30),
        WhisperBase(layer=3, max_duration_s=12),
    ]
    assert len({extractor.spec.key for extractor in extractors}) == len(extractors)
    assert WhisperBase(layer=(3,)).spec.key == WhisperBase(layer=3, device="auto").spec.key
    for extractor in extractors:
        spec = FeatureSpec.from_dict(json.loads(json.dumps(extractor.spec.to_dict())))
        assert rebuild_extractor(spec).spec.key == extractor.spec.key


@pytest.mark.parametrize("layer", [-1, 5, 1.0, "2", True, None, (1, 5), (1, "2"), ()])
def test_layers_that_do_not_exist(layer: object) -> None:
    with pytest.raises(InputError, match=r"layer: expected 0 \(before the first block\) to 4"):
        WhisperBase(layer=layer)
    with pytest.raises(InputError, match="layer: expected each layer once"):
        WhisperBase(layer=(2, 1, 2))


def test_an_extractor_is_sent_without_its_weights(noise) -> None:
    encoder = WhisperBase(layer=1)
    encoder.load()
    content = pickle.dumps(encoder)
    assert len(content) < 2000
    np.testing.assert_array_equal(
        pickle.loads(content).extract(noise(0.3)), encoder.extract(noise(0.3))
    )


def test_devices(noise) -> None:
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(InputError, match=f"device: '{name}' cannot be used here"):
            WhisperBase(device=name).load()
    if torch.accelerator.is_available():
        clips = [noise(1), noise(0.4), noise(31)]
        there = WhisperBase(device="auto").extract_many(clips)
        here = WhisperBase().extract_many(clips)
        for features, expected in zip(there, here, strict=True):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(features, expected, atol=1e-4 * scale)


def test_by_the_command_line(write_wav, noise, tmp_path: Path) -> None:
    for number in range(2):
        write_wav(noise(1 + number / 2, seed=number), f"clips/{number}.wav")
    clips = [Utterance(str(n), "mine", "ann", audio_path=f"clips/{n}.wav") for n in range(2)]
    Manifest(clips, root=tmp_path).save(tmp_path / "manifest.parquet")
    command = ["extract", str(tmp_path / "manifest.parquet"), "--out"]
    options = ["--acoustic", "whisper-base", "--layer", "3", "--layer", "4"]
    assert cli.run([*command, str(tmp_path / "stores"), *options, "--device", "cpu"]) == 0
    store = FeatureStore.open(tmp_path / "stores" / "acoustic")
    assert store.spec == build_extractor("acoustic", "whisper-base", layer=(3, 4)).spec
    expected = WhisperBase(layer=(3, 4)).extract(noise(1.5, seed=1))
    np.testing.assert_allclose(store.read("1"), expected, rtol=1e-3, atol=1e-3)
    half = ["--acoustic", "whisper-base", "--layer", "0", "--precision", "bfloat16"]
    assert cli.run([*command, str(tmp_path / "half"), *half]) == 0
    spec = FeatureStore.open(tmp_path / "half" / "acoustic").spec
    assert spec == build_extractor("acoustic", "whisper-base", layer=0, precision="bfloat16").spec
    assert cli.run([*command, str(tmp_path / "none"), *options, "--device", "cuda:99"]) == 2
    assert len(store.read("0")) == 50
