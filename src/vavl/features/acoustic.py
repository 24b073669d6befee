"""Log-mel filter banks: acoustic features without weights."""

from __future__ import annotations

from functools import cache
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from vavl.features.media import SAMPLING_RATE_HZ
from vavl.features.waveform import (
    Conditioning,
    ConditioningOptions,
    WaveformExtractor,
    padded,
)
from vavl.types import FeatureSpec, Modality

BANDS = 80
HOP = 160
"""Samples from one frame to the next: 10 ms, 100 frames per second."""
WINDOW = 400
"""Samples of one frame: 25 ms."""
FFT_SIZE = 1024
"""Zero-padded, so that even the lowest bands, 22 Hz apart, each contain a bin."""
LOWEST_HZ, HIGHEST_HZ = 20.0, 8000.0
FLOOR = 1e-6
"""Energy below which a band counts as silent; a clip of unit variance has bands around 1."""

_FRAMES_AT_ONCE = 3000


class LogMel(WaveformExtractor):
    """Energies in 80 mel bands, 100 times a second: ``(T, 80)``.

    Frame t covers the samples [160 t, 160 t + 400), so a clip of N samples has
    T = 1 + (N - 400) // 160 frames; a shorter one is padded to one frame. With the periodic Hann
    window w and the triangular filters h_b, which peak at 1::

        P_t(k) = |sum_n w(n) x(160 t + n) exp(-2 pi i k n / 1024)|^2 / sum_n w(n)^2
        y_t(b) = ln(max(sum_k h_b(k) P_t(k), 1e-6))

    The filters lie at equal distances from 20 to 8000 Hz on the mel scale
    mel(f) = 2595 log10(1 + f / 700).

    Args:
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 / 16000 * np.arange(16000))
        >>> features = LogMel().extract(tone)
        >>> features.shape, int(features.mean(axis=0).argmax()) == int(
        ...     np.abs(band_centers_hz() - 1000).argmin())
        ((98, 80), True)

    Source: mel scale of O'Shaughnessy, "Speech communication", 1987; filter bank as in Young et
    al., "The HTK Book", section 5.4, with energies instead of magnitudes.
    """

    def __init__(self, **conditioning: Unpack[ConditioningOptions]) -> None:
        self.conditioning = Conditioning(**conditioning)
        constants = {
            "hop": HOP,
            "window": WINDOW,
            "fft_size": FFT_SIZE,
            "lowest_hz": LOWEST_HZ,
            "highest_hz": HIGHEST_HZ,
            "floor": FLOOR,
            "sampling_rate_hz": SAMPLING_RATE_HZ,
        }
        self.spec = FeatureSpec(
            modality=Modality.ACOUSTIC,
            extractor="logmel",
            dim=BANDS,
            frame_rate_hz=SAMPLING_RATE_HZ / HOP,
            parameters={**self.conditioning.parameters(), **constants},
        )

    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        samples = padded(waveform, WINDOW)
        frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]  # (T, 400)
        window = np.hanning(WINDOW + 1)[:-1]  # periodic
        window = (window / np.sqrt(np.square(window).sum())).astype(np.float32)
        filters = _mel_filters()
        bands = []
        # In pieces: the spectra of an hour would take gigabytes.
        for first in range(0, len(frames), _FRAMES_AT_ONCE):
            spectra = np.fft.rfft(frames[first : first + _FRAMES_AT_ONCE] * window, FFT_SIZE)
            power = spectra.real**2 + spectra.imag**2  # (T, 513)
            bands.append(power @ filters)  # (T, 80)
        return np.log(np.maximum(np.concatenate(bands), FLOOR)).astype(np.float32)


def band_centers_hz() -> NDArray[np.float64]:
    """``(80,)`` frequencies at which the mel bands peak.

    Example:
        >>> band_centers_hz()[[0, -1]].round()
        array([  42., 7736.])
    """
    return _band_edges_hz()[1:-1]


def _band_edges_hz() -> NDArray[np.float64]:
    lowest, highest = 2595 * np.log10(1 + np.array([LOWEST_HZ, HIGHEST_HZ]) / 700)
    edges: NDArray[np.float64] = 700 * (10 ** (np.linspace(lowest, highest, BANDS + 2) / 2595) - 1)
    return edges


@cache
def _mel_filters() -> NDArray[np.float32]:
    """``(513, 80)`` triangles."""
    bins_hz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLING_RATE_HZ)[:, None]
    edges = _band_edges_hz()
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins_hz - left) / (center - left)
    falling = (right - bins_hz) / (right - center)
    return np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)
