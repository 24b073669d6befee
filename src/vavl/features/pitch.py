"""Log-mel energies together with pitch, voicing and loudness; no weights."""

from __future__ import annotations

from functools import cache
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from vavl.features.acoustic import BANDS, HOP, WINDOW, LogMel
from vavl.features.media import SAMPLING_RATE_HZ
from vavl.features.waveform import ConditioningOptions, padded
from vavl.types import FeatureSpec, Modality

LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 60.0, 500.0
MIDDLE_PITCH_HZ = 170.0
"""What the pitch is told relative to: between the voices of most men and most women."""

_PITCH_WINDOW = 640
"""40 ms: more than two periods of the lowest pitch."""
_FFT_SIZE = 1024
"""Long enough that correlations up to the longest lag do not wrap around."""
_SHORT_LAG_BONUS = 8e-4
"""What a correlation loses per sample of lag, against finding half the pitch."""
_FRAMES_AT_ONCE = 3000
_FLOOR = 1e-6


class LogMelPitch(LogMel):
    """80 log-mel energies, pitch, voicing and loudness, 100 times a second: ``(T, 83)``.

    The first 80 columns are those of :class:`vavl.features.acoustic.LogMel`. Column 81 is how
    voiced a frame is: the normalised autocorrelation at the best lag, 0 to 1. Column 80 is the
    logarithm of the pitch over 170 Hz, between 60 and 500 Hz, times the voicing: 0 where there is
    no voice, and so neither low nor high. Column 82 is the logarithm of the frame's energy.

    The pitch is that of each frame alone; there is no smoothing over time, so that it does not
    depend on what comes later.

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

    def __init__(self, **conditioning: Unpack[ConditioningOptions]) -> None:
        super().__init__(**conditioning)
        self.spec = FeatureSpec(
            modality=Modality.ACOUSTIC,
            extractor="logmel-pitch",
            dim=BANDS + 3,
            frame_rate_hz=self.spec.frame_rate_hz,
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
