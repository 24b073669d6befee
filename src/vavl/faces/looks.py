"""Who is who by looks: cuts between shots, and people who come back after one.

No network knows faces here, since none that is free and small enough was to be had. What a person
looks like is the colours of the head and of what lies around it, which hold for a clip: the same
clothes, hair and light. Two people who look alike may be taken for one, and one who turns away or
changes the light for two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vavl.faces.alignment import Face, align

_SIDE, _MARGIN = 8, 0.6
"""Pixels of a look, and what it shows around the face: hair and some of what lies behind."""
_FINEST = 24
"""Pixels of a face that are looked at along each side, and up to twice as many."""
_ALIKE = 0.24
"""Root mean square difference of two looks, in their standard deviations, up to which they are of
one person. Of 13 people in films, the two most alike differ by 0.24; half a clip apart most differ
from themselves by up to 0.1, and one who moves her head much by 0.29."""
_NEWS = 0.08
"""A look that differs by more than this from those known of the person is kept as well."""
_LOOKS_KEPT, _PEOPLE_KEPT = 12, 100
"""Of a person, and of people: those seen last. Bounds memory and time."""

_GRID = 24
"""Points across a frame that are compared from frame to frame."""
_CUT = 0.05
"""Mean difference of the points of two frames, in [0, 1], from which on there may be a cut."""
_SPIKE = 3.0
"""A cut differs by so many times more than the frames before it: a moving camera does not."""
_BEFORE = 6
"""So many frames before it."""


class CutDetector:
    """Tells the first frame of a shot from those that go on, by how suddenly the picture changes.

    Example:
        >>> cuts = CutDetector()
        >>> dark, light = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 200, np.uint8)
        >>> [cuts.is_cut(frame) for frame in (dark, dark, light, light)]
        [False, False, True, False]
    """

    def __init__(self) -> None:
        self._points: NDArray[np.int16] | None = None
        self._changes: deque[float] = deque(maxlen=_BEFORE)

    def is_cut(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether a frame ``(H, W, 3)`` begins another shot than the one before it."""
        height, width = pixels.shape[:2]
        step_y, step_x = max(1, height // _GRID), max(1, width // _GRID)
        points = pixels[step_y // 2 :: step_y, step_x // 2 :: step_x].astype(np.int16)
        before, self._points = self._points, points
        if before is None or before.shape != points.shape:
            return before is not None
        change = float(np.abs(points - before).mean()) / 255
        usual = float(np.median(self._changes)) if self._changes else 0.0
        self._changes.append(change)
        return change > max(_CUT, _SPIKE * usual)


def has_changed(
    before: NDArray[np.uint8], after: NDArray[np.uint8], box: tuple[float, float, float, float]
) -> bool:
    """Whether the place of a face looks different in the next frame: as much as at a cut."""
    height, width = before.shape[:2]
    x0, y0, x1, y1 = (max(0, round(value)) for value in box)
    step = max(1, (y1 - y0) // _GRID)
    place = slice(min(y0, height - 1), y1, step), slice(min(x0, width - 1), x1, step)
    if before.shape != after.shape or not before[place].size:
        return True
    return float(np.abs(before[place].astype(np.int16) - after[place]).mean()) / 255 > _CUT


class Looks:
    """Remembers what people look like, and knows them again."""

    def __init__(self) -> None:
        self._known: dict[int, list[NDArray[np.float32]]] = {}  # who was seen last comes last
        self._now: Sequence[NDArray[np.float32]] = ()

    def recognise(
        self, pixels: NDArray[np.uint8], faces: Sequence[Face], known: Mapping[int, int]
    ) -> dict[int, int]:
        """Finds the people of a frame among those seen before.

        Args:
            pixels: The frame ``(H, W, 3)``.
            faces: The faces in it.
            known: Index of a face to the number of its person, where the place has told it.

        Returns:
            Index of a face to the number of its person; new people are left out.
        """
        self._now = [look(pixels, face) for face in faces]
        numbers = dict(known)
        taken = set(numbers.values())
        strangers = [index for index in range(len(faces)) if index not in numbers]
        pairs = sorted(
            (min(_difference(self._now[index], kept) for kept in looks), index, number)
            for number, looks in self._known.items()
            if number not in taken
            for index in strangers
        )
        for difference, index, number in pairs:
            if difference <= _ALIKE and index not in numbers and number not in taken:
                numbers[index] = number
                taken.add(number)
        return numbers

    def remember(self, numbers: Sequence[int]) -> None:
        """Keeps what the faces of the last frame look like, given the number of each."""
        for number, seen in zip(numbers, self._now, strict=True):
            looks = self._known.pop(number, [])
            if not looks or min(_difference(seen, kept) for kept in looks) > _NEWS:
                looks = [*looks, seen][-_LOOKS_KEPT:]
            self._known[number] = looks
            if len(self._known) > _PEOPLE_KEPT:
                del self._known[next(iter(self._known))]


def look(pixels: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
    """``(8, 8, 3)``: the head in a frame, upright, with mean 0 and deviation 1 in each colour.

    The middle counts more than what lies behind, and the mouth, which moves, less; so that the sum
    of squares of a difference is a mean.
    """
    # Few pixels are asked for: the frame need not be finer.
    x0, y0, x1, y1 = face.box
    step = max(1, int(min(x1 - x0, y1 - y0) / _FINEST))
    coarse = replace(face, landmarks=face.landmarks / np.float32(step))
    crop = align([pixels[::step, ::step]], [coarse], _SIDE, _MARGIN)[0].astype(np.float32) / 255
    mean = (crop * _WEIGHTS).sum(axis=(0, 1))
    deviation = np.sqrt((np.square(crop - mean) * _WEIGHTS).sum(axis=(0, 1))) + np.float32(0.05)
    return (crop - mean) / deviation * np.sqrt(_WEIGHTS / 3)


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(one - other))


def _weights() -> NDArray[np.float32]:
    """``(8, 8, 1)``, with sum 1."""
    y, x = np.mgrid[:_SIDE, :_SIDE]
    weights = np.exp(-np.square((x - 3.5) / 3.5) - np.square((y - 3.0) / 3.2))
    weights[5:7, 3:5] *= 0.3
    return (weights / weights.sum())[..., None].astype(np.float32)


_WEIGHTS = _weights()
