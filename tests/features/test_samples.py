"""The waveform as features: what every extractor of sound works on, in steps of 20 ms."""

from __future__ import annotations

import numpy as np
import pytest
from voices import babble

from vavl.errors import InputError
from vavl.features.registry import build_extractor, rebuild_extractor
from vavl.features.samples import Samples
from vavl.media.speech import only_speech


def test_steps_are_the_conditioned_samples(noise, write_wav) -> None:
    samples = noise(0.615)
    steps = Samples().extract_file(write_wav(samples))
    conditioned = (samples - samples.mean()) / samples.std()
    assert steps.shape == (30, 320), "a rest of 15 ms is left out"
    np.testing.assert_allclose(steps.ravel(), conditioned[: 30 * 320], atol=1e-5)
    capped = Samples(max_duration_s=0.2, normalization="none").extract(samples)
    np.testing.assert_array_equal(capped.ravel(), samples[:3200])


def test_a_clip_shorter_than_a_step_is_padded(noise) -> None:
    steps = Samples(normalization="none").extract(noise(0.01))
    assert steps.shape == (1, 320)
    assert not steps[0, 160:].any()


def test_speech_alone() -> None:
    samples = np.concatenate([np.zeros(16_000, np.float32), babble(1.0)])
    steps = Samples(speech_only=True, normalization="none").extract(samples)
    speech = only_speech(samples)
    np.testing.assert_array_equal(steps.ravel(), speech[: steps.size])


def test_it_is_made_again_from_its_description(noise) -> None:
    extractor = build_extractor("acoustic", "waveform", speed=1.1)
    again = rebuild_extractor(extractor.spec)
    np.testing.assert_array_equal(again.extract(noise(0.5)), extractor.extract(noise(0.5)))
    with pytest.raises(InputError, match="silence_db: expected none for waveform, got 30"):
        build_extractor("acoustic", "waveform", silence_db=30.0)
