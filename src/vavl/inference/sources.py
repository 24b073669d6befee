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
from vavl.inference.arguments import check_path
from vavl.media.audio import (
    SAMPLING_RATE_HZ,
    audio_blocks,
    check_sampling_rate,
    resample_blocks,
)
from vavl.media.container import MOST_PIXELS, AudioTrackInfo, is_finite, media_info
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
_LATEST_FRAME_S, _LATEST_SOUND_S = 1.0, 5.0
"""Of a file that is played: what comes later than this is lost."""
_SLOWEST = 0.01
_ROWS, _JUDGED, _PLAIN = 32, 3_000, 4.0
"""So many rows in the middle of a frame, if they have so many bytes, which vary by so much, tell
whether it has another width or format than is said."""
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
        speed: 2 plays twice as fast, infinity as fast as possible; at least 0.01. At any but
            infinity, what comes too late is lost as it would be from a device, and a warning says
            so: frames that are more than a second late are left out, and sound that is more than 5
            s late is silence.
        audio: Whether to read its sound.
        video: Whether to read its picture.

    Raises:
        InputError: The speed makes no sense.
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
    check_path("path", path)
    path = Path(path)
    if speed != math.inf and not (is_finite(speed) and speed >= _SLOWEST):
        raise InputError(f"speed: expected {_SLOWEST} or more, got {speed!r}")
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
    """Each event when it is due; under overload, what a device would have lost is lost."""
    began_s, losses = time.monotonic(), _Losses()
    for due_s, event in events:
        wait_s = began_s + due_s / speed - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        late_s = 0.0 if speed == math.inf else -wait_s
        if event[0] == "frame" and event[1] is not None and late_s > _LATEST_FRAME_S:
            losses.note("frames are left out", late_s)
        elif event[0] == "audio" and event[1] is not None and late_s > _LATEST_SOUND_S:
            losses.note("sound is lost, and silence stands in its place", late_s)
            yield "audio", np.zeros_like(event[1])
        else:
            yield event


class _Losses:
    """Says once of each kind what is lost under overload."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def note(self, what: str, late_s: float) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning(
                "this machine is too slow for the source, by now %.1f s late: %s", late_s, what
            )


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
    whole = isinstance(width, int) and isinstance(height, int)
    if not whole or min(width, height) < 1 or width * height > MOST_PIXELS:
        raise InputError(
            f"width, height: expected 1 to {MOST_PIXELS:,} pixels, got {width} x {height}"
        )
    return LiveSource(False, True, _piped_frames(stream, (height, width, 3), frame_rate_hz))


def _piped_frames(
    stream: BinaryIO, shape: tuple[int, int, int], frame_rate_hz: float
) -> Iterator[Event]:
    number, size = 0, math.prod(shape)
    judged = False
    while len(raw := _read(stream, size)) == size:
        pixels = np.frombuffer(raw, np.uint8).reshape(shape)
        if not judged and (problem := _misfit(pixels)) is not None:
            _log.warning("video pipe: %s; expected rgb24 of this width", problem)
        judged = judged or bool(pixels.std() >= _PLAIN)
        yield "frame", VideoFrame(number / frame_rate_hz, pixels)
        number += 1
    if raw:
        _log.warning(
            "video pipe: it ended with %d of the %d bytes of a frame of %d x %d: cut off, or of "
            "another size or format",
            *(len(raw), size, shape[1], shape[0]),
        )


def _misfit(pixels: NDArray[np.uint8]) -> str | None:
    """What about a frame looks as if it had another width or format; None for nothing.

    Pictures change little from one row to the next. Where rows are taken to be of another length,
    they are shifted against each other, and other distances fit much better. Of grey pictures, one
    byte is as near to the next as three are to the three before.
    """
    middle = max(0, pixels.shape[0] // 2 - _ROWS // 2)
    content = pixels[middle : middle + _ROWS].reshape(-1).astype(np.float32)
    if len(content) < _JUDGED or content.std() < _PLAIN:
        return None

    def change(distance: int) -> float:
        return float(np.abs(content[distance:] - content[:-distance]).mean())

    row = 3 * pixels.shape[1]
    by_phase = [float(np.abs(np.diff(content)[phase::3]).mean()) for phase in range(3)]
    if max(by_phase) < 1.2 * min(by_phase) and change(1) < 0.7 * change(3):
        return "the pictures look grey, one byte a pixel"
    power = np.fft.rfft(content - content.mean(), 2 * len(content))
    likeness = np.fft.irfft(power * power.conj())[: min(len(content) // 2, 4 * row)]
    likeness /= np.arange(len(content), len(content) - len(likeness), -1)
    best = int(likeness[row // 4 :].argmax()) + row // 4
    multiple = best % row in (0, 1, row - 1)
    if not multiple and row < len(content) and change(best) < 0.5 * change(row):
        return f"the rows look {best // 3} pixels long, not {pixels.shape[1]}"
    return None


def pcm(stream: BinaryIO, sampling_rate_hz: int = SAMPLING_RATE_HZ) -> LiveSource:
    """Sound from another program, e.g. ``arecord -t raw -f S16_LE -c 1 -r 16000``.

    Args:
        stream: Mono samples, 16 bits, the low byte first, nothing in between.
        sampling_rate_hz: Of the stream; it is resampled where it differs from 16 kHz.

    Raises:
        InputError: The rate is none of those of :func:`vavl.media.audio.check_sampling_rate`.

    Example:
        >>> import io
        >>> [len(samples) for _, samples in pcm(io.BytesIO(bytes(2 * 2000)))]
        [1600, 400]
    """
    sampling_rate_hz = check_sampling_rate(sampling_rate_hz)
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
