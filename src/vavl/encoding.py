"""Writing video: the track of pictures of an MP4 file."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream

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
