"""Persons in a video: whether a face in a frame is one of those seen before."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vavl.features.faces import Face

_FARTHEST = 0.6
"""How far a face may be from where it is expected, in sides of its box."""
_GROWTH = 1.6
"""How many times larger or smaller a face may be than before: beyond that, the scene was cut."""


class Person:
    """Somebody who was seen, where that was last, and how they moved.

    Attributes:
        face: As last seen.
        seen_s: When that was.
        score: For whoever ranks persons; 0 at first.
    """

    def __init__(self, face: Face, time_s: float) -> None:
        self.face = face
        self.seen_s = time_s
        self.score = 0.0
        self._step_s = 0.0  # between the last two sightings
        self._movement = np.zeros(2)  # over that time

    def move(self, face: Face, time_s: float) -> None:
        """Takes note of the next sighting."""
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
        smaller, larger = sorted((side(self.face), side(face)))
        if not 0 < larger <= _GROWTH * smaller:
            return math.inf
        return float(np.linalg.norm(_centre(face) - expected)) / larger


def matched(people: dict[int, Person], faces: list[Face], time_s: float) -> dict[int, int]:
    """Finds out which faces of a frame belong to whom; the nearest pairs find each other first.

    Args:
        people: By number.
        faces: Of the frame.
        time_s: Of the frame.

    Returns:
        The number of the person by the index of the face, without the faces of nobody known.
    """
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


def side(face: Face) -> float:
    """Side of the square as large as the box."""
    x0, y0, x1, y1 = face.box
    return math.sqrt(max(0.0, x1 - x0) * max(0.0, y1 - y0))


def _centre(face: Face) -> NDArray[np.float64]:
    return np.asarray(face.landmarks, np.float64).mean(axis=0)
