"""Conditions of speech: each keeps what it should, and changes what it says."""

from __future__ import annotations

import numpy as np
import pytest
import speech_conditions as conditions
from speech_conditions import CONDITIONS, Waveform, augmented, encoded, faster, room

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def speech() -> Waveform:
    """2.3 s: a voice-like buzz of changing pitch in syllables, with consonants of noise."""
    rng = np.random.default_rng(0)
    time_s = np.arange(round(2.3 * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * time_s)) / RATE_HZ
    buzz = sum(np.cos(k * phase) / k for k in range(1, 50)) * (np.sin(9 * time_s) > 0)
    hiss = rng.standard_normal(len(time_s)) * (np.sin(9 * time_s) < -0.8)
    return (0.1 * buzz + 0.05 * hiss).astype(np.float32)


def power_db(waveform: Waveform, low_hz: float = 0, high_hz: float = 8000) -> float:
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    hz = np.fft.rfftfreq(len(waveform), 1 / RATE_HZ)
    return float(10 * np.log10(spectrum[(hz >= low_hz) & (hz <= high_hz)].sum() / len(waveform)))


def lag_s(changed: Waveform, original: Waveform) -> float:
    size = 1 << (len(original) + len(changed)).bit_length()
    product = np.fft.rfft(changed, size) * np.fft.rfft(original, size).conj()
    peak = int(np.fft.irfft(product).argmax())
    return (peak - size if peak > size // 2 else peak) / RATE_HZ


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_keeps_length_and_time(name: str, speech: Waveform) -> None:
    before = speech.copy()
    changed = CONDITIONS[name](speech, np.random.default_rng(0), [speech[::-1]])
    again = CONDITIONS[name](speech, np.random.default_rng(0), [speech[::-1]])
    np.testing.assert_array_equal(speech, before)
    np.testing.assert_array_equal(changed, again)
    assert changed.dtype == np.float32
    assert changed.shape == speech.shape
    assert np.isfinite(changed).all()
    assert abs(lag_s(changed, speech)) <= 0.002
    assert (name == "clean") == np.array_equal(changed, speech)


@pytest.mark.parametrize("codec", ["opus", "aac", "mp3"])
@pytest.mark.parametrize("length", [1, 500, 16_001])
def test_a_codec_keeps_any_length(codec: str, length: int, speech: Waveform) -> None:
    changed = encoded(speech[-length:], codec, 32)
    assert changed.shape == (length,)
    if length > 16_000:
        np.testing.assert_allclose(power_db(changed), power_db(speech[-length:]), atol=2)
        assert not np.array_equal(changed, speech[-length:])


@pytest.mark.parametrize("noise", ["babble", "hum", "hiss"])
@pytest.mark.parametrize("snr_db", [10, 20])
def test_noise_is_as_strong_as_asked(noise: str, snr_db: int, speech: Waveform) -> None:
    voices = [speech[::-1], 7 * speech[5000:20_000]]
    changed = CONDITIONS[f"{noise} {snr_db} dB"](speech, np.random.default_rng(1), voices)
    found = power_db(speech) - power_db(changed - speech)
    assert abs(found - snr_db) < 0.5


def test_levels(speech: Waveform) -> None:
    for decibels in (-40, -20):
        changed = CONDITIONS[f"gain {decibels} dB"](speech, np.random.default_rng(), [])
        np.testing.assert_allclose(power_db(changed) - power_db(speech), decibels, atol=0.01)
    assert np.abs(conditions.louder(speech, 30)).max() == 1


def test_bandwidth_is_cut() -> None:
    noise = conditions.hiss(64_000, np.random.default_rng(0)) / 10
    for changed, low_hz, high_hz, beyond_hz in (
        (CONDITIONS["telephone"](noise, np.random.default_rng(0), []), 300, 3400, 4100),
        (CONDITIONS["laptop"](noise, np.random.default_rng(0), []), 150, 6500, 7250),
    ):
        inside = power_db(changed, low_hz, high_hz) - power_db(noise, low_hz, high_hz)
        assert abs(inside) < 6
        beyond = power_db(changed, beyond_hz) - power_db(noise, beyond_hz)
        below = power_db(changed, 0, 60) - power_db(noise, 0, 60)
        assert max(beyond, below) < -25


def test_hum_is_made_of_harmonics() -> None:
    hum = conditions.hum(32_000, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(hum))
    loud = np.flatnonzero(spectrum > 0.01 * spectrum.max()) / 2
    assert any((loud % base == 0).all() for base in (50, 60))
    assert len(loud) > 10


def test_another_speed_moves_time_and_pitch() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / RATE_HZ).astype(np.float32)
    for factor in (0.9, 1.07):
        changed = faster(tone, factor)
        assert abs(len(changed) - 16_000 / factor) <= 1
        hz = np.abs(np.fft.rfft(changed)).argmax() * RATE_HZ / len(changed)
        assert abs(hz - 440 * factor) < 1.5


@pytest.mark.parametrize("rt60_s", [0.3, 0.8])
def test_a_room_decays_as_asked(rt60_s: float) -> None:
    response = room((6.0, 5.0, 2.8), rt60_s, 1.0, np.random.default_rng(3))
    assert response[0] == pytest.approx(1, abs=1e-6)
    # Schroeder's integral: the time from -5 to -25 dB, times three.
    left = 10 * np.log10(np.cumsum(response[1:][::-1].astype(float) ** 2)[::-1])
    left -= left[0]
    decay_s = (np.argmax(left < -25) - np.argmax(left < -5)) / RATE_HZ
    assert 3 * decay_s == pytest.approx(rt60_s, rel=0.25)


def test_the_late_part_of_a_room_goes_on_where_the_early_one_ends() -> None:
    rng = np.random.default_rng(0)
    powers = [room((6.0, 5.0, 2.8), 0.6, 1.0, rng).astype(float) ** 2 for _ in range(10)]
    before, after = (np.sum(np.array(powers)[:, a:b]) for a, b in ((320, 480), (480, 640)))
    assert 0 < 10 * np.log10(before / after) < 3


def test_augmented_clips(speech: Waveform) -> None:
    rng = np.random.default_rng(0)
    quiet = speech[:8000] / 30
    clips = [augmented(quiet, rng, [speech[::-1]]) for _ in range(200)]
    clean = np.mean([np.array_equal(clip, quiet) for clip in clips])
    assert 0.15 < clean < 0.35
    for clip in clips:
        assert clip.dtype == np.float32
        assert np.isfinite(clip).all()
        assert 8000 / 1.11 < len(clip) < 8000 / 0.89
        assert power_db(clip) > power_db(quiet) - 45
    again = augmented(speech[:8000], np.random.default_rng(5))
    np.testing.assert_array_equal(again, augmented(speech[:8000], np.random.default_rng(5)))
