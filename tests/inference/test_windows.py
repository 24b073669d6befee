"""Windows: each sample and step where it belongs, however it comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vavl.errors import InputError
from vavl.faces.alignment import Face
from vavl.features.face_features import FaceStep
from vavl.inference.windows import ClipStreams, PartCutter, Window, WindowCutter, cut_clip
from vavl.media.speech import AllSound, Heard

RATE = 16_000


def step(time_s: float) -> FaceStep:
    return FaceStep(time_s, np.zeros(2, np.float32), None, 0, 0.5)


def cut(
    samples: np.ndarray, steps: int, sizes: list[int], length_s: float, hop_s: float
) -> list[Window]:
    edges = np.cumsum([0, *sizes])
    blocks = [samples[a:b] for a, b in zip(edges, [*edges[1:], len(samples)], strict=True)]
    seen = (step(k * 0.08) for k in range(steps)) if steps else None
    audio = (AllSound().add(block) for block in blocks if len(block))
    clip = ClipStreams(audio, seen, 0.08)
    cutter = WindowCutter(length_s, hop_s, **clip.sides)
    return [window for _, window in cut_clip(clip, [cutter])]


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(1, 6 * RATE),
    steps=st.integers(0, 80),
    sizes=st.lists(st.integers(1, RATE), max_size=8),
    length_s=st.sampled_from([0.5, 2.0]),
    hop_s=st.sampled_from([0.25, 0.5]),
)
def test_windows_are_slices_of_the_clip(
    length: int, steps: int, sizes: list[int], length_s: float, hop_s: float
) -> None:
    samples = np.arange(length, dtype=np.float32)
    windows = cut(samples, steps, sizes, length_s, hop_s)
    end_s = max(length / RATE, steps * 0.08)
    assert windows[0].start_s == 0
    assert windows[-1].end_s == pytest.approx(end_s, abs=1e-6) or (
        windows[-1].end_s < end_s < windows[-1].end_s + 1e-5
    )
    for number, window in enumerate(windows):
        assert window.end_s - window.start_s <= length_s + 1e-9
        if number < len(windows) - 1:
            assert window.start_s == number * hop_s
            assert window.end_s == pytest.approx(window.start_s + length_s)
        first, stop = round(window.start_s * RATE), round(window.end_s * RATE)
        assert np.array_equal(window.waveform, samples[first:stop])
        times = [k * 0.08 for k in range(steps)]
        expected = [t for t in times if window.start_s - 1e-6 <= t < window.end_s - 1e-6]
        assert [s.time_s for s in window.steps] == expected


def test_memory_does_not_grow_with_the_clip() -> None:
    cutter = WindowCutter(2.0, 0.5, audio=True, video=True)
    for second in range(100):
        cutter.add_audio(AllSound().add(np.zeros(RATE, np.float32)))
        cutter.add_steps([step(second + k * 0.1) for k in range(10)], 0.1)
        assert len(cutter._blocks) <= 4
        assert len(cutter._steps) <= 40


@pytest.mark.parametrize(("length_s", "hop_s"), [(0, 1), (1, 0), (1, 2), (float("nan"), 1)])
def test_windows_that_make_no_sense(length_s: float, hop_s: float) -> None:
    with pytest.raises(InputError, match="expected"):
        WindowCutter(length_s, hop_s, audio=True, video=False)


def parts(
    spans_s: list[tuple[float, float]],
    sound_s: float,
    faces_s: list[tuple[float, float]],
    seen_s: float,
) -> list[Window]:
    """Parts of a clip with speech and faces in these spans; samples say their own time."""

    def within(times: np.ndarray, spans: list[tuple[float, float]]) -> np.ndarray:
        return np.any(
            [(first <= times) & (times < stop) for first, stop in [(0, 0), *spans]], axis=0
        )

    times = np.arange(round(sound_s * RATE)) / RATE
    heard = Heard(times.astype(np.float32), within(times, spans_s), times < 0)
    blocks = (heard.between(first, first + 5000) for first in range(0, len(times), 5000))
    moments = np.arange(round(seen_s / 0.08)) * 0.08
    face = Face((0, 0, 9, 9), 1.0, np.zeros((5, 2), np.float32))
    shown = within(moments, faces_s)
    steps = (
        FaceStep(float(t), np.zeros(2, np.float32), face if seen else None, 1, 0.5)
        for t, seen in zip(moments, shown, strict=True)
    )
    clip = ClipStreams(blocks if sound_s else None, steps if seen_s else None, 0.08)
    return [window for _, window in cut_clip(clip, [PartCutter(**clip.sides)])]


@pytest.mark.parametrize(
    ("spans_s", "sound_s", "speech_s"),
    [
        ([], 100, []),
        ([(1, 4)], 90, [3]),  # silence around it does not count
        ([(70, 74)], 200, [4]),
        ([(0, 25)], 25, [10, 10, 5]),
        ([(0, 4), (5, 8), (8.5, 9)], 10, [7, 0.5]),  # a pause after 6 s
        ([(0, 7), (7.1, 8)], 10, [7.9]),  # too short a pause
        ([(0, 3), (50, 53), (61, 64), (65, 66)], 70, [6, 4]),  # after a minute between sentences
        ([(58, 61)], 120, [3]),
    ],
)
def test_a_part_holds_speech_enough_and_ends_in_a_pause(
    spans_s: list[tuple[float, float]], sound_s: float, speech_s: list[float]
) -> None:
    found = parts(spans_s, sound_s, [], 0)
    speech = [part.waveform[part.is_speech] for part in found]
    assert [len(samples) / RATE for samples in speech] == pytest.approx(speech_s, abs=0.1)
    for part, samples in zip(found, speech, strict=True):
        assert part.start_s - 1e-4 <= samples[0] <= samples[-1] <= part.end_s + 1e-4
    heard = np.concatenate([[], *speech])
    assert np.all(np.diff(heard) > 0)  # each sample once, in order
    assert len(heard) / RATE == pytest.approx(
        sum(stop - first for first, stop in spans_s), abs=1e-3
    )


def test_a_picture_alone_counts_by_the_clock() -> None:
    found = parts([], 0, [(0, 25)], 25)
    assert [part.end_s - part.start_s for part in found] == pytest.approx([10, 10, 5], abs=0.1)
    assert sum(len(part.steps) for part in found) == round(25 / 0.08)
    # Where the sound ends earlier, its time counts by its speech.
    found = parts([(0, 2)], 5, [(0, 25)], 25)
    assert [part.end_s for part in found] == pytest.approx([13, 23, 25], abs=0.1)
    assert found[0].evidence_s(0.08) == pytest.approx(2 + 13, abs=0.1)


def test_a_part_begins_with_the_first_face_or_word() -> None:
    for spans_s, faces_s, start_s in (([(20, 22)], [(9, 30)], 9), ([(7, 9)], [(20, 22)], 7)):
        (part,) = parts(spans_s, 30, faces_s, 30)
        assert part.start_s == pytest.approx(start_s, abs=0.1)
        assert part.steps[0].time_s == pytest.approx(start_s, abs=0.1)


def test_of_hours_without_evidence_nothing_is_kept() -> None:
    cutter = PartCutter(audio=True, video=True)
    nothing = Heard(np.zeros(RATE, np.float32), np.zeros(RATE, bool), np.zeros(RATE, bool))
    for second in range(200):
        assert cutter.add_audio(nothing) == []
        assert cutter.add_steps([step(second + k * 0.1) for k in range(10)], 0.1) == []
        assert len(cutter._blocks) <= 2
        assert len(cutter._steps) + len(cutter._shown) <= 10
    assert cutter.finish() == []
