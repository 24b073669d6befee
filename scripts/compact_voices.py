"""The voices that the bundled model learns from: three corpora, as whisper-base hears them.

Every clip is heard as it is, and those of RAVDESS also as if recorded elsewhere, among others who
talk, and with a part of it missed. Kept of each hearing are the mean and the deviation over time of
every feature, in one file for each corpus.
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
from speech_conditions import Waveform, augmented, babble, with_noise
from trial_sounds import sounds

from vavl.features.compact_face import CLASSES
from vavl.features.whisper import WhisperBase
from vavl.media.audio import SAMPLING_RATE_HZ, read_audio
from vavl.media.speech import STEP, Heard, SpeechDetector, only_speech, spoken

CORPORA = ("ravdess", "nemo", "crema_d")
SAME_SOUND = "01-01-03-01-02-02-07"
"""Its sound is that of 01-01-03-01-02-01-07 to the last sample, so it is left out."""
HELD_OUT = 0
"""The fold of RAVDESS whose actors are held out from everything but the last scores."""

OF_RAVDESS = {"calm": "neutral", "fearful": "fear", "surprised": "surprise"}
"""Categories of RAVDESS that go by another name here."""

HEARINGS = ("as it is", "elsewhere", "among others", "partly missed")
"""How a clip is heard: as it is, as if recorded elsewhere, with others who talk, and as where voice
activity misses a part of it."""
_HEARD = {"ravdess": HEARINGS, "nemo": HEARINGS[:1], "crema_d": HEARINGS[:1]}
"""One corpus is enough to learn what recordings do; across corpora, clean clips teach more."""
_AT_MOST = {"crema_d": 448}
"""How many clips of a corpus are heard, chosen at random: two classes need no more."""
_BABBLE_DB = (5.0, 20.0)
"""How much louder than the others a voice is, at least and at most."""
_BEGINS_LATER_S = 0.06
_MISSED = 0.4
"""Largest share of the speech that is left out."""

SOUND_SEEDS = 5
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
        statistics: ``(N, 4, 2 D)`` mean, then deviation, of the :data:`HEARINGS` of each clip. NaN
            where no speech was found, and where a clip was not heard in this way.
        labels: ``(N,)`` index in CLASSES.
        speakers: ``(N,)``.
        sexes: ``(N,)``.
        folds: ``(N,)``, -1 where the corpus has none.
        corpora: ``(N,)``.
    """

    statistics: NDArray[np.float16]
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


def load_voices(corpus: str, shared: Path, work: Path, processes: int) -> Voices:
    """Hears all clips of a corpus, or reads what was heard before."""
    path = work / f"{corpus}.npy"
    clips = clips_of(corpus, shared)
    if corpus in _AT_MOST:
        chosen = np.random.default_rng(5).permutation(len(clips))[: _AT_MOST[corpus]]
        clips = [clips[k] for k in sorted(chosen)]
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        learned = [clip.path for clip in clips if clip.fold != HELD_OUT]
        hear = partial(_heard, noises=learned[:: len(learned) // 40])
        ways = [_HEARD[corpus] if c.fold != HELD_OUT else HEARINGS[:1] for c in clips]
        with ProcessPoolExecutor(processes, initializer=_one_thread) as pool:
            found = pool.map(hear, [clip.path for clip in clips], ways, chunksize=16)
            np.save(path, np.stack(list(found)))
    return Voices(
        np.load(path),
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
            statistics = np.stack(list(pool.map(_statistics_of_speech, found)))
        np.save(path, statistics[np.isfinite(statistics[:, 0])].astype(np.float16))
    stored: NDArray[np.float16] = np.load(path)
    return stored


def _one_thread() -> None:
    torch.set_num_threads(1)
    os.nice(5)


def _heard(path: Path, ways: Sequence[str], noises: Sequence[Path]) -> NDArray[np.float16]:
    """``(4, 2 D)`` of a clip, NaN but for these ways of hearing it."""
    sound = read_audio(path)
    detector = SpeechDetector()
    clean = Heard.joined([detector.add(sound), detector.finish()])
    found = []
    for number, way in enumerate(HEARINGS):
        # Not hash(), which differs from process to process.
        random = np.random.default_rng([zlib.crc32(path.name.encode()), number])
        hear = partial(_speech, way, sound, clean, random, noises)
        found.append(_statistics(hear() if way in ways else sound[:0]))
    return np.stack(found).astype(np.float16)


def _speech(
    way: str, sound: Waveform, clean: Heard, random: np.random.Generator, noises: Sequence[Path]
) -> Waveform:
    """The speech of a clip, heard in this way.

    Voice activity is asked once, of the clip as it is; among others who talk, all is speech.
    """
    if way == "as it is":
        return spoken(clean.samples, clean.is_speech)
    if way == "partly missed":
        return partly_missed(spoken(clean.samples, clean.is_speech), random)
    others = [_read(noises[k]) for k in random.integers(len(noises), size=4)]
    if way == "elsewhere":
        changed = augmented(sound, random, others)
        then = np.arange(len(changed)) * len(sound) // len(changed)
        return spoken(changed, clean.is_speech[then])
    talk = babble(len(sound), random, others)
    mixed = with_noise(sound, talk, random.uniform(*_BABBLE_DB))
    return spoken(mixed, np.ones_like(clean.is_speech))


def partly_missed(speech: Waveform, random: np.random.Generator) -> Waveform:
    """Speech ``(N,)`` that begins up to 60 ms later; in half of the cases a piece is cut out."""
    speech = speech[random.integers(round(_BEGINS_LATER_S * SAMPLING_RATE_HZ)) :]
    if random.random() < 0.5:
        size = int(len(speech) * random.uniform(0, _MISSED))
        first = int(random.integers(len(speech) - size + 1))
        speech = np.concatenate([speech[:first], speech[first + size :]])
    return speech


def _statistics_of_speech(waveform: Waveform) -> NDArray[np.float32]:
    return _statistics(only_speech(waveform))


def _statistics(speech: Waveform) -> NDArray[np.float32]:
    """``(2 D,)`` of speech ``(N,)``, NaN where there is less than two steps of 20 ms."""
    extractor = WhisperBase(speech_only=True)
    if len(speech) < 2 * STEP:
        return np.full(2 * extractor.spec.dim, np.nan, np.float32)
    return pooled(extractor.extract(speech, is_speech=True))


@cache
def _read(path: Path) -> NDArray[np.float32]:
    """One of the few that babble is made of."""
    return read_audio(path)


def pooled(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(2 D,)`` mean and deviation over time of ``(T, D)``."""
    return np.concatenate([x.mean(axis=0), x.std(axis=0)])
