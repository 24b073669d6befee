"""Sentences: where speech is cut, however it comes in, and spans that others have marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vavl.features.face_features import FaceStep
from vavl.inference.sentences import NEAR_S, SENTENCE_END_S, SentenceCutter, SpanCutter
from vavl.inference.windows import LONGEST_S, ClipStreams, Cutter, Window, cut_clip
from vavl.media.speech import Heard

RATE = 16_000
Spans = list[tuple[float, float]]


_LOUD = 1_000_000


def heard(spans_s: Spans, length_s: float) -> Heard:
    """Speech in these spans; samples are their own number and a million, about equally loud."""
    count = np.arange(round(length_s * RATE))
    is_speech = np.zeros(len(count), bool)
    for first, stop in spans_s:
        is_speech[round(first * RATE) : round(stop * RATE)] = True
    return Heard(count.astype(np.float32) + _LOUD, is_speech, count < 0)


def blocks(sound: Heard, sizes: Sequence[int] = (5_000,)) -> list[Heard]:
    edges = [0]
    while edges[-1] < len(sound.samples):
        edges.append(edges[-1] + sizes[(len(edges) - 1) % len(sizes)])
    return [sound.between(a, b) for a, b in pairwise(edges)]


def step(time_s: float) -> FaceStep:
    return FaceStep(time_s, np.zeros(2, np.float32), None, 0, 0.5)


def cut(cutter: Cutter, sound: Heard, sizes: Sequence[int] = (5_000,)) -> list[Window]:
    clip = ClipStreams(iter(blocks(sound, sizes)))
    return [window for _, window in cut_clip(clip, [cutter])]


def sentences(spans_s: Spans, length_s: float, sizes: Sequence[int] = (5_000,)) -> Spans:
    cutter = SentenceCutter(audio=True, video=False)
    found = cut(cutter, heard(spans_s, length_s), sizes)
    for window in found:
        first = round(window.start_s * RATE)
        assert np.array_equal(window.waveform, _LOUD + first + np.arange(len(window.waveform)))
        assert window.is_speech is not None
        assert window.is_speech[0]
        assert window.is_speech[-1]
    assert [window.span for window in found] == list(range(len(found)))
    return [(round(window.start_s, 3), round(window.end_s, 3)) for window in found]


@pytest.mark.parametrize(
    ("spans_s", "expected"),
    [
        ([], []),
        ([(1, 3)], [(1, 3)]),
        ([(0, 30)], [(0, 10), (10, 20), (20, 30)]),  # no pause to cut at
        ([(1, 3), (3.1, 5)], [(1, 5)]),  # a pause between words
        ([(1, 3), (3.3, 5)], [(1, 3), (3.3, 5)]),  # between sentences
        ([(0, 4), (4.1, 9), (9.05, 12)], [(0, 4), (4.1, 12)]),  # cut at the longest pause
        ([(0, 4), (4.1, 9), (9.1, 12)], [(0, 9), (9.1, 12)]),  # the last of two that are equal
        ([(0, 0.3), (0.4, 12)], [(0, 10), (10, 12)]),  # no part of less than half a second
        ([(1, 3), (3.4, 3.7), (5, 7)], [(1, 3.7), (5, 7)]),  # a word joins what it is near
        ([(1, 3), (3.9, 4.2), (4.6, 7)], [(1, 3), (3.9, 7)]),  # the nearer of two
        ([(1, 3), (3.4, 3.7), (4.5, 7)], [(1, 3.7), (4.5, 7)]),
        ([(1, 1.3), (1.8, 4)], [(1, 4)]),
        ([(1, 3), (4.5, 4.8), (6, 7)], [(1, 3), (4.5, 4.8), (6, 7)]),  # near nobody
        ([(1, 1.3)], [(1, 1.3)]),
        ([(0, 9.9), (10.2, 10.5)], [(0, 9.9), (10.2, 10.5)]),  # together they last too long
        ([(0, 9.9), (10.2, 10.5), (11, 13)], [(0, 9.9), (10.2, 13)]),
        ([(18, 20)], [(18, 20)]),  # the clip ends
    ],
)
def test_where_sentences_are_cut(spans_s: Spans, expected: Spans) -> None:
    length_s = max([stop for _, stop in spans_s], default=20.0)
    for more_s in (0.0, 5.0):
        assert sentences(spans_s, length_s + more_s) == expected


def test_what_is_quiet_at_the_ends_is_no_part_of_a_sentence() -> None:
    sound = heard([(1, 4)], 5)
    for first_s, stop_s in ((1, 1.5), (2, 2.5), (3.2, 4)):  # at both ends, and a pause inside
        sound.samples[round(first_s * RATE) : round(stop_s * RATE)] *= 0.01
    cutter = SentenceCutter(audio=True, video=False)
    [sentence] = [*cutter.add_audio(sound), *cutter.finish()]
    assert (sentence.start_s, sentence.end_s) == pytest.approx((1.42, 3.28), abs=0.02)


@settings(deadline=None, max_examples=15)
@given(
    lengths=st.lists(
        st.tuples(st.integers(2, 40), st.integers(1, 400)).map(lambda p: (p[0] / 25, p[1] / 25)),
        max_size=7,
    ),
    sizes=st.lists(st.integers(2_000, 3 * RATE), min_size=1, max_size=4),
)
def test_sentences_hold_all_speech_and_no_block_moves_a_cut(
    lengths: Spans, sizes: list[int]
) -> None:
    spans_s, now_s = [], 0.0
    for pause_s, speech_s in lengths:
        spans_s.append((now_s + pause_s, now_s + pause_s + speech_s))
        now_s = spans_s[-1][1]
    sound = heard(spans_s, now_s + 1)
    found = sentences(spans_s, now_s + 1, [RATE // 2])
    assert sentences(spans_s, now_s + 1, sizes) == found
    assert sentences(spans_s, now_s + 1, [len(sound.samples)]) == found
    covered = np.zeros(len(sound.samples), bool)
    for first, stop in found:
        assert 0 < stop - first <= LONGEST_S + 1e-6
        span = slice(round(first * RATE), round(stop * RATE))
        assert not covered[span].any()
        covered[span] = True
        # Neither inside nor between two is there a pause that should not be there.
        edges = np.flatnonzero(np.diff(sound.is_speech[span].astype(int)))
        pauses = (edges[1::2] - edges[::2]) / RATE
        assert pauses.max(initial=0) <= NEAR_S
    assert not np.any(sound.is_speech & ~covered)
    for (first, stop), (onset, _) in pairwise(found):
        if onset - stop < SENTENCE_END_S - 1e-3:  # only because it lasts too long
            assert next(s for s in found if s[0] == onset)[1] - first > LONGEST_S - 0.05


def test_the_picture_is_waited_for_and_cut_alike() -> None:
    cutter = SentenceCutter(audio=True, video=True)
    assert cutter.add_audio(heard([(1, 3), (5, 6)], 8)) == []
    assert cutter.add_steps([step(k / 10) for k in range(29)], 0.1) == []
    [first] = cutter.add_steps([step(k / 10) for k in range(29, 40)], 0.1)
    assert [round(s.time_s, 1) for s in first.steps] == [k / 10 for k in range(10, 30)]
    # The picture ends before the sound does.
    assert [w.start_s for w in [*cutter.end_video(), *cutter.finish()]] == [5]


def test_without_sound_there_are_no_sentences() -> None:
    cutter = SentenceCutter(audio=False, video=True)
    for second in range(100):
        assert cutter.add_steps([step(second + k / 10) for k in range(10)], 0.1) == []
        assert len(cutter._steps) <= 10
    assert cutter.finish() == []


@pytest.mark.parametrize("spans", [None, [(0, 300)] * 50 + [(k, k + 12) for k in range(280)]])
def test_memory_does_not_grow_with_the_clip(spans: Spans | None) -> None:
    sides = {"audio": True, "video": True}
    cutter = SentenceCutter(**sides) if spans is None else SpanCutter(spans, **sides)
    for second in range(60):
        quiet = [(0.3, 0.4)] if second % 3 else [(0, 1)]  # words, and pauses of all kinds
        found = cutter.add_audio(heard(quiet, 1.0))
        found += cutter.add_steps([step(second + k / 10) for k in range(10)], 0.1)
        assert len(cutter._blocks) <= 16
        assert len(cutter._steps) <= 160
        assert all(len(window.waveform) <= LONGEST_S * RATE for window in found)


def test_given_spans_are_slices_whatever_their_order() -> None:
    sound = heard([(0, 40)], 40)
    spans_s = [(20, 22), (1, 3), (2, 2.5), (1, 3), (39, 45), (60, 61), (-5, -1), (-1, 1)]
    found = cut(SpanCutter(spans_s, audio=True, video=False), sound)
    by_span = {window.span: window for window in found}
    assert set(by_span) == {0, 1, 2, 3, 4, 7}  # the others lie outside
    for number, window in by_span.items():
        first, stop = (min(max(0, time_s), 40) for time_s in spans_s[number])
        assert (window.start_s, window.end_s) == (first, stop)
        assert window.waveform[0] == _LOUD + first * RATE
        assert len(window.waveform) == (stop - first) * RATE


def test_long_spans_are_cut_in_their_pauses() -> None:
    sound = heard([(0, 7), (8, 12), (12.5, 40)], 40)
    found = cut(SpanCutter([(1, 40), (2, 3)], audio=True, video=False), sound)
    of_first = [(w.start_s, w.end_s) for w in found if w.span == 0]
    # Nothing is left out, and where there is no pause it is cut after 10 s.
    assert of_first == [(1, 8), (8, 12.5), (12.5, 22.5), (22.5, 32.5), (32.5, 40)]
