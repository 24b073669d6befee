"""Cap and normalisation of waveforms, and the statistics of a corpus."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from voices import babble

from vavl.data.store import known_steps
from vavl.errors import InputError, MediaError
from vavl.features.logmel import LogMel
from vavl.features.waveform import Conditioning, ConditioningOptions, corpus_statistics
from vavl.media import speech
from vavl.media.speech import only_speech


@given(
    gain=st.floats(1e-4, 1e3),
    offset=st.floats(-0.5, 0.5),
    seed=st.integers(0, 100),
    size=st.integers(2, 2000),
)
def test_utterance_normalisation_forgets_gain_and_offset(
    gain: float, offset: float, seed: int, size: int
) -> None:
    samples = np.random.default_rng(seed).normal(size=size)
    conditioned = Conditioning().apply((gain * samples).astype(np.float32))
    assert conditioned.dtype == np.float32
    assert conditioned.mean() == pytest.approx(0, abs=1e-5)
    assert conditioned.std() == pytest.approx(1, abs=1e-5)
    shifted = Conditioning().apply((samples + offset).astype(np.float32))
    np.testing.assert_allclose(shifted, conditioned, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1.0])
def test_a_constant_clip_becomes_silence(value: float) -> None:
    conditioned = Conditioning().apply(np.full(1000, value, np.float32))
    np.testing.assert_array_equal(conditioned, np.zeros(1000))


def test_corpus_and_no_normalisation(noise) -> None:
    samples = noise(0.1)
    corpus = Conditioning("corpus", corpus_mean=0.25, corpus_std=0.5)
    np.testing.assert_allclose(corpus.apply(samples), (samples - 0.25) / 0.5, rtol=1e-6)
    np.testing.assert_array_equal(Conditioning("none").apply(samples), samples)


def test_extractors_take_what_conditioning_has() -> None:
    assert list(ConditioningOptions.__annotations__) == [f.name for f in fields(Conditioning)]


def test_what_lies_after_the_cap_has_no_influence(noise) -> None:
    samples = noise(1.0)
    capped = Conditioning(max_duration_s=0.25).apply(samples)
    np.testing.assert_array_equal(capped, Conditioning().apply(samples[:4_000]))


def test_statistics_are_those_of_all_samples_together(noise) -> None:
    clips = [noise(0.3, seed=1) * 0.5, noise(1.1, seed=2) + 0.1]
    together = np.concatenate(clips)
    mean, std = corpus_statistics(clips)
    assert mean == pytest.approx(together.mean(), rel=1e-6)
    assert std == pytest.approx(together.std(), rel=1e-6)
    # They are plain numbers that an extractor takes.
    conditioning = Conditioning("corpus", mean, std)
    normalised = np.concatenate([conditioning.apply(clip) for clip in clips])
    assert normalised.std() == pytest.approx(1, abs=1e-4)


def test_statistics_of_nothing() -> None:
    with pytest.raises(InputError, match="got none"):
        corpus_statistics([])
    with pytest.raises(InputError, match="silent"):
        corpus_statistics([np.zeros(100)])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"normalization": "speaker"}, ["normalization"]),
        ({"normalization": "corpus"}, ["corpus_mean", "corpus_std", "corpus_statistics()"]),
        (
            {"normalization": "corpus", "corpus_mean": 0.0, "corpus_std": 0.0},
            ["corpus_std: expected a positive number"],
        ),
        ({"corpus_mean": 0.0}, ["only used by normalization='corpus'"]),
        ({"max_duration_s": 0}, ["max_duration_s"]),
        ({"silence_db": -30}, ["silence_db: expected decibels > 0, got -30"]),
        ({"speech_only": 1}, ["speech_only: expected True or False, got 1"]),
        ({"max_duration_s": "12"}, ["max_duration_s: expected seconds > 0, got '12'"]),
        (
            {"normalization": "corpus", "corpus_mean": float("nan"), "max_duration_s": -1.0},
            ["corpus_mean", "corpus_std", "max_duration_s", "3 problems"],
        ),
    ],
)
def test_all_values_that_do_not_fit_are_named(arguments, names: list[str]) -> None:
    with pytest.raises(InputError) as error:
        Conditioning(**arguments)
    for name in names:
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), r"N >= 1, got \(0,\)"),
        (np.zeros((2, 100), np.float32), r"got \(2, 100\)"),
        (np.zeros(100, np.int16), "int16; divide integers by their full scale"),
        (np.array([0.0, np.nan]), "NaN"),
    ],
)
def test_waveforms_that_do_not_fit(waveform: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LogMel().extract(waveform)


def test_silence_is_left_unknown_in_its_place(noise) -> None:
    """Half a second of it before, in and after the sound, 40 dB below or none at all."""
    sound, quiet, nothing = noise(0.5), 0.01 * noise(0.5), np.zeros(8_000, np.float32)
    samples = np.concatenate([nothing, sound, quiet, sound, nothing])
    kept = LogMel().extract(samples)
    features = LogMel(silence_db=30).extract(samples)
    known = known_steps(features)
    assert features.shape == kept.shape
    # Steps of 10 ms; the last one begins 25 ms before the end.
    expected = np.repeat([False, True, False, True, False], 50)[: len(kept)]
    np.testing.assert_array_equal(known, expected)
    np.testing.assert_array_equal(features[known], kept[known])
    np.testing.assert_array_equal(LogMel(silence_db=60).extract(samples)[100:150], kept[100:150])


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_the_loudest_step_is_never_silence(level: float) -> None:
    samples = np.full(8_000, level, np.float32)
    assert known_steps(LogMel(silence_db=1e-3).extract(samples)).any()


def test_the_key_without_silence_is_what_it_was_before() -> None:
    assert "silence_db" not in LogMel().spec.parameters
    assert LogMel(silence_db=30).spec.key != LogMel(silence_db=35).spec.key != LogMel().spec.key


def test_of_a_clip_nothing_but_its_speech_is_seen(noise) -> None:
    hiss, voice = 1e-3 * noise(1.5), babble(2)
    samples = np.concatenate([hiss, voice, np.zeros(24_000, np.float32)]) + np.float32(0.2)
    for options in ({}, {"speed": 1.25}):
        features = LogMel(speech_only=True, **options).extract(samples)
        expected = LogMel(**options).extract(only_speech(samples))
        np.testing.assert_array_equal(features, expected)
        assert len(features) < 0.6 * len(LogMel(**options).extract(samples))


def test_known_speech_is_not_looked_at_again(monkeypatch) -> None:
    monkeypatch.setattr(speech, "SpeechDetector", None)  # any call would fail
    voice = babble(0.5)
    known = LogMel(speech_only=True).extract(voice, is_speech=True)
    np.testing.assert_array_equal(known, LogMel().extract(voice))


def test_a_clip_without_speech_says_why(noise) -> None:
    extractor = LogMel(speech_only=True)
    with pytest.raises(MediaError, match="no speech in the sound"):
        extractor.extract(0.1 * noise(1))
    with pytest.raises(MediaError, match="the sound is silence"):
        extractor.extract(np.full(16_000, 0.5, np.float32))


def test_the_key_without_speech_only_is_what_it_was_before() -> None:
    assert "speech_only" not in LogMel(speech_only=False).spec.parameters
    assert LogMel(speech_only=True).spec.parameters["speech_only"] is True
    assert LogMel(speech_only=True).spec.key != LogMel().spec.key


def test_a_waveform_at_another_rate_is_resampled(noise) -> None:
    samples = noise(1.0)
    assert len(LogMel().extract(samples, 8_000)) == pytest.approx(198, abs=1)


def test_a_file_gives_what_its_waveform_gives(write_wav, noise) -> None:
    samples = noise(1.0)
    path = write_wav(samples)
    for extractor in (LogMel(), LogMel(max_duration_s=0.5)):
        np.testing.assert_array_equal(extractor.extract_file(path), extractor.extract(samples))
        part = extractor.extract_file(path, 0.25, 0.9)
        np.testing.assert_array_equal(part, extractor.extract(samples[4_000:14_400]))
