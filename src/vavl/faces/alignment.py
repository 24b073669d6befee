"""Faces in frames, and the crops that bring their landmarks into place.

Positions are continuous, in pixels: pixel ``i`` covers ``[i, i + 1)`` and has its centre at
``i + 0.5``; x grows to the right, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, all_problems
from vavl.media.frames import check_frames

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""The five landmarks in their order; left and right are those of the image, not of the person."""

_TEMPLATE_SIDE = 112
_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Positions of the landmarks in a crop of 112 x 112, where pixel 0 has its centre at 0."""

_MOST_SAMPLES_PER_SIDE = 16
"""Bounds the work of a crop when a face is many times larger than it."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a frame.

    Attributes:
        box: ``(x0, y0, x1, y1)`` in pixels; it reaches beyond the frame where the face does.
        score: Confidence of the detector, in [0, 1].
        landmarks: ``(5, 2)`` x and y in pixels, in the order of :data:`LANDMARKS`.
        quarter_turns: By how many the frame must be turned, counterclockwise, until the face is
            upright, where it lies on its side or stands upside down.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray[np.float32]
    quarter_turns: int = 0


class FaceDetector(Protocol):
    """Anything that finds faces."""

    def detect(self, frames: NDArray[np.uint8]) -> list[list[Face]]:
        """Finds the faces of each of ``(N, H, W, 3)`` RGB frames, the highest score first."""
        ...


def template(size: int, margin: float = 0.0) -> NDArray[np.float64]:
    """Where the landmarks lie in an aligned crop: ``(5, 2)`` x and y in pixels.

    Args:
        size: Side of the crop in pixels.
        margin: What is added around the crop of the source on each side, as a share of its side,
            above -0.5: 0 shows the face from the forehead to the chin, more shows more.

    Source:
        The reference landmarks in 112 x 112 of ArcFace (Deng et al. 2019, arXiv 1801.07698, code
        deepinsight/insightface), which place those of SphereFace (Liu et al. 2017) in a square.

    Example:
        >>> template(112)[2].round(1).tolist()  # the nose
        [56.5, 72.2]
    """
    problems = []
    if size < 1:
        problems.append(f"size: expected at least 1 pixel, got {size}")
    if not -0.5 < margin < math.inf:
        problems.append(f"margin: expected a finite share above -0.5, got {margin}")
    if problems:
        raise InputError(all_problems("template", problems))
    # The source counts from the centre of the first pixel, this module from its edge.
    share = (np.array(_TEMPLATE) + 0.5) / _TEMPLATE_SIDE
    return size * (share + margin) / (1 + 2 * margin)


def similarity_transform(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The rotation, uniform scale and shift that bring points nearest to others.

    The sum of squared distances is least. In the plane, the solution of Umeyama needs no singular
    value decomposition: with points as complex numbers it is the regression of the target on the
    source. There are no reflections in it.

    Args:
        source: ``(..., P, 2)`` points, P at least 2 and not all the same.
        target: ``(P, 2)`` or ``(..., P, 2)``: where they shall go.

    Returns:
        ``(..., 2, 3)`` matrices: ``target ~ source @ m[:, :2].T + m[:, 2]``.

    Source:
        Umeyama 1991, "Least-squares estimation of transformation parameters between two point
        patterns", IEEE TPAMI 13(4), for two dimensions.

    Example:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> turned = square @ [[1, 1], [-1, 1]] + 3  # by 45 degrees, and larger
        >>> similarity_transform(square, turned).round(6).tolist()
        [[1.0, -1.0, 3.0], [1.0, 1.0, 3.0]]
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    points = source.shape[-2:]
    if len(points) != 2 or points[0] < 2 or points[1] != 2 or target.shape[-2:] != points:
        raise InputError(
            "source, target: expected the same number of points (..., P, 2), at least 2, got "
            f"{source.shape} and {target.shape}"
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise InputError("source, target: expected finite coordinates, got NaN or infinity")
    source_mean, target_mean = source.mean(axis=-2), target.mean(axis=-2)
    p = _as_complex(source - source_mean[..., None, :])
    q = _as_complex(target - target_mean[..., None, :])
    spread = (np.abs(p) ** 2).sum(axis=-1)
    if (spread <= 1e-12).any():
        raise InputError("source: expected points at different places; those of one set coincide")
    factor = (p.conj() * q).sum(axis=-1) / spread
    a, b = factor.real, factor.imag
    linear = np.stack([np.stack([a, -b], axis=-1), np.stack([b, a], axis=-1)], axis=-2)
    shift = target_mean - (linear @ source_mean[..., None])[..., 0]
    return np.concatenate([linear, shift[..., None]], axis=-1)


def align(
    frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    faces: Sequence[Face],
    size: int,
    margin: float = 0.0,
    goal: NDArray[np.floating] | None = None,
) -> NDArray[np.uint8]:
    """Crops one face out of each frame, turned and scaled so that its landmarks meet the template.

    A pixel of the crop is the mean of what it covers in the frame, so that a large face does not
    alias in a small crop. Beyond the frame, the pixels of its border go on. The time does not
    depend on the size of the frame.

    Args:
        frames: N frames ``(H, W, 3)``, uint8. One with several faces is given several times.
        faces: N faces, the n-th in the n-th frame.
        size: Side of the crops in pixels.
        margin: As in :func:`template`.
        goal: ``(5, 2)`` where the landmarks shall lie in the crop, x and y in pixels, in place of
            that template; the margin is then without effect.

    Returns:
        ``(N, size, size, 3)`` uint8.

    Example:
        >>> frames = np.zeros((1, 120, 160, 3), np.uint8)
        >>> face = Face((40, 20, 100, 100), 0.99, template(112).astype(np.float32))
        >>> align(frames, [face], size=48).shape
        (1, 48, 48, 3)
    """
    if isinstance(frames, np.ndarray):
        check_frames(frames)
    else:
        for frame in frames:
            check_frames(frame[None])
    if len(faces) != len(frames):
        raise InputError(
            f"faces: expected one for each of the {len(frames)} frames, got {len(faces)}; to crop "
            "several out of one frame, repeat it: frames[indices]"
        )
    goal = template(size, margin) if goal is None else goal
    crops = np.empty((len(frames), size, size, 3), np.uint8)
    if not len(frames):
        return crops
    landmarks = np.stack([np.asarray(face.landmarks, np.float64) for face in faces])
    forward = similarity_transform(landmarks, goal)
    scale = np.hypot(forward[:, 0, 0], forward[:, 1, 0])
    if (scale < 1e-6).any():
        raise InputError(
            "faces: expected landmarks in the order of LANDMARKS; those of face "
            f"{int(scale.argmin())} have no likeness to a face at any angle or size"
        )
    # A pixel of the crop covers 1 / scale of the frame along each side, and a bilinear sample is a
    # mean over two pixels.
    samples = np.ceil(0.5 / scale - 1e-6).clip(1, _MOST_SAMPLES_PER_SIDE).astype(int)
    for crop, frame, backward, count in zip(
        crops, frames, _inverted(forward), samples.tolist(), strict=True
    ):
        crop[:] = _warp(frame, backward, size, count)
    return crops


def _as_complex(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    return points[..., 0] + 1j * points[..., 1]


def _inverted(transforms: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = np.linalg.inv(transforms[:, :, :2])
    return np.concatenate([linear, -linear @ transforms[:, :, 2:]], axis=-1)


def _warp(
    frame: NDArray[np.uint8], backward: NDArray[np.float64], size: int, samples: int
) -> NDArray[np.uint8]:
    """A crop by a transform from crop to frame, (2, 3), with samples ** 2 samples a pixel."""
    import torch
    import torch.nn.functional as F

    along = (np.arange(size * samples) + 0.5) / samples
    columns = backward[:, 0, None] * along + backward[:, 2, None]  # (2, S)
    rows = backward[:, 1, None] * along
    source = columns[:, None, :] + rows[:, :, None]  # (2, S, S): x and y in the frame
    # Only what is sampled becomes floating point, with a pixel more for the interpolation. At least
    # one pixel of the frame is left, whose value goes on beyond the border.
    end = np.array(frame.shape[1::-1])  # width and height
    low = np.clip(np.floor(source.min(axis=(1, 2))).astype(int) - 1, 0, end - 1)
    high = np.clip(np.ceil(source.max(axis=(1, 2))).astype(int) + 1, low + 1, end)
    region = np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]])
    # -1 and 1 are the outer edges of the region, as grid_sample has them without align_corners.
    place = (source - low[:, None, None]) / (high - low)[:, None, None]
    grid = torch.from_numpy(2 * place - 1).float().permute(1, 2, 0)[None]
    pixels = torch.from_numpy(region).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        crop = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        crop = F.avg_pool2d(crop, samples).round().clamp(0, 255).byte()
        return crop[0].permute(1, 2, 0).numpy()
