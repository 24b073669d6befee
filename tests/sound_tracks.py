"""Files with several tracks of sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

RATE_HZ = 16_000


class Track(NamedTuple):
    """A track: samples at 16 kHz ``(N,)`` or ``(channels, N)``, and what its header says."""

    samples: np.ndarray
    language: str | None = None
    title: str | None = None
    start_s: float = 0.0
    disposition: str | None = None


def write_tracks(
    path: Path,
    tracks: Sequence[Track],
    pictures: Sequence[np.ndarray] = (),
    codec: str = "pcm_s16le",
    picture_rate_hz: int = 25,
) -> Path:
    """Writes the tracks side by side, and pictures ``(H, W, 3)`` if there are any."""
    with av.open(str(path), "w") as file:
        packets: list[Any] = []
        if len(pictures):
            video = file.add_stream("mpeg4", rate=picture_rate_hz, options={"bf": "0"})
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt, video.bit_rate = "yuv420p", 4_000_000
            for pixels in pictures:
                packets += video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
            packets += video.encode(None)
        for track in tracks:
            packets += _sound(file, track, codec)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            file.mux(packet)
    return path


def _sound(file: Any, track: Track, codec: str) -> list[Any]:
    samples = np.atleast_2d(track.samples)
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(samples)]
    stream = file.add_stream(codec, rate=RATE_HZ, layout=layout)
    if track.language:
        stream.metadata["language"] = track.language
    if track.title:
        stream.metadata["title"] = track.title
    if track.disposition:
        stream.disposition = av.stream.Disposition[track.disposition]
    packed = np.round(samples.T * 32767).clip(-32768, 32767).astype(np.int16)
    packets: list[Any] = []
    size = stream.codec_context.frame_size or 1024
    for start in range(0, len(packed), size):
        block = np.ascontiguousarray(packed[start : start + size].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, "s16", layout)
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        frame.pts = start + round(RATE_HZ * track.start_s)
        packets += stream.encode(frame)
    return packets + stream.encode(None)
