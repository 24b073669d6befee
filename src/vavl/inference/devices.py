"""Camera and microphone of this machine as a live source."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np

from vavl.errors import InputError, MediaError
from vavl.features.face_features import FINEST_SIDE
from vavl.inference.sources import Event, LiveSource
from vavl.media.audio import SAMPLING_RATE_HZ, resampled_blocks
from vavl.media.frames import RgbConverter, VideoFrame

if TYPE_CHECKING:
    from av.container import InputContainer

_Side: TypeAlias = Literal["audio", "frame"]
_HandOn: TypeAlias = Callable[[Event], bool]
"""Takes an event; False when nobody wants more."""
_Reader: TypeAlias = Callable[[float, _HandOn], None]
"""Reads a device to its end; the first argument is when time began."""

_log = logging.getLogger(__name__)

_ALSA_FOLDER = Path("/usr/share/alsa")
"""Configuration of the sound system: the ALSA inside PyAV's wheels looks for it elsewhere."""
_MOST_WAITING = 1000
"""Events that a device may be ahead; then it waits, and what it loses becomes silence."""
_LATE = 30
"""Events that wait before frames are left out: there will be another one soon."""
_GAP_S = 0.25
"""Sound that is so late was lost on the way."""


def device(camera: str | None = "/dev/video0", microphone: str | None = "default") -> LiveSource:
    """Camera and microphone of this machine, until the reader stops; on Linux.

    Time begins when the first event is asked for. Lost sound is replaced by silence, so that sound
    and picture stay together; frames are left out when the reader does not keep up. When a device
    is unplugged, the other goes on.

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
    inputs = ExitStack()
    with inputs:
        readers: dict[_Side, _Reader] = {}
        if microphone is not None:
            readers["audio"] = partial(_listen, inputs.enter_context(_opened(microphone, "alsa")))
        if camera is not None:
            readers["frame"] = partial(_watch, inputs.enter_context(_opened(camera, "v4l2")))
        inputs.pop_all()  # from here on each is closed by the thread that reads it
    return LiveSource(microphone is not None, camera is not None, _device_events(readers))


def _opened(name: str, system: Literal["alsa", "v4l2"]) -> InputContainer:
    import av

    if system == "alsa" and (_ALSA_FOLDER / "alsa.conf").is_file():
        os.environ.setdefault("ALSA_CONFIG_DIR", str(_ALSA_FOLDER))
    try:
        return av.open(name, format=system)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        argument, listing, instead = {
            "alsa": ("microphone", "arecord -L", "arecord -t raw -f S16_LE -c 1 -r 16000"),
            "v4l2": ("camera", "v4l2-ctl --list-devices", "ffmpeg ... -f rawvideo -pix_fmt rgb24"),
        }[system]
        raise InputError(
            f"{argument}: {name} cannot be opened ({reason}); '{listing}' tells what there is, and "
            f"the output of '{instead}' can be read as a pipe instead"
        ) from error


def _device_events(readers: Mapping[_Side, _Reader]) -> Iterator[Event]:
    """What the readers, each in a thread of its own, have to tell, until they all end."""
    waiting: Queue[Event | None] = Queue(_MOST_WAITING)
    stopped = threading.Event()

    def hand_on(event: Event | None) -> bool:
        if event and event[0] == "frame" and event[1] and waiting.qsize() >= _LATE:
            return not stopped.is_set()
        while not stopped.is_set():
            try:
                waiting.put(event, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def work(kind: _Side, reader: _Reader) -> None:
        import av

        try:
            reader(began_s, hand_on)
        except (av.FFmpegError, OSError, MediaError) as error:
            _log.warning("%s: the device breaks off: %s", kind, error)
        finally:
            hand_on(cast(Event, (kind, None)))  # so that nobody waits for this side any more
            hand_on(None)

    began_s = time.monotonic()
    for side in readers.items():
        threading.Thread(target=work, args=side, daemon=True).start()
    try:
        for _ in readers:
            while (event := waiting.get()) is not None:
                yield event
    finally:
        stopped.set()


def _listen(sound: InputContainer, began_s: float, hand_on: _HandOn) -> None:
    import av

    resampler, heard = av.AudioResampler(format="fltp", rate=SAMPLING_RATE_HZ), 0
    with sound:
        for frame in sound.decode(audio=0):
            arrived = round((time.monotonic() - began_s) * SAMPLING_RATE_HZ)
            frame.pts = None
            for block in resampled_blocks(resampler, frame):
                missing = arrived - heard - len(block)
                if missing > (_GAP_S * SAMPLING_RATE_HZ if heard else 0):
                    block = np.concatenate([np.zeros(missing, np.float32), block])
                heard += len(block)
                if not hand_on(("audio", block)):
                    return


def _watch(picture: InputContainer, began_s: float, hand_on: _HandOn) -> None:
    rgb: RgbConverter | None = None
    with picture:
        stream = picture.streams.video[0]
        for frame in picture.decode(stream):
            arrived_s = time.monotonic() - began_s
            if frame.is_corrupt:
                continue  # cameras begin with such frames
            rgb = rgb or RgbConverter.suited_to(frame, stream, Path(picture.name), FINEST_SIDE)
            if not hand_on(("frame", VideoFrame(arrived_s, rgb(frame)))):
                return
