"""Sound files and tiny encoders, made on the spot."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

WriteWav = Callable[..., Path]


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
