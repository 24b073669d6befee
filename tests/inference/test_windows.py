"""Windows: each sample and step where it belongs, however it comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vavl.errors import InputError
from vavl.features.face_features import FaceStep
from vavl.inference.windows import ClipStreams, Window, WindowCutter, cut_clip
from vavl.media.speech import AllSound

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
