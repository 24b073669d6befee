"""A film of two drawn people who talk to each other: of nobody, so it may be shown to everybody.

    python scripts/drawn_film.py film.mp4

They take turns, with pauses; each has a mood in each turn, and the second one is away for a while.
Browsers play it: H.264 and AAC.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image

from vavl.data.corpora.synthetic import VOICE_STYLES
from vavl.data.corpora.synthetic_drawing import draw_look, film
from vavl.data.corpora.synthetic_signals import (
    UNIT_COLUMNS,
    VoiceStyle,
    draw_syllables,
    draw_voice,
    synthesize,
    unit_vector,
)

RATE_HZ = 25
SAMPLING_RATE_HZ = 16_000
SIDE_PX = 320
"""Of the picture of one person."""
_PAUSE_S = 1.1
_MEMORY_S = 0.35
"""A face takes so long to change."""
_WALL = (58, 66, 74)

_FACES = {
    "happy": {"AU06": 2.6, "AU12": 3.4, "AU25": 1.0},
    "sad": {"AU01": 3.5, "AU04": 2.5, "AU15": 4.0, "AU17": 3.0},
    "surprise": {"AU01": 4.5, "AU02": 4.5, "AU05": 5.0, "AU25": 3.0, "AU26": 3.5},
    "angry": {"AU04": 5.0, "AU07": 4.0, "AU23": 4.0, "AU09": 2.0},
    "neutral": {},
}
"""Clear ones: action units of each mood."""


class Turn(NamedTuple):
    """Somebody says a sentence: the first (0) or the second person (1); and how both look."""

    speaker: int
    moods: tuple[str, str]


TURNS = (
    Turn(0, ("neutral", "neutral")),
    Turn(1, ("neutral", "happy")),
    Turn(0, ("happy", "happy")),
    Turn(1, ("surprise", "sad")),
    Turn(0, ("sad", "neutral")),
    Turn(0, ("neutral", "neutral")),
)
AWAY = 4
"""In this turn the second person is away."""


def draw_film(
    path: Path,
    turns: Sequence[Turn] = TURNS,
    *,
    away: int = AWAY,
    seed: int = 6,
    crf: int = 20,
) -> Path:
    """Writes the film; the same seed gives the same one."""
    pictures, sound = _scenes(default_rng(seed), turns, away)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE_HZ, options={"crf": str(crf), "g": "25"})
        video.width, video.height, video.pix_fmt = 2 * SIDE_PX, SIDE_PX, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLING_RATE_HZ, layout="mono")
        for pixels in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(video.encode(None))
        for first in range(0, len(sound), 1024):
            block = sound[None, first : first + 1024].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(block, "fltp", "mono")
            frame.sample_rate, frame.pts = SAMPLING_RATE_HZ, first
            frame.time_base = Fraction(1, SAMPLING_RATE_HZ)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def _scenes(
    rng: Generator, turns: Sequence[Turn], away: int
) -> tuple[Iterator[NDArray[np.uint8]], NDArray[np.float64]]:
    """Pictures ``(SIDE_PX, 2 SIDE_PX, 3)`` and ``(N,)`` samples."""
    voices = [draw_voice(rng, female=False), draw_voice(rng, female=True)]
    sounds, faces, is_away = [], [], []
    for number, (speaker, moods) in enumerate(turns):
        style = VOICE_STYLES.get(moods[speaker], VoiceStyle(*[0.0] * len(VoiceStyle._fields)))
        syllables = draw_syllables(rng, voices[speaker], style)
        said = synthesize(rng, voices[speaker], style, syllables)
        frames = round((syllables.duration_s + _PAUSE_S) * RATE_HZ)
        sounds.append(np.pad(said, (0, frames * SAMPLING_RATE_HZ // RATE_HZ - len(said))))
        units = np.stack([np.tile(unit_vector(_FACES[mood]), (frames, 1)) for mood in moods])
        opening = syllables.opening(np.arange(frames) / RATE_HZ)
        for unit, strength in (("AU25", 2.2), ("AU26", 1.8)):
            units[speaker, :, UNIT_COLUMNS[unit]] += strength * opening
        faces.append(units)
        is_away += [number == away] * frames
    units = np.concatenate(faces, axis=1)
    memory = np.exp(-1 / (RATE_HZ * _MEMORY_S))
    calm = np.ones(units.shape[-1])
    calm[[UNIT_COLUMNS["AU25"], UNIT_COLUMNS["AU26"]]] = 0.35  # a mouth is faster than a mood
    for step in range(1, units.shape[1]):
        units[:, step] += memory * calm * (units[:, step - 1] - units[:, step])
    films = [
        film(default_rng(seed), draw_look(default_rng(seed), female=seed % 2 == 0), units[person])
        for person, seed in enumerate((5, 4))
    ]
    return _side_by_side(films, is_away), np.concatenate(sounds)


def _side_by_side(
    films: Sequence[Iterator[NDArray[np.uint8]]], is_away: Sequence[bool]
) -> Iterator[NDArray[np.uint8]]:
    empty = np.full((SIDE_PX, SIDE_PX, 3), _WALL, np.uint8)
    for first, second, nobody in zip(*films, is_away, strict=True):
        pictures = [
            np.asarray(Image.fromarray(p).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS))
            for p in (first, second)
        ]
        yield np.concatenate([pictures[0], empty if nobody else pictures[1]], axis=1)


if __name__ == "__main__":
    print(draw_film(Path(sys.argv[1])))
