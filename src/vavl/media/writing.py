"""Writes media files: sound as WAV, sound and pictures as MP4."""

from __future__ import annotations

import math
import wave
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from heapq import merge
from itertools import chain
from pathlib import Path
from platform import machine
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from vavl.errors import MediaError
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.media.container import audio_track, media_info, opened, track_start_s, video_track, zero_s
from vavl.media.frames import VideoFrame
from vavl.media.video import video_frames
from vavl.system.atomic import atomic_write

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    TimedPacket = tuple[float, Packet[Any]]
    """When it is to be decoded, in seconds, and the packet."""

Draw = Callable[[VideoFrame], NDArray[np.uint8]]
"""A frame to the ``(H, W, 3)`` pixels that are written in its place."""

_TICKS_PER_S = 60_000
"""Time stamps of pictures: finer than any frame rate needs, and within MPEG-4's 16 bits."""

_COPIED_SOUND = frozenset({"aac", "mp3", "ac3", "eac3"})
"""Codecs that every player can play from an MP4 file."""
_AAC_RATES_HZ = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000})
_USUAL_RATE_HZ = 25
_SHORTEST_S = 1e-3


def write_wav(path: Path, sound: NDArray[np.float64]) -> None:
    """Writes ``(N,)`` samples in [-1, 1] at 16 kHz as a WAV file, mono, 16 bit."""
    with atomic_write(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE_HZ)
        file.writeframes(_samples(sound).tobytes())


def write_mp4(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    sound: NDArray[np.float64] | None,
    frame_rate_hz: float,
) -> None:
    """Writes pictures, and sound as AAC where there is any.

    Args:
        path: The file to write.
        pictures: ``(H, W, 3)`` RGB each, at least one, all of one size, H and W even.
        sound: ``(N,)`` samples in [-1, 1] at 16 kHz, or None.
        frame_rate_hz: Pictures a second.
    """
    import av

    remaining = iter(pictures)
    first = next(remaining)
    with atomic_write(path) as temporary, av.open(f"file:{temporary}", "w", format="mp4") as output:
        height, width = first.shape[:2]
        track = _add_pictures(output, height, width, round(frame_rate_hz))
        _encode_alike(track)
        if sound is not None:
            _mux_sound(output, sound)
        for number, pixels in enumerate(chain([first], remaining)):
            for packet in track.encode(_timed_picture(pixels, number / frame_rate_hz)):
                packet.duration = round(_TICKS_PER_S / frame_rate_hz)
                output.mux(packet)
        output.mux(track.encode(None))


def redraw_video(source: Path, path: Path, draw: Draw, sound: int | None = None) -> None:
    """Writes a video again with something drawn on its frames, as MP4.

    Every frame stays at its time, whether the frame rate is constant or not, upright and with
    square pixels; an odd width or height grows by a pixel. The sound is copied, or encoded as AAC
    where MP4 does not take its codec. Memory holds a few frames.

    Args:
        source: Video file, or folder of frames (25 a second).
        path: File to write; MediaError if that fails.
        draw: Makes the pixels of each frame, in the order of time; all of one size.
        sound: Number of the audio track that is kept. Default: the first that can be decoded.
    """
    import av

    try:
        with av.open(f"file:{path}", "w", format="mp4") as output:
            tracks = [_redrawn_pictures(source, output, draw)]
            if not source.is_dir():
                tracks.append(_same_sound(source, output, sound))
            # The merge takes the first packet of each track before it yields any, so that all
            # tracks are there when the header is written; then it follows the track that is behind.
            for _, packet in merge(*tracks, key=lambda timed: timed[0]):
                output.mux(packet)
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"overlay: the video cannot be written ({reason})") from error


def copy_picture(video: Path, path: Path) -> Path:
    """Copies the picture of a video as it is, without the sound.

    Args:
        video: A video file.
        path: The file to write, with the suffix of the same format; it is returned.
    """
    import av

    with opened(video) as source, av.open(f"file:{path}", "w") as output:
        track = source.streams.video[0]
        copy = output.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return path


def _add_pictures(output: OutputContainer, height: int, width: int, rate_hz: int) -> VideoStream:
    """Adds a track of H.264, or of MPEG-4 where FFmpeg was built without an encoder for that.

    Height and width are even. The times of the pictures say exactly what ``rate_hz`` says roughly.
    """
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    # Without frames out of order, the first one is at its time and not after a run-in.
    options = {"bf": "0"}
    if codec == "libx264":
        options |= {"preset": "veryfast", "crf": "20"}
    track = cast("VideoStream", output.add_stream(codec, rate=rate_hz, options=options))
    track.height, track.width = height, width
    track.pix_fmt = "yuv420p"
    if codec == "mpeg4":
        track.bit_rate = 12 * height * width
    track.codec_context.time_base = Fraction(1, _TICKS_PER_S)
    return track


def _timed_picture(pixels: NDArray[np.uint8], time_s: float) -> av.VideoFrame:
    """A picture ``(H, W, 3)``, RGB, with the time at which it is shown, for the encoder."""
    import av

    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    picture.pts = round(time_s * _TICKS_PER_S)
    picture.time_base = Fraction(1, _TICKS_PER_S)
    return picture


def _samples(sound: NDArray[np.float64]) -> NDArray[np.int16]:
    return np.round(sound * 32767).astype("<i2")


def _encode_alike(track: VideoStream) -> None:
    """Makes a track give the same bytes for the same pictures, at any time and on any machine."""
    context = track.codec_context
    context.thread_count = 1  # x264 cuts pictures into one slice for each thread
    if machine() in ("x86_64", "AMD64"):
        # With AVX-512, x264 made another video of the same pictures now and then: one in 25 on a
        # busy virtual machine, none in 177 without. Without, it is as fast at this size.
        context.options = {**context.options, "x264-params": "asm=sse4.2"}


def _mux_sound(output: OutputContainer, sound: NDArray[np.float64]) -> None:
    import av

    stream = output.add_stream("aac", rate=SAMPLING_RATE_HZ, layout="mono")
    frame = av.AudioFrame.from_ndarray(_samples(sound)[None], format="s16", layout="mono")
    frame.sample_rate, frame.time_base = SAMPLING_RATE_HZ, Fraction(1, SAMPLING_RATE_HZ)
    frame.pts = 0
    output.mux([*stream.encode(frame), *stream.encode(None)])


def _redrawn_pictures(source: Path, output: OutputContainer, draw: Draw) -> Iterator[TimedPacket]:
    """Adds a video track; yields its packets."""
    stream: VideoStream | None = None
    lengths: list[int] = []
    for frame, length_s in _lasting(video_frames(source), _end_s(source)):
        pixels = _even(draw(frame))
        height, width = pixels.shape[:2]
        stream = stream or _add_pictures(output, height, width, _rate_hz(source))
        lengths.append(round(length_s * _TICKS_PER_S))
        yield from _timed(stream.encode(_timed_picture(pixels, frame.time_s)), lengths)
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
    """Repeats the last row or column where their number is odd: colours are stored by twos."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _same_sound(source: Path, output: OutputContainer, number: int | None) -> Iterator[TimedPacket]:
    """Adds the sound of a file, if it has any; yields its packets."""
    with opened(source) as container:
        track = audio_track(container, number)
        if track is None or track.codec_context is None:
            return
        copied = track.codec_context.name.removesuffix("float") in _COPIED_SOUND
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
        if packet.dts > latest:  # damaged time stamps may go backwards, which MP4 cannot hold
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
