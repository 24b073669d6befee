"""Batches of composed pairs for the bundled model: a voice and another person's face, one emotion.

Voices: log-mel sequences of RAVDESS, cut, made louder and softer, with noise and other spectra.
Faces: embeddings of several random changes of one image of faces48, strung to a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vavl.data.manifest import Manifest
from vavl.data.store import FeatureStore
from vavl.features.compact_face import CLASSES
from vavl.features.logmel import BANDS
from vavl.types import Batch

OF_RAVDESS = {"calm": "neutral", "fearful": "fear", "surprised": "surprise"}
"""Categories of RAVDESS that go by another name here."""

_RATE_HZ = 100
_STEPS_AT_MOST = 25


@dataclass(frozen=True)
class Voices:
    """Clips of some speakers: ids, labels as indices of CLASSES, and stores at several speeds."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    stores: Sequence[FeatureStore]

    @classmethod
    def of(cls, manifest: Manifest, ids: Sequence[str], stores: Sequence[FeatureStore]) -> Voices:
        """The clips of a split."""
        names = [str(manifest.by_id[name].category) for name in ids]
        labels = np.array([CLASSES.index(OF_RAVDESS.get(name, name)) for name in names])
        return cls(tuple(ids), labels, stores)

    def read(self, index: int, speed: int = 0) -> NDArray[np.float32]:
        """``(T, 83)`` of one clip."""
        return self.stores[speed].read(self.ids[index]).astype(np.float32)


def changed_voice(x: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """A part of a clip of 2 s and more, as if recorded elsewhere and normalised on its own.

    Args:
        x: ``(T, 83)`` of :class:`vavl.features.logmel.LogMelPitch`.
        random: Where chance comes from.
    """
    whole = np.exp(x[:, :BANDS]).sum(1).mean()
    if random.random() < 0.5:
        steps = int(random.uniform(2.0, 4.0) * _RATE_HZ)
        start = int(random.integers(0, max(1, len(x) - steps + 1)))
        x = x[start : start + steps]
    bands, pitch = x[:, :BANDS], x[:, BANDS:].copy()
    if random.random() < 0.3:  # another microphone: a smooth curve over the bands
        curve = np.interp(np.arange(BANDS), np.linspace(0, BANDS - 1, 5), random.normal(0, 0.5, 5))
        bands = bands + curve
    if random.random() < 0.15:  # steady noise, 15 to 45 dB below the voice
        level = np.log(np.exp(bands).sum(1).mean() / BANDS) - random.uniform(15, 45) / 4.34
        tilt = np.linspace(random.normal(0, 1), random.normal(0, 1), BANDS)
        bands = np.logaddexp(bands, level + tilt + random.normal(0, 0.5, bands.shape))
    # Unit variance of the part's samples, as the extractor gives it, and a little off.
    shift = np.log(whole / np.exp(bands).sum(1).mean()) + random.normal(0, 0.1)
    bands = bands + shift
    pitch[:, 2] += shift
    if random.random() < 0.3:
        low, width = int(random.integers(0, BANDS)), int(random.integers(1, 9))
        bands[:, low : low + width] = bands.mean()
    return np.concatenate([bands, pitch], axis=1).astype(np.float32)


@dataclass(frozen=True)
class FaceViews:
    """Embeddings ``(N, K, D)`` of K views of N images, and their labels ``(N,)``."""

    embeddings: NDArray[np.float16]
    labels: NDArray[np.int64]

    def sequence(
        self, label: int, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A sequence of views of one face with the label: ``(T, D)``, and ``(T,)`` where it shows.

        One time in three a single step; else the views follow each other in random order, each
        going over into the next, and in some sequences the face is out of sight for a while.
        """
        views = self.embeddings[random.choice(np.flatnonzero(self.labels == label))]
        if random.random() < 1 / 3:
            return views[random.integers(len(views))][None].astype(np.float32), np.ones(1, bool)
        steps = int(random.integers(2, _STEPS_AT_MOST + 1))
        stations = random.integers(len(views), size=max(2, steps // 4 + 1))
        at = np.linspace(0, len(stations) - 1, steps)
        left = np.minimum(at.astype(int), len(stations) - 2)
        share = (at - left)[:, None]
        x = (1 - share) * views[stations[left]] + share * views[stations[left + 1]]
        shown = np.ones(steps, bool)
        if random.random() < 0.3:
            first = int(random.integers(steps))
            shown[first : first + int(random.integers(1, steps))] = False
            shown[int(random.integers(steps))] = True
        return x.astype(np.float32), shown


def batches(
    voices: Voices, faces: FaceViews, size: int, random: np.random.Generator
) -> Iterator[Batch]:
    """One pass over the voices in random order, each with a face of the same emotion."""
    for rows in np.array_split(random.permutation(len(voices.ids)), -(-len(voices.ids) // size)):
        sounds = [
            changed_voice(voices.read(row, int(random.integers(len(voices.stores)))), random)
            for row in rows
        ]
        seen = [faces.sequence(int(voices.labels[row]), random) for row in rows]
        acoustic, acoustic_mask = padded(sounds, [np.ones(len(x), bool) for x in sounds])
        visual, visual_mask = padded([x for x, _ in seen], [shown for _, shown in seen])
        yield Batch(
            [voices.ids[row] for row in rows],
            acoustic,
            acoustic_mask,
            visual,
            visual_mask,
            torch.eye(len(CLASSES))[voices.labels[rows]],
        )


def padded(
    sequences: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]]
) -> tuple[Tensor, Tensor]:
    """``(B, T, D)`` with zeros where nothing is valid, and the ``(B, T)`` mask."""
    steps = max(len(x) for x in sequences)
    x = np.zeros((len(sequences), steps, sequences[0].shape[1]), np.float32)
    mask = np.zeros((len(sequences), steps), bool)
    for row, (sequence, valid) in enumerate(zip(sequences, masks, strict=True)):
        x[row, : len(sequence)] = sequence * valid[:, None]
        mask[row, : len(sequence)] = valid
    return torch.from_numpy(x), torch.from_numpy(mask)
