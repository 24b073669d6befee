"""Log-mel energies together with pitch, voicing and loudness; no weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from vavl.features.waveform import Conditioning, ConditioningOptions, WaveformExtractor, padded
from vavl.media.audio import SAMPLING_RATE_HZ
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

    name = "logmel"

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
            extractor=self.name,
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


LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 60.0, 500.0
MIDDLE_PITCH_HZ = 170.0
"""Reference of the pitch: between the voices of most men and most women."""

_PITCH_WINDOW = 640
"""40 ms: more than two periods of the lowest pitch."""
_FFT_SIZE = 1024
"""Long enough that correlations up to the longest lag do not wrap around."""
_SHORT_LAG_BONUS = 8e-4
"""Penalty on a correlation per sample of lag; without it, half the pitch would often win."""
_FLOOR = 1e-6


class LogMelPitch(LogMel):
    """80 log-mel energies, pitch, voicing and loudness, 100 times a second: ``(T, 83)``.

    The first 80 columns are those of :class:`vavl.features.logmel.LogMel`. Column 81 is how
    voiced a frame is: the normalised autocorrelation at the best lag, 0 to 1. Column 80 is the
    logarithm of the pitch over 170 Hz, between 60 and 500 Hz, times the voicing: 0 where there is
    no voice, and so neither low nor high. Column 82 is the logarithm of the frame's energy.

    The pitch is that of each frame alone; there is no smoothing over time, so that it does not
    depend on later frames.

    Args:
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`.

    Example:
        >>> times = np.arange(16000) / 16000
        >>> voice = sum(np.sin(2 * np.pi * 200 * k * times) / k for k in range(1, 9))
        >>> features = LogMelPitch().extract(voice)
        >>> features.shape
        (98, 83)
        >>> bool(abs(170 * np.exp(features[50, 80] / features[50, 81]) - 200) < 3)
        True

    Source: Boersma, "Accurate short-term analysis of the fundamental frequency", 1993: the
    autocorrelation of the windowed sound over that of the window.
    """

    name = "logmel-pitch"

    def __init__(self, **conditioning: Unpack[ConditioningOptions]) -> None:
        super().__init__(**conditioning)
        self.spec = replace(
            self.spec,
            dim=BANDS + 3,
            parameters={
                **self.spec.parameters,
                "lowest_pitch_hz": LOWEST_PITCH_HZ,
                "highest_pitch_hz": HIGHEST_PITCH_HZ,
                "middle_pitch_hz": MIDDLE_PITCH_HZ,
                "pitch_window": _PITCH_WINDOW,
            },
        )

    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        bands = super()._features(waveform)
        # Centred on the frames of the bands, which are shorter.
        early = (_PITCH_WINDOW - WINDOW) // 2
        samples = np.pad(padded(waveform, WINDOW), (early, early))
        frames = np.lib.stride_tricks.sliding_window_view(samples, _PITCH_WINDOW)[::HOP]
        voice = [
            _pitch(frames[first : first + _FRAMES_AT_ONCE])
            for first in range(0, len(frames), _FRAMES_AT_ONCE)
        ]
        return np.concatenate([bands, np.concatenate(voice)], axis=1, dtype=np.float32)


def _pitch(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pitch times voicing, voicing, and log energy of ``(T, 640)`` samples: ``(T, 3)``."""
    window, of_window = _window()
    spectra = np.fft.rfft((frames - frames.mean(1, keepdims=True)) * window, _FFT_SIZE)
    lags = slice(round(SAMPLING_RATE_HZ / HIGHEST_PITCH_HZ), len(of_window))
    correlations = np.fft.irfft(spectra.real**2 + spectra.imag**2)[:, : len(of_window)]
    energy = correlations[:, 0]  # (T,)
    normalised = correlations[:, lags] / (energy[:, None] + _FLOOR) / of_window[lags]
    penalties = _SHORT_LAG_BONUS * np.arange(lags.start, lags.stop)
    best = (normalised - penalties).argmax(1)
    voicing = normalised[np.arange(len(frames)), best].clip(0, 1)
    pitch = np.log(SAMPLING_RATE_HZ / (best + lags.start) / MIDDLE_PITCH_HZ)
    loudness = np.log(np.maximum(energy / np.square(window).sum(), _FLOOR))
    return np.stack([pitch * voicing, voicing, loudness], axis=1).astype(np.float32)


@cache
def _window() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The window, and its autocorrelation up to the longest lag, relative to that at lag 0."""
    window = np.hanning(_PITCH_WINDOW + 1)[:-1].astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(window, 2 * _FFT_SIZE)))
    correlations = np.fft.irfft(power)[: round(SAMPLING_RATE_HZ / LOWEST_PITCH_HZ) + 1]
    return window, (correlations / correlations[0]).astype(np.float32)
