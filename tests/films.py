"""Small films whose pictures show their number, with or without sound, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vavl.media.video import video_frames

WIDTH, HEIGHT = 64, 48


def picture(number: int) -> np.ndarray:
    """A frame whose brightness is its number, with a bright top left corner."""
    pixels = np.full((HEIGHT, WIDTH, 3), 16 + 4 * number, np.uint8)
    pixels[: HEIGHT // 4, : WIDTH // 4] = 255
    return pixels


def number_of(pixels: np.ndarray) -> int:
    return round((float(np.median(pixels[..., 1])) - 16) / 4)


def film(
    path: Path,
    times_s: Sequence[float | None],
    *,
    codec: str = "libx264",
    rate: int = 25,
    sound_at_s: float | None = None,
    **options: str,
) -> Path:
    """A video with a numbered frame at each time, and a second of sound if asked for."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, options={"g": "10"}, bit_rate=4_000_000)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        sound = None
        if sound_at_s is not None:
            sound = container.add_stream("aac", rate=16_000, layout="mono")
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            if time_s is not None:
                frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None and sound_at_s is not None:
            wave = 0.5 * np.sin(np.arange(16_384) * 0.3, dtype=np.float32)
            for start in range(0, len(wave), 1024):
                block = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
                block.sample_rate, block.time_base = 16_000, Fraction(1, 16_000)
                block.pts = round(16_000 * sound_at_s) + start
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return path


def seconds(count: int, rate_hz: float = 25, start_s: float = 0) -> list[float]:
    return [start_s + number / rate_hz for number in range(count)]


def read(path: Path, **options) -> list[tuple[float, int]]:
    return [
        (round(frame.time_s, 3), number_of(frame.pixels)) for frame in video_frames(path, **options)
    ]
