"""Cuts the sound and picture of a clip, as they come in, into windows and into parts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.features.face_features import FaceStep
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.media.speech import FRAME, Heard, spoken

LONGEST_S = 10.0
"""Longer clips are predicted in consecutive parts of so many seconds, and the parts averaged."""
LEAST_SPEECH_S = 0.5
"""Less speech says nothing."""
WINDOW_S = 2.0
"""Length of a window of the timeline."""
HOP_S = 0.5
"""From one window of the timeline to the next."""
ENOUGH_S = 6.0
"""A part with so much speech ends with the next pause."""
PAUSE_S = 0.17
"""A pause: so long without speech, which voice activity widens by 0.13 s on either side."""
LONGEST_PART_S = 60.0
"""A part that lasts so long ends with the next pause between sentences."""
SENTENCE_PAUSE_S = 1.0
"""A pause between sentences."""

_CLOSE_S = 1e-6
"""Times that differ by less are the same: they are sums and quotients of floating point numbers."""
_FRAME_S = FRAME / SAMPLING_RATE_HZ


@dataclass(frozen=True, eq=False)
class ClipStreams:
    """Sound and picture of a clip, as far as they are there and wanted; each is read once.

    Attributes:
        audio: Blocks of samples at 16 kHz, with which of them are speech, or None.
        steps: What is seen, at the times of the file, or None.
        step_s: From one step to the next.
        start_s: Second of the file at which the sound begins.
        audio_track: Number of the track of sound, where there are several.
        notes: What was chosen when the clip was opened, in words.
    """

    audio: Iterator[Heard] | None
    steps: Iterator[FaceStep] | None = None
    step_s: float = 0.0
    start_s: float = 0.0
    audio_track: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> dict[str, bool]:
        """Whether there is sound, and whether there is a picture, as a :class:`Cutter` asks."""
        return {"audio": self.audio is not None, "video": self.steps is not None}


@dataclass(frozen=True, eq=False)
class Window:
    """Sound and picture of a span of time.

    Attributes:
        start_s: Its beginning in seconds.
        end_s: Its end, which does not belong to it.
        waveform: ``(N,)`` samples at 16 kHz, fewer than the span where the sound ends earlier.
        steps: What was seen, empty where the picture ends earlier or there is none.
        is_speech: ``(N,)``, True where the samples are speech; None says that all are.
        span: Number of the sentence or given span that it is a part of, where it is one of those
            (:mod:`vavl.inference.sentences`).
    """

    start_s: float
    end_s: float
    waveform: NDArray[np.float32]
    steps: tuple[FaceStep, ...]
    is_speech: NDArray[np.bool_] | None = None
    span: int = 0

    def later(self, by_s: float) -> Window:
        """The same, later by some seconds; the steps keep their times."""
        return replace(self, start_s=self.start_s + by_s, end_s=self.end_s + by_s) if by_s else self

    @property
    def speech(self) -> NDArray[np.float32]:
        """``(M,)`` what is spoken, where speech alone counts."""
        return self.waveform if self.is_speech is None else spoken(self.waveform, self.is_speech)

    @property
    def face_share(self) -> float | None:
        """Share of the steps with a face that can be read, or None without a picture."""
        faces = [step.is_evidence for step in self.steps]
        return sum(faces) / len(faces) if faces else None

    @property
    def people(self) -> tuple[int, ...]:
        """Numbers of the people who are seen, in the order of appearance."""
        seen = {face.person for step in self.steps for face in step.everybody}
        return tuple(sorted(number for number in seen if number is not None))

    def of(self, person: int) -> Window:
        """The same span with one person as the main one, and nobody else."""
        return replace(self, steps=tuple(step.of(person) for step in self.steps))

    @property
    def is_embedded(self) -> bool:
        """Whether there are features of a face in any step."""
        return any(np.isfinite(step.features[0]) for step in self.steps)

    def evidence_s(self, step_s: float) -> float:
        """Seconds of speech, and of steps with a face, which are ``step_s`` apart."""
        speech = len(self.waveform) if self.is_speech is None else int(self.is_speech.sum())
        speech_s = speech / SAMPLING_RATE_HZ
        return speech_s + step_s * sum(step.is_evidence for step in self.steps)


class Cutter(ABC):
    """Takes sound and picture as they come in, and returns windows as soon as they are complete.

    Args:
        audio: Whether there is sound to wait for.
        video: Whether there is a picture to wait for.

    Attributes:
        audio_open: Whether more sound may come.
        video_open: Whether more of the picture may come.
        video_s: Seconds of picture that have come in.
    """

    def __init__(self, *, audio: bool, video: bool) -> None:
        self.audio_open = audio
        self.video_open = video
        self.video_s = 0.0
        self._blocks: deque[Heard] = deque()
        self._first_sample = 0  # of the first block, counted from the beginning of the clip
        self._samples = 0  # all that have come in
        self._steps: deque[FaceStep] = deque()

    def add_audio(self, heard: Heard) -> list[Window]:
        """Takes the next samples at 16 kHz; returns the windows that are complete now."""
        if len(heard.samples):
            self._blocks.append(heard)
            self._samples += len(heard.samples)
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

    @property
    def end_s(self) -> float:
        """Seconds of the longer of both."""
        return max(self.audio_s, self.video_s)

    def finish(self) -> list[Window]:
        """The clip ends here: returns what is left."""
        self.audio_open = self.video_open = False
        return [*self._complete(), *self._rest()]

    @abstractmethod
    def _complete(self) -> list[Window]:
        """The windows that are complete now."""

    @abstractmethod
    def _rest(self) -> list[Window]:
        """What no window has covered when the clip has ended."""

    @property
    def _known_s(self) -> float:
        """Up to when all has come in that will."""
        open_s = [self.audio_s] * self.audio_open + [self.video_s] * self.video_open
        # Past the end of both there is nothing to wait for, and nothing to show.
        return min([*open_s, self.end_s])

    def _heard(self, first: int, stop: int) -> Heard:
        """Samples from one to the one before another, as far as there are any."""
        position, parts = self._first_sample, []
        for block in self._blocks:
            parts.append(block.between(first - position, stop - position))
            position += len(block.samples)
        return Heard.joined(parts)

    def _cut(self, start_s: float, end_s: float) -> Window:
        """What has come in of a span of time."""
        heard = self._heard(*(round(time_s * SAMPLING_RATE_HZ) for time_s in (start_s, end_s)))
        steps = (s for s in self._steps if start_s - _CLOSE_S <= s.time_s < end_s - _CLOSE_S)
        return Window(start_s, end_s, heard.samples, tuple(steps), heard.is_speech)

    def _forget(self, before_s: float) -> None:
        while self._steps and self._steps[0].time_s < before_s - _CLOSE_S:
            self._steps.popleft()
        keep = round(before_s * SAMPLING_RATE_HZ)
        while self._blocks and self._first_sample + len(self._blocks[0].samples) <= keep:
            self._first_sample += len(self._blocks.popleft().samples)


class WindowCutter(Cutter):
    """Windows of constant length and distance, each as soon as all of it is there.

    Window k spans ``[k * hop_s, k * hop_s + length_s)``. When the clip ends, what no window has
    covered yet goes into a last one, which ends with the clip; a clip shorter than a window is one
    window. Memory holds little more than one window.

    Raises:
        InputError: A length or a hop that makes no sense.

    Example:
        >>> from vavl.media.speech import AllSound
        >>> cutter = WindowCutter(2.0, 0.5, audio=True, video=False)
        >>> first = cutter.add_audio(AllSound().add(np.zeros(40_000, np.float32)))
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
        super().__init__(audio=audio, video=video)
        self.length_s = length_s
        self.hop_s = hop_s
        self._number = 0  # of the next window

    def _complete(self) -> list[Window]:
        windows = []
        while self._number * self.hop_s + self.length_s <= self._known_s + _CLOSE_S:
            start_s = self._number * self.hop_s
            windows.append(self._cut(start_s, start_s + self.length_s))
            self._number += 1
        # The last window may begin up to one hop before the next one would.
        self._forget((self._number - 1) * self.hop_s)
        return windows

    def _rest(self) -> list[Window]:
        covered_s = (self._number - 1) * self.hop_s + self.length_s if self._number else 0.0
        if self.end_s <= covered_s + _CLOSE_S:
            return []
        return [self._cut(max(0.0, self.end_s - self.length_s), self.end_s)]


class PartCutter(Cutter):
    """Parts with evidence enough to be predicted as clips of their own, cut between words.

    Evidence is speech, and the time that no sound covers. A part begins with the first speech or
    face. It ends with 10 s of evidence, in a pause once it holds 6 s of speech, or in a pause
    between sentences once it lasts 60 s. What is no speech cannot move the place of a cut: a
    sentence is cut alike, whatever lies around it.
    """

    def __init__(self, *, audio: bool, video: bool) -> None:
        super().__init__(audio=audio, video=video)
        self._frame = 0  # the next one, counted from the beginning of the clip
        self._begin()

    def _begin(self) -> None:
        self._start: int | None = None  # frame of the first speech or face
        self._evidence = self._speech = self._pause = 0  # in frames
        self._kept: list[Heard] = []
        self._shown: list[FaceStep] = []

    def _complete(self) -> list[Window]:
        windows = []
        while (self._frame + 1) * _FRAME_S <= self._known_s + _CLOSE_S:
            windows += self._judged()
        return windows

    def _rest(self) -> list[Window]:
        windows = []
        while self._frame * _FRAME_S < self.end_s - _CLOSE_S:  # of the last one there is a piece
            windows += self._judged()
        return windows if self._start is None else [*windows, self._part()]

    def _judged(self) -> list[Window]:
        """Takes a frame into the part; returns the part if it ends here."""
        first, stop = self._frame * FRAME, (self._frame + 1) * FRAME
        heard = self._heard(first, stop)
        steps = []
        while self._steps and self._steps[0].time_s < stop / SAMPLING_RATE_HZ - _CLOSE_S:
            steps.append(self._steps.popleft())
        self._forget(stop / SAMPLING_RATE_HZ)
        speaks = bool(heard.is_speech.any())
        seen = any(face.is_evidence for step in steps for face in step.everybody)
        if self._start is None and (speaks or seen):
            self._start = self._frame
        self._frame += 1
        if self._start is None:
            return []
        self._kept.append(heard)
        self._shown += steps
        self._speech += speaks
        self._evidence += speaks or not len(heard.samples)
        self._pause = 0 if speaks else self._pause + 1
        lasts, pause_s = (self._frame - self._start) * _FRAME_S, self._pause * _FRAME_S
        ends = (
            (self._evidence + 1) * _FRAME_S > LONGEST_S
            or (self._speech * _FRAME_S >= ENOUGH_S and pause_s >= PAUSE_S)
            or (lasts >= LONGEST_PART_S and pause_s >= SENTENCE_PAUSE_S)
        )
        return [self._part()] if ends else []

    def _part(self) -> Window:
        assert self._start is not None
        end_s = min(self._frame * _FRAME_S, self.end_s)
        kept = Heard.joined(self._kept)
        start_s, steps = self._start * _FRAME_S, tuple(self._shown)
        part = Window(start_s, end_s, kept.samples, steps, kept.is_speech)
        self._begin()
        return part


def cut_clip(clip: ClipStreams, cutters: Sequence[Cutter]) -> Iterator[tuple[int, Window]]:
    """Reads sound and picture of a clip side by side and cuts them in one or several ways.

    Yields the number of the cutter, counted from 0, and its next window. Cutters count from where
    the clip begins; times of what is yielded are those of the file.
    """
    first = cutters[0]  # all of them have got the same
    audio, steps = clip.audio, clip.steps
    while audio is not None or steps is not None:
        if audio is not None and (steps is None or first.audio_s <= first.video_s):
            heard = next(audio, None)
            if heard is None:
                audio = None
                complete = [cutter.end_audio() for cutter in cutters]
            else:
                complete = [cutter.add_audio(heard) for cutter in cutters]
        elif steps is not None:
            step = next(steps, None)
            if step is None:
                steps = None
                complete = [cutter.end_video() for cutter in cutters]
            else:
                step = replace(step, time_s=step.time_s - clip.start_s) if clip.start_s else step
                complete = [cutter.add_steps([step], clip.step_s) for cutter in cutters]
        for way, windows in enumerate(complete):
            yield from ((way, window.later(clip.start_s)) for window in windows)
    for way, cutter in enumerate(cutters):
        yield from ((way, window.later(clip.start_s)) for window in cutter.finish())
