"""Networks that embed faces, as :class:`vavl.features.face_features.FaceFeatures` wants them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.features import compact_face
from vavl.features.compact_face import CompactFaceFeatures, crop_faces
from vavl.features.face_features import FACE_RATE_HZ, FaceFeatures
from vavl.features.faces import Face
from vavl.features.image_encoder import ImageEncoder, Pooling
from vavl.features.tracking import MainFaceRule


class CompactFaceEmbedder(CompactFaceFeatures):
    """The small network of the package, see :mod:`vavl.features.compact_face`."""

    name = compact_face.NAME
    dim = compact_face.DIM
    source = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        return {"mirrored": self.mirrored, "crop": compact_face.CROP_SIZE}

    def embed_faces(self, frames: NDArray[np.uint8], faces: list[Face]) -> NDArray[np.float32]:
        """Embeds one face of each frame: ``(N, H, W, 3)`` to ``(N, 256)``."""
        return self.embed(crop_faces(frames, faces))


def compact_face_features(
    frame_rate_hz: float = FACE_RATE_HZ,
    detect_every: int = 5,
    main: MainFaceRule | int = "prominent",
    mirrored: bool = True,
) -> FaceFeatures:
    """Faces of a video through the network of the package; no download.

    Args:
        frame_rate_hz: See :class:`vavl.features.face_features.FaceFeatures`; likewise the next two.
        detect_every: The detector sees every so-manieth frame.
        main: Which of several faces is taken.
        mirrored: Embed the mirror image too and take the mean: twice the time.
    """
    embedder = CompactFaceEmbedder(mirrored)
    return FaceFeatures(embedder, None, frame_rate_hz, detect_every, main)


def hub_face_features(
    source: str,
    revision: str | None = None,
    frame_rate_hz: float = FACE_RATE_HZ,
    detect_every: int = 5,
    main: MainFaceRule | int = "prominent",
    margin: float = 0.2,
    pooling: Pooling = "mean",
) -> FaceFeatures:
    """Faces of a video through any image model of transformers.

    Args:
        source: See :class:`vavl.features.image_encoder.ImageEncoder`; likewise ``revision``,
            ``margin`` and ``pooling``.
        revision: Branch, tag or commit on the hub.
        frame_rate_hz: See :class:`vavl.features.face_features.FaceFeatures`; likewise the next two.
        detect_every: The detector sees every so-manieth frame.
        main: Which of several faces is taken.
        margin: What is seen around the face.
        pooling: How the last hidden state becomes one vector.
    """
    embedder = ImageEncoder(source, revision, margin, pooling)
    return FaceFeatures(embedder, None, frame_rate_hz, detect_every, main)
