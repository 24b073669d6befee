"""Cameras and microphones: opened like files, read as sound and pictures come in."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vavl.media.audio import new_resampler, resampled_blocks
from vavl.media.container import media_errors
from vavl.media.frames import RgbConverter

if TYPE_CHECKING:
    from av.container import InputContainer


def open_device(name: str, system: str) -> InputContainer:
    """Opens a camera or a microphone, for :func:`device_sound` or :func:`device_pictures`.

    Args:
        name: The device, e.g. ``"/dev/video0"`` or ``"default"``.
        system: FFmpeg's name of the input system, e.g. ``"v4l2"`` or ``"alsa"``.

    Raises:
        MediaError: It cannot be opened.

    Example:
        >>> list(device_sound(open_device("sine=duration=0.1:sample_rate=16000", "lavfi")))[0].dtype
        dtype('float32')
    """
    import av

    with media_errors(f"{name} cannot be opened"):
        return av.open(name, format=system)


def device_sound(device: InputContainer) -> Generator[NDArray[np.float32], None, None]:
    """Mono blocks ``(n,)`` at 16 kHz as they come in; closes the device at the end."""
    resampler = new_resampler()
    with device, media_errors(f"{device.name} breaks off"):
        for frame in device.decode(audio=0):
            frame.pts = None  # samples are counted; the clock of the device does not matter
            yield from resampled_blocks(resampler, frame)


def device_pictures(
    device: InputContainer, max_side: int
) -> Generator[NDArray[np.uint8], None, None]:
    """Pictures ``(H, W, 3)``, RGB, as they come in; closes the device at the end.

    Larger pictures are shrunk so that their longer side has ``max_side`` pixels.
    """
    rgb: RgbConverter | None = None
    with device, media_errors(f"{device.name} breaks off"):
        stream = device.streams.video[0]
        for frame in device.decode(stream):
            if frame.is_corrupt:
                continue  # cameras begin with such frames
            rgb = rgb or RgbConverter.suited_to(frame, stream, Path(device.name), max_side)
            yield rgb(frame)
