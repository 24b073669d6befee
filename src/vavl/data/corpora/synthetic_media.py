"""The files of the synthetic corpus: sound as WAV, sound and pictures as MP4."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vavl.atomic import atomic_write
from vavl.data.corpora.synthetic_face import FRAME_RATE_HZ
from vavl.data.corpora.synthetic_picture import SIDE_PX
from vavl.data.corpora.synthetic_voice import SAMPLING_RATE_HZ
from vavl.encoding import TICKS_PER_S, add_picture_track, timed_picture

if TYPE_CHECKING:
    from av.container import OutputContainer


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
        if sound is not None:
            _mux_sound(output, sound)
        for number, pixels in enumerate(pictures):
            for packet in track.encode(timed_picture(pixels, number / FRAME_RATE_HZ)):
                packet.duration = round(TICKS_PER_S / FRAME_RATE_HZ)
                output.mux(packet)
        output.mux(track.encode(None))


def _mux_sound(output: OutputContainer, sound: NDArray[np.float64]) -> None:
    import av

    stream = output.add_stream("aac", rate=SAMPLING_RATE_HZ, layout="mono")
    frame = av.AudioFrame.from_ndarray(_samples(sound)[None], format="s16", layout="mono")
    frame.sample_rate, frame.time_base = SAMPLING_RATE_HZ, Fraction(1, SAMPLING_RATE_HZ)
    frame.pts = 0
    output.mux([*stream.encode(frame), *stream.encode(None)])


def _samples(sound: NDArray[np.float64]) -> NDArray[np.int16]:
    return np.round(sound * 32767).astype("<i2")
