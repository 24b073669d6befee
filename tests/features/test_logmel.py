"""Log-mel features: frames, bands and invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vavl.features.logmel import LogMel, band_centers_hz


def tone(frequency_hz: float, duration_s: float = 0.5) -> np.ndarray:
    times = np.arange(round(duration_s * 16_000)) / 16_000
    return (0.3 * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


@given(samples=st.integers(1, 20_000))
def test_a_frame_every_ten_milliseconds(samples: int) -> None:
    features = LogMel(normalization="none").extract(np.ones(samples, np.float32))
    assert features.shape == (1 + max(0, samples - 400) // 160, 80)
    assert features.dtype == np.float32


def test_specification() -> None:
    spec = LogMel().spec
    assert (spec.dim, spec.frame_rate_hz, spec.weights_sha256) == (80, 100.0, None)


def test_a_shift_of_one_frame_moves_the_features_by_one(noise) -> None:
    samples = noise(0.5)
    features = LogMel(normalization="none").extract(samples)
    later = LogMel(normalization="none").extract(
        np.concatenate([np.zeros(160, np.float32), samples])
    )
    np.testing.assert_allclose(later[1:], features, atol=1e-4)


@pytest.mark.parametrize("frequency_hz", [100, 220, 440, 1000, 2500, 5000, 7500])
def test_a_pure_tone_lands_in_its_band(frequency_hz: float) -> None:
    band = LogMel().extract(tone(frequency_hz)).mean(axis=0).argmax()
    assert band == np.abs(band_centers_hz() - frequency_hz).argmin()


def test_bands_rise_and_stay_in_range() -> None:
    centers = band_centers_hz()
    assert (np.diff(centers) > 0).all()
    assert centers[0] > 20
    assert centers[-1] < 8000
    # Equal steps in mel, which are nearly equal ratios far above 700 Hz.
    mel = 2595 * np.log10(1 + centers / 700)
    np.testing.assert_allclose(np.diff(mel), np.diff(mel)[0])


def test_the_formula_of_the_documentation(noise) -> None:
    samples = noise(0.2)
    features = LogMel(normalization="none").extract(samples)
    n, k = np.arange(400), np.arange(513)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    edges = 700 * (10 ** (np.linspace(*_mel(np.array([20.0, 8000.0])), 82) / 2595) - 1)
    for frame in (0, 5):
        part = window * samples[160 * frame : 160 * frame + 400]
        power = np.abs(np.exp(-2j * np.pi * np.outer(k, n) / 1024) @ part) ** 2
        power /= np.square(window).sum()
        for band in (0, 30, 79):
            weights = np.interp(k * 16_000 / 1024, edges[band : band + 3], [0, 1, 0])
            expected = np.log(max(weights @ power, 1e-6))
            assert features[frame, band] == pytest.approx(expected, abs=1e-3)


def _mel(hz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hz / 700)


def test_gain_matters_only_without_normalisation(noise) -> None:
    samples = noise(0.5)
    np.testing.assert_allclose(
        LogMel().extract(0.01 * samples), LogMel().extract(samples), atol=1e-4
    )
    unscaled = LogMel(normalization="none")
    quieter = unscaled.extract(0.5 * samples) - unscaled.extract(samples)
    np.testing.assert_allclose(quieter, 2 * np.log(0.5), atol=1e-4)


def test_silence_is_finite() -> None:
    features = LogMel().extract(np.zeros(8_000, np.float32))
    np.testing.assert_allclose(features, np.log(1e-6))


def test_a_long_clip_equals_its_parts(noise) -> None:
    samples = noise(40.0)  # more frames than are transformed at once
    whole = LogMel(normalization="none").extract(samples)
    np.testing.assert_allclose(
        LogMel(normalization="none").extract(samples[160 * 2_990 :]), whole[2_990:], atol=1e-4
    )


def test_everything_that_changes_the_numbers_changes_the_key() -> None:
    variants = [
        LogMel(),
        LogMel(normalization="none"),
        LogMel(normalization="corpus", corpus_mean=0.0, corpus_std=1.0),
        LogMel(normalization="corpus", corpus_mean=0.0, corpus_std=2.0),
        LogMel(normalization="corpus", corpus_mean=0.1, corpus_std=1.0),
        LogMel(max_duration_s=12),
        LogMel(silence_db=30),
        LogMel(max_duration_s=10),
    ]
    assert len({variant.spec.key for variant in variants}) == len(variants)
    assert LogMel(max_duration_s=12).spec.key == LogMel(max_duration_s=12.0).spec.key
