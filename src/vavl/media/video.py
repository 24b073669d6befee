"""The picture of video files and of folders of frames: upright RGB at its true times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.media.container import (
    LONGEST_GAP_S,
    MOST_PIXELS,
    Presented,
    check_length,
    checked_span,
    opened,
    required,
    track_start_s,
    video_track,
    zero_s,
)
from vavl.media.files import PICTURE_SUFFIXES, natural_key
from vavl.media.frames import RgbConverter, Shot, VideoFrame, check_frame_rate, sampled

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame as Decoded
    from av.video.stream import VideoStream

_RESET_S = 1.0
"""Time stamps that go back further begin anew; a frame that goes back less came too late."""
_SEEK_MARGIN_S = 1.0
"""Decoding begins this much earlier: pictures after a key frame may need those before it."""
_LAST_STAMP = 2**62
_USUAL_RATE_HZ = 25.0
"""Of a folder, and where neither the file nor its frames say how long a frame is shown."""


def video_frames(
    path: str | PathLike[str],
    *,
    frame_rate_hz: float | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    max_side: int | None = None,
) -> Iterator[VideoFrame]:
    """Streams the first video track of a file, or a folder of pictures as 25 frames a second.

    Memory does not grow with the length of the file. Times are those of the timeline that
    :func:`vavl.media.audio.audio_blocks` counts samples on: 0 is where the earlier of sound and
    picture starts. Missing time stamps are filled in from the frame rate, and impossible ones
    replaced; a frame that comes after a later one is left out. All frames of a file have the shape
    of the first.

    The picture tolerates damage where the sound does not, since a time stamp tells where to go on:
    damaged frames are left out, and the one before is shown for longer. A file that breaks off
    clearly before the end that its header states yields what it has, and then raises.

    Args:
        path: File in any format FFmpeg reads, or a folder with the frames as files, see
            :data:`vavl.media.files.PICTURE_SUFFIXES`. Numbers in their names count by their value:
            ``2.png`` comes before ``10.png``. Other files are passed over, and pictures that are
            not shown are not read.
        frame_rate_hz: Constant rate of the result: frame k is the picture shown at
            ``start_s + k / frame_rate_hz``; before the first frame of the file, that is the first
            frame. Default: every frame of the file that begins in the selected span, at its own
            time.
        start_s: First second to return. Default: 0.
        end_s: Second to stop before; a time beyond the end means the end. Default: the end.
        max_side: Shrinks larger frames so that their longer side has so many pixels. Default: no
            limit.

    Yields:
        Upright RGB frames in the order of time.

    Raises:
        MediaError: The file is missing, empty, not media, truncated, has no video track (the cover
            of a song is none) or no frame that can be decoded; a folder has no pictures, or one of
            another shape than the first; or nothing lies between ``start_s`` and ``end_s``.
        InputError: The rate, the times or ``max_side`` makes no sense.

    Example:
        >>> import av, tempfile
        >>> path = tempfile.mkdtemp() + "/film.mp4"
        >>> with av.open(path, "w") as file:
        ...     stream = file.add_stream("mpeg4", rate=25)
        ...     stream.width, stream.height = 64, 48
        ...     for _ in range(25):
        ...         _ = file.mux(stream.encode(av.VideoFrame(64, 48, "rgb24")))
        ...     _ = file.mux(stream.encode(None))
        >>> for frame in video_frames(path, frame_rate_hz=5, start_s=0.5):
        ...     print(f"{frame.time_s:.1f} s", frame.pixels.shape)
        0.5 s (48, 64, 3)
        0.7 s (48, 64, 3)
        0.9 s (48, 64, 3)
    """
    start, end = checked_span(start_s, end_s)
    check_frame_rate("frame_rate_hz", frame_rate_hz)
    if max_side is not None and max_side < 1:
        raise InputError(f"max_side: expected at least 1 pixel, got {max_side}")
    path = Path(path)
    is_open_ended = math.isinf(end)
    shots = (
        _pictures(path, max_side)
        if path.is_dir()
        else _decoded(path, start, max_side, is_open_ended=is_open_ended)
    )
    return sampled(shots, path, frame_rate_hz, start, end)


def _pictures(folder: Path, max_side: int | None) -> Iterator[Shot]:
    """The pictures of a folder, in the order of the numbers in their names."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES]
    if not paths:
        known = ", ".join(sorted(PICTURE_SUFFIXES))
        raise MediaError(f"{folder}: no pictures in this folder; expected files named {known}")
    shape: tuple[int, ...] | None = None

    def read(path: Path) -> NDArray[np.uint8]:
        nonlocal shape
        pixels = _read_picture(path, max_side)
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise MediaError(
                f"{path}: expected a picture of {shape[1]} x {shape[0]} pixels as before, got "
                f"{pixels.shape[1]} x {pixels.shape[0]}"
            )
        return pixels

    for number, path in enumerate(sorted(paths, key=lambda path: natural_key(path.name))):
        yield Shot(number / _USUAL_RATE_HZ, (number + 1) / _USUAL_RATE_HZ, partial(read, path))


def _read_picture(path: Path, max_side: int | None) -> NDArray[np.uint8]:
    with opened(path) as container:
        stream = video_track(container)
        if stream:
            _bound(path, stream)
        frame = next(container.decode(stream), None) if stream else None
        if stream is None or frame is None or frame.is_corrupt:
            raise MediaError(f"{path}: the picture cannot be decoded")
        return RgbConverter.suited_to(frame, stream, path, max_side)(frame)


def _bound(path: Path, stream: VideoStream) -> None:
    """Keeps the decoder from pictures of too many pixels; names them where the header does."""
    context = stream.codec_context
    if context.width * context.height > MOST_PIXELS:
        raise MediaError(
            f"{path}: expected a picture of at most {MOST_PIXELS / 1e6:g} million pixels, got "
            f"{context.width} x {context.height}; make it smaller before"
        )
    context.options = {"max_pixels": str(MOST_PIXELS)}


class _Moment(NamedTuple):
    """A decoded frame, when it is shown, and until when if it is the last."""

    start_s: float
    stop_s: float
    frame: Decoded


def _decoded(
    path: Path, start_s: float, max_side: int | None, *, is_open_ended: bool
) -> Iterator[Shot]:
    """The shots of a file, beginning with one shown at ``start_s`` or earlier."""
    with opened(path) as container:
        track = _Track(path, container)
        sought = track.seek(start_s - _SEEK_MARGIN_S)
        moments = track.moments(sought)
        moment = next(moments, None)
        if sought and (moment is None or moment.start_s > start_s):
            # The format cannot seek, or its index is wrong.
            yield from _decoded(path, 0.0, max_side, is_open_ended=is_open_ended)
            return
        if moment is None:
            raise MediaError(
                f"{path}: no frame of the video track can be decoded, or it has more than "
                f"{MOST_PIXELS / 1e6:g} million pixels"
            )
        rgb = RgbConverter.suited_to(moment.frame, track.stream, path, max_side)
        presented = Presented(path, container, is_open_ended=is_open_ended)
        for following in moments:
            presented.reach(following.start_s)
            yield Shot(moment.start_s, following.start_s, partial(rgb, moment.frame))
            moment = following
        stop_s = moment.stop_s
        if moment.start_s < track.end_s:
            # With reordered frames of unequal length, MP4 gives the last one another's length.
            stop_s = min(stop_s, track.end_s)
        yield Shot(moment.start_s, stop_s, partial(rgb, moment.frame))
        if track.reached_s is not None:
            check_length(path, track.stream, container, track.reached_s)


class _Track:
    """The video track of an open file.

    Attributes:
        stream: The track as PyAV has it.
        end_s: Its end by the header; infinite where the header does not say.
        reached_s: How far it was read, from its own start; None while nothing was read.
    """

    def __init__(self, path: Path, container: InputContainer) -> None:
        stream = required(path, video_track(container), "video")
        start_s = track_start_s(path, container, stream)
        _bound(path, stream)
        # Threads hardly save time beside face detection, and conceal damage at random.
        stream.codec_context.thread_count = 1
        self.stream = stream
        self.reached_s: float | None = None
        self._container = container
        self._zero_s = zero_s(container)
        self._time_base = float(stream.time_base or 1 / _USUAL_RATE_HZ)
        length_s = math.inf if stream.duration is None else stream.duration * self._time_base
        self.end_s = start_s + length_s

    def seek(self, time_s: float) -> bool:
        """Seeks the last key frame before a time; False if that is not needed or not possible."""
        import av

        if time_s <= 0:
            return False
        try:
            stamp = int(min((self._zero_s + time_s) / self._time_base, _LAST_STAMP))
            self._container.seek(stamp, stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def moments(self, sought: bool) -> Iterator[_Moment]:
        """The frames from here on, at increasing times.

        Args:
            sought: Whether a seek came before, so that a first frame without a time stamp can be
                anywhere: its time is then infinite.
        """
        usual_s = 1 / float(self.stream.average_rate or _USUAL_RATE_HZ)
        shift_s = -self._zero_s  # from the time stamps to the timeline
        shown_s = -math.inf
        expected_s, latest_s = (math.inf, math.inf) if sought else (0.0, LONGEST_GAP_S)
        for frame in self._frames():
            time_s = expected_s
            if frame.pts is not None:
                stamp_s = frame.pts * self._time_base + shift_s
                if shown_s < 0:
                    stamp_s = max(0.0, stamp_s)  # run-in before zero is not presented
                if shown_s - _RESET_S < stamp_s <= shown_s:
                    continue  # too late: a player would not show it either
                if shown_s < stamp_s <= latest_s:
                    time_s = stamp_s
                else:
                    shift_s += expected_s - stamp_s
            length_s = (frame.duration or 0) * self._time_base
            if not 0 < length_s <= LONGEST_GAP_S:
                length_s = usual_s
            shown_s, expected_s, latest_s = time_s, time_s + length_s, time_s + LONGEST_GAP_S
            yield _Moment(time_s, expected_s, frame)

    def _frames(self) -> Iterator[Decoded]:
        """The frames that can be decoded from here on."""
        import av

        start = self.stream.start_time or 0
        try:
            for packet in self._container.demux(self.stream):
                if packet.pts is not None:
                    end_s = (packet.pts + (packet.duration or 0) - start) * self._time_base
                    self.reached_s = max(end_s, self.reached_s or 0.0)
                yield from self._decode(packet)
        except (av.FFmpegError, IndexError):
            # The rest is unreadable, or a track turned up half way, which PyAV cannot handle. The
            # decoder may still hold frames.
            yield from self._decode(None)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[Decoded]:
        import av

        try:
            frames = self.stream.decode(packet)
        except av.FFmpegError:
            return []
        return [frame for frame in frames if not frame.is_corrupt]
