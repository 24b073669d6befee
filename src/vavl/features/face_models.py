"""Extractors of the face in a video: one builder for each kind of network that embeds it."""

from __future__ import annotations

from vavl.features.compact_face import CompactFaceFeatures
from vavl.features.efficientnet import EfficientNetB2Affectnet
from vavl.features.face_features import FACE_RATE_HZ, FaceFeatures
from vavl.features.image_encoder import ImageEncoder, Pooling
from vavl.features.random_projection import FacePixels
from vavl.features.tracking import MainFaceRule


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
    return FaceFeatures(CompactFaceFeatures(mirrored), None, frame_rate_hz, detect_every, main)


def efficientnet_b2_features(
    source: str | None = None,
    sha256: str | None = None,
    frame_rate_hz: float = FACE_RATE_HZ,
    detect_every: int = 5,
    main: MainFaceRule | int = "prominent",
    margin: float = 0.0,
) -> FaceFeatures:
    """Faces of a video through the network of the paper: 1408 features, with ``vavl[onnx]``.

    Args:
        source: See :class:`vavl.features.efficientnet.EfficientNetB2Affectnet`; likewise ``sha256``
            and ``margin``.
        sha256: What the hash of the file must be.
        frame_rate_hz: See :class:`vavl.features.face_features.FaceFeatures`; likewise the next two.
        detect_every: The detector sees every so-manieth frame.
        main: Which of several faces is taken.
        margin: What is seen around the face.
    """
    embedder = EfficientNetB2Affectnet(source, sha256, margin)
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


def face_pixel_features(
    frame_rate_hz: float = FACE_RATE_HZ,
    detect_every: int = 5,
    main: MainFaceRule | int = "prominent",
) -> FaceFeatures:
    """Pixels of the faces of a video: 2304 features, to compare networks with.

    Args:
        frame_rate_hz: See :class:`vavl.features.face_features.FaceFeatures`; likewise the others.
        detect_every: The detector sees every so-manieth frame.
        main: Which of several faces is taken.
    """
    return FaceFeatures(FacePixels(), None, frame_rate_hz, detect_every, main)


def random_face_features(
    dim: int = 256,
    seed: int = 0,
    frame_rate_hz: float = FACE_RATE_HZ,
    detect_every: int = 5,
    main: MainFaceRule | int = "prominent",
) -> FaceFeatures:
    """A random projection of the pixels, with the dimensionality of compact-face by default.

    Args:
        dim: See :class:`vavl.features.random_projection.FacePixels`; likewise ``seed``.
        seed: Of the projection.
        frame_rate_hz: See :class:`vavl.features.face_features.FaceFeatures`; likewise the others.
        detect_every: The detector sees every so-manieth frame.
        main: Which of several faces is taken.
    """
    return FaceFeatures(FacePixels(dim, seed), None, frame_rate_hz, detect_every, main)
