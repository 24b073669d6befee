"""Where live sound and pictures come from: pipes and files; devices see :mod:`.devices`.

A source is read once. Its events come in the order of time: ``("audio", samples)`` with the next
samples at 16 kHz, ``("frame", VideoFrame)`` with the next frame, and either with None where that
side ends before the other.
"""

from __future__ import annotations

import heapq
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.features.face_features import FINEST_SIDE
from vavl.media.audio import SAMPLING_RATE_HZ, audio_blocks, resampled_blocks
from vavl.media.container import media_info
from vavl.media.frames import VideoFrame, check_frame_rate, folder_frames
from vavl.media.video import video_frames

Samples: TypeAlias = NDArray[np.float32]
Event: TypeAlias = (
    tuple[Literal["audio"], Samples | None] | tuple[Literal["frame"], VideoFrame | None]
)

_BLOCK_S = 0.1
"""Sound is handed on in blocks of this length: it adds as much to the latency."""


@dataclass(frozen=True)
class LiveSource:
    """Sound and frames as they come in.

    Attributes:
        audio: Whether there will be sound.
        video: Whether there will be a picture.
        events: See :mod:`vavl.inference.sources`.
    """

    audio: bool
    video: bool
    events: Iterator[Event]

    def __iter__(self) -> Iterator[Event]:
        return self.events


def file_at_real_time(
    path: Path | str, speed: float = 1.0, *, audio: bool = True, video: bool = True
) -> LiveSource:
    """Plays a file or a folder of frames as if it were happening now.

    Args:
        path: As for :meth:`vavl.inference.Recognizer.predict`.
        speed: 2 plays twice as fast, infinity as fast as possible.
        audio: Whether to read its sound.
        video: Whether to read its picture.

    Raises:
        InputError: The speed is not above 0.
        MediaError: The file cannot be read, or has nothing of what shall be read.

    Example:
        >>> import tempfile, wave
        >>> path = tempfile.mkdtemp() + "/silence.wav"
        >>> with wave.open(path, "wb") as file:
        ...     file.setparams((1, 2, 16_000, 0, "NONE", ""))
        ...     file.writeframes(bytes(2 * 1200))
        >>> [(kind, None if s is None else len(s)) for kind, s in file_at_real_time(path, math.inf)]
        [('audio', 1024), ('audio', 176), ('audio', None)]
    """
    path = Path(path)
    if not speed > 0:
        raise InputError(f"speed: expected more than 0, got {speed}")
    if path.is_dir():
        audio = False
    else:
        info = media_info(path)
        audio, video = audio and info.has_audio, video and info.has_video
    if not audio and not video:
        raise MediaError(f"{path}: neither a sound track nor a picture that shall be read")
    sides = []
    if audio:
        sides.append(_file_sound(path))
    if video:
        sides.append(_file_picture(path))
    return LiveSource(audio, video, _paced(heapq.merge(*sides, key=lambda timed: timed[0]), speed))


def _file_sound(path: Path) -> Iterator[tuple[float, Event]]:
    """Blocks, and when the last sample of each has been heard."""
    heard, size = 0, round(_BLOCK_S * SAMPLING_RATE_HZ)
    for samples in audio_blocks(path):
        for start in range(0, len(samples), size):
            block = samples[start : start + size]
            heard += len(block)
            yield heard / SAMPLING_RATE_HZ, ("audio", block)
    yield heard / SAMPLING_RATE_HZ, ("audio", None)


def _file_picture(path: Path) -> Iterator[tuple[float, Event]]:
    shown_s = 0.0
    read = folder_frames if path.is_dir() else video_frames
    for frame in read(path, max_side=FINEST_SIDE):
        shown_s = frame.time_s
        yield shown_s, ("frame", frame)
    yield shown_s, ("frame", None)


def _paced(events: Iterator[tuple[float, Event]], speed: float) -> Iterator[Event]:
    began_s = time.monotonic()
    for due_s, event in events:
        wait_s = began_s + due_s / speed - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        yield event


def pipe(stream: BinaryIO, width: int, height: int, frame_rate_hz: float) -> LiveSource:
    """Frames from another program, e.g. ``ffmpeg -f rawvideo -pix_fmt rgb24 -``.

    Args:
        stream: Frame after frame, row by row, three bytes a pixel, nothing in between.
        width: In pixels.
        height: In pixels.
        frame_rate_hz: Frame k is at ``k / frame_rate_hz``.

    Raises:
        InputError: The size or the rate makes no sense.

    Example:
        >>> import io
        >>> source = pipe(io.BytesIO(bytes(2 * 12)), width=2, height=2, frame_rate_hz=25)
        >>> [frame.time_s for _, frame in source]
        [0.0, 0.04]
    """
    check_frame_rate("frame_rate_hz", frame_rate_hz)
    if width < 1 or height < 1:
        raise InputError(f"width, height: expected at least 1 pixel, got {width} x {height}")
    return LiveSource(False, True, _piped_frames(stream, (height, width, 3), frame_rate_hz))


def pipe_format(text: str) -> tuple[int, int, float]:
    """Width, height and frame rate of a pipe as written on a command line.

    Raises:
        InputError: It is written otherwise.

    Example:
        >>> pipe_format("640x480@29.97")
        (640, 480, 29.97)
    """
    found = re.fullmatch(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)", text.strip())
    if found is None:
        raise InputError(
            f"video pipe: expected WIDTHxHEIGHT@FRAMES_A_SECOND, e.g. 640x480@25, got {text!r}"
        )
    return int(found[1]), int(found[2]), float(found[3])


def _piped_frames(
    stream: BinaryIO, shape: tuple[int, int, int], frame_rate_hz: float
) -> Iterator[Event]:
    number = 0
    while len(raw := _read(stream, math.prod(shape))) == math.prod(shape):  # else it was cut off
        pixels = np.frombuffer(raw, np.uint8).reshape(shape)
        yield "frame", VideoFrame(number / frame_rate_hz, pixels)
        number += 1


def pcm(stream: BinaryIO, sampling_rate_hz: int = SAMPLING_RATE_HZ) -> LiveSource:
    """Sound from another program, e.g. ``arecord -t raw -f S16_LE -c 1 -r 16000``.

    Args:
        stream: Mono samples, 16 bits, the low byte first, nothing in between.
        sampling_rate_hz: Of the stream; it is resampled where it differs from 16 kHz.

    Raises:
        InputError: The rate is below 1 Hz.

    Example:
        >>> import io
        >>> [len(samples) for _, samples in pcm(io.BytesIO(bytes(2 * 2000)))]
        [1600, 400]
    """
    if sampling_rate_hz < 1:
        raise InputError(f"sampling_rate_hz: expected at least 1 Hz, got {sampling_rate_hz}")
    return LiveSource(True, False, _piped_sound(stream, sampling_rate_hz))


def _piped_sound(stream: BinaryIO, sampling_rate_hz: int) -> Iterator[Event]:
    import av

    resampler = av.AudioResampler(format="fltp", rate=SAMPLING_RATE_HZ)
    size = 2 * max(1, round(_BLOCK_S * sampling_rate_hz))
    while len(raw := _read(stream, size)) > 1:
        samples = np.frombuffer(raw, "<i2", count=len(raw) // 2).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = sampling_rate_hz
        for block in resampled_blocks(resampler, frame):
            yield "audio", block
    for block in resampled_blocks(resampler, None):
        yield "audio", block


def _read(stream: BinaryIO, size: int) -> bytes:
    """So many bytes, however few come at a time; fewer only at the end."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
