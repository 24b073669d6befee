"""Frames in memory: at their times, on a grid, and shrunk."""

from __future__ import annotations

import numpy as np
import pytest
from films import HEIGHT, WIDTH, number_of, picture

from vavl.errors import InputError
from vavl.media.frames import array_frames, shrunk


def test_arrays_are_streamed_as_files_are() -> None:
    pictures = np.stack([picture(number) for number in range(9)])
    shown = [(frame.time_s, number_of(frame.pixels)) for frame in array_frames(pictures, 4)]
    assert shown == [(number / 4, number) for number in range(9)]
    slower = array_frames(pictures, 30, frame_rate_hz=10)
    assert [number_of(frame.pixels) for frame in slower] == [0, 3, 6]
    assert list(array_frames(pictures[:0], 30)) == []
    with pytest.raises(InputError, match="uint8"):
        array_frames(pictures.astype(float), 30)
    for rates in ({"source_rate_hz": 0}, {"source_rate_hz": 25, "frame_rate_hz": -1}):
        with pytest.raises(InputError, match="frames per second"):
            array_frames(pictures, **rates)


def test_a_picture_is_shrunk_and_never_enlarged() -> None:
    pixels = picture(5)
    small = shrunk(pixels, WIDTH // 2)
    assert small.shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert number_of(small) == 5
    assert shrunk(pixels, WIDTH) is pixels
