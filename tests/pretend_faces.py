"""Face features of films without faces: real decoding, a made-up detector and embedder."""

from __future__ import annotations

import numpy as np

from vavl.faces.alignment import Face
from vavl.features.face_features import FaceFeatures


def pretend_face_features() -> FaceFeatures:
    """An extractor like those of the package, small and quick."""
    return FaceFeatures(Embedder(), Finder())


class Finder:
    """Finds one face, whose place moves with the brightness of the frame; none in dark frames."""

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        found = []
        for frame in frames:
            light = float(frame.mean()) / 255
            x, side = 4 + 16 * light, 0.5 * frame.shape[0]
            face = Face((x, 8, x + side, 8 + side), 0.9, np.full((5, 2), x + side / 2, np.float32))
            found.append([face] if light > 0.2 else [])
        return found


class Embedder:
    """Four numbers that depend on the picture and on where the face is."""

    name, dim, parameters, weights_sha256, source = "tiny-face", 4, {}, None, None

    def load(self) -> None:
        pass

    def embed_faces(self, frames: np.ndarray, faces: list[Face]) -> np.ndarray:
        rows = [
            [frame.mean() / 99, frame.std() / 99, face.box[0] / 9, face.box[3] / 99]
            for frame, face in zip(frames, faces, strict=True)
        ]
        return np.array(rows, np.float32)
