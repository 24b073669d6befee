"""Cuts sound and picture that come in one after the other into overlapping windows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.features.face_features import FaceStep
from vavl.media.audio import SAMPLING_RATE_HZ

LONGEST_S = 10.0
"""Longer clips are predicted in consecutive parts of so many seconds, and the parts averaged."""
WINDOW_S = 2.0
"""Length of a window of the timeline."""
HOP_S = 0.5
"""From one window of the timeline to the next."""

_CLOSE_S = 1e-6
"""Times that differ by less are the same: they are sums and quotients of floating point numbers."""


@dataclass(frozen=True, eq=False)
class Window:
    """What was heard and seen in a span of time.

    Attributes:
        start_s: Its beginning in seconds.
        end_s: Its end, which does not belong to it.
        waveform: ``(N,)`` samples at 16 kHz, fewer than the span where the sound ends earlier.
        steps: What was seen, empty where the picture ends earlier or there is none.
    """

    start_s: float
    end_s: float
    waveform: NDArray[np.float32]
    steps: tuple[FaceStep, ...]


class WindowCutter:
    """Windows of constant length and distance, each as soon as all of it is there.

    Window k spans ``[k * hop_s, k * hop_s + length_s)``. When the clip ends, what no window has
    covered yet goes into a last one, which ends with the clip; a clip shorter than a window is one
    window. Memory holds little more than one window.

    Args:
        length_s: Length of a window.
        hop_s: From the beginning of one window to that of the next.
        audio: Whether there is sound to wait for.
        video: Whether there is a picture to wait for.

    Example:
        >>> cutter = WindowCutter(2.0, 0.5, audio=True, video=False)
        >>> first = cutter.add_audio(np.zeros(40_000, np.float32))
        >>> last = cutter.finish()
        >>> [(window.start_s, window.end_s) for window in [*first, *last]]
        [(0.0, 2.0), (0.5, 2.5)]
    """

    def __init__(self, length_s: float, hop_s: float, *, audio: bool, video: bool) -> None:
        for name, value in (("length_s", length_s), ("hop_s", hop_s)):
            if not 0 < value < math.inf:
                raise InputError(f"{name}: expected seconds > 0, got {value}")
        if hop_s > length_s:
            raise InputError(f"hop_s: expected at most length_s={length_s:g}, got {hop_s:g}")
        self.length_s = length_s
        self.hop_s = hop_s
        self._audio_open = audio
        self._video_open = video
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._first_sample = 0  # of the first block, counted from the beginning of the clip
        self._samples = 0  # all that have come in
        self._steps: deque[FaceStep] = deque()
        self._seen_s = 0.0  # up to where the picture is known
        self._number = 0  # of the next window

    def add_audio(self, samples: NDArray[np.float32]) -> list[Window]:
        """Takes the next samples at 16 kHz; returns the windows that are complete now."""
        self._blocks.append(samples)
        self._samples += len(samples)
        return self._complete()

    def add_steps(self, steps: Iterable[FaceStep], step_s: float) -> list[Window]:
        """Takes what was seen next, ``step_s`` apart; returns the windows that are complete now."""
        for step in steps:
            self._steps.append(step)
            self._seen_s = step.time_s + step_s
        return self._complete()

    def end_audio(self) -> list[Window]:
        """The sound ends here; returns the windows that are complete now."""
        self._audio_open = False
        return self._complete()

    def end_video(self) -> list[Window]:
        """The picture ends here; returns the windows that are complete now."""
        self._video_open = False
        return self._complete()

    @property
    def heard_s(self) -> float:
        """Seconds of sound that have come in."""
        return self._samples / SAMPLING_RATE_HZ

    @property
    def seen_s(self) -> float:
        """Seconds of picture that have come in."""
        return self._seen_s

    def finish(self) -> list[Window]:
        """The clip ends here: returns the window that ends with it, if anything was left over."""
        self._audio_open = self._video_open = False
        windows = self._complete()
        end_s = max(self.heard_s, self._seen_s)
        covered_s = (self._number - 1) * self.hop_s + self.length_s if self._number else 0.0
        if end_s > covered_s + _CLOSE_S:
            windows.append(self._cut(max(0.0, end_s - self.length_s), end_s))
        return windows

    def _complete(self) -> list[Window]:
        known_s = min(
            self.heard_s if self._audio_open else math.inf,
            self._seen_s if self._video_open else math.inf,
        )
        # Past the end of both there is nothing to wait for, and nothing to show.
        known_s = min(known_s, max(self.heard_s, self._seen_s))
        windows = []
        while self._number * self.hop_s + self.length_s <= known_s + _CLOSE_S:
            start_s = self._number * self.hop_s
            windows.append(self._cut(start_s, start_s + self.length_s))
            self._number += 1
        # The last window may begin up to one hop before the next one would.
        self._forget((self._number - 1) * self.hop_s)
        return windows

    def _cut(self, start_s: float, end_s: float) -> Window:
        first, stop = (round(time_s * SAMPLING_RATE_HZ) for time_s in (start_s, end_s))
        parts, position = [np.zeros(0, np.float32)], self._first_sample
        for block in self._blocks:
            parts.append(block[max(first - position, 0) : max(stop - position, 0)])
            position += len(block)
        steps = (s for s in self._steps if start_s - _CLOSE_S <= s.time_s < end_s - _CLOSE_S)
        return Window(start_s, end_s, np.concatenate(parts), tuple(steps))

    def _forget(self, before_s: float) -> None:
        while self._steps and self._steps[0].time_s < before_s - _CLOSE_S:
            self._steps.popleft()
        keep = round(before_s * SAMPLING_RATE_HZ)
        while self._blocks and self._first_sample + len(self._blocks[0]) <= keep:
            self._first_sample += len(self._blocks.popleft())


def cut_clip(
    cutters: list[WindowCutter],
    audio: Iterator[NDArray[np.float32]] | None,
    steps: Iterator[FaceStep] | None,
    step_s: float,
) -> Iterator[tuple[int, Window]]:
    """Reads sound and picture of a clip in step and cuts them in one or several ways.

    Args:
        cutters: New ones, at least one.
        audio: Blocks of samples at 16 kHz, or None without sound.
        steps: What is seen, or None without a picture.
        step_s: From one step to the next.

    Yields:
        Index of the cutter, and its next window.
    """
    done = object()
    first = cutters[0]  # they all know the same
    while audio is not None or steps is not None:
        if audio is not None and (steps is None or first.heard_s <= first.seen_s):
            block = next(audio, done)
            if block is done:
                audio = None
                windows = [cutter.end_audio() for cutter in cutters]
            else:
                assert isinstance(block, np.ndarray)
                windows = [cutter.add_audio(block) for cutter in cutters]
        else:
            assert steps is not None
            step = next(steps, done)
            if step is done:
                steps = None
                windows = [cutter.end_video() for cutter in cutters]
            else:
                assert isinstance(step, FaceStep)
                windows = [cutter.add_steps([step], step_s) for cutter in cutters]
        for index, complete in enumerate(windows):
            yield from ((index, window) for window in complete)
    for index, cutter in enumerate(cutters):
        yield from ((index, window) for window in cutter.finish())
