"""Small films made on the spot, and a recogniser small enough to watch them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from pretend_faces import pretend_face_features

import vavl
from vavl.features.registry import build_extractor
from vavl.models.pretrained import write_features
from vavl.types import Modality

Film = Callable[..., Path]


@pytest.fixture(scope="session")
def recognizer() -> vavl.Recognizer:
    """Log-mel sound, and :class:`FaceFeatures` over a made-up detector and embedder."""
    acoustic = build_extractor(Modality.ACOUSTIC, "logmel").spec
    faces = pretend_face_features()
    torch.manual_seed(0)
    config = vavl.VAVLConfig.preset(
        "small",
        acoustic_dim=acoustic.dim,
        visual_dim=4,
        categories=("angry", "happy", "sad"),
        attributes=("valence",),
        width=16,
        heads=2,
        kernel=5,
        head_widths=(12, 8),
        fusion_base="product",
    )
    model = vavl.VAVL(config)
    with torch.no_grad():  # as after training: what is seen and heard makes a difference
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "mean")):
                buffer.normal_()
            elif name.endswith(("running_var", "scale")):
                buffer.uniform_(0.05, 0.5)
    made = vavl.Recognizer(model, {Modality.ACOUSTIC: acoustic, Modality.VISUAL: faces.spec})
    made.reader.visual_extractor = faces
    return made


@pytest.fixture(scope="session")
def model(recognizer: vavl.Recognizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a model that hears."""
    folder = tmp_path_factory.mktemp("model")
    recognizer.model.save_pretrained(folder)
    write_features(folder, {Modality.ACOUSTIC: recognizer.features[Modality.ACOUSTIC]})
    return str(folder)


@pytest.fixture
def film(tmp_path: Path) -> Film:
    """Writes a film: grey frames that grow lighter and darker, and a rising tone in stereo."""

    def make(
        name: str = "film.mp4",
        *,
        times: list[float] | None = None,
        seconds: float = 3.0,
        rate: int = 25,
        size: tuple[int, int] = (96, 64),
        audio: str | None = "aac",
        video: str | None = "mpeg4",
    ) -> Path:
        path = tmp_path / name
        times = [k / rate for k in range(round(seconds * rate))] if times is None else times
        with av.open(str(path), "w") as file:
            packets: list[Any] = []
            if video:
                packets += _picture(file, video, times, rate, size)
            if audio:
                packets += _sound(file, audio, seconds)
            for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
                file.mux(packet)
        return path

    return make


def _picture(file: Any, codec: str, times: list[float], rate: int, size: tuple[int, int]) -> list:
    stream = file.add_stream(codec, rate=rate, options={"bf": "0"})
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, 12_000)
    packets = []
    for number, time_s in enumerate(times):
        light = round(140 + 80 * np.sin(number / 7))
        frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), light, np.uint8))
        frame.pts, frame.time_base = round(time_s * 12_000), Fraction(1, 12_000)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    packets[-1].duration = 12_000 // rate
    return packets


def _sound(file: Any, codec: str, seconds: float) -> list:
    stream = file.add_stream(codec, rate=44_100, layout="stereo")
    noise = np.random.default_rng(0).normal(0, 0.02, (2, round(44_100 * seconds)))
    times = np.arange(noise.shape[1]) / 44_100
    noise += 0.3 * np.sin(2 * np.pi * 900 * times**2)  # a tone that rises
    packets = []
    for start in range(0, noise.shape[1], 1024):
        block = np.ascontiguousarray(noise[:, start : start + 1024], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 44_100, start
        packets += stream.encode(frame)
    return packets + stream.encode(None)
