"""Corpora of a few short clips in the folder trees and file formats they are distributed in."""

from __future__ import annotations

import csv
import itertools
import json
import wave
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import av
import numpy as np

from vavl.data.manifest import MEDIA_FIELDS, Manifest

CREMA_D_TASKS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
# Two speakers of each split of the first published partition, a woman and a man.
CREMA_D_ACTORS = {
    "1001": "Male",
    "1002": "Female",
    "1006": "Female",
    "1032": "Male",
    "1004": "Female",
    "1011": "Male",
}
DURATION_S = 0.4


def missing_media(manifest: Manifest) -> list[Path]:
    """The files that a manifest names and that are not there."""
    paths = [manifest.path(row, name) for row in manifest for name in MEDIA_FIELDS]
    return [path for path in paths if path is not None and not path.is_file()]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_sound(path: Path, seed: int, sampling_rate_hz: int = 16_000) -> None:
    """Noise as a 16-bit WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(
        -9000, 9000, round(DURATION_S * sampling_rate_hz), np.int16
    )
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sampling_rate_hz, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def write_film(path: Path, frames: np.ndarray, codec: str, rate_hz: int = 25) -> None:
    """Frames ``(T, H, W, 3)`` in any container that PyAV writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, bit_rate=2_000_000)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))


def flicker(seed: int, rate_hz: int = 25) -> np.ndarray:
    """``(T, 48, 64, 3)`` frames of one changing brightness."""
    light = np.random.default_rng(seed).integers(90, 220, round(DURATION_S * rate_hz), np.uint8)
    return np.broadcast_to(light[:, None, None, None], (len(light), 48, 64, 3)).copy()


def crema_d_tables(
    root: Path, votes: Mapping[str, Mapping[str, Sequence[int]]], actors: Mapping[str, str]
) -> None:
    """The annotations of a CREMA-D repository.

    Args:
        root: The repository.
        votes: Clip to channel (voice, face, audiovisual) to votes for A, D, F, H, N, S.
        actors: Actor to sex.
    """
    numbered = list(enumerate(votes, start=1))
    write_csv(root / "SentenceFilenames.csv", ("Stimulus_Number", "Filename"), numbered)
    write_csv(
        root / "VideoDemographics.csv",
        ("ActorID", "Age", "Sex", "Race", "Ethnicity"),
        [
            (actor, 30 + n, sex, "Asian", "Hispanic")
            for n, (actor, sex) in enumerate(actors.items())
        ],
    )
    rows = [
        (100_000 * (digit + 1) + number, *votes[clip][channel], clip, sum(votes[clip][channel]))
        for digit, channel in enumerate(("voice", "face", "audiovisual"))
        for number, clip in numbered
    ]
    header = ("", *"ADFHNS", "fileName", "numResponses")
    write_csv(root / "processedResults" / "tabulatedVotes.csv", header, rows)


def crema_d(root: Path) -> Path:
    """A CREMA-D repository: six actors, one clip of each emotion; sound and Flash video."""
    votes = {}
    for seed, (actor, (index, task)) in enumerate(
        itertools.product(CREMA_D_ACTORS, enumerate(CREMA_D_TASKS))
    ):
        clip = f"{actor}_IEO_{task}_{'XX' if task == 'NEU' else 'HI'}"
        clear, split = np.zeros(6, int), np.zeros(6, int)
        clear[index], clear[(index + 1) % 6] = 8, 2
        split[index], split[(index + 1) % 6] = 5, 5
        # The voice alone leaves fear and disgust open.
        voice = split if task in ("FEA", "DIS") else clear
        votes[clip] = {"voice": voice, "face": clear, "audiovisual": clear}
        write_sound(root / "AudioWAV" / f"{clip}.wav", seed)
        write_film(root / "VideoFlash" / f"{clip}.flv", flicker(seed), "flv")
    crema_d_tables(root, votes, CREMA_D_ACTORS)
    return root


def msp_improv(root: Path) -> Path:
    """MSP-IMPROV: six sessions of two speakers with three turns each; WAV and AVI."""
    lines = []
    random = np.random.default_rng(0)
    clips = itertools.product(range(1, 7), "FM", (("A", "P"), ("H", "S"), ("N", "T")))
    for seed, (session, sex, (task, scenario)) in enumerate(clips):
        tail = f"S01{task}-{sex}{session:02d}-{scenario}-{sex}{'FM'[sex == 'F']}01"
        folder = root / f"session{session}" / f"S01{task}" / scenario
        write_sound(folder / f"MSP-IMPROV-{tail}.wav", seed, 44_100)
        write_film(folder / f"MSP-IMPROV-{tail}.avi", flicker(seed, 30), "mpeg4", 30)
        ratings = random.integers(1, 6, (3, 4)).astype(float)
        act, val, dom, nat = ratings.mean(axis=0)
        word = {"A": "Angry", "H": "Happy", "N": "Neutral"}[task]
        lines.append(f"UTD-IMPROV-{tail}.avi; {task}; A:{act:f}; V:{val:f}; D:{dom:f} ; N:{nat:f};")
        lines += [
            f"rater_{n}; {word if n else 'Other'}; {word}, Excited; "
            f"A:{a:f}; V:{v:f}; D:{d:f}; N:{natural:f};"
            for n, (a, v, d, natural) in enumerate(ratings)
        ]
        lines.append("")
    (root / "Evalution.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def write_csd(
    path: Path,
    name: str,
    videos: Mapping[str, tuple[np.ndarray, np.ndarray]],
    dimensions: Sequence[str] = (),
) -> None:
    """A computational sequence, as the SDK writes it."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for video, (features, intervals) in videos.items():
            group = file.create_group(f"{name}/data/{video}")
            group.create_dataset("features", data=features, compression="gzip")
            group.create_dataset("intervals", data=intervals, compression="gzip")
        metadata = file.create_group(f"{name}/metadata")
        for key, value in {"root name": name, "dimension names": list(dimensions)}.items():
            stored = metadata.create_dataset(key, (1,), dtype=h5py.string_dtype())
            stored[0] = json.dumps(value)


MOSEI_VIDEOS = {
    "train": ("-3g5yACwYnA", "100499", "trainer_03", "trainer_04"),
    "valid": ("valid-one", "valid-two"),
    "test": ("Test_one", "Test_two"),
}
MOSEI_DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


def cmu_mosei(root: Path) -> Path:
    """CMU-MOSEI: eight videos with four sentences each, and one in no fold; HDF5 files."""
    random = np.random.default_rng(0)
    labels, covarep, facet = {}, {}, {}
    for video in (*itertools.chain(*MOSEI_VIDEOS.values()), "in_no_fold"):
        starts = np.arange(4) * 1.5
        intervals = np.stack([starts, starts + 1.2], axis=1)
        values = np.concatenate(
            [random.integers(-9, 10, (4, 1)) / 3, random.integers(0, 7, (4, 6)) / 3], axis=1
        )
        labels[video] = values.astype(np.float32), intervals
        for sequence, dim, rate_hz in ((covarep, 74, 100), (facet, 35, 30)):
            times = np.arange(6 * rate_hz) / rate_hz
            steps = np.stack([times, times + 1 / rate_hz], axis=1)
            rows = random.normal(size=(len(times), dim)).astype(np.float32)
            sequence[video] = rows, steps
        covarep[video][0][3, 7] = -np.inf
    write_csd(root / "CMU_MOSEI_Labels.csd", "All Labels", labels, MOSEI_DIMENSIONS)
    write_csd(root / "CMU_MOSEI_COVAREP.csd", "COVAREP", covarep)
    write_csd(root / "CMU_MOSEI_VisualFacet42.csd", "FACET 4.2", facet)
    folds = [f"standard_{split}_fold={list(videos)!r}\n" for split, videos in MOSEI_VIDEOS.items()]
    (root / "cmu_mosei_std_folds.py").write_text("".join(folds), encoding="utf-8")
    return root
