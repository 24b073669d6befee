"""A video written again with something drawn on its frames: times and sound stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vavl.errors import MediaError
from vavl.media.container import audio_track, media_info, opened, track_start_s, video_track, zero_s
from vavl.media.frames import VideoFrame, folder_frames
from vavl.media.video import video_frames
from vavl.media.writing import TICKS_PER_S, add_picture_track, timed_picture

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    TimedPacket = tuple[float, Packet[Any]]
    """When it is to be decoded, in seconds, and the packet."""

Draw = Callable[[VideoFrame], NDArray[np.uint8]]
"""A frame to the ``(H, W, 3)`` pixels that are written in its place."""

_COPIED = frozenset({"aac", "mp3", "ac3", "eac3"})
"""Sound that every player can play from an MP4 file."""
_AAC_RATES_HZ = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000})
_USUAL_RATE_HZ = 25
_SHORTEST_S = 1e-3


def redraw_video(source: Path, path: Path, draw: Draw) -> None:
    """Writes a video again, as MP4.

    Every frame stays at its time, whether the frame rate is constant or not, upright and with
    square pixels; an odd width or height grows by a pixel. The sound is copied, or encoded as AAC
    where MP4 does not take its codec. Memory holds a few frames.

    Args:
        source: Video file, or folder of frames (25 a second).
        path: File to write.
        draw: Makes the pixels of each frame, in the order of time.

    Raises:
        MediaError: The source cannot be read, or the file cannot be written.
    """
    import av

    try:
        with av.open(str(path), "w", format="mp4") as output:
            tracks = [_picture(source, output, draw)]
            if not source.is_dir():
                tracks.append(_sound(source, output))
            # Merging looks at the first packet of each before it hands on any, so that all tracks
            # are there when the header is written; and goes on with whichever is behind.
            for _, packet in merge(*tracks, key=lambda timed: timed[0]):
                output.mux(packet)
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"overlay: the video cannot be written ({reason})") from error


def _picture(source: Path, output: OutputContainer, draw: Draw) -> Iterator[TimedPacket]:
    """Adds a video track; yields its packets."""
    frames = folder_frames(source) if source.is_dir() else video_frames(source)
    stream: VideoStream | None = None
    lengths: list[int] = []
    for frame, length_s in _lasting(frames, _end_s(source)):
        pixels = _even(draw(frame))
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
        if packet.dts > latest:  # damaged time stamps may go backwards; MP4 cannot store that
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
