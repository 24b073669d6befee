"""Faces over time: persons from frame to frame, places in between, and the main face."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, all_problems
from vavl.faces.alignment import Face, FaceDetector
from vavl.faces.looks import CutDetector, Looks, has_changed
from vavl.media.frames import VideoFrame

_FARTHEST = 0.6
"""Largest distance of a face from where it is expected, in sides of its box."""
_GROWTH = 1.6
"""Largest change of a face's size, as a factor: beyond that, the scene was cut."""


class _Person:
    """A person who was seen: the last face, when that was, and the score for the main face."""

    def __init__(self, face: Face, time_s: float) -> None:
        self.face = face
        self.seen_s = time_s
        self.score = 0.0
        self._step_s = 0.0  # between the last two sightings
        self._movement = np.zeros(2)  # over that time

    def move(self, face: Face, time_s: float) -> None:
        """Records the next sighting."""
        self._step_s = time_s - self.seen_s
        self._movement = _centre(face) - _centre(self.face)
        self.face, self.seen_s = face, time_s

    def distance(self, face: Face, time_s: float) -> float:
        """How far a face is from where this person is expected, in sides of the box.

        Infinite for a face of quite another size.
        """
        # Further ahead than it was watched, a movement predicts nothing.
        steps = min(1.0, (time_s - self.seen_s) / self._step_s) if self._step_s else 0.0
        expected = _centre(self.face) + steps * self._movement
        smaller, larger = sorted((_side(self.face), _side(face)))
        if not 0 < larger <= _GROWTH * smaller:
            return math.inf
        return float(np.linalg.norm(_centre(face) - expected)) / larger


def _matched(people: dict[int, _Person], faces: list[Face], time_s: float) -> dict[int, int]:
    """Index of a face to the number of its person, nearest pairs first; new faces are left out."""
    pairs = sorted(
        (person.distance(face, time_s), index, number)
        for number, person in people.items()
        for index, face in enumerate(faces)
    )
    numbers: dict[int, int] = {}
    for distance, index, number in pairs:
        if distance <= _FARTHEST and index not in numbers and number not in numbers.values():
            numbers[index] = number
    return numbers


def _side(face: Face) -> float:
    """Side of the square as large as the box."""
    x0, y0, x1, y1 = face.box
    return math.sqrt(max(0.0, x1 - x0) * max(0.0, y1 - y0))


def _centre(face: Face) -> NDArray[np.float64]:
    return np.asarray(face.landmarks, np.float64).mean(axis=0)


MainFaceRule = Literal["prominent", "largest", "longest"]

_MEMORY_S = 5.0
"""After this time, a sighting counts 1 / e as much for ``"prominent"``."""
_ADVANTAGE = 1.25
"""Another face becomes the main one when it reaches so many times the score."""

DETECT_EVERY = 5
"""Frames from one detection to the next, by default."""
MAX_GAP_S = 1.0
"""For how long a person is remembered without being seen, by default."""


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame and the faces in it.

    Attributes:
        frame: The frame as it was given.
        faces: By the number of the person, from 0 in the order of appearance.
        main: Number of the main person, who may be out of sight, or None without one.
    """

    frame: VideoFrame
    faces: Mapping[int, Face]
    main: int | None

    @property
    def face(self) -> Face | None:
        """The main face, or None where it is not seen."""
        return None if self.main is None else self.faces.get(self.main)

    @property
    def track(self) -> int | None:
        """Number of the main person, or None where the face is not seen."""
        return self.main if self.face is not None else None

    @property
    def faces_seen(self) -> int:
        """Number of all faces."""
        return len(self.faces)


class FaceTracker:
    """Follows faces through the frames of a video and tells which one is the main one.

    The detector, which takes most of the time, sees only every ``detect_every``-th frame, the key
    frames, and the last one. The faces of the other frames are those of the nearest key frame, the
    later of two. A face in the key frames on both sides is placed between them by linear
    interpolation in time; otherwise it stays where it was found.

    A person is expected where the last movement leads. A face of a key frame belongs to the person
    who is expected nearest to it, if that is near enough and the sizes are similar; otherwise it is
    a new person. A person who is not seen for more than ``max_gap_s``, nor in the key frame before,
    is forgotten. While the main person is out of sight for up to ``max_gap_s``, there is no face:
    nobody else takes the place.

    The result depends on past frames and on those up to the next key frame. So a live stream gives
    the same as a file, ``latency_frames`` later.

    With ``by_looks``, each shot is followed as a video of its own: the frames on both sides of a
    cut are key frames, and nobody is expected where somebody was before it, unless the picture
    stays the same there. A face that belongs to
    nobody by its place is compared with the people seen before, by :class:`vavl.faces.looks.Looks`:
    who comes back keeps the number.

    Args:
        detector: Finds faces in key frames.
        detect_every: Frames from one key frame to the next, at least 1. With the default, at 12.5
            frames a second, interpolated landmarks are 0.04 of the distance between the eyes away
            from those detected in the same frame, on a speaker who moves; with 2, it is 0.03.
        max_gap_s: For how many seconds a person is remembered without being seen. The gap is not
            filled: frames where nobody was found stay without a face.
        main: Which face is the main one. A number: always that person, by
            :attr:`TrackedFrame.track`. A rule: the person of the highest score so far, who stays
            the main one until another reaches 1.25 times that score, or until forgotten.
            ``"prominent"`` adds up the height of the box as a share of the frame times the
            detector's confidence over the key frames, where what lies 5 s back counts 1 / e as
            much: large, certain and lasting faces win. ``"largest"`` compares the boxes as last
            seen, ``"longest"`` the number of key frames in which a face was seen.

    Example:
        >>> class Fixed:
        ...     def detect(self, frames):
        ...         return [[Face((10, 10, 30, 30), 0.9, np.ones((5, 2), np.float32))]]
        >>> pixels = np.zeros((48, 64, 3), np.uint8)
        >>> frames = [VideoFrame(number / 12.5, pixels) for number in range(6)]
        >>> [tracked.track for tracked in FaceTracker(Fixed()).track(frames)]
        [0, 0, 0, 0, 0, 0]
    """

    _before: NDArray[np.uint8] | None  # the last frame

    def __init__(
        self,
        detector: FaceDetector,
        detect_every: int = DETECT_EVERY,
        max_gap_s: float = MAX_GAP_S,
        main: MainFaceRule | int = "prominent",
        by_looks: bool = False,
    ) -> None:
        problems = []
        if detect_every < 1:
            problems.append(f"detect_every: expected at least 1 frame, got {detect_every}")
        if not 0 <= max_gap_s < math.inf:
            problems.append(f"max_gap_s: expected seconds >= 0, got {max_gap_s}")
        rules = get_args(MainFaceRule)
        if main not in rules and not (isinstance(main, int) and main >= 0):
            problems.append(f"main: expected one of {rules} or a number from 0, got {main!r}")
        if problems:
            raise InputError(all_problems("FaceTracker", problems))
        self.detector, self.detect_every = detector, detect_every
        self.max_gap_s, self.main = max_gap_s, main
        self._by_looks = by_looks
        self._begin()

    @property
    def latency_frames(self) -> int:
        """By how many frames the result is late at most."""
        return self.detect_every - 1

    def track(self, frames: Iterable[VideoFrame]) -> Iterator[TrackedFrame]:
        """Follows the faces of a whole video, see :meth:`update`; one result for each frame."""
        self._begin()
        for frame in frames:
            yield from self.update(frame)
        yield from self.finish()

    def update(self, frame: VideoFrame) -> list[TrackedFrame]:
        """Takes the next frame; returns those that are now settled: none, or all up to this one.

        Raises:
            InputError: The frame is not later than the one before.
        """
        newest = self._waiting[-1] if self._waiting else self._key
        if newest is not None and not frame.time_s > newest.time_s:
            raise InputError(
                f"frame: expected a time after {newest.time_s:.3f} s, got {frame.time_s:.3f} s; "
                "call finish() before the first frame of another video"
            )
        shot: list[TrackedFrame] = []
        if self._by_looks and self._cuts.is_cut(frame.pixels):
            shot = self._settle() if self._waiting else []
            assert self._before is not None
            stay = {
                number: person
                for number, person in self._people.items()
                if not has_changed(self._before, frame.pixels, person.face.box)
            }
            self._begin_shot(stay)
        self._before = frame.pixels
        self._waiting.append(frame)
        if self._key is not None and len(self._waiting) < self.detect_every:
            return shot
        return shot + self._settle()

    def finish(self) -> list[TrackedFrame]:
        """Ends the video; returns the frames that were not settled yet. The tracker is as new."""
        rest = self._settle() if self._waiting else []
        self._begin()
        return rest

    def _begin(self) -> None:
        self._waiting: list[VideoFrame] = []  # since the last key frame
        self._before = None
        self._searched: tuple[NDArray[np.uint8], list[Face]] | None = None
        self._begin_shot({})
        self._met = 0
        self._cuts, self._looks = CutDetector(), Looks()
        self._main: int | None = None

    def _begin_shot(self, people: dict[int, _Person]) -> None:
        self._key: _KeyFrame | None = None
        self._people = people  # who is not forgotten

    def _settle(self) -> list[TrackedFrame]:
        """Detects in the last frame that waits and places the faces of all that wait."""
        after = self._detect(self._waiting[-1])
        before = self._key or after
        settled = [_placed(frame, before, after) for frame in self._waiting]
        self._key, self._waiting = after, []
        return settled

    def _detect(self, frame: VideoFrame) -> _KeyFrame:
        if self._searched is None or self._searched[0] is not frame.pixels:
            self._searched = frame.pixels, self.detector.detect(frame.pixels[None])[0]
        faces = self._searched[1]  # a picture that stays for long is not searched again
        oldest_s = frame.time_s - self.max_gap_s
        if self._key:
            oldest_s = min(oldest_s, self._key.time_s)
        self._people = {
            number: person for number, person in self._people.items() if person.seen_s >= oldest_s
        }
        known = _matched(self._people, faces, frame.time_s)
        if self._by_looks:
            known = self._looks.recognise(frame.pixels, faces, known)
        seen: dict[int, Face] = {}
        for index, face in enumerate(faces):
            number = known.get(index, self._met)
            if number in self._people:
                self._people[number].move(face, frame.time_s)
            else:
                self._people[number] = _Person(face, frame.time_s)
                self._met = max(self._met, number + 1)
            seen[number] = face
        if self._by_looks:
            self._looks.remember(list(seen))
        self._score(frame, seen)
        self._main = self._choice(frame.time_s, seen)
        return _KeyFrame(frame.time_s, seen, self._main)

    def _score(self, frame: VideoFrame, seen: dict[int, Face]) -> None:
        passed_s = frame.time_s - self._key.time_s if self._key else 0.0
        for number, person in self._people.items():
            if self.main == "largest":
                person.score = _side(person.face)
            elif self.main == "longest":
                person.score += number in seen
            else:
                person.score *= math.exp(-passed_s / _MEMORY_S)
                if number in seen:
                    face = person.face
                    height = (face.box[3] - face.box[1]) / len(frame.pixels)
                    person.score += height * face.score

    def _choice(self, time_s: float, seen: dict[int, Face]) -> int | None:
        """The number of the main face, who may be out of sight."""
        if isinstance(self.main, int):
            return self.main
        current = None if self._main is None else self._people.get(self._main)
        if current and time_s - current.seen_s > self.max_gap_s:
            current = None
        if not seen:
            return self._main if current else None
        best = max(seen, key=lambda number: (self._people[number].score, _side(seen[number])))
        if current and self._people[best].score < _ADVANTAGE * current.score:
            return self._main
        return best


@dataclass(frozen=True, eq=False)
class _KeyFrame:
    """Faces in a key frame by the number of the person, and the number of the main one."""

    time_s: float
    faces: dict[int, Face]
    main: int | None


def _placed(frame: VideoFrame, before: _KeyFrame, after: _KeyFrame) -> TrackedFrame:
    """The faces of a frame between two key frames, both included."""
    if frame.time_s >= after.time_s:
        share = 1.0
    else:
        share = (frame.time_s - before.time_s) / (after.time_s - before.time_s)
    nearest = after if share >= 0.5 else before
    faces = {
        number: _between(before.faces[number], after.faces[number], share)
        if number in before.faces and number in after.faces
        else face
        for number, face in nearest.faces.items()
    }
    return TrackedFrame(frame, faces, nearest.main)


def _between(before: Face, after: Face, share: float) -> Face:
    if share == 1:
        return after
    x0, y0, x1, y1 = (
        (1 - share) * a + share * b for a, b in zip(before.box, after.box, strict=True)
    )
    landmarks = (1 - share) * before.landmarks + share * after.landmarks
    score = (1 - share) * before.score + share * after.score
    return replace(
        after if share >= 0.5 else before,
        box=(x0, y0, x1, y1),
        score=score,
        landmarks=landmarks.astype(np.float32),
    )
