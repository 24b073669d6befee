"""What may be wrong with a clip, for whoever reads the prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from vavl.features.face_features import DARK, FLAT, SMALL, UNREADABLE, FaceStep, face_side
from vavl.inference.windows import ClipStreams
from vavl.media.audio import SAMPLING_RATE_HZ, SILENCE_DBFS, decibels
from vavl.media.speech import Heard

_QUIET_DBFS = -60.0
"""Level of speech of which steps of 16 bits have left little."""
_LITTLE_S = 1.3
"""Less speech is hardly a sentence: 0.3 s of it are what voice activity adds at both ends."""
_CLIPPED = 0.01
"""Samples at full scale, as a share of the speech, above which a warning is given."""
_DARK = 0.12
"""Mean of red, green and blue, in [0, 1], of a face too dark to show an expression."""
_RARE = 0.5
"""Share of the steps with a face below which a warning is given."""
_FLAWED = 0.2
"""Share of the steps with a face that cannot be used, above which a warning is given."""


_TURNED = {1: "90 degrees clockwise", 2: "180 degrees", 3: "90 degrees counterclockwise"}
"""By the quarter turns, counterclockwise, that undo it."""


class Quality:
    """Counts, while a clip is read, what may be wrong with it.

    Args:
        speech_only: Whether nothing but speech counts of the sound.
    """

    def __init__(self, *, speech_only: bool = False) -> None:
        self._speech_only = speech_only
        self._has_audio = False
        self._notes: tuple[str, ...] = ()
        self._sound, self._speech = _Level(), _Level()
        self._clipped = 0
        self._steps = self._faces = 0
        self._brightness = 0.0
        self._flaws: Counter[str] = Counter()
        self._side = 0.0  # sum over faces that are too small, in pixels
        self._turns: Counter[int] = Counter()

    def watch(self, clip: ClipStreams) -> ClipStreams:
        """The same clip; all that is read of it is counted."""
        self._has_audio = clip.audio is not None
        self._notes = clip.notes
        return replace(
            clip,
            audio=None if clip.audio is None else map(self._count_sound, clip.audio),
            steps=None if clip.steps is None else map(self._count_step, clip.steps),
        )

    def _count_sound(self, heard: Heard) -> Heard:
        self._sound.count(heard.samples)
        self._speech.count(heard.samples[heard.is_speech])
        self._clipped += int((heard.is_clipped & heard.is_speech).sum())
        return heard

    def _count_step(self, step: FaceStep) -> FaceStep:
        self._steps += 1
        self._brightness += step.brightness
        if step.face is not None and step.face.quarter_turns:
            self._turns[step.face.quarter_turns] += 1
        self._tally(step, 1)
        return step

    def _tally(self, step: FaceStep, count: int) -> None:
        """Counts a face once more, or once less."""
        self._faces += count * step.is_evidence
        if step.flaw is not None:
            self._flaws[step.flaw] += count
        if step.flaw == SMALL and step.face is not None:
            self._side += count * face_side(step.face)

    def retake(self, before: Iterable[FaceStep], after: Iterable[FaceStep]) -> None:
        """Counts other faces in steps that were counted: of the one who speaks."""
        for step in before:
            self._tally(step, -1)
        for step in after:
            self._tally(step, 1)

    @property
    def face_share(self) -> float | None:
        """Share of the steps with a face, or None without a picture."""
        return self._faces / self._steps if self._steps else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may be wrong, one short sentence each."""
        return (*self._notes, *self._sound_warnings(), *self._face_warnings())

    def _sound_warnings(self) -> list[str]:
        if not self._has_audio:
            return ["no sound"]
        found = []
        speech_s = self._speech.samples / SAMPLING_RATE_HZ
        if not self._speech.samples or not self._speech_only:
            if self._sound.dbfs < SILENCE_DBFS:
                found.append("the sound is silence")
            elif not self._speech.samples:
                found.append("no speech in the sound")
        else:
            if speech_s < _LITTLE_S:
                found.append(f"very little speech ({speech_s:.1f} s)")
            if self._speech.dbfs < _QUIET_DBFS:
                found.append(f"the speech is very quiet ({self._speech.dbfs:.0f} dBFS)")
        if self._clipped > _CLIPPED * self._speech.samples:
            found.append("the sound is clipped")
        return found

    def _face_warnings(self) -> list[str]:
        found = []
        if self._steps:
            found += [
                self._flaw_in_words(flaw)
                for flaw, steps in self._flaws.items()
                if steps > _FLAWED * (self._faces + self._flaws.total())
            ]
            if self._turns:
                turned = _TURNED[self._turns.most_common(1)[0][0]]
                found.append(f"the picture is turned by {turned}: the face is turned back")
            if not self._faces and not self._flaws:
                found.append("no face was found")
            elif 0 < self._faces < _RARE * self._steps:
                found.append(f"a face in only {self._faces / self._steps:.0%} of the picture")
            if self._brightness < _DARK * self._steps:
                found.append("the picture is very dark")
        return found

    def _flaw_in_words(self, flaw: str) -> str:
        return {
            SMALL: f"the face is too small ({self._side / max(self._flaws[SMALL], 1):.0f} px)",
            DARK: "the face is too dark",
            FLAT: "the face is without contrast",
            UNREADABLE: "the face cannot be read (turned away, upside down or covered)",
        }[flaw]


class _Level:
    """Level of samples as they come in."""

    def __init__(self) -> None:
        self.samples = 0
        self._sum = self._sum_of_squares = 0.0

    def count(self, samples: np.ndarray) -> None:
        self.samples += len(samples)
        self._sum += float(samples.sum(dtype=np.float64))
        self._sum_of_squares += float(np.square(samples, dtype=np.float64).sum())

    @property
    def dbfs(self) -> float:
        """Root mean square without the mean, in dB; see :func:`vavl.media.audio.level_dbfs`."""
        mean = self._sum / max(self.samples, 1)
        return decibels(self._sum_of_squares / max(self.samples, 1) - mean**2)
