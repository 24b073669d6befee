"""Devices are read as they come in; FFmpeg's test sources stand for them."""

from __future__ import annotations

import numpy as np
import pytest

from vavl.errors import MediaError
from vavl.media.devices import device_pictures, device_sound, open_device


def test_sound_is_mono_at_16_khz_and_the_device_is_closed() -> None:
    device = open_device("sine=frequency=440:sample_rate=48000:duration=0.5", "lavfi")
    blocks = list(device_sound(device))
    assert sum(map(len, blocks)) == pytest.approx(8000, abs=50)
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
    with pytest.raises((MediaError, AssertionError)):
        list(device_sound(device))


def test_pictures_are_shrunk() -> None:
    pictures = list(device_pictures(open_device("testsrc=size=64x48:duration=0.2", "lavfi"), 32))
    assert [picture.shape for picture in pictures] == [(24, 32, 3)] * 5


def test_a_device_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(MediaError, match=r"/dev/none cannot be opened \("):
        open_device("/dev/none", "v4l2")
