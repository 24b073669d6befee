"""Cameras and microphones: opened like files, read as sound and pictures come in."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vavl.errors import MediaError
from vavl.media.audio import SAMPLING_RATE_HZ, resampled_blocks
from vavl.media.frames import RgbConverter

if TYPE_CHECKING:
    from av.container import InputContainer


def open_device(name: str, system: str) -> InputContainer:
    """Opens a camera or a microphone.

    Args:
        name: The device, e.g. ``"/dev/video0"`` or ``"default"``.
        system: FFmpeg's name of the input system, e.g. ``"v4l2"`` or ``"alsa"``.

    Returns:
        The open device; :func:`device_sound` or :func:`device_pictures` reads and closes it.

    Raises:
        MediaError: It cannot be opened; gives FFmpeg's reason.

    Example:
        >>> list(device_sound(open_device("sine=duration=0.1:sample_rate=16000", "lavfi")))[0].dtype
        dtype('float32')
    """
    import av

    with _as_media_errors(f"{name} cannot be opened"):
        return av.open(name, format=system)


def device_sound(device: InputContainer) -> Generator[NDArray[np.float32], None, None]:
    """Mono blocks ``(n,)`` at 16 kHz as they come in; closes the device at the end.

    Raises:
        MediaError: The device breaks off.
    """
    import av

    resampler = av.AudioResampler(format="fltp", rate=SAMPLING_RATE_HZ)
    with device, _as_media_errors(f"{device.name} breaks off"):
        for frame in device.decode(audio=0):
            frame.pts = None  # samples are counted; the clock of the device does not matter
            yield from resampled_blocks(resampler, frame)


def device_pictures(
    device: InputContainer, max_side: int
) -> Generator[NDArray[np.uint8], None, None]:
    """Pictures ``(H, W, 3)``, RGB, as they come in; closes the device at the end.

    Args:
        device: An open camera.
        max_side: Shrinks larger pictures so that their longer side has so many pixels.

    Raises:
        MediaError: The device breaks off.
    """
    rgb: RgbConverter | None = None
    with device, _as_media_errors(f"{device.name} breaks off"):
        stream = device.streams.video[0]
        for frame in device.decode(stream):
            if frame.is_corrupt:
                continue  # cameras begin with such frames
            rgb = rgb or RgbConverter.suited_to(frame, stream, Path(device.name), max_side)
            yield rgb(frame)


@contextmanager
def _as_media_errors(what: str) -> Iterator[None]:
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{what} ({reason})") from error
