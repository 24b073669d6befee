"""Pictures in time: what a video is to everything that looks at it, wherever it came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.features.faces import check_frames

CLOSE_S = 1e-3
"""A picture counts as shown at a time that it misses by less: Matroska rounds to milliseconds."""


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
    """A picture that is on show from one time until another, made only when it is asked for."""

    start_s: float
    stop_s: float
    pixels: Callable[[], NDArray[np.uint8]]


def array_frames(
    frames: NDArray[np.uint8], source_rate_hz: float, *, frame_rate_hz: float | None = None
) -> Iterator[VideoFrame]:
    """Streams pictures in memory as :func:`vavl.features.video.video_frames` streams a file.

    Args:
        frames: ``(N, H, W, 3)`` RGB, uint8.
        source_rate_hz: Pictures a second; the first is at 0 s.
        frame_rate_hz: Frames a second to return. Default: all.

    Yields:
        Frames in the order of time; their pixels are views of ``frames``.

    Raises:
        InputError: The array is not of that kind, or a rate makes no sense.

    Example:
        >>> frames = np.zeros((6, 4, 4, 3), np.uint8)
        >>> [frame.time_s for frame in array_frames(frames, 25, frame_rate_hz=12.5)]
        [0.0, 0.08, 0.16]
    """
    check_frames(frames)
    check_frame_rate("source_rate_hz", source_rate_hz)
    shots = (
        Shot(number / source_rate_hz, (number + 1) / source_rate_hz, partial(np.asarray, pixels))
        for number, pixels in enumerate(frames)
    )
    return sampled(shots, "frames", frame_rate_hz)


def sampled(
    shots: Iterable[Shot],
    name: object,
    frame_rate_hz: float | None,
    start_s: float = 0.0,
    end_s: float = math.inf,
) -> Iterator[VideoFrame]:
    """The shots that begin in a span of time, or those on show at the times of a regular grid.

    Args:
        shots: In the order of time, each going on until the next; the first also stands for all
            time before it.
        name: What the shots come from, for the error.
        frame_rate_hz: Rate of a grid that begins at ``start_s``, or None for every shot.
        start_s: Beginning of the span.
        end_s: Its end, which does not belong to it.

    Raises:
        InputError: The rate makes no sense.
        MediaError: There are shots, and none in the span.
    """
    if frame_rate_hz is not None:
        check_frame_rate("frame_rate_hz", frame_rate_hz)
    return _sampled(shots, name, frame_rate_hz, start_s, end_s)


def check_frame_rate(name: str, rate_hz: float) -> None:
    """Checks that a rate is above 0 and finite; raises InputError otherwise."""
    if not 0 < rate_hz < math.inf:
        raise InputError(f"{name}: expected frames per second > 0, got {rate_hz}")


def check_max_side(max_side: int | None) -> None:
    """Checks that frames may have a pixel at least; raises InputError otherwise."""
    if max_side is not None and max_side < 1:
        raise InputError(f"max_side: expected at least 1 pixel, got {max_side}")


def _sampled(
    shots: Iterable[Shot], name: object, rate_hz: float | None, start_s: float, end_s: float
) -> Iterator[VideoFrame]:
    number, length_s, empty = 0, 0.0, True
    for shot in shots:
        length_s = shot.stop_s
        if rate_hz is None:
            chosen = start_s - CLOSE_S <= shot.start_s < end_s - CLOSE_S
            times = [shot.start_s] if chosen else []
        else:
            first = number
            while start_s + number / rate_hz < min(shot.stop_s, end_s) - CLOSE_S:
                number += 1
            times = [start_s + step / rate_hz for step in range(first, number)]
        if times:
            empty = False
            pixels = shot.pixels()
            for time_s in times:
                yield VideoFrame(time_s, pixels)
        if shot.stop_s >= end_s:
            break  # what comes after the selection need not even be intact
    if empty and length_s:
        raise MediaError(
            f"{name}: nothing lies between start_s={start_s:g} and end_s={end_s:g}; the picture "
            f"ends at {length_s:.3f} s"
        )
