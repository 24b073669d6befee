"""Fixtures every test may use."""

from __future__ import annotations

import os
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import TinyCorpus

from vavl.data.corpora.synthetic import prepare_synthetic
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.types import Modality

WriteWav = Callable[..., Path]

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 8,
}
"""Settings of a wav2vec 2.0 of a few thousand parameters, with the strides of a real one."""

TINY_WHISPER = {
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 20,
    "max_source_positions": 50,  # one second
    "vocab_size": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once in a process is said once in a test."""
    monkeypatch.setattr("vavl.system.notices._said", set())


@pytest.fixture
def write_wav(tmp_path: Path) -> WriteWav:
    """Writes ``(N,)`` or ``(N, channels)`` samples in [-1, 1] as 16-bit WAV."""

    def write(samples: np.ndarray, name: str = "clip.wav", sampling_rate_hz: int = 16_000) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        with wave.open(str(path), "wb") as file:
            file.setparams((channels, 2, sampling_rate_hz, 0, "NONE", ""))
            file.writeframes(np.round(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
        return path

    return write


@pytest.fixture
def noise() -> Callable[[float], np.ndarray]:
    """Noise of some seconds at 16 kHz, exactly representable in 16 bits."""

    def make(duration_s: float, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        size = round(duration_s * 16_000)
        return (generator.integers(-8000, 8000, size) / 32768).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared research data; tests that use it carry the marker ``shared``."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("VAVL_SHARED", default))
    if not folder.is_dir():
        pytest.skip("shared research data not found: set VAVL_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def cuda() -> str:
    """A GPU of NVIDIA; tests that use it carry the marker ``cuda``."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU of NVIDIA")
    return "cuda"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors lose time to threads that wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """Address of a small Ray cluster on this machine; ``--engine ray`` uses it meanwhile."""
    ray = pytest.importorskip("ray", reason="needs vavl[ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # actors import what tests import
        context = ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield context.address_info["address"]
        ray.shutdown()


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Six synthetic speakers with twelve clips each: log-mel and action units."""
    folder = tmp_path_factory.mktemp("tiny-corpus")
    manifest = prepare_synthetic(folder, speakers=6, clips_per_speaker=12, video=False)
    for modality, name in ((Modality.ACOUSTIC, "logmel"), (Modality.VISUAL, "arrays")):
        extractor = build_extractor(modality, name)
        extract(manifest, extractor, folder / "stores" / modality, progress=False)
    return TinyCorpus(manifest, folder)


@pytest.fixture(scope="session")
def faster_voices(tiny_corpus: TinyCorpus) -> Path:
    """A store of the sound of the tiny corpus at another speed."""
    store = tiny_corpus.folder / "stores" / "faster"
    extractor = build_extractor(Modality.ACOUSTIC, "logmel", speed=1.1)
    extract(tiny_corpus.manifest, extractor, store, progress=False)
    return store


@pytest.fixture(scope="session")
def waveforms(tiny_corpus: TinyCorpus) -> tuple[str, str]:
    """Stores of the waveforms of the tiny corpus, at its speed and at another."""
    paths = []
    for speed in (1.0, 1.1):
        paths.append(str(tiny_corpus.folder / "stores" / f"waveform-{speed}"))
        extractor = build_extractor("acoustic", "waveform", speed=speed, max_duration_s=0.4)
        extract(tiny_corpus.manifest, extractor, paths[-1], progress=False)
    return paths[0], paths[1]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a tiny random encoder of transformers; made once per kind and settings."""
    made: dict[str, Path] = {}

    def make(class_name: str, *, half: bool = False, **settings: object) -> Path:
        key = f"{class_name} {half} {sorted(settings.items())}"
        if key not in made:
            import torch
            import transformers

            torch.manual_seed(0)
            tiny = TINY_WHISPER if class_name.startswith("Whisper") else TINY
            model_class = getattr(transformers, class_name)
            model = model_class(model_class.config_class(**{**tiny, **settings}))
            made[key] = tmp_path_factory.mktemp("encoder")
            (model.half() if half else model).save_pretrained(made[key])
            if class_name.startswith("Whisper"):
                mel = transformers.WhisperFeatureExtractor(
                    feature_size=TINY_WHISPER["num_mel_bins"]
                )
                mel.save_pretrained(made[key])
        return made[key]

    return make


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision transformer with random weights, as transformers saves it."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=32,
        patch_size=16,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
