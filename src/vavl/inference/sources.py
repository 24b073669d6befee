"""Where live sound and pictures come from: files, pipes, and the devices of this machine.

A source is read once. Its events come in the order of time: ``("audio", samples)`` with the next
samples at 16 kHz, ``("frame", VideoFrame)`` with the next frame, and either with None where that
side ends before the other.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.features.face_features import FINEST_SIDE
from vavl.media.audio import SAMPLING_RATE_HZ, audio_blocks, resample_blocks
from vavl.media.container import AudioTrackInfo, media_info
from vavl.media.devices import device_pictures, device_sound, open_device
from vavl.media.frames import VideoFrame, check_frame_rate
from vavl.media.tracks import choose_audio_track, choose_channels
from vavl.media.video import video_frames

if TYPE_CHECKING:
    from av.container import InputContainer

Samples: TypeAlias = NDArray[np.float32]
Event: TypeAlias = (
    tuple[Literal["audio"], Samples | None] | tuple[Literal["frame"], VideoFrame | None]
)

_Side: TypeAlias = Literal["audio", "frame"]
_Emit: TypeAlias = Callable[[Event], bool]
"""Takes an event; False when nobody wants more."""
_ReadDevice: TypeAlias = Callable[[float, _Emit], None]
"""Reads a device to its end; the first argument is when time began."""

_ALSA_FOLDER = Path("/usr/share/alsa")
"""Configuration of the sound system: the ALSA inside PyAV's wheels looks for it elsewhere."""
_MOST_WAITING = 1000
"""Events that a device may be ahead; then it waits, and what it loses becomes silence."""
_LATE = 30
"""From so many waiting events on, frames are left out: there will be another one soon."""
_GAP_S = 0.25
"""Sound that is later than this was lost on the way."""
_BLOCK_S = 0.1
"""Sound is handed on in blocks of this length: it adds as much to the latency."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveSource:
    """Sound and frames as they come in, see :mod:`vavl.inference.sources`."""

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
        MediaError: The file cannot be read, or has neither sound nor a picture to read.

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
        tracks = info.audio_tracks if audio else ()
        audio, video = audio and info.has_audio, video and info.has_video
    if not audio and not video:
        raise MediaError(f"{path}: neither sound nor a picture to read")
    sides = [
        *([_file_sound(path, tracks)] if audio else []),
        *([_file_picture(path)] if video else []),
    ]
    return LiveSource(audio, video, _paced(heapq.merge(*sides, key=lambda timed: timed[0]), speed))


def _file_sound(path: Path, tracks: Sequence[AudioTrackInfo]) -> Iterator[tuple[float, Event]]:
    """Blocks, and when the last sample of each has been played."""
    track, track_note = choose_audio_track(path, tracks)
    channels, channels_note = choose_channels(path, tracks[track - 1])
    for note in filter(None, (track_note, channels_note)):
        _log.warning("%s: %s", path, note)
    total, size = 0, round(_BLOCK_S * SAMPLING_RATE_HZ)
    for samples in audio_blocks(path, track=track, channels=channels):
        for start in range(0, len(samples), size):
            block = samples[start : start + size]
            total += len(block)
            yield total / SAMPLING_RATE_HZ, ("audio", block)
    yield total / SAMPLING_RATE_HZ, ("audio", None)


def _file_picture(path: Path) -> Iterator[tuple[float, Event]]:
    shown_s = 0.0
    for frame in video_frames(path, max_side=FINEST_SIDE):
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
    blocks = resample_blocks(_piped_blocks(stream, sampling_rate_hz), sampling_rate_hz)
    return LiveSource(True, False, (("audio", block) for block in blocks))


def _piped_blocks(stream: BinaryIO, sampling_rate_hz: int) -> Iterator[NDArray[np.int16]]:
    size = 2 * max(1, round(_BLOCK_S * sampling_rate_hz))
    while len(raw := _read(stream, size)) > 1:
        yield np.frombuffer(raw, "<i2", count=len(raw) // 2).astype(np.int16)


def _read(stream: BinaryIO, size: int) -> bytes:
    """Reads ``size`` bytes, however few come at a time; fewer only at the end."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def device(camera: str | None = "/dev/video0", microphone: str | None = "default") -> LiveSource:
    """Camera and microphone of this machine, until its events are closed; on Linux.

    Time begins when the first event is asked for. Lost sound is replaced by silence, so that sound
    and picture stay together. Frames are left out when they are not taken fast enough. When a
    device is unplugged, the other goes on.

    Args:
        camera: Device of Video4Linux, or None for no picture.
        microphone: Device of ALSA, e.g. ``"hw:1"``, or None for no sound.

    Raises:
        InputError: Another system than Linux, no device, or one that cannot be opened.
    """
    if camera is None and microphone is None:
        raise InputError("camera, microphone: expected a device at least, got neither")
    if sys.platform != "linux":
        raise InputError(
            f"camera, microphone: expected Linux, got {sys.platform}; let another program record, "
            "e.g. ffmpeg, and read its output as a pipe"
        )
    with ExitStack() as inputs:
        readers: dict[_Side, _ReadDevice] = {}
        if microphone is not None:
            readers["audio"] = partial(_listen, inputs.enter_context(_opened(microphone, "alsa")))
        if camera is not None:
            readers["frame"] = partial(_watch, inputs.enter_context(_opened(camera, "v4l2")))
        inputs.pop_all()  # from here on each is closed by the thread that reads it
    return LiveSource(microphone is not None, camera is not None, _device_events(readers))


def _opened(name: str, system: Literal["alsa", "v4l2"]) -> InputContainer:
    if system == "alsa" and (_ALSA_FOLDER / "alsa.conf").is_file():
        os.environ.setdefault("ALSA_CONFIG_DIR", str(_ALSA_FOLDER))
    try:
        return open_device(name, system)
    except MediaError as error:
        argument, listing, instead = {
            "alsa": ("microphone", "arecord -L", "arecord -t raw -f S16_LE -c 1 -r 16000"),
            "v4l2": ("camera", "v4l2-ctl --list-devices", "ffmpeg ... -f rawvideo -pix_fmt rgb24"),
        }[system]
        raise InputError(
            f"{argument}: {error}; '{listing}' tells what there is, and the output of "
            f"'{instead}' can be read as a pipe instead"
        ) from error


def _device_events(readers: Mapping[_Side, _ReadDevice]) -> Iterator[Event]:
    """Events of all devices, each read in a thread of its own, until all end."""
    waiting: Queue[Event | None] = Queue(_MOST_WAITING)
    stopped = threading.Event()

    def emit(event: Event | None) -> bool:
        if event and event[0] == "frame" and event[1] and waiting.qsize() >= _LATE:
            return not stopped.is_set()
        while not stopped.is_set():
            try:
                waiting.put(event, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def work(kind: _Side, reader: _ReadDevice) -> None:
        try:
            reader(began_s, emit)
        except MediaError as error:
            _log.warning("%s: %s", kind, error)
        finally:
            emit(cast(Event, (kind, None)))  # so that nobody waits for this side any more
            emit(None)

    began_s = time.monotonic()
    for side in readers.items():
        threading.Thread(target=work, args=side, daemon=True).start()
    try:
        for _ in readers:
            while (event := waiting.get()) is not None:
                yield event
    finally:
        stopped.set()


def _listen(sound: InputContainer, began_s: float, emit: _Emit) -> None:
    total = 0
    with closing(device_sound(sound)) as blocks:
        for block in blocks:
            missing = round((time.monotonic() - began_s) * SAMPLING_RATE_HZ) - total - len(block)
            if missing > (_GAP_S * SAMPLING_RATE_HZ if total else 0):
                block = np.concatenate([np.zeros(missing, np.float32), block])
            total += len(block)
            if not emit(("audio", block)):
                return


def _watch(picture: InputContainer, began_s: float, emit: _Emit) -> None:
    with closing(device_pictures(picture, FINEST_SIDE)) as pictures:
        for pixels in pictures:
            if not emit(("frame", VideoFrame(time.monotonic() - began_s, pixels))):
                return
