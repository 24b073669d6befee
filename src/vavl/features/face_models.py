"""Extractors of the face in a video: one builder for each kind of network that embeds it."""

from __future__ import annotations

from typing import Unpack

from vavl.features.compact_face import CompactFaceFeatures
from vavl.features.efficientnet import EfficientNetB2Affectnet
from vavl.features.face_features import FaceFeatures, FaceOptions
from vavl.features.image_encoder import ImageEncoder, Pooling
from vavl.features.random_projection import FacePixels


def compact_face_features(mirrored: bool = True, **options: Unpack[FaceOptions]) -> FaceFeatures:
    """Faces of a video through the network of the package; no download.

    Args:
        mirrored: Embed the mirror image too and take the mean: twice the time.
        **options: Of finding and following faces, see :class:`FaceFeatures`.
    """
    return FaceFeatures(CompactFaceFeatures(mirrored), **options)


def efficientnet_b2_features(
    source: str | None = None,
    sha256: str | None = None,
    margin: float = 0.0,
    **options: Unpack[FaceOptions],
) -> FaceFeatures:
    """Faces of a video through the network of the paper: 1408 features, with ``vavl[onnx]``.

    Args:
        source: See :class:`vavl.features.efficientnet.EfficientNetB2Affectnet`; likewise ``sha256``
            and ``margin``.
        sha256: What the hash of the file must be.
        margin: What is seen around the face.
        **options: Of finding and following faces, see :class:`FaceFeatures`.
    """
    embedder = EfficientNetB2Affectnet(source, sha256, margin)
    return FaceFeatures(embedder, **options)


def hub_face_features(
    source: str,
    revision: str | None = None,
    margin: float = 0.2,
    pooling: Pooling = "mean",
    **options: Unpack[FaceOptions],
) -> FaceFeatures:
    """Faces of a video through any image model of transformers.

    Args:
        source: See :class:`vavl.features.image_encoder.ImageEncoder`; likewise ``revision``,
            ``margin`` and ``pooling``.
        revision: Branch, tag or commit on the hub.
        margin: What is seen around the face.
        pooling: How the last hidden state becomes one vector.
        **options: Of finding and following faces, see :class:`FaceFeatures`.
    """
    embedder = ImageEncoder(source, revision, margin, pooling)
    return FaceFeatures(embedder, **options)


def face_pixel_features(**options: Unpack[FaceOptions]) -> FaceFeatures:
    """Pixels of the faces of a video: 2304 features, to compare networks with.

    Args:
        **options: Of finding and following faces, see :class:`FaceFeatures`.
    """
    return FaceFeatures(FacePixels(), **options)


def random_face_features(
    dim: int = 256, seed: int = 0, **options: Unpack[FaceOptions]
) -> FaceFeatures:
    """A random projection of the pixels, with the dimensionality of compact-face by default.

    Args:
        dim: See :class:`vavl.features.random_projection.FacePixels`; likewise ``seed``.
        seed: Of the projection.
        **options: Of finding and following faces, see :class:`FaceFeatures`.
    """
    return FaceFeatures(FacePixels(dim, seed), **options)
