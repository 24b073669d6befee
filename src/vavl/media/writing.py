"""Writes media files: those of the synthetic corpus, and copies without sound."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from platform import machine
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.synthetic_face import FRAME_RATE_HZ, SIDE_PX
from vavl.data.corpora.synthetic_voice import SAMPLING_RATE_HZ
from vavl.system.atomic import atomic_write

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream

if TYPE_CHECKING:
    from av.container import OutputContainer

TICKS_PER_S = 60_000
"""Finer than any frame rate needs, and within the 16 bits that MPEG-4 has for it."""


def add_picture_track(
    output: OutputContainer, height: int, width: int, rate_hz: int
) -> VideoStream:
    """Adds a track of H.264, or of MPEG-4 where FFmpeg was built without an encoder for that.

    Args:
        output: An MP4 file open for writing.
        height: Of the pictures, in pixels, even.
        width: Of the pictures, in pixels, even.
        rate_hz: About how many pictures a second there are; their times say it exactly.

    Returns:
        The track; :func:`timed_picture` makes what its ``encode`` takes.
    """
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    # Without frames out of order the first one is at its time and not after a run-in.
    options = {"bf": "0"}
    if codec == "libx264":
        options |= {"preset": "veryfast", "crf": "20"}
    track = cast("VideoStream", output.add_stream(codec, rate=rate_hz, options=options))
    track.height, track.width = height, width
    track.pix_fmt = "yuv420p"
    if codec == "mpeg4":
        track.bit_rate = 12 * height * width
    track.codec_context.time_base = Fraction(1, TICKS_PER_S)
    return track


def timed_picture(pixels: NDArray[np.uint8], time_s: float) -> VideoFrame:
    """A picture ``(H, W, 3)``, RGB, with the moment at which it is shown."""
    import av

    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    picture.pts = round(time_s * TICKS_PER_S)
    picture.time_base = Fraction(1, TICKS_PER_S)
    return picture


def write_wav(path: Path, sound: NDArray[np.float64]) -> None:
    """Writes ``(N,)`` samples at 16 kHz, mono, 16 bit."""
    with atomic_write(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE_HZ)
        file.writeframes(_samples(sound).tobytes())


def write_mp4(
    path: Path, pictures: Iterable[NDArray[np.uint8]], sound: NDArray[np.float64] | None
) -> None:
    """Writes pictures at 25 Hz, and sound as AAC where there is any."""
    import av

    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as output:
        track = add_picture_track(output, SIDE_PX, SIDE_PX, round(FRAME_RATE_HZ))
        _encode_alike(track)
        if sound is not None:
            _mux_sound(output, sound)
        for number, pixels in enumerate(pictures):
            for packet in track.encode(timed_picture(pixels, number / FRAME_RATE_HZ)):
                packet.duration = round(TICKS_PER_S / FRAME_RATE_HZ)
                output.mux(packet)
        output.mux(track.encode(None))


def _encode_alike(track: VideoStream) -> None:
    """Has a track give the same bytes whenever and wherever the same pictures are encoded."""
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


def _samples(sound: NDArray[np.float64]) -> NDArray[np.int16]:
    return np.round(sound * 32767).astype("<i2")


def copy_picture(video: Path, path: Path) -> Path:
    """Copies the picture of a video as it is, without the sound.

    Args:
        video: A video file.
        path: The file to write, by custom of the same container format.

    Returns:
        The written file.
    """
    import av

    with av.open(str(video)) as source, av.open(str(path), "w") as output:
        track = source.streams.video[0]
        copy = output.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return path
