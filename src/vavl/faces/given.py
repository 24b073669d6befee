"""Pictures that are faces already: the whole picture is the face, only its landmarks are sought."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vavl.faces.alignment import Face, FaceDetector
from vavl.media.frames import check_frames

_MARGIN = 0.15
"""Added around the picture, on each side, as a share of it: the detector wants to see a head."""


class GivenFaces:
    """Takes each picture for one face; a :class:`FaceDetector`.

    The landmarks are those that the detector finds in the picture with a margin around it, which
    repeats its border; of several faces the largest counts. Where it finds none, they lie where
    they do in a standard crop.

    Args:
        detector: Finds upright faces.
        landmarks: ``(5, 2)`` where they lie otherwise, as shares of the width and the height.

    Example:
        >>> class Nobody:
        ...     def detect(self, frames):
        ...         return [[] for _ in frames]
        >>> given = GivenFaces(Nobody(), np.full((5, 2), 0.5))
        >>> given.detect(np.zeros((1, 40, 30, 3), np.uint8))[0][0].box
        (0.0, 0.0, 30.0, 40.0)
    """

    def __init__(self, detector: FaceDetector, landmarks: NDArray[np.floating]) -> None:
        self.detector = detector
        self.landmarks = np.asarray(landmarks, np.float32)

    def detect(self, frames: NDArray[np.uint8]) -> list[list[Face]]:
        """One face in each of ``(N, H, W, 3)`` RGB frames."""
        check_frames(frames)
        height, width = frames.shape[1:3]
        rows, columns = round(_MARGIN * height), round(_MARGIN * width)
        sides = ((0, 0), (rows, rows), (columns, columns), (0, 0))
        found = self.detector.detect(np.pad(frames, sides, mode="edge"))
        standard = self.landmarks * np.array([width, height], np.float32)
        box = (0.0, 0.0, float(width), float(height))
        given = []
        for faces in found:
            landmarks, score = standard, 1.0
            if faces:
                largest = max(faces, key=lambda face: face.box[3] - face.box[1])
                landmarks = largest.landmarks - np.array([columns, rows], np.float32)
                score = largest.score
            given.append([Face(box, score, landmarks.astype(np.float32))])
        return given
