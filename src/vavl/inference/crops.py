"""The faces of a clip, cut out of its picture, and a table of where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vavl.inference.drawing import box_at
from vavl.media.video import video_frames
from vavl.system.atomic import atomic_write, write_csv
from vavl.types import Person

FACES_FILE = "faces.csv"
"""Beside the crops of a clip: a row for each of them."""

EVERY_S = 0.5
"""A face is cut out when it comes into sight, and then again after so many seconds."""
_MARGIN = 0.2
"""Of the size of the box, left around it on each side."""
_COLUMNS = ("file", "person", "is_main", "time_s", "x0", "y0", "x1", "y1")


def save_crops(source: Path, people: Sequence[Person], folder: Path) -> None:
    """Cuts out each face every half second that it is in sight, as PNG, and lists them as CSV.

    The boxes in the table are those of the tracks, in shares of the width and height.

    Args:
        source: Video file, or folder of frames.
        people: Who is seen in it, with their tracks.
        folder: Where the crops and the table go.

    Raises:
        MediaError: The source cannot be read.
    """
    rows: list[list[Any]] = []
    due_s = dict.fromkeys((person.number for person in people), 0.0)
    for frame in video_frames(source) if people else ():
        for person in people:
            box = box_at(person.track, frame.time_s)
            if box is None or frame.time_s < due_s[person.number]:
                continue
            crop = _cut_out(frame.pixels, box)
            if not crop.size:
                continue
            due_s[person.number] = frame.time_s + EVERY_S
            name = f"person-{person.number}-{frame.time_s:09.3f}.png"
            with atomic_write(folder / name) as temporary:
                Image.fromarray(crop).save(temporary, format="PNG")
            about = [person.number, person.is_main, f"{frame.time_s:.3f}"]
            rows.append([name, *about, *(f"{side:.4f}" for side in box)])
    write_csv(folder / FACES_FILE, _COLUMNS, rows)


def _cut_out(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """The box with its margin, as far as the picture goes."""
    height, width = pixels.shape[:2]
    (left, right), (top, bottom) = (
        _sides(box[first], box[first + 2], size) for first, size in ((0, width), (1, height))
    )
    return pixels[top:bottom, left:right]


def _sides(first: float, last: float, size: int) -> Iterator[int]:
    margin = _MARGIN * (last - first)
    for place in (first - margin, last + margin):
        yield int(np.clip(round(place * size), 0, size))
