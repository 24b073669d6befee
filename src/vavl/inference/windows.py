"""Cuts the sound and picture of a clip, as they come in, into windows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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
class ClipStreams:
    """Sound and picture of a clip, as far as they are there and wanted; each is read once.

    Attributes:
        audio: Blocks of samples at 16 kHz, or None.
        steps: What is seen, or None.
        step_s: From one step to the next.
    """

    audio: Iterator[NDArray[np.float32]] | None
    steps: Iterator[FaceStep] | None = None
    step_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Window:
    """Sound and picture of a span of time.

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

    @property
    def face_share(self) -> float | None:
        """Share of the steps with a face, or None without a picture."""
        faces = [step.face is not None for step in self.steps]
        return sum(faces) / len(faces) if faces else None


class WindowCutter:
    """Windows of constant length and distance, each as soon as all of it is there.

    Window k spans ``[k * hop_s, k * hop_s + length_s)``. When the clip ends, what no window has
    covered yet goes into a last one, which ends with the clip; a clip shorter than a window is one
    window. Memory holds little more than one window. ``audio`` and ``video`` say whether there is
    sound and a picture to wait for.

    Attributes:
        audio_open: Whether more sound may come.
        video_open: Whether more of the picture may come.
        video_s: Seconds of picture that have come in.

    Raises:
        InputError: A length or a hop that makes no sense.

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
        self.audio_open = audio
        self.video_open = video
        self.video_s = 0.0
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._first_sample = 0  # of the first block, counted from the beginning of the clip
        self._samples = 0  # all that have come in
        self._steps: deque[FaceStep] = deque()
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
            self.video_s = step.time_s + step_s
        return self._complete()

    def end_audio(self) -> list[Window]:
        """The sound ends here; returns the windows that are complete now."""
        self.audio_open = False
        return self._complete()

    def end_video(self) -> list[Window]:
        """The picture ends here; returns the windows that are complete now."""
        self.video_open = False
        return self._complete()

    @property
    def audio_s(self) -> float:
        """Seconds of sound that have come in."""
        return self._samples / SAMPLING_RATE_HZ

    def finish(self) -> list[Window]:
        """The clip ends here: returns the window that ends with it, if anything was left over."""
        self.audio_open = self.video_open = False
        windows = self._complete()
        end_s = max(self.audio_s, self.video_s)
        covered_s = (self._number - 1) * self.hop_s + self.length_s if self._number else 0.0
        if end_s > covered_s + _CLOSE_S:
            windows.append(self._cut(max(0.0, end_s - self.length_s), end_s))
        return windows

    def _complete(self) -> list[Window]:
        known_s = min(
            self.audio_s if self.audio_open else math.inf,
            self.video_s if self.video_open else math.inf,
        )
        # Past the end of both there is nothing to wait for, and nothing to show.
        known_s = min(known_s, max(self.audio_s, self.video_s))
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
    clip: ClipStreams, lengths_and_hops_s: Sequence[tuple[float, float]]
) -> Iterator[tuple[int, Window]]:
    """Reads sound and picture of a clip side by side and cuts them in one or several ways.

    A way is the length of a window, and how far it is to the next. Yields the number of the way,
    counted from 0, and its next window.
    """
    sides = {"audio": clip.audio is not None, "video": clip.steps is not None}
    cutters = [WindowCutter(length_s, hop_s, **sides) for length_s, hop_s in lengths_and_hops_s]
    first = cutters[0]  # all of them have got the same
    audio, steps = clip.audio, clip.steps
    while audio is not None or steps is not None:
        if audio is not None and (steps is None or first.audio_s <= first.video_s):
            block = next(audio, None)
            if block is None:
                audio = None
                complete = [cutter.end_audio() for cutter in cutters]
            else:
                complete = [cutter.add_audio(block) for cutter in cutters]
        elif steps is not None:
            step = next(steps, None)
            if step is None:
                steps = None
                complete = [cutter.end_video() for cutter in cutters]
            else:
                complete = [cutter.add_steps([step], clip.step_s) for cutter in cutters]
        for way, windows in enumerate(complete):
            yield from ((way, window) for window in windows)
    for way, cutter in enumerate(cutters):
        yield from ((way, window) for window in cutter.finish())
