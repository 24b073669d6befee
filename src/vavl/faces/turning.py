"""Faces in pictures that lie on their side or stand upside down without a word in the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vavl.faces.alignment import Face, FaceDetector

_CERTAIN = 0.998
"""Score of a face the right way up, in most of its frames; the detector sees faces of less than
this in one frame of five that lies on its side or stands upside down, and of more in none."""
_STRONGEST = 4.0
"""Most that one frame counts for a direction: a score of 0.9999 and more."""
_ADVANTAGE = 1.4
"""Another direction is taken when it counts for so many times as much."""
_SETTLED = 2
"""After so many frames with a certain upright face, no other direction is tried any more."""
_LAST_TRY = 128
"""The last frame in which other directions are tried: they are 0, 1, 2, 4, 8 and so on."""


class AnyWayUp:
    """Finds faces in the frames of one video, whichever way up they are; a :class:`FaceDetector`.

    Each frame is looked at as it is. Where it shows no certain face, some of the first frames are
    also looked at in the other three directions: nine frames at most, further and further apart, so
    that a long video without a face costs 27 detections more. Once one of these directions shows
    faces clearly, those are taken, in place of the upright ones, for as long as they lead.

    Boxes and landmarks are those of the frame as it is. Whoever aligns by the landmarks gets an
    upright face, of the same pixels as from a frame that is turned before.

    Args:
        detector: Finds upright faces.

    Example:
        >>> class Brightest:  # takes the brightest pixel for a face, in the top row alone
        ...     def detect(self, frames):
        ...         row, column = np.unravel_index(frames[0, :, :, 0].argmax(), frames.shape[1:3])
        ...         box = (float(column), float(row), column + 1.0, row + 1.0)
        ...         face = Face(box, 0.9999, np.full((5, 2), (column + 0.5, row + 0.5), np.float32))
        ...         return [[face] if row == 0 else []]
        >>> frame = np.zeros((1, 4, 6, 3), np.uint8)
        >>> frame[0, 2, 5] = 255  # at the right edge: on top, once the frame is turned
        >>> face = AnyWayUp(Brightest()).detect(frame)[0][0]
        >>> face.box, face.quarter_turns
        ((5.0, 2.0, 6.0, 3.0), 1)
    """

    def __init__(self, detector: FaceDetector) -> None:
        self.detector = detector
        self._turns = 0  # quarter turns, counterclockwise, after which the faces are upright
        self._strength = [0.0] * 4  # of each direction, summed over frames
        self._is_certain = [False] * 4
        self._frames = self._settled = 0

    def detect(self, frames: NDArray[np.uint8]) -> list[list[Face]]:
        """Finds the faces of each of ``(N, H, W, 3)`` RGB frames, the highest score first."""
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: NDArray[np.uint8]) -> list[Face]:
        found = {0: self.detector.detect(frame[None])[0]}
        certain = bool(found[0]) and found[0][0].score >= _CERTAIN
        self._settled += certain
        # 0, 1, 2, 4, 8 ...: numbers that have no bit in common with the one before.
        is_try = self._frames <= _LAST_TRY and not self._frames & (self._frames - 1)
        self._frames += 1
        others = {self._turns} - {0}
        if is_try and not certain and self._settled < _SETTLED:
            others = {1, 2, 3}
        for turns in others:
            turned = np.ascontiguousarray(np.rot90(frame, turns))
            found[turns] = self.detector.detect(turned[None])[0]
        self._count(found)
        return [turned_back(face, self._turns, frame.shape) for face in found[self._turns]]

    def _count(self, found: dict[int, list[Face]]) -> None:
        """What a frame says about the direction."""
        for turns, faces in found.items():
            if faces:
                doubt = max(1 - faces[0].score, 10**-_STRONGEST)
                self._strength[turns] -= math.log10(doubt)
                self._is_certain[turns] |= faces[0].score >= _CERTAIN
        best = max(found, key=self._strength.__getitem__)
        leads = self._strength[best] >= _ADVANTAGE * self._strength[self._turns]
        if self._is_certain[best] and leads:
            self._turns = best


def turned_back(face: Face, quarter_turns: int, shape: Sequence[int]) -> Face:
    """A face that was found in a frame after turning it, as it lies in the frame.

    Args:
        face: In the turned frame, ``np.rot90(frame, quarter_turns)``.
        quarter_turns: Counterclockwise.
        shape: Height and width of the frame.

    Example:
        >>> face = Face((0, 0, 2, 1), 1.0, np.zeros((5, 2), np.float32))
        >>> turned_back(face, 1, (4, 6)).box
        (5.0, 0.0, 6.0, 2.0)
    """
    if not quarter_turns:
        return face
    height, width = shape[:2]

    def back(points: NDArray[np.float32]) -> NDArray[np.float32]:
        x, y = points[..., 0], points[..., 1]
        places = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}
        return np.stack(places[quarter_turns], axis=-1)

    corners = back(np.asarray(face.box, np.float32).reshape(2, 2))
    (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return replace(
        face,
        box=(x0, y0, x1, y1),
        landmarks=back(np.asarray(face.landmarks, np.float32)),
        quarter_turns=quarter_turns,
    )
