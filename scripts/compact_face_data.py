"""What compact-face is trained and scored on: faces48 with the votes of ten people for each face.

Source of the votes, and of what is made of them: Barsoum et al., "Training deep networks for facial
expression recognition with crowd-sourced label distribution", 2016 (FER+).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vavl.faces.detector import MtcnnDetector
from vavl.features.compact_face import CLASSES, OUTPUTS, crop_faces

SPLITS = {"train": 0, "validation": 1, "test": 2}
CONTEMPT = len(OUTPUTS)
"""The label of faces that the majority calls contempt, which is none of the outputs."""

_OUTPUT_OF = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "NF": "none",
}
"""What the votes for no face, and each expression but contempt, are called here."""
_FRAMES_PER_PASS = 32


@dataclass(frozen=True)
class VotedFaces:
    """Faces of a split, and what people say of them.

    Attributes:
        images: ``(N, 48, 48)`` grey, uint8.
        votes: ``(N, 8)`` share of the votes for each of OUTPUTS; zeros where most of them are for
            anything else.
        majority: ``(N,)`` index in OUTPUTS, CONTEMPT, or -1 where no expression has more than half.
        labels: ``(N,)`` FER2013's own label as index in CLASSES, -1 where there is none.
    """

    images: NDArray[np.uint8]
    votes: NDArray[np.float32]
    majority: NDArray[np.int64]
    labels: NDArray[np.int64]


def load_split(folder: Path, split: str) -> VotedFaces:
    """A split of ``faces48.npz``, then of ``faces48_votes_only.npz``, in the folder."""
    parts = []
    for name in ("faces48.npz", "faces48_votes_only.npz"):
        with np.load(folder / name) as stored:
            chosen = stored["split"] == SPLITS[split]
            votes = stored["votes"][chosen].astype(np.float32)
            shares, majority = opinions(votes, list(map(str, stored["vote_columns"])))
            labels = np.full(len(votes), -1, np.int64)
            if "labels" in stored:
                labels = stored["labels"][chosen].astype(np.int64)
                assert tuple(stored["classes"]) == CLASSES
            parts.append((stored["images"][chosen], shares, majority, labels))
    return VotedFaces(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def opinions(
    votes: NDArray[np.float32], columns: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Shares ``(N, 8)`` and majority ``(N,)`` of ``(N, 10)`` votes, see :class:`VotedFaces`.

    A single vote for an expression counts as a mistake, and the majority is more than half of what
    remains, both as in the code published with FER+.
    """
    votes = np.where(votes > 1, votes, 0)
    all_votes = votes.sum(axis=1)
    taken = np.stack([votes[:, columns.index(_name(output))] for output in OUTPUTS], axis=1)
    ours = taken.sum(axis=1)
    usable = ours > all_votes / 2
    shares = np.where(usable[:, None], taken / np.maximum(ours, 1)[:, None], 0)
    candidates = np.concatenate([taken, votes[:, [columns.index("contempt")]]], axis=1)
    clear = candidates.max(axis=1) > all_votes / 2
    winner = candidates.argmax(axis=1)
    expression = clear & (winner != OUTPUTS.index("none"))
    return shares.astype(np.float32), np.where(expression, winner, -1)


def _name(output: str) -> str:
    return next(theirs for theirs, ours in _OUTPUT_OF.items() if ours == output)


@dataclass(frozen=True)
class Paste:
    """How images are pasted into frames.

    Attributes:
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.
        smallest: Least factor by which images are enlarged.
        largest: Greatest such factor; the frame's shorter side is a bound as well.
        minimum_face_px: For the detector; None is its default.
    """

    height: int
    width: int
    smallest: float
    largest: float
    minimum_face_px: float | None = None


# The detector shrinks a face to 48 pixels before it places landmarks: they are as good in small
# frames as in large ones, and found five times faster.
SMALL_FRAMES = Paste(192, 192, 2.0, 3.5, minimum_face_px=40)
LARGE_FRAMES = Paste(360, 640, 2.0, 6.0)


@dataclass(frozen=True)
class Cropped:
    """Images as a detector finds and crops them.

    Attributes:
        crops: ``(N, 48, 48)`` uint8; zeros where no face was found.
        found: ``(N,)`` bool.
        landmarks: ``(N, 5, 2)`` in pixels of the images; NaN where no face was found.
    """

    crops: NDArray[np.uint8]
    found: NDArray[np.bool_]
    landmarks: NDArray[np.float32]


def find_and_crop(images: NDArray[np.uint8], how: Paste, seed: int) -> Cropped:
    """Pastes each image (48, 48) into a frame of its own, and crops the face of highest score.

    Factor, place and background are drawn for each image from the seed and its number.
    """
    detector = MtcnnDetector(how.minimum_face_px)
    result = Cropped(
        np.zeros_like(images),
        np.zeros(len(images), np.bool_),
        np.full((len(images), 5, 2), np.nan, np.float32),
    )
    started = time.perf_counter()
    for start in range(0, len(images), _FRAMES_PER_PASS):
        numbers = np.arange(start, min(start + _FRAMES_PER_PASS, len(images)))
        pasted = [_pasted(images[i], how, np.random.default_rng([seed, i])) for i in numbers]
        frames = np.stack([frame for frame, _ in pasted])
        best = [faces[0] if faces else None for faces in detector.detect(frames)]
        hits = [k for k, face in enumerate(best) if face is not None]
        chosen = numbers[hits]
        result.found[chosen] = True
        result.crops[chosen] = crop_faces(frames[hits], [face for face in best if face])
        for k in hits:
            (left, top, factor), face = pasted[k][1], best[k]
            assert face is not None
            result.landmarks[numbers[k]] = (face.landmarks - [left, top]) / factor
        if start // _FRAMES_PER_PASS % 50 == 0:
            seconds = time.perf_counter() - started
            print(
                f"found {result.found.sum()} of {numbers[-1] + 1} in {seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return result


def load_or_crop(path: Path, images: NDArray[np.uint8], how: Paste, seed: int) -> Cropped:
    """As :func:`find_and_crop`, kept in a file: finding 27,000 faces takes minutes."""
    if path.is_file():
        with np.load(path) as stored:
            return Cropped(stored["crops"], stored["found"], stored["landmarks"])
    cropped = find_and_crop(images, how, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, crops=cropped.crops, found=cropped.found, landmarks=cropped.landmarks)
    return cropped


def _pasted(
    image: NDArray[np.uint8], how: Paste, random: np.random.Generator
) -> tuple[NDArray[np.uint8], tuple[int, int, float]]:
    """A frame (H, W, 3) with the image somewhere in it, and its left, top and factor."""
    frame = _background(how.height, how.width, random)
    largest = min(how.largest, min(frame.shape) / len(image))
    side = round(len(image) * random.uniform(how.smallest, largest))
    pixels = torch.from_numpy(image)[None, None].float()
    enlarged = F.interpolate(pixels, (side, side), mode="bicubic")[0, 0].numpy()
    top = int(random.integers(how.height - side + 1))
    left = int(random.integers(how.width - side + 1))
    frame[top : top + side, left : left + side] = enlarged
    grey = frame.round().clip(0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2), (left, top, side / len(image))


def _background(height: int, width: int, random: np.random.Generator) -> NDArray[np.float32]:
    """A frame (H, W) in 0..255: one tone, a gradient, or clouds with noise."""
    tone, other = random.uniform(20, 235, 2)
    kind = random.integers(3)
    if kind == 0:
        return np.full((height, width), tone, np.float32)
    if kind == 1:
        across = np.linspace(tone, other, width, dtype=np.float32)
        return np.repeat(across[None], height, axis=0)
    coarse = torch.from_numpy(random.normal(tone, 40, (1, 1, 6, 8)).astype(np.float32))
    clouds = F.interpolate(coarse, (height, width), mode="bilinear")[0, 0].numpy()
    return clouds + random.normal(0, 6, (height, width)).astype(np.float32)
