"""The trial of segments: what counts as right, and the same property at a small size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trial_segments import (
    Recording,
    agrees,
    composed,
    matched,
    read_back,
    recordings_of,
    trial,
    trimmed,
    voiced_s,
)
from voices import babble

import vavl
from vavl.types import Modality, Segment

RATE = 16_000


def segment(start_s: float, end_s: float, label: str = "sad") -> Segment:
    return Segment(start_s, end_s, Modality.ACOUSTIC, label, {"sad": 1.0}, {})


def test_a_recording_holds_its_sentences_where_it_says() -> None:
    sentences = [babble(1.0, seed=seed) / 10 for seed in range(3)]
    for noisy in (False, True):
        made = composed(sentences, np.random.default_rng(0), noisy=noisy)
        again = composed(sentences, np.random.default_rng(0), noisy=noisy)
        assert np.array_equal(made.waveform, again.waveform)
        ends_s = [0.0]
        for start_s, sentence in zip(made.starts_s, sentences, strict=True):
            first = round(start_s * RATE)
            placed = made.waveform[first : first + len(sentence)]
            assert np.abs(placed - sentence).max() < (0.01 if noisy else 1e-6)
            assert 0.5 <= start_s - ends_s[-1] <= 3
            ends_s.append(start_s + len(sentence) / RATE)
        pause = made.waveform[: round(made.starts_s[0] * RATE)]
        level_dbfs = 10 * np.log10(np.square(pause).mean() + 1e-12)
        assert level_dbfs == pytest.approx(-60 if noisy else -120, abs=0.2)


def test_breath_is_placed_but_is_no_voice() -> None:
    breath = np.diff(np.random.default_rng(0).standard_normal(RATE + 1)).astype(np.float32) / 50
    sentence = np.concatenate([breath, babble(2.0)])
    assert len(trimmed(np.pad(sentence, RATE))) == pytest.approx(len(sentence), abs=800)
    assert voiced_s(sentence) == pytest.approx((1.0, 3.0), abs=0.1)


def test_segments_are_matched_by_overlap() -> None:
    segments = [segment(0, 2), segment(2.5, 4), segment(9, 10)]
    spans_s = [(0.1, 1.0), (1.9, 3.5), (5, 6)]
    assert matched(spans_s, segments) == [segments[0], segments[1], None]
    assert matched(spans_s, []) == [None] * 3


@pytest.mark.parametrize("form", ["srt", "vtt", "rttm"])
def test_others_read_what_was_written(tmp_path: Path, form: str) -> None:
    segments = [segment(0.1234, 2), segment(63.5, 64)]
    read = read_back(segments, form, tmp_path)
    assert agrees(segments, read)
    assert not agrees(segments, read[:1])
    assert not agrees([segment(0.1234, 2.1), segments[1]], read)


def check(recordings: list[Recording], folder: Path) -> None:
    found = trial(vavl.load(), recordings, folder)
    assert found["one_to_one"] == found["matched"] == found["segments"] == found["sentences"]
    assert found["boundaries_right"]["voice"] >= 0.8
    assert found["boundaries_right"]["alone"] >= 0.9
    assert set(found["read_back"].values()) == {len(recordings)}


def test_sentences_of_nobody_are_found(tmp_path: Path) -> None:
    sentences = [babble(1.2 + seed / 3, pitch_hz=110 + 50 * seed, seed=seed) for seed in range(3)]
    check([composed(sentences, np.random.default_rng(0), noisy=True)], tmp_path)


@pytest.mark.shared
@pytest.mark.parametrize("corpus", ["ravdess", "nemo"])
def test_recorded_sentences_are_found(shared: Path, tmp_path: Path, corpus: str) -> None:
    rng = np.random.default_rng(3)
    check(recordings_of(corpus, shared / "data", 1, rng, noisy=corpus == "nemo"), tmp_path)
