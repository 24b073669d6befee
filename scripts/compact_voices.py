"""The voices that the bundled model learns from: three corpora, as whisper-base hears them.

Every clip is heard as it is, and several times as if recorded elsewhere. Kept of each hearing are
the mean and the deviation over time of every feature, in one file for each corpus.
"""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from speech_conditions import augmented
from trial_sounds import sounds

from vavl.errors import MediaError
from vavl.features.compact_face import CLASSES
from vavl.features.whisper import WhisperBase
from vavl.media.audio import read_audio

CORPORA = ("ravdess", "nemo", "crema_d")
SAME_SOUND = "01-01-03-01-02-02-07"
"""Its sound is that of 01-01-03-01-02-01-07 to the last sample, so it is left out."""
HELD_OUT = 0
"""The fold of RAVDESS whose actors are held out from everything but the last scores."""

OF_RAVDESS = {"calm": "neutral", "fearful": "fear", "surprised": "surprise"}
"""Categories of RAVDESS that go by another name here."""

SOUND_SEEDS = 25
"""How many draws of the sounds of trial_sounds.py are heard."""

_LIKE_SPEECH = ("reversed babble", "water", "rain", "music")
"""Kinds of sound that voice activity lets through at times."""
_FOLDER = {"nemo": "nemo", "crema_d": "crema_d_happy_sad"}


@dataclass(frozen=True)
class Clip:
    """A clip of one speaker; ``category`` is one of CLASSES."""

    path: Path
    speaker: str
    sex: str
    category: str
    fold: int = -1


def clips_of(corpus: str, shared: Path) -> list[Clip]:
    """All clips of a corpus; ``shared`` is the folder with ``ravdess`` and ``speech`` in it."""
    if corpus == "ravdess":
        folder = shared / "ravdess"
        return [
            Clip(
                folder / row["audio"],
                f"ravdess-{row['actor']}",
                row["sex"][0],
                OF_RAVDESS.get(row["emotion"], row["emotion"]),
                int(row["fold5"]),
            )
            for row in _rows(folder / "manifest.csv")
            if row["clip"] != SAME_SOUND
        ]
    folder = shared / "speech" / _FOLDER[corpus]
    return [
        Clip(folder / row["file"], f"{corpus}-{row['speaker']}", row["sex"], row["category"])
        for row in _rows(folder / "labels.csv")
    ]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@dataclass(frozen=True)
class Voices:
    """Hearings of clips.

    Attributes:
        statistics: ``(N, K, 2 D)`` mean, then deviation, of K hearings of each clip; the first is
            that of the clip as it is. NaN where no speech was found.
        steps: ``(N, K)`` how many steps of speech there were.
        labels: ``(N,)`` index in CLASSES.
        speakers: ``(N,)``.
        sexes: ``(N,)``.
        folds: ``(N,)``, -1 where the corpus has none.
        corpora: ``(N,)``.
    """

    statistics: NDArray[np.float16]
    steps: NDArray[np.int32]
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]
    sexes: NDArray[np.str_]
    folds: NDArray[np.int64]
    corpora: NDArray[np.str_]

    def at(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Voices:
        """Some of the clips."""
        return Voices(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence[Voices]) -> Voices:
        """Clips of several corpora."""
        fields = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def load_voices(corpus: str, shared: Path, work: Path, hearings: int, processes: int) -> Voices:
    """Hears all clips of a corpus, or reads what was heard before."""
    path = work / f"{corpus}-{hearings}.npz"
    clips = clips_of(corpus, shared)
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        heard = [clip.path for clip in clips if clip.fold != HELD_OUT]
        noises = heard[:: len(heard) // 40]
        hear = partial(_heard, noises=noises, hearings=hearings)
        with ProcessPoolExecutor(processes, initializer=_one_thread) as pool:
            found = list(pool.map(hear, [clip.path for clip in clips], chunksize=16))
        statistics, steps = zip(*found, strict=True)
        np.savez(path, statistics=np.stack(statistics), steps=np.array(steps, np.int32))
    with np.load(path) as stored:
        statistics, steps = stored["statistics"], stored["steps"]
    return Voices(
        statistics,
        steps,
        np.array([CLASSES.index(clip.category) for clip in clips]),
        np.array([clip.speaker for clip in clips]),
        np.array([clip.sex for clip in clips]),
        np.array([clip.fold for clip in clips]),
        np.full(len(clips), corpus),
    )


def load_sounds(shared: Path, work: Path, processes: int) -> NDArray[np.float16]:
    """Statistics ``(n, 2 D)`` of sounds that are no words, though they are taken for speech."""
    path = work / "sounds.npy"
    if not path.is_file():
        clips = [clip.path for clip in clips_of("ravdess", shared) if clip.fold != HELD_OUT]
        voices = [read_audio(clip) for clip in clips[:: len(clips) // 40]]
        found = (
            sound
            for seed in range(1, SOUND_SEEDS + 1)  # trials take seed 0
            for kind, _, sound in sounds(seed, voices)
            if kind in _LIKE_SPEECH
        )
        with ProcessPoolExecutor(processes, initializer=_one_thread) as pool:
            statistics = np.stack([each for each, _ in pool.map(_statistics, found)])
        np.save(path, statistics[np.isfinite(statistics[:, 0])].astype(np.float16))
    stored: NDArray[np.float16] = np.load(path)
    return stored


def _one_thread() -> None:
    torch.set_num_threads(1)
    os.nice(5)


def _heard(
    path: Path, noises: Sequence[Path], hearings: int
) -> tuple[NDArray[np.float16], list[int]]:
    """``(K, 2 D)`` of a clip, the clip as it is first, and how many steps there were."""
    sound = read_audio(path)
    # Not hash(), which differs from process to process.
    random = np.random.default_rng(zlib.crc32(path.name.encode()))
    waveforms = [sound]
    while len(waveforms) < hearings:
        others = [_read(noises[k]) for k in random.integers(len(noises), size=4)]
        waveforms.append(augmented(sound, random, others))
    statistics, steps = zip(*map(_statistics, waveforms), strict=True)
    return np.stack(statistics).astype(np.float16), list(steps)


def _statistics(waveform: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """``(2 D,)`` of the speech in a waveform, NaN where there is none, and its steps."""
    extractor = WhisperBase(speech_only=True)
    try:
        x = extractor.extract(waveform)
    except MediaError:
        x = np.full((1, extractor.spec.dim), np.nan, np.float32)
    return pooled(x), len(x)


@cache
def _read(path: Path) -> NDArray[np.float32]:
    """One of the few that babble is made of."""
    return read_audio(path)


def pooled(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(2 D,)`` mean and deviation over time of ``(T, D)``."""
    return np.concatenate([x.mean(axis=0), x.std(axis=0)])
