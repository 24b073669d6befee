"""Everybody in the picture: where they are, for how long, and what each face says."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cached_property

from vavl.features.face_features import FaceStep
from vavl.inference.averaging import mean
from vavl.inference.windows import ClipStreams, Window
from vavl.types import FaceBox, Person, TimedPrediction

_PASSING_S, _PASSING = 0.45, 0.2
"""Who is seen for less than this time and less than this share of the picture is left out: found in
a single frame of those that the detector looks at, and most often no face at all."""
_CROWD = 0.2
"""Share of the picture with several people above which a warning is given."""
_STRAIGHT = 0.002
"""A face that is nearer than this to a straight line, in shares of the picture, is on it."""
LONGEST_STEP_S = 0.5
"""Places of a face that are further apart have nothing between them: it was out of sight."""


class Crowd:
    """Collects who is seen while a clip is read. Memory grows with places and people alone.

    Args:
        step_s: From one picture to the next.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._steps = self._crowded = 0
        self._tracks: dict[int, _Track] = {}
        self._main: Counter[int] = Counter()  # steps by whose face the clip was predicted
        self._told_s = self._several_s = 0.0  # of the parts whose speaker was told, of those asked
        self._parts: dict[int, list[tuple[TimedPrediction, float]]] = defaultdict(list)
        self._timelines: dict[int, list[TimedPrediction]] = defaultdict(list)

    def watch(self, clip: ClipStreams) -> ClipStreams:
        """The same clip; places are kept, and people counted."""
        return replace(clip, steps=None if clip.steps is None else map(self._see, clip.steps))

    def _see(self, step: FaceStep) -> FaceStep:
        self._steps += 1
        self._crowded += step.faces_seen > 1
        for face in step.everybody:
            if face.person is not None:
                self._tracks.setdefault(face.person, _Track()).add(face)
        return step

    def add_part(self, window: Window, main: Window, found: dict[int, TimedPrediction]) -> None:
        """Takes a part of the clip.

        Args:
            window: The part with everybody in it.
            main: The same with the one who speaks alone, or the same where that was not told.
            found: What the face of each says.
        """
        self._main.update(step.person for step in main.steps if step.person is not None)
        if len(window.people) > 1:
            self._several_s += len(window.steps) * self._step_s
            self._told_s += (main is not window) * len(window.steps) * self._step_s
        for person, prediction in found.items():
            faces = (face for step in window.steps for face in step.everybody)
            weight = sum(face.person == person and face.is_evidence for face in faces)
            self._parts[person].append((prediction, weight))

    def add_window(self, found: dict[int, TimedPrediction]) -> None:
        """Takes a window of the timeline: what the face of each says."""
        for person, prediction in found.items():
            self._timelines[person].append(prediction)

    @cached_property
    def people(self) -> tuple[Person, ...]:
        """Everybody who was not just passing, in the order of appearance, when the clip is read."""
        stayed = {
            person: track
            for person, track in sorted(self._tracks.items())
            if track.steps * self._step_s >= _PASSING_S or track.steps >= _PASSING * self._steps
        }
        main = max(stayed, key=self._main.__getitem__, default=None)
        people = []
        for number, (person, track) in enumerate(stayed.items(), start=1):
            parts = [part for part in self._parts[person] if part[0].modality is not None]
            whole = TimedPrediction(0.0, 0.0, None, None, {}, {})
            if parts:
                whole = mean(parts)
            people.append(
                Person(
                    start_s=track.boxes[0].time_s,
                    end_s=track.boxes[-1].time_s + self._step_s,
                    modality=whole.modality,
                    label=whole.label,
                    probabilities=whole.probabilities,
                    attributes=whole.attributes,
                    face_share=track.readable / self._steps,
                    number=number,
                    is_main=person == main,
                    track=tuple(track.boxes),
                    timeline=tuple(self._timelines[person]),
                )
            )
        return tuple(people)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where there are several people: for whom sound and face were put together, and why."""
        if self._crowded <= _CROWD * self._steps:
            return ()
        main = next((person.number for person in self.people if person.is_main), None)
        if main is None or len(self.people) < 2:
            return ("several people: the most prominent one is taken",)
        if self._told_s > self._several_s / 2:
            return (f"several people: person {main} is taken, whose mouth moves with the voice",)
        return (f"several people: person {main} is taken, the most prominent one",)


def face_box(step: FaceStep) -> FaceBox | None:
    """Where the main face of a step is, if there is one."""
    if step.face is None:
        return None
    x0, y0, x1, y1 = (
        round(value / size, 4)
        for value, size in zip(step.face.box, step.frame_size * 2, strict=True)
    )
    return FaceBox(step.time_s, (x0, y0, x1, y1))


class _Track:
    """Where a person is seen, without the places that lie on a line between others."""

    def __init__(self) -> None:
        self.boxes: list[FaceBox] = []
        self.steps = self.readable = 0

    def add(self, face: FaceStep) -> None:
        new = face_box(face)
        assert new is not None
        self.steps += 1
        self.readable += face.is_evidence
        if len(self.boxes) > 1 and _is_between(self.boxes[-2], self.boxes[-1], new):
            self.boxes[-1] = new
        else:
            self.boxes.append(new)


def _is_between(first: FaceBox, middle: FaceBox, last: FaceBox) -> bool:
    """Whether the middle one lies on the line from the first to the last, which are near."""
    span_s = last.time_s - first.time_s
    if span_s > LONGEST_STEP_S:
        return False
    share = (middle.time_s - first.time_s) / span_s
    return all(
        abs(a + share * (b - a) - m) <= _STRAIGHT
        for a, m, b in zip(first.box, middle.box, last.box, strict=True)
    )
