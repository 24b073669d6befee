"""The conditioned samples themselves, for a model that has its speech encoder inside."""

from __future__ import annotations

from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.features.waveform import Conditioning, ConditioningOptions, WaveformExtractor, padded
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.types import FeatureSpec, Modality

SAMPLES = 320
"""Samples of a step: 20 ms, the step of the encoders that take them."""


class Samples(WaveformExtractor):
    """The samples of a clip in steps of 20 ms: ``(T, 320)``.

    They are what every extractor of sound works on, after the same conditioning. A clip of N
    samples has T = N // 320 steps; a rest shorter than a step is left out, and a clip shorter than
    one is padded with zeros. In the half precision of a store they are as exact as in 16 bits.

    Args:
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`, but for
            ``silence_db``.

    Raises:
        InputError: ``silence_db`` is asked for: an encoder would hear the gaps.

    Example:
        >>> extractor = Samples(normalization="none")
        >>> extractor.extract(np.zeros(16000)).shape, extractor.spec.frame_rate_hz
        ((50, 320), 50.0)
    """

    name = "waveform"

    def __init__(self, **conditioning: Unpack[ConditioningOptions]) -> None:
        self.conditioning = Conditioning(**conditioning)
        if self.conditioning.silence_db is not None:
            raise InputError(
                f"silence_db: expected none for {self.name}, got {self.conditioning.silence_db}: "
                "the encoder would hear the gaps; speech_only leaves silence out"
            )
        self.spec = FeatureSpec(
            modality=Modality.ACOUSTIC,
            extractor=self.name,
            dim=SAMPLES,
            frame_rate_hz=SAMPLING_RATE_HZ / SAMPLES,
            parameters={
                **self.conditioning.parameters(),
                "sampling_rate_hz": SAMPLING_RATE_HZ,
            },
        )

    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        samples = padded(waveform, SAMPLES)
        steps = len(samples) // SAMPLES
        return samples[: steps * SAMPLES].reshape(steps, SAMPLES)
