"""RGB frames with their times, and the grid of times at which they are shown."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vavl.errors import EmptySpanError, InputError, MediaError, all_problems
from vavl.media.container import is_finite
from vavl.media.files import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from av.video.frame import VideoFrame as Decoded
    from av.video.stream import VideoStream

CLOSE_S = 1e-3
"""Tolerance for the time of a picture: Matroska rounds to milliseconds."""

FRAME_RATES_HZ = (1e-3, 1e5)
"""Lowest and highest number of pictures a second that can be asked for."""


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A picture and its time.

    Attributes:
        time_s: Seconds from the beginning of the file.
        pixels: ``(H, W, 3)`` RGB, uint8. Frames at several times may share one array.
    """

    time_s: float
    pixels: NDArray[np.uint8]


class Shot(NamedTuple):
    """A picture that is shown from one time until another; its pixels are made on demand."""

    start_s: float
    stop_s: float
    pixels: Callable[[], NDArray[np.uint8]]


def check_frames(frames: NDArray[np.uint8]) -> None:
    """Checks that frames are ``(N, H, W, 3)`` uint8; N may be 0, H and W are at least 1."""
    if not isinstance(frames, np.ndarray):
        raise InputError(
            f"frames: expected an array (N, H, W, 3) of uint8, got {type(frames).__name__}"
        )
    problems = []
    if frames.dtype != np.uint8:
        problems.append(
            f"expected uint8 in 0..255, got {frames.dtype}; values in [0, 1] want "
            "np.round(frames * 255).astype(np.uint8)"
        )
    if frames.ndim != 4 or frames.shape[-1] != 3:
        single = "; a single frame wants frames[None]" if frames.ndim == 3 else ""
        problems.append(f"expected (N, H, W, 3) in RGB, got {frames.shape}{single}")
    elif 0 in frames.shape[1:]:
        problems.append(f"expected frames of at least 1 x 1 pixel, got {frames.shape}")
    if problems:
        raise InputError(all_problems("frames", problems))


def array_frames(
    frames: NDArray[np.uint8],
    source_rate_hz: float,
    *,
    frame_rate_hz: float | None = None,
    start_s: float = 0.0,
    end_s: float = math.inf,
) -> Iterator[VideoFrame]:
    """Streams pictures in memory as :func:`vavl.media.video.video_frames` streams a file.

    Args:
        frames: ``(N, H, W, 3)`` RGB, uint8; the frames that are returned are views of them.
        source_rate_hz: Pictures a second; the first is at 0 s.
        frame_rate_hz: Frames a second to return. Default: all.
        start_s: First second to return.
        end_s: Second to stop before.

    Raises:
        InputError: The array is of another kind, or a rate makes no sense.
        EmptySpanError: Nothing lies between ``start_s`` and ``end_s``.

    Example:
        >>> frames = np.zeros((6, 4, 4, 3), np.uint8)
        >>> [frame.time_s for frame in array_frames(frames, 25, frame_rate_hz=12.5)]
        [0.0, 0.08, 0.16]
    """
    check_frames(frames)
    check_frame_rate("source_rate_hz", source_rate_hz)
    check_frame_rate("frame_rate_hz", frame_rate_hz)
    shots = (
        Shot(number / source_rate_hz, (number + 1) / source_rate_hz, partial(np.asarray, pixels))
        for number, pixels in enumerate(frames)
    )
    return sampled(shots, "frames", frame_rate_hz, start_s, end_s)


def sampled(
    shots: Iterable[Shot],
    name: object,
    frame_rate_hz: float | None,
    start_s: float = 0.0,
    end_s: float = math.inf,
) -> Iterator[VideoFrame]:
    """The shots that begin in a span of time, or those shown at the times of a regular grid.

    Args:
        shots: In the order of time, each lasting until the next; the first is also shown before
            its time.
        name: Source of the shots, for the error.
        frame_rate_hz: Rate of a grid that begins at ``start_s``, or None for every shot.
        start_s: Beginning of the span.
        end_s: Its end, exclusive.

    Raises:
        MediaError: There are shots, and none in the span.
    """
    number, length_s, empty = 0, 0.0, True
    for shot in shots:
        length_s = shot.stop_s
        if frame_rate_hz is None:
            chosen = start_s - CLOSE_S <= shot.start_s < end_s - CLOSE_S
            times = [shot.start_s] if chosen else []
        else:
            first = number
            while start_s + number / frame_rate_hz < min(shot.stop_s, end_s) - CLOSE_S:
                number += 1
            times = [start_s + step / frame_rate_hz for step in range(first, number)]
        if times:
            empty = False
            pixels = shot.pixels()
            for time_s in times:
                yield VideoFrame(time_s, pixels)
        if shot.stop_s >= end_s:
            break  # the rest of the file need not be intact
    if empty and length_s:
        raise EmptySpanError(
            f"{name}: nothing lies between start_s={start_s:g} and end_s={end_s:g}; the picture "
            f"ends at {length_s:.3f} s"
        )


def check_frame_rate(name: str, rate_hz: float | None) -> None:
    """Checks that a rate, if one is given, is one of :data:`FRAME_RATES_HZ`."""
    lowest, highest = FRAME_RATES_HZ
    if rate_hz is not None and not (is_finite(rate_hz) and lowest <= rate_hz <= highest):
        raise InputError(
            f"{name}: expected {lowest:g} to {highest:,.0f} frames per second, got {rate_hz!r}"
        )


def shrunk(pixels: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Shrinks a picture ``(H, W, 3)`` so that its longer side has at most ``max_side`` pixels.

    Example:
        >>> shrunk(np.zeros((90, 120, 3), np.uint8), 40).shape
        (30, 40, 3)
    """
    height, width = pixels.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return pixels
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    small = frame.to_ndarray(
        format="rgb24",
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        interpolation="AREA",
    )
    return small.astype(np.uint8, copy=False)


_ORIENTATION, _MIRRORED = 0x112, (2, 4, 5, 7)
"""A tag of EXIF, and its values for pictures that are mirrored, turned or not."""
_LONGEST_PIXEL = 4.0
"""Aspect ratio of a pixel beyond which the header counts as damaged."""


@dataclass(frozen=True)
class RgbConverter:
    """Makes decoded frames upright RGB of one size with square pixels."""

    path: Path
    width: int
    height: int
    """Both are those of the result before it is turned."""
    quarter_turns: int
    """Counterclockwise."""
    is_mirrored: bool = False
    """Whether it stands on its head before it is turned: with a half turn, that is a mirror."""

    @classmethod
    def suited_to(
        cls, frame: Decoded, stream: VideoStream, path: Path, max_side: int | None
    ) -> Self:
        """The converter that keeps the shape in which a player shows the first frame of a track.

        Larger frames are shrunk so that their longer side has ``max_side`` pixels.
        """
        aspect = float(stream.sample_aspect_ratio or 1)
        if not 1 / _LONGEST_PIXEL <= aspect <= _LONGEST_PIXEL:
            aspect = 1.0
        width, height = frame.width * aspect, float(frame.height)
        scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # A camera that is held on its side stores how to turn the picture.
        return cls(path, *size, round(frame.rotation / 90) % 4, _is_mirrored(path))

    def __call__(self, frame: Decoded) -> NDArray[np.uint8]:
        """The ``(H, W, 3)`` RGB pixels of a frame."""
        import av

        try:
            # One thread: starting more takes longer than the conversion.
            pixels = frame.to_ndarray(
                format="rgb24",
                width=self.width,
                height=self.height,
                interpolation="AREA",
                threads=1,
            )
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(
                f"{self.path}: a frame cannot be converted to RGB ({error})"
            ) from error
        pixels = pixels[::-1] if self.is_mirrored else pixels
        return np.ascontiguousarray(np.rot90(pixels, self.quarter_turns))


def _is_mirrored(path: Path) -> bool:
    """Whether the header of a picture says so; FFmpeg tells of the turn alone."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return False
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large ones: nothing is decoded here
            with Image.open(path, formats=("JPEG", "PNG", "WEBP", "TIFF")) as picture:
                return picture.getexif().get(_ORIENTATION) in _MIRRORED
    except Exception:  # of a damaged header, Pillow raises many types; FFmpeg decides what it is
        return False
