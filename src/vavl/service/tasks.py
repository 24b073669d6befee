"""What a worker process does: predict clips, get to know people, follow live streams.

Tasks and their outcomes are all that passes between the processes, over a pipe. What computes is
imported where it runs, so that the process that listens stays small.
"""

from __future__ import annotations

import io
import json
import logging
import math
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vavl.errors import InputError, MediaError, StoreError, VavlError
from vavl.system.processes import obey_parent, one_line

if TYPE_CHECKING:  # the process that listens needs no torch
    from vavl.inference.reader import Reading
    from vavl.inference.recognizer import Recognizer
    from vavl.inference.sources import Event

SOUND, PICTURE = b"\x01", b"\x02"
"""First byte of a live message: 16-bit samples; a time and a JPEG."""

_LONGEST_SIDE = 4096
"""Of a live picture, in pixels: what a JPEG of a few bytes may claim is decoded to no more."""
_LATE_S = 1.0
"""Live pictures that come later than this are left out: there will be another one soon."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model a worker loads; as for :func:`vavl.load`."""

    model: str | None = None
    device: str = "cpu"
    unsure_below: float | None = None


@dataclass(frozen=True)
class Ready:
    """The model is loaded, or a stream may begin; ``about`` says what the model is."""

    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How many seconds of a clip are predicted, and how many there are, where that is known."""

    done_s: float
    duration_s: float | None


@dataclass(frozen=True)
class LiveWindow:
    """A window of a live stream: a message for the client."""

    content: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A task has ended; what it gave."""

    result: Any = None


@dataclass(frozen=True)
class Failed:
    """A task has failed; ``is_defect`` where neither the clip nor the options are to blame."""

    reason: str
    is_defect: bool = False


Outcome = Done | Failed


@dataclass(frozen=True)
class Stop:
    """Sent to a worker: what it does is no longer wanted."""


class Stopped(Exception):
    """The task was told to stop."""


@runtime_checkable
class Task(Protocol):
    """Something a worker does."""

    @property
    def names(self) -> Mapping[str, str]:
        """Of files, which errors name as whoever sent them does."""

    def run(self, recognizer: Recognizer, parent: Connection) -> Any:
        """Does it; may tell the parent how far it is. Raises Stopped where that was asked for."""


@dataclass(frozen=True)
class PredictClip:
    """Predicts a file; gives the prediction as text in every format, by the format's name.

    Attributes:
        path: The file; it is deleted by whoever sent the task.
        name: What the clip is called.
        profile: File of a speaker's profile, or None.
        timeline: Whether to predict over time as well.
        segments: Whether to predict by sentence as well.
        reading: How the clip is read.
    """

    path: Path
    name: str
    profile: Path | None
    timeline: bool
    segments: bool
    reading: Reading

    @property
    def names(self) -> dict[str, str]:
        """What the sender calls the files."""
        return {str(self.path): self.name, str(self.profile): "profile"}

    def run(self, recognizer: Recognizer, parent: Connection) -> dict[str, bytes]:
        """Predicts, and tells how far it is."""
        from vavl.data.speakers import SpeakerProfile
        from vavl.inference.captions import CAPTION_FORMATS, captions
        from vavl.inference.tables import clips_csv, segments_csv
        from vavl.media.container import media_info

        duration_s, end_s = media_info(self.path).duration_s, self.reading.get("end_s")
        if duration_s is not None and end_s is not None:
            duration_s = min(duration_s, end_s)

        def tell(done_s: float) -> None:
            if parent.poll():
                raise Stopped
            parent.send(Progress(done_s, duration_s))

        found = recognizer.predict(
            self.path,
            name=self.name,
            speaker=None if self.profile is None else SpeakerProfile.load(self.profile),
            timeline=self.timeline,
            segments=self.segments,
            progress=tell,
            **self.reading,
        )
        as_csv = segments_csv if self.segments else clips_csv
        texts = {"json": json.dumps(found.to_dict(), allow_nan=False), "csv": as_csv([found])}
        if self.segments:
            texts |= {f: captions(found.segments, f, found.name) for f in CAPTION_FORMATS}
        return {form: text.encode() for form, text in texts.items()}


@dataclass(frozen=True)
class GetToKnow:
    """Makes a profile of a person from files; gives the bytes of the profile's file.

    Attributes:
        names: The files, and what the sender calls them.
        speaker: Name of the person.
        folder: Where files may be written for now.
    """

    names: dict[str, str]
    speaker: str
    folder: Path

    def run(self, recognizer: Recognizer, parent: Connection) -> dict[str, bytes]:
        """Adapts to one clip after another, and forgets the person again."""
        try:
            for path in self.names:
                if parent.poll():
                    raise Stopped
                profile = recognizer.adapt([path], speaker=self.speaker)
        finally:
            recognizer.speakers.pop(self.speaker, None)
        file = self.folder / "profile.safetensors"
        profile.save(file)
        return {"safetensors": file.read_bytes()}


@dataclass(frozen=True)
class FollowStream:
    """Follows a live stream. Until it ends, the parent sends the client's messages as bytes.

    Instead of bytes, ``"audio"`` and ``"video"`` end one side, and None ends the stream.
    """

    audio: bool
    video: bool
    sampling_rate_hz: int

    names: ClassVar[dict[str, str]] = {}

    def run(self, recognizer: Recognizer, parent: Connection) -> None:
        """Tells the parent each window as soon as it is known."""
        from vavl.inference.live import LiveRecognizer

        if not 8_000 <= self.sampling_rate_hz <= 192_000:
            raise InputError(
                f"sampling_rate_hz: expected 8000 to 192000 Hz, got {self.sampling_rate_hz}"
            )
        live = LiveRecognizer(recognizer, audio=self.audio, video=self.video)
        parent.send(Ready())
        for prediction, latency_s in live.follow(self._events(parent)):
            box = None if live.face is None else live.face.box
            window = {"latency_s": latency_s, "prediction": asdict(prediction), "box": box}
            parent.send(LiveWindow(window))

    def _events(self, parent: Connection) -> Iterator[Event]:
        from vavl.media.audio import BlockResampler
        from vavl.media.frames import VideoFrame

        resampler = BlockResampler(self.sampling_rate_hz)
        clock, samples = _Clock(), 0
        shape: tuple[int, ...] | None = None
        while (message := parent.recv()) is not None:
            if isinstance(message, Stop):
                raise Stopped
            if message == "video":
                yield "frame", None
            elif message == "audio":
                yield from (("audio", block) for block in resampler.finish())
                yield "audio", None
            elif message[:1] == SOUND:
                block = np.frombuffer(message[1:], "<i2").astype(np.int16)
                samples += len(block)
                clock.delay_s(samples / self.sampling_rate_hz)
                yield from (("audio", heard) for heard in resampler.add(block))
            else:
                [time_s] = struct.unpack("<d", message[1:9])
                if clock.delay_s(time_s) < _LATE_S:
                    frame = VideoFrame(time_s, _decoded(message[9:]))
                    shape = shape or frame.pixels.shape
                    if frame.pixels.shape != shape:
                        raise InputError(
                            f"picture: expected all of one size, {shape[1]} x {shape[0]}, got "
                            f"{frame.pixels.shape[1]} x {frame.pixels.shape[0]}; begin anew"
                        )
                    yield "frame", frame
        yield from (("audio", block) for block in resampler.finish())


class _Clock:
    """Tells how late something is; what came in with the least delay sets the clock."""

    def __init__(self) -> None:
        self._began_s = math.inf

    def delay_s(self, time_s: float) -> float:
        """By how much something of this time is later than the earliest was."""
        began_s = time.monotonic() - time_s
        self._began_s = min(self._began_s, began_s)
        return began_s - self._began_s


def message_problem(message: bytes) -> str | None:
    """What is wrong with a live message, or None; pictures are not decoded."""
    kind = message[:1]
    if kind == SOUND:
        return None if len(message) % 2 else "expected whole 16-bit samples after byte 1"
    if kind != PICTURE:
        return f"expected a message that begins with byte 1 or 2, got {list(kind)}"
    if len(message) < 12 or not math.isfinite(struct.unpack("<d", message[1:9])[0]):
        return "expected a time as a 64-bit float and a JPEG after byte 2"
    return None


def _decoded(jpeg: bytes) -> NDArray[np.uint8]:
    """``(H, W, 3)`` of a JPEG."""
    try:
        picture = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
        if max(picture.size) > _LONGEST_SIDE:
            raise ValueError(f"{picture.size[0]} x {picture.size[1]} pixels")
        return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all of them
        raise InputError(f"picture: expected a JPEG of at most 4096 pixels ({error})") from None


def run_worker(parent: Connection, settings: ModelSettings) -> None:
    """Runs in the process of a worker: loads the model, then does one task after another."""
    from vavl.inference.loading import load

    obey_parent()
    logging.disable()  # the service logs, and what a clip is like is not for the log
    try:
        recognizer = load(
            settings.model, device=settings.device, unsure_below=settings.unsure_below
        )
        _warm_up(recognizer)
    except Exception as error:
        parent.send(Failed(str(error) if isinstance(error, VavlError) else one_line(error)))
        return
    parent.send(Ready(_about(recognizer, settings)))
    with suppress(EOFError, BrokenPipeError):  # the parent has gone
        while True:
            task = parent.recv()
            if isinstance(task, Task):
                parent.send(_outcome(task, recognizer, parent))


def _outcome(task: Task, recognizer: Recognizer, parent: Connection) -> Outcome:
    try:
        return Done(task.run(recognizer, parent))
    except Stopped:
        return Failed("it was told to stop")
    except (InputError, MediaError, StoreError) as error:
        reason = str(error)
        for path, name in task.names.items():
            reason = reason.replace(path, name)
        return Failed(reason)
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        return Failed(one_line(error), is_defect=True)


def _about(recognizer: Recognizer, settings: ModelSettings) -> dict[str, Any]:
    """What the model is, for whoever asks the service."""
    from vavl.inference.loading import COMPACT, COMPACT_NOTICE, model_card, model_folder

    name = settings.model or COMPACT
    taken = {"acoustic": recognizer.reader.accepts_audio, "visual": recognizer.reader.accepts_video}
    return {
        "name": name if name == COMPACT else Path(name).name,
        "categories": recognizer.categories,
        "attributes": recognizer.attributes,
        "takes": [modality for modality, takes in taken.items() if takes],
        "predictions": [str(p) for p in recognizer.model.config.predictions],
        "unsure_below": recognizer.calibration.unsure_below,
        "notice": COMPACT_NOTICE if name == COMPACT else None,
        "card": model_card(model_folder(settings.model)),
    }


def _warm_up(recognizer: Recognizer) -> None:
    """Loads all networks now, so that the first clip does not wait for them."""
    from vavl.media.audio import SAMPLING_RATE_HZ

    sound = np.random.default_rng(0).normal(0, 0.1, SAMPLING_RATE_HZ).astype(np.float32)
    picture = np.zeros((13, 120, 160, 3), np.uint8)
    given: dict[str, Any] = {}
    if recognizer.reader.accepts_audio:
        given["audio"] = sound
    if recognizer.reader.accepts_video:
        given["frames"] = picture
    with suppress(VavlError):  # there is nothing in it to predict
        recognizer.predict(**given)
