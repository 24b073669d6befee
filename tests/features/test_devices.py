"""Every extractor on a device: no tensor is left behind, and the numbers are those of the CPU."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_device import DEVICE, NAME, pretend_device

from vavl.data.manifest import Manifest, Utterance
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.faces.alignment import Face
from vavl.faces.detector import MtcnnDetector
from vavl.features import image_encoder
from vavl.features.compact_face import CompactFaceFeatures, crop_template
from vavl.features.extract import extract
from vavl.features.face_features import FaceFeatures
from vavl.features.image_encoder import ImageEncoder
from vavl.features.registry import build_extractor, rebuild_extractor
from vavl.features.speech_encoder import SpeechEncoder
from vavl.features.whisper import WhisperBase
from vavl.system import onnx as vavl_onnx

TinyEncoder = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("one_thread")


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Equal within a share of the largest value."""
    scale = np.nanmax(np.abs(expected), initial=1e-9)
    np.testing.assert_allclose(found, expected, atol=tolerance * scale)


def test_what_lies_apart_is_refused_by_the_pretended_device() -> None:
    with pretend_device() as mode:
        there = torch.ones(2).to(NAME)
        assert (there + 2 * there).cpu().tolist() == [3, 3]
        assert mode.operations == 2
        with pytest.raises(RuntimeError, match="and on the CPU"):
            there + torch.ones(2)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


# Networks


def test_whisper_base(noise) -> None:
    clips = [noise(duration_s, seed) for seed, duration_s in enumerate((0.7, 1.2, 0.01))]
    here = WhisperBase(silence_db=30).extract_many(clips)
    with pretend_device() as mode:
        there = WhisperBase(silence_db=30, device=NAME).extract_many(clips)
    assert mode.operations > 100
    for found, expected in zip(there, here, strict=True):
        close(found, expected)


@pytest.mark.parametrize(
    "class_name", ["Wav2Vec2Model", "HubertModel", "WavLMModel", "Wav2Vec2ConformerModel"]
)
@pytest.mark.parametrize("layer", [None, (0, 2)])
def test_encoders_of_waveforms(tiny_encoder: TinyEncoder, noise, class_name, layer) -> None:
    compare_encoder(str(tiny_encoder(class_name)), layer, noise(0.5))


@pytest.mark.parametrize("layer", [None, (0, 2)])
def test_whisper_of_transformers(tiny_encoder: TinyEncoder, noise, layer) -> None:
    compare_encoder(str(tiny_encoder("WhisperModel")), layer, noise(1.2))  # two windows


def compare_encoder(folder: str, layer: object, samples: np.ndarray) -> None:
    here = SpeechEncoder(folder, layer=layer)
    expected = here.extract(samples)
    there = SpeechEncoder(folder, layer=layer, device=NAME)
    # Read before: transformers has a meaning of its own for the pretended device's name.
    there._hidden_states._loaded = lambda: here._hidden_states._model
    with pretend_device() as mode:
        close(there.extract(samples), expected)
    assert mode.operations > 50
    assert there.spec == here.spec


def faces_of(frames: np.ndarray) -> list[Face]:
    place = (crop_template() + 20).astype(np.float32)
    return [Face((20, 20, 68, 68), 1.0, place)] * len(frames)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 90, 120, 3), dtype=np.uint8)


@pytest.mark.parametrize("options", [{}, {"mirrored": False}])
def test_compact_face(frames: np.ndarray, options: dict[str, bool]) -> None:
    here = CompactFaceFeatures(**options).embed_faces(frames, faces_of(frames))
    readable = CompactFaceFeatures(readable_only=True).embed_faces(frames, faces_of(frames))
    with pretend_device() as mode:
        there = CompactFaceFeatures(device=NAME, **options).embed_faces(frames, faces_of(frames))
        also = CompactFaceFeatures(device=NAME, readable_only=True)
        found = also.embed_faces(frames, faces_of(frames))
    assert mode.operations > 50
    close(there, here)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(readable))


def test_an_image_model_of_transformers(vit: Path, frames: np.ndarray) -> None:
    here = ImageEncoder(str(vit))
    expected = here.embed_faces(frames, faces_of(frames))
    there = ImageEncoder(str(vit), device=NAME)
    with pretend_device() as mode, pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_encoder, "load_pretrained", lambda *_args, **_options: here._model)
        close(there.embed_faces(frames, faces_of(frames)), expected)
    assert mode.operations > 10


# By name


@pytest.mark.parametrize("name", ["compact-face", "hf"])
def test_the_device_of_faces_is_that_of_detector_and_network(vit: Path, name: str) -> None:
    source = {"source": str(vit)} if name == "hf" else {}
    here = build_extractor("visual", name, **source)
    there = build_extractor("visual", name, device="cuda:3", detect_every=5, **source)
    assert isinstance(there, FaceFeatures)
    assert isinstance(there.detector, MtcnnDetector)
    assert there.device == there.detector.device == there.embedder.device == "cuda:3"
    assert there.spec == here.spec
    assert rebuild_extractor(here.spec, device="mps").detector.device == "mps"


@pytest.mark.parametrize("name", ["whisper-base", "hf"])
def test_the_device_is_no_part_of_the_key(tiny_encoder: TinyEncoder, name: str) -> None:
    source = {"source": str(tiny_encoder("Wav2Vec2Model"))} if name == "hf" else {}
    here = build_extractor("acoustic", name, **source)
    there = build_extractor("acoustic", name, device="cuda", **source)
    assert (here.device, there.device) == ("cpu", "cuda")
    assert there.spec == here.spec
    assert rebuild_extractor(here.spec, device="cuda:1").device == "cuda:1"
    assert pickle.loads(pickle.dumps(there)).device == "cuda"


def test_what_has_no_network_computes_on_the_cpu(noise) -> None:
    logmel = build_extractor("acoustic", "logmel", device="cuda")
    assert logmel.device == "cpu"
    assert logmel.extract(noise(0.1)).shape == (8, 80)
    assert build_extractor("visual", "arrays", device="cuda", dim=3).spec.dim == 3


def test_a_device_is_sought_where_the_weights_are_loaded(
    tiny_encoder: TinyEncoder, vit: Path
) -> None:
    tiny = str(tiny_encoder("Wav2Vec2Model"))
    for modality, name, source in (
        ("acoustic", "whisper-base", None),
        ("acoustic", "hf", tiny),
        ("visual", "compact-face", None),
        ("visual", "hf", str(vit)),
    ):
        given = {} if source is None else {"source": source}
        extractor = build_extractor(modality, name, device="cuda:99", **given)
        with pytest.raises(InputError, match="device: 'cuda:99' cannot be used here"):
            extractor.load()


class Runtime:
    """Stands for onnxruntime; says with which providers a session was opened."""

    def __init__(self, *providers: str) -> None:
        self.available = providers
        self.SessionOptions = lambda: SimpleNamespace(add_session_config_entry=lambda *_: None)

    def get_available_providers(self) -> list[str]:
        return list(self.available)

    def InferenceSession(self, content, options, providers):
        names = [name if isinstance(name, str) else name[0] for name in providers]
        return SimpleNamespace(given=providers, get_providers=lambda: names)


@pytest.mark.parametrize(
    ("available", "device", "given", "warned"),
    [
        (("CUDA", "CPU"), "cuda:1", [("CUDA", 1), ("CPU", None)], False),
        (("CUDA", "CPU"), "cpu", [("CPU", None)], False),
        (("CPU",), "cuda:0", [("CPU", None)], True),
        (("CPU",), "mps", [("CPU", None)], True),
        (("CPU",), None, [("CPU", None)], False),
    ],
)
def test_onnx_files_run_on_cuda_where_there_is_a_provider(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    available,
    device,
    given,
    warned,
) -> None:
    runtime = Runtime(*(f"{name}ExecutionProvider" for name in available))
    monkeypatch.setattr(vavl_onnx, "onnx_extra", lambda _: runtime)
    monkeypatch.setattr(vavl_onnx, "read_graph", lambda *_: None)
    with caplog.at_level(logging.WARNING):
        session = vavl_onnx.open_session(b"", "net.onnx", 1, device and torch.device(device))
    found = [(p, None) if isinstance(p, str) else (p[0], p[1]["device_id"]) for p in session.given]
    assert [(name.removesuffix("ExecutionProvider"), number) for name, number in found] == given
    assert bool(caplog.records) == warned


# Batches over clips


@pytest.fixture
def recordings(tmp_path: Path, write_wav, noise) -> Manifest:
    """Clips of several lengths, three of which cannot be extracted."""
    names = [f"clip-{number}" for number in range(7)]
    for number, name in enumerate(names):
        write_wav(noise(0.3 + 0.2 * number, number), f"{name}.wav")
    (tmp_path / "clip-2.wav").write_bytes(b"")
    (tmp_path / "clip-4.wav").unlink()
    clips = [Utterance(name, "test", "ann", audio_path=f"{name}.wav") for name in names]
    part = Utterance("part", "test", "ann", audio_path="clip-6.wav", start_s=0.2, end_s=1.0)
    return Manifest([part, *clips[::-1]], root=tmp_path)


class FaultyWhisper(WhisperBase):
    """Refuses one length, as an encoder that runs out of memory does."""

    def _features_of_many(self, waveforms):
        if any(len(waveform) == 17_600 for waveform in waveforms):
            raise RuntimeError("out of memory")
        return super()._features_of_many(waveforms)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_on_a_device_give_the_store_of_single_clips(
    tmp_path: Path, recordings: Manifest, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vavl.features.extract._BATCH_S", 1.5)
    one_by_one = extract(
        recordings, WhisperBase(layer=1), tmp_path / "one", progress=False, clips_per_shard=2
    )
    with pretend_device() as mode:
        encoder = WhisperBase(layer=1, device=NAME)
        options = {"workers": workers, "progress": False, "clips_per_shard": 2}
        batches = extract(recordings, encoder, tmp_path / "batches", **options)
    assert mode.operations > 100
    assert batches.failed == one_by_one.failed
    assert set(batches.failed) == {"clip-2", "clip-4"}
    assert batches.done == one_by_one.done == 6
    here, there = (FeatureStore.open(tmp_path / name) for name in ("one", "batches"))
    assert there.ids == here.ids
    assert there.spec == here.spec
    shards = [sorted(p.name for p in (tmp_path / n).glob("shard-*")) for n in ("one", "batches")]
    assert shards[0] == shards[1]
    for name in here.ids:
        close(there.read(name).astype(np.float32), here.read(name).astype(np.float32), 1e-3)


def test_a_clip_that_a_device_cannot_take_harms_no_other(
    tmp_path: Path, recordings: Manifest, write_wav, noise
) -> None:
    with pretend_device():
        encoder = FaultyWhisper(layer=1, device=NAME)
        report = extract(recordings, encoder, tmp_path / "store", progress=False)
        assert set(report.failed) == {"clip-2", "clip-4"}
        # clip-4 has 17,600 samples when it is there.
        write_wav(noise(1.1, 4), "clip-4.wav")
        write_wav(noise(0.7, 2), "clip-2.wav")
        again = extract(recordings, encoder, tmp_path / "store", progress=False)
    assert (again.done, again.skipped) == (1, 6)
    assert again.failed == {"clip-4": "RuntimeError: out of memory"}


def test_weights_that_cannot_be_had_stop_a_job_on_a_device(
    tmp_path: Path, recordings: Manifest
) -> None:
    encoder = WhisperBase(device="cuda:99")
    with pytest.raises(InputError, match="device: 'cuda:99' cannot be used here"):
        extract(recordings, encoder, tmp_path / "store", progress=False)


# On a GPU


@pytest.mark.cuda
def test_sound_on_a_gpu(tmp_path: Path, recordings: Manifest, cuda: str) -> None:
    here, there = (
        extract(recordings, WhisperBase(device=d), tmp_path / d, workers=w, progress=False)
        for d, w in (("cpu", 0), (cuda, 2))
    )
    assert there.failed == here.failed
    for name in FeatureStore.open(tmp_path / "cpu").ids:
        found, expected = (FeatureStore.open(tmp_path / d).read(name) for d in (cuda, "cpu"))
        close(found.astype(np.float32), expected.astype(np.float32), 1e-3)


@pytest.mark.cuda
def test_faces_on_a_gpu(frames: np.ndarray, cuda: str) -> None:
    here = CompactFaceFeatures().embed_faces(frames, faces_of(frames))
    there = CompactFaceFeatures(device=cuda).embed_faces(frames, faces_of(frames))
    close(there, here, 1e-3)


def test_the_pretended_device_is_none_of_torchs_own() -> None:
    assert DEVICE.type == NAME == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(2, device=NAME).tolist()
