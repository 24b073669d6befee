"""A voice that says nothing: the voice activity detector takes it for speech."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

RATE_HZ = 16_000
_VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""Formants of a, i, u and e: Peterson and Barney 1952, men."""


def babble(duration_s: float, *, pitch_hz: float = 120.0, seed: int = 0) -> NDArray[np.float32]:
    """Open syllables, five a second, with a falling pitch; root mean square -20 dBFS.

    Pulses of the glottis through formants, with a burst of noise before each vowel.
    """
    generator = np.random.default_rng(seed)
    size = round(duration_s * RATE_HZ)
    pitch = pitch_hz * np.exp(-0.2 * np.linspace(0, 1, size)) * (1 + 0.01 * np.sin(np.arange(size)))
    phase = np.cumsum(pitch / RATE_HZ)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    pulses = lfilter([1.0], [1.0, -0.95], pulses)  # the glottis: 6 dB less per octave
    sound = np.zeros(size)
    syllable = RATE_HZ // 5
    for first in range(0, size, syllable):
        part = slice(first, min(first + syllable, size))
        length = part.stop - part.start
        vowel = pulses[part] * np.hanning(syllable)[:length]
        burst = generator.standard_normal(length) * np.exp(-np.arange(length) / 400) * 0.3
        vowel = vowel + burst
        for formant_hz, width_hz in zip(
            _VOWELS_HZ[generator.integers(len(_VOWELS_HZ))], (80, 100, 140), strict=True
        ):
            radius = np.exp(-np.pi * width_hz / RATE_HZ)
            angle = 2 * np.pi * formant_hz / RATE_HZ
            poles = [1.0, -2 * radius * np.cos(angle), radius**2]
            vowel = lfilter([sum(poles)], poles, vowel)
        sound[part] = vowel
    return (0.1 * sound / sound.std()).astype(np.float32)
