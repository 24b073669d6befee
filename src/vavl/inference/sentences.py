"""Cuts a clip into sentences: by the pauses in its speech, or where somebody else has marked them.

Both cutters hold little more than the last 10 s, however long the clip is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vavl.inference.windows import LEAST_SPEECH_S, LONGEST_S, Cutter, Window
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.media.speech import STEP, Heard, is_spoken

SENTENCE_END_S = 0.12
"""A pause of so long ends a sentence. Somebody is quiet for about 0.45 s then: voice activity gives
0.13 s before and after speech to it, and notices some 0.08 s late that it is over."""
NEAR_S = 1.0
"""Over a longer pause, a word does not join the sentence before or after it."""

_LONGEST, _SHORTEST = (round(s * SAMPLING_RATE_HZ) for s in (LONGEST_S, LEAST_SPEECH_S))
_END, _NEAR = (round(s * SAMPLING_RATE_HZ) for s in (SENTENCE_END_S, NEAR_S))

Run = tuple[int, int]
"""The first sample of something, and the one after its last."""


class SentenceCutter(Cutter):
    """Sentences: windows that begin and end with speech, each between two pauses.

    A pause of about half a second ends a sentence. One of more than 10 s is cut at its longest
    pause, or after 10 s where there is none. One of less than 0.5 s joins the nearer neighbour, if
    the pause to it is at most 1 s and both together last at most 10 s. What is much quieter than
    the rest of a sentence is cut off at both ends.

    How the sound is cut into blocks makes no difference. A sentence is known once it is clear that
    no word joins it, usually 0.5 to 1 s after its end, and once the picture is there.

    Example:
        >>> sound = Heard(np.zeros(80_000, np.float32), *np.zeros((2, 80_000), bool))
        >>> sound.is_speech[8_000:32_000] = sound.is_speech[48_000:72_000] = True
        >>> cutter = SentenceCutter(audio=True, video=False)
        >>> sentences = [*cutter.add_audio(sound), *cutter.finish()]
        >>> [(sentence.start_s, sentence.end_s) for sentence in sentences]
        [(0.5, 2.0), (3.0, 4.5)]
    """

    def __init__(self, *, audio: bool, video: bool) -> None:
        super().__init__(audio=audio, video=video)
        self._runs: list[Run] = []  # of speech, in the sentence that is not over
        self._over: Run | None = None  # the one before, which a single word may still join
        self._ready: deque[Run] = deque()  # settled; the picture may still be missing
        self._number = 0  # of the next one to be returned

    def add_audio(self, heard: Heard) -> list[Window]:
        """Takes the next samples at 16 kHz; returns the sentences that are complete now."""
        position = self._samples
        for first, stop in _runs(heard.is_speech):
            self._pause_until(position + first)
            self._speech(position + first, position + stop)
        self._pause_until(position + len(heard.samples))
        return super().add_audio(heard)

    def _speech(self, first: int, stop: int) -> None:
        """Somebody speaks."""
        if self._runs and self._runs[-1][1] == first:  # all the time, since the last block
            first = self._runs.pop()[0]
        self._runs.append((first, stop))
        while stop - self._runs[0][0] > _LONGEST:
            self._cut_longest()
        if stop - self._runs[0][0] >= _SHORTEST:
            self._settle()

    def _pause_until(self, now: int) -> None:
        """Nobody has spoken since the last run."""
        if self._runs and now - self._runs[-1][1] >= self._patience:
            self._end()
        if self._over and not self._runs and now - self._over[1] > _NEAR:
            self._settle()

    @property
    def _patience(self) -> int:
        """Samples of a pause that ends the sentence: a single word waits for others."""
        first, stop = self._runs[0][0], self._runs[-1][1]
        if stop - first >= _SHORTEST:
            return _END
        return first - self._over[1] if self._over and self._joins_over() else _NEAR

    def _joins_over(self) -> bool:
        """Whether this is a single word that may join the sentence before."""
        first, stop = self._runs[0][0], self._runs[-1][1]
        return (
            self._over is not None
            and stop - first < _SHORTEST
            and first - self._over[1] <= _NEAR
            and stop - self._over[0] <= _LONGEST
        )

    def _end(self) -> None:
        """The sentence is over."""
        first, stop = self._runs[0][0], self._runs[-1][1]
        if self._over and self._joins_over():
            first = self._over[0]
        else:
            self._settle()
        self._over, self._runs = (first, stop), []

    def _settle(self) -> None:
        """Nothing joins the sentence before any more."""
        if self._over:
            self._ready.append(self._over)
        self._over = None

    def _cut_longest(self) -> None:
        """The sentence is too long: its first part is over."""
        self._settle()
        first, last = self._runs[0][0], self._runs[-1]
        pause = _longest_pause(self._runs, first + _SHORTEST)
        stop, onset = pause or (first + _LONGEST, first + _LONGEST)
        self._over = first, stop
        rest = [run for run in self._runs if run[0] >= onset]
        self._runs = rest or [(onset, last[1])]

    def _complete(self) -> list[Window]:
        if not self.audio_open:
            if self._runs:
                self._end()
            self._settle()
        windows = []
        known = round(self._known_s * SAMPLING_RATE_HZ)
        while self._ready and self._ready[0][1] <= known:
            first, stop = self._ready.popleft()
            first, stop = self._loud(first, stop)
            sentence = self._cut(first / SAMPLING_RATE_HZ, stop / SAMPLING_RATE_HZ)
            windows.append(replace(sentence, span=self._number))
            self._number += 1
        pending = [*self._ready, *([self._over] if self._over else []), *self._runs]
        needed_s = pending[0][0] / SAMPLING_RATE_HZ if pending else self.audio_s
        self._forget(needed_s if pending or self.audio_open else self.end_s)
        return windows

    def _loud(self, first: int, stop: int) -> Run:
        """A sentence without the steps at its ends that are much quieter than the rest."""
        heard = self._heard(first, stop)
        loud = np.flatnonzero(is_spoken(heard.samples, heard.is_speech)).tolist()
        if loud and loud[0] >= STEP:
            first += loud[0]
        if loud and len(heard.samples) - 1 - loud[-1] >= STEP:
            stop -= len(heard.samples) - 1 - loud[-1]
        return first, stop

    def _rest(self) -> list[Window]:
        return []


class SpanCutter(Cutter):
    """Given spans of time, which may overlap; a longer one than 10 s in several windows.

    It is cut at the end of the longest pause in its first 10 s, or after 10 s where there is none,
    and so on; its windows have its number. Of a span that lies outside the clip there is no window,
    and what goes beyond the clip is cut off.

    Args:
        spans_s: Beginning and end in seconds, in any order; none ends before its beginning.
        audio: Whether there is sound to wait for.
        video: Whether there is a picture to wait for.

    Example:
        >>> from vavl.media.speech import AllSound
        >>> cutter = SpanCutter([(1, 3), (0, 12), (30, 40)], audio=True, video=False)
        >>> windows = cutter.add_audio(AllSound().add(np.zeros(320_000, np.float32)))
        >>> [(window.span, window.start_s, window.end_s) for window in windows]
        [(0, 1, 3), (1, 0.0, 10.0), (1, 10.0, 12)]
    """

    def __init__(self, spans_s: Sequence[tuple[float, float]], *, audio: bool, video: bool) -> None:
        super().__init__(audio=audio, video=video)
        order = sorted(range(len(spans_s)), key=lambda number: spans_s[number])
        self._coming = deque(
            (max(0.0, spans_s[number][0]), spans_s[number][1], number)
            for number in order
            if spans_s[number][1] > 0
        )
        # By when it is to be cut: beginning and end of what is left of a span, and its number.
        self._open: list[tuple[float, float, float, int]] = []

    def _complete(self) -> list[Window]:
        windows = []
        known_s = self._known_s
        while self._coming and self._coming[0][0] < known_s:
            self._await(*self._coming.popleft())
        while self._open and self._open[0][0] <= known_s:
            _, start_s, end_s, number = heapq.heappop(self._open)
            windows.append(self._part(start_s, end_s, number))
        self._forget(known_s - LONGEST_S if self._open else known_s)
        return windows

    def _rest(self) -> list[Window]:
        ordered = (heapq.heappop(self._open) for _ in range(len(self._open)))
        return [self._part(start_s, self.end_s, number) for _, start_s, _, number in ordered]

    def _await(self, start_s: float, end_s: float, number: int) -> None:
        heapq.heappush(self._open, (min(end_s, start_s + LONGEST_S), start_s, end_s, number))

    def _part(self, start_s: float, end_s: float, number: int) -> Window:
        """The first window of what is left of a span; what is left then waits for its turn."""
        part = self._cut(start_s, min(end_s, start_s + LONGEST_S))
        if end_s > part.end_s and part.is_speech is not None:
            pause = _longest_pause(list(_runs(part.is_speech)), _SHORTEST)
            if pause:
                part = self._cut(start_s, start_s + pause[1] / SAMPLING_RATE_HZ)
            self._await(part.end_s, end_s, number)
        return replace(part, span=number)


def _runs(is_speech: NDArray[np.bool_]) -> Iterator[Run]:
    """Where there is speech in ``(n,)`` samples."""
    edges = np.flatnonzero(np.diff(is_speech, prepend=False, append=False)).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


def _longest_pause(runs: Sequence[Run], least: int) -> Run | None:
    """The longest pause between runs that begins at ``least`` or later; the last of equal ones."""
    pauses = [(stop, first) for (_, stop), (first, _) in pairwise(runs) if stop >= least]
    return max(pauses, key=lambda pause: (pause[1] - pause[0], pause[0]), default=None)
