"""RAVDESS speech: 24 actors, 8 emotions, two sentences (Livingstone and Russo 2018).

Source: S. R. Livingstone, F. A. Russo, "The Ryerson Audio-Visual Database of Emotional Speech and
Song (RAVDESS)", PLoS ONE 13(5), 2018; https://zenodo.org/records/1188976 (CC BY-NC-SA 4.0).
"""

from __future__ import annotations

import hashlib
import logging
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.table import WITHOUT_THEM, TableRow, counted_problem, read_table, save_corpus
from vavl.data.manifest import Manifest, Utterance, stored_path
from vavl.errors import InputError, MediaError, all_problems
from vavl.system.atomic import atomic_write

_log = logging.getLogger(__name__)

_METADATA = ("sex", "intensity", "statement", "repetition")
_COLUMNS = ("clip", "audio", "emotion", "actor", "fold5", *_METADATA)

_FILE_NAME = re.compile(
    r"(?P<kind>0[1-3])-(?P<clip>01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])"
    r"-(?P<repetition>0[12])-(?P<actor>[0-9]{2}))\.(wav|mp4)"
)
"""Sound and picture, picture, or sound (kind 01, 02, 03) of speech; 02 in its place is song."""
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_TAKES_PER_ACTOR = 60
_FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24))
"""Actors of the first four of the five folds; the others are the last.

Source: C. Luna-Jiménez et al., "A Proposal for Multimodal Emotion Recognition Using Aural
Transformers and Action Units on RAVDESS Dataset", Applied Sciences 12(1), 2022.
"""


@dataclass(frozen=True)
class _Take:
    """One clip, and where its media lie."""

    clip: str
    actor: int
    emotion: str
    fold: int
    metadata: dict[str, str]
    audio: Path | None
    video: Path | None = None


def prepare_ravdess(root: Path, out: Path, *, allow_missing: bool = False) -> Manifest:
    """RAVDESS speech clips: as they are published, or a table with action units.

    As published are folders of .wav and .mp4 files, whose names say what is in them: the emotion,
    its intensity, the sentence, the repetition and the actor. They may lie anywhere below ROOT;
    sound or pictures alone are enough. Folds are the five that are usual for this corpus.

    Two takes of actor 7 have the same sound as published; of clips with identical sound files the
    first is kept. What is left out is logged and listed in ``OUT/left_out.csv``.

    Args:
        root: The unpacked archives. Or a folder with ``manifest.csv`` (clip, audio, emotion,
            intensity, statement, repetition, actor, sex, fold5), the sound files it names, and
            ``visual_au.npz`` (``clips``, ``au_columns``, ``au_mean``: one mean vector of OpenFace
            action units per clip).
        out: Folder for ``manifest.parquet``, ``left_out.csv``, and of action units
            ``visual_features/<clip>.npy`` (1, 35) float32 and ``visual_features_columns.txt``.
            Media stay where they lie.
        allow_missing: Do with the clips that are there; one lacks the modality whose file is
            missing.

    Returns:
        The manifest: speakers, categories, folds; sex, intensity, statement and repetition as
        metadata.

    Raises:
        InputError: Naming every problem of the table and every kind of missing file at once.
        MediaError: ``visual_au.npz`` cannot be read.

    Example:
        >>> prepare_ravdess(Path("ravdess"), Path("prepared"))  # doctest: +SKIP
        Manifest(1439 utterances, 24 speakers, ...)
    """
    root, out = Path(root), Path(out)
    units: dict[str, NDArray[np.float32]] = {}
    columns: list[str] = []
    if (root / "manifest.csv").is_file():
        _, rows = read_table(root / "manifest.csv", _COLUMNS)
        columns, units = _read_action_units(root / "visual_au.npz")
        problems = [
            f"row {row.number} ({row.values['clip']!r}): {problem}"
            for row in rows
            for problem in _row_problems(row, units)
        ]
        if problems:
            raise InputError(all_problems(f"RAVDESS in {root}", problems))
        takes = [_take_of_row(row.values, root) for row in rows]
        clips = [take.clip for take in takes]
        lacks = counted_problem(
            [take.clip for take in takes if take.audio is None], len(takes), "have no sound file"
        )
        lacks += counted_problem(
            [clip for clip in clips if clip not in units],
            len(takes),
            "have no action units in visual_au.npz",
        )
    else:
        takes, lacks = _published(root)
    for lack in lacks if allow_missing else ():
        _log.warning("RAVDESS: %s", lack)
    if lacks and not allow_missing:
        problems = [f"{lack}{WITHOUT_THEM}" for lack in lacks]
        raise InputError(all_problems(f"RAVDESS in {root}", problems))

    kept, left_out = _without_identical_audio(takes)
    for clip, same_as in left_out:
        _log.warning("RAVDESS clip %s is left out: its sound is that of %s", clip, same_as)
    empty = [t.clip for t in kept if t.audio is None and t.video is None and t.clip not in units]
    manifest = Manifest(
        [_utterance(take, take.clip in units, out) for take in kept if take.clip not in empty],
        root=out,
    )
    for utterance in manifest:
        if utterance.visual_features_path is not None:
            with atomic_write(out / utterance.visual_features_path) as temporary:
                np.save(temporary, units[utterance.utterance_id][None, :])  # (1, 35): one step
    if columns:
        with atomic_write(out / "visual_features_columns.txt") as temporary:
            temporary.write_text("\n".join(columns) + "\n", encoding="utf-8")
    reasons = [(clip, f"the same sound as {same_as}") for clip, same_as in left_out]
    save_corpus(manifest, [*reasons, *((clip, "no media") for clip in empty)])
    return manifest


def _utterance(take: _Take, has_units: bool, out: Path) -> Utterance:
    return Utterance(
        utterance_id=take.clip,
        corpus="ravdess",
        speaker=f"actor-{take.actor:02d}",
        audio_path=None if take.audio is None else stored_path(take.audio, out),
        video_path=None if take.video is None else stored_path(take.video, out),
        visual_features_path=f"visual_features/{take.clip}.npy" if has_units else None,
        category=take.emotion,
        fold=take.fold,
        metadata=take.metadata,
    )


def _published(root: Path) -> tuple[list[_Take], list[str]]:
    """The takes of the actors whose files are there, and which kinds of files some of them lack."""
    files: dict[str, dict[str, Path]] = {}
    names: dict[str, re.Match[str]] = {}
    for path in sorted((*root.rglob("*.wav"), *root.rglob("*.mp4"))):
        if name := _FILE_NAME.fullmatch(path.name):
            names[name["clip"]] = name
            # Some copies have every file twice.
            files.setdefault(name["clip"], {}).setdefault(name["kind"], path)
    if not names:
        raise InputError(
            f"RAVDESS: expected in {root} manifest.csv, or files of speech as they are published, "
            "such as Actor_01/03-01-01-01-01-01-01.wav, got neither"
        )
    takes = [_take_of_name(names[clip], files[clip]) for clip in sorted(names)]
    actors = sorted({take.actor for take in takes})
    lacks = []
    if absent := _TAKES_PER_ACTOR * len(actors) - len(takes):
        lacks.append(f"{absent} clips of the {len(actors)} actors are not there")
    for kind, medium in (("sound", "audio"), ("picture", "video")):
        without = [take.clip for take in takes if getattr(take, medium) is None]
        if len(without) == len(takes):
            _log.warning("RAVDESS: no clip has a %s: clips lack that modality", kind)
        else:
            lacks += counted_problem(without, len(takes), f"have no {kind}")
    return takes, lacks


def _take_of_name(name: re.Match[str], files: dict[str, Path]) -> _Take:
    actor = int(name["actor"])
    return _Take(
        clip=f"01-{name['clip']}",  # as its video with sound is called
        actor=actor,
        emotion=_EMOTIONS[int(name["emotion"]) - 1],
        fold=next((n for n, actors in enumerate(_FOLDS) if actor in actors), len(_FOLDS)),
        metadata={
            "sex": "male" if actor % 2 else "female",
            "intensity": "normal" if name["intensity"] == "01" else "strong",
            "statement": name["statement"],
            "repetition": name["repetition"],
        },
        audio=files.get("03") or files.get("01"),
        video=files.get("01") or files.get("02"),
    )


def _take_of_row(values: dict[str, str], root: Path) -> _Take:
    audio = root / values["audio"]
    return _Take(
        clip=values["clip"],
        actor=int(values["actor"]),
        emotion=values["emotion"],
        fold=int(values["fold5"]),
        metadata={name: values[name] for name in _METADATA},
        audio=audio if audio.is_file() else None,
    )


def _read_action_units(path: Path) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    """Names of the units, and clip to its vector (35,)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            clips, columns = arrays["clips"].tolist(), arrays["au_columns"].tolist()
            means = arrays["au_mean"].astype(np.float32)
    except FileNotFoundError as error:
        raise InputError(f"RAVDESS: {path} does not exist") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MediaError(f"{path}: cannot read clips, au_columns and au_mean ({error})") from error
    if means.shape != (len(clips), len(columns)):
        raise MediaError(
            f"{path}: au_mean: expected ({len(clips)}, {len(columns)}), got {means.shape}"
        )
    return [str(name) for name in columns], dict(zip(map(str, clips), means, strict=True))


def _row_problems(row: TableRow, units: dict[str, NDArray[np.float32]]) -> list[str]:
    values = row.values
    problems = [
        f"{name}: expected an integer >= 0, got {values[name]!r}"
        for name in ("actor", "fold5")
        if not (values[name].isascii() and values[name].isdigit())
    ]
    problems += [f"{name}: is empty" for name in ("emotion", "audio") if not values[name]]
    if not np.isfinite(units.get(values["clip"], 0.0)).all():
        problems.append("action units are not all finite")
    return problems


def _without_identical_audio(
    takes: Sequence[_Take],
) -> tuple[list[_Take], list[tuple[str, str]]]:
    """The takes to keep, and (clip left out, clip with the same sound file)."""
    first_with: dict[str, str] = {}
    kept, left_out = [], []
    for take in takes:
        first = take.clip
        if take.audio is not None:
            with take.audio.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            first = first_with.setdefault(content, take.clip)
        # The same clip twice is a fault of the table, which the manifest reports.
        if first == take.clip:
            kept.append(take)
        else:
            left_out.append((take.clip, first))
    return kept, left_out
