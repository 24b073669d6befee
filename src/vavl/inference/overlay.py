"""The video of a clip once more, with the face framed and the emotion written beside it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vavl.errors import MediaError
from vavl.features.face_features import FINEST_SIDE
from vavl.media.container import audio_track, media_info, opened, track_start_s, video_track, zero_s
from vavl.media.frames import VideoFrame, folder_frames
from vavl.media.video import video_frames
from vavl.media.writing import TICKS_PER_S, add_picture_track, timed_picture
from vavl.types import TimedPrediction

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    TimedPacket = tuple[float, Packet[Any]]
    """When it is to be decoded, in seconds, and the packet."""

_COPIED = frozenset({"aac", "mp3", "ac3", "eac3"})
"""Sound that every player finds its way with in an MP4 file."""
_AAC_RATES_HZ = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000})
_USUAL_RATE_HZ = 25
_SHORTEST_S = 1e-3
_LONGEST_STEP_S = 0.5
"""Between faces seen further apart nothing is interpolated."""
_INK, _PAPER = (255, 255, 255), (20, 26, 36)
_FRAME = (86, 180, 233)


class SeenFace(NamedTuple):
    """Where the face was at one moment.

    Attributes:
        time_s: Of the frame, in seconds.
        box: ``(x0, y0, x1, y1)`` in pixels of a frame whose longer side has at most 1280, as
            :class:`vavl.features.face_features.FaceFeatures` sees it; None without a face.
    """

    time_s: float
    box: tuple[float, float, float, float] | None


class Drawing:
    """What is drawn on the frames of a video.

    Args:
        timeline: Predictions over time, at least one.
        faces: In the order of time.

    Example:
        >>> window = TimedPrediction(0.0, 2.0, None, None, {}, {})
        >>> Drawing([window], [SeenFace(0.0, (0, 0, 8, 8)), SeenFace(0.1, (4, 0, 12, 8))]).box(0.05)
        (2.0, 0.0, 10.0, 8.0)
    """

    def __init__(self, timeline: Sequence[TimedPrediction], faces: Sequence[SeenFace]) -> None:
        self._centres_s = [(window.start_s + window.end_s) / 2 for window in timeline]
        self._texts = [_text(window) for window in timeline]
        self._times_s = [face.time_s for face in faces]
        self._boxes = [face.box for face in faces]

    def text(self, time_s: float) -> str:
        """What the window says whose centre is nearest; empty where it has nothing to go by."""
        after = bisect_left(self._centres_s, time_s)
        nearby = range(max(0, after - 1), min(after + 1, len(self._centres_s)))
        return self._texts[min(nearby, key=lambda n: abs(self._centres_s[n] - time_s))]

    def box(self, time_s: float) -> tuple[float, float, float, float] | None:
        """The face at a time, between two moments in which it was seen on the way there."""
        if not self._boxes:
            return None
        after = min(bisect_left(self._times_s, time_s), len(self._boxes) - 1)
        before = max(0, after - 1)
        span_s = self._times_s[after] - self._times_s[before]
        share = min(1.0, (time_s - self._times_s[before]) / span_s) if span_s else 1.0
        first, last = self._boxes[before], self._boxes[after]
        if first is None or last is None or share < 0 or span_s > _LONGEST_STEP_S:
            return first if share < 0.5 else last
        x0, y0, x1, y1 = ((1 - share) * a + share * b for a, b in zip(first, last, strict=True))
        return x0, y0, x1, y1

    def draw(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The ``(H, W, 3)`` pixels of a frame with box and text; the frame is left as it is."""
        picture = Image.fromarray(frame.pixels)
        height, width = frame.pixels.shape[:2]
        draw = ImageDraw.Draw(picture)
        corner = (0.0, 0.0)
        box = self.box(frame.time_s)
        if box is not None:
            scale = max(1.0, max(width, height) / FINEST_SIDE)
            x0, y0, x1, y1 = (value * scale for value in box)
            if x1 > x0 and y1 > y0:
                draw.rectangle((x0, y0, x1, y1), outline=_FRAME, width=max(2, height // 200))
            corner = (x0, y0)
        text = self.text(frame.time_s)
        if text:
            _write(draw, text, corner, (width, height))
        return np.asarray(picture)


def _text(window: TimedPrediction) -> str:
    if window.label is not None:
        return f"{window.label} {window.probabilities[window.label]:.0%}"
    return ", ".join(f"{name} {value:.2f}" for name, value in window.attributes.items())


def _write(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], size: tuple[int, int]
) -> None:
    """Writes above a corner, moved as far as it must be to be seen."""
    font = _font(max(10, size[1] // 24))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = max(0.0, min(corner[0], size[0] - right))
    y = max(0.0, min(corner[1] - bottom - 2, size[1] - bottom))
    draw.rectangle((x + left - 2, y + top - 2, x + right + 2, y + bottom + 2), fill=_PAPER)
    draw.text((x, y), text, fill=_INK, font=font)


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def write_video(source: Path, path: Path, drawing: Drawing) -> None:
    """Writes the frames of a file or folder with the drawing on them, and its sound, as MP4.

    Raises:
        MediaError: The source cannot be read, or the file cannot be written.
    """
    import av

    try:
        with av.open(str(path), "w", format="mp4") as output:
            tracks = [_picture(source, output, drawing)]
            if not source.is_dir():
                tracks.append(_sound(source, output))
            # Merging looks at the first packet of each before it hands on any, so that all tracks
            # are there when the header is written; and goes on with whichever is behind.
            for _, packet in merge(*tracks, key=lambda timed: timed[0]):
                output.mux(packet)
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"overlay: the video cannot be written ({reason})") from error


def _picture(source: Path, output: OutputContainer, drawing: Drawing) -> Iterator[TimedPacket]:
    """Adds a video track; yields its packets."""
    frames = folder_frames(source) if source.is_dir() else video_frames(source)
    stream: VideoStream | None = None
    lengths: list[int] = []
    for frame, length_s in _lasting(frames, _end_s(source)):
        pixels = _even(drawing.draw(frame))
        height, width = pixels.shape[:2]
        stream = stream or add_picture_track(output, height, width, _rate_hz(source))
        lengths.append(round(length_s * TICKS_PER_S))
        yield from _timed(stream.encode(timed_picture(pixels, frame.time_s)), lengths)
    if stream is not None:
        yield from _timed(stream.encode(None), lengths)


def _timed(
    packets: Iterable[Packet[Any]], lengths: list[int] | None = None
) -> Iterator[TimedPacket]:
    for packet in packets:
        if lengths:
            packet.duration = lengths.pop(0)  # else nothing says how long the last frame is shown
        if packet.dts is not None and packet.time_base is not None:
            yield float(packet.dts * packet.time_base), packet


def _lasting(frames: Iterable[VideoFrame], end_s: float) -> Iterator[tuple[VideoFrame, float]]:
    """Frames and for how many seconds they are shown; the last one until the end of the track."""
    previous, length_s = None, 1 / _USUAL_RATE_HZ
    for frame in frames:
        if previous is not None:
            length_s = max(frame.time_s - previous.time_s, _SHORTEST_S)
            yield previous, length_s
        previous = frame
    if previous is not None:
        rest_s = end_s - previous.time_s
        yield previous, rest_s if _SHORTEST_S <= rest_s < math.inf else length_s


def _end_s(source: Path) -> float:
    """When the picture ends by the header of the file; infinite where that does not say."""
    if source.is_dir():
        return math.inf
    with opened(source) as container:
        track = video_track(container)
        if track is None or track.duration is None or track.time_base is None:
            return math.inf
        return track_start_s(source, container, track) + float(track.duration * track.time_base)


def _rate_hz(source: Path) -> int:
    """About how many frames a second there are, which helps the encoder; times say it exactly."""
    rate_hz = None if source.is_dir() else media_info(source).frame_rate_hz
    return min(max(1, round(rate_hz or _USUAL_RATE_HZ)), 240)


def _even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeats the last row or column where there is an odd number: colours are stored by twos."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return pixels


def _sound(source: Path, output: OutputContainer) -> Iterator[TimedPacket]:
    """Adds the sound of a file, if it has any; yields its packets."""
    with opened(source) as container:
        track = audio_track(container)
        if track is None or track.codec_context is None:
            return
        copied = track.codec_context.name.removesuffix("float") in _COPIED
        yield from (_copied if copied else _encoded)(source, container, track, output)


def _copied(
    _: Path, container: InputContainer, track: AudioStream, output: OutputContainer
) -> Iterator[TimedPacket]:
    stream = output.add_stream_from_template(track)
    first_s, latest = zero_s(container), -math.inf
    for packet in container.demux(track):
        if packet.dts is None or packet.pts is None or packet.time_base is None:
            continue  # the empty packet at the end, or one without a place
        shift = round(first_s / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.dts > latest:  # damaged time stamps may go backwards, which MP4 has no way for
            latest = packet.dts
            packet.stream = stream
            yield from _timed([packet])


def _encoded(
    source: Path, container: InputContainer, track: AudioStream, output: OutputContainer
) -> Iterator[TimedPacket]:
    import av

    rate_hz = track.codec_context.sample_rate
    rate_hz = rate_hz if rate_hz in _AAC_RATES_HZ else 48_000
    layout = "mono" if track.codec_context.channels == 1 else "stereo"
    stream = output.add_stream("aac", rate=rate_hz, layout=layout)
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate_hz)
    position = round(track_start_s(source, container, track) * rate_hz)
    for decoded in chain(container.decode(track), [None]):
        if decoded is not None:
            decoded.pts = None  # counted anew, so that damaged time stamps do no harm
        for frame in resampler.resample(decoded):
            frame.pts, frame.time_base = position, Fraction(1, rate_hz)
            position += frame.samples
            yield from _timed(stream.encode(frame))
    yield from _timed(stream.encode(None))
