"""RAVDESS speech: 24 actors, 8 emotions, two sentences (Livingstone and Russo 2018).

Source: S. R. Livingstone, F. A. Russo, "The Ryerson Audio-Visual Database of Emotional Speech and
Song (RAVDESS)", PLoS ONE 13(5), 2018; https://zenodo.org/records/1188976 (CC BY-NC-SA 4.0).
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.table import TableRow, read_table, save_corpus
from vavl.data.manifest import Manifest, Utterance, stored_path
from vavl.errors import InputError, MediaError, all_problems
from vavl.system.atomic import atomic_write

_log = logging.getLogger(__name__)

_METADATA = ("sex", "intensity", "statement", "repetition")
_COLUMNS = ("clip", "audio", "emotion", "actor", "fold5", *_METADATA)


def prepare_ravdess(root: Path, out: Path) -> Manifest:
    """RAVDESS speech clips: sound and mean facial action units.

    Two takes of actor 7 have the same sound as published; of clips with identical sound files the
    first is kept. What is left out is logged and listed in ``OUT/left_out.csv``.

    Args:
        root: Folder with ``manifest.csv`` (clip, audio, emotion, intensity, statement, repetition,
            actor, sex, fold5), the sound files it names, and ``visual_au.npz`` (``clips``,
            ``au_columns``, ``au_mean``: one mean vector of OpenFace action units per clip).
        out: Folder for ``manifest.parquet``, ``visual_features/<clip>.npy`` (1, 35) float32,
            ``visual_features_columns.txt`` and ``left_out.csv``. Sound stays where it lies.

    Returns:
        The manifest: categories as in the table, ``fold5`` as fold, sex, intensity, statement and
        repetition as metadata.

    Raises:
        InputError: Naming every problem of the table and every missing file at once.
        MediaError: ``visual_au.npz`` cannot be read.

    Example:
        >>> prepare_ravdess(Path("ravdess"), Path("prepared"))  # doctest: +SKIP
        Manifest(1439 utterances, 24 speakers, ...)
    """
    root, out = Path(root), Path(out)
    _, rows = read_table(root / "manifest.csv", _COLUMNS)
    columns, units = _read_action_units(root / "visual_au.npz")
    problems = [
        f"row {row.number} ({row.values['clip']!r}): {problem}"
        for row in rows
        for problem in _row_problems(row, root, units)
    ]
    if problems:
        raise InputError(all_problems(f"RAVDESS in {root}", problems))

    kept, left_out = _without_identical_audio(rows, root)
    for clip, same_as in left_out:
        _log.warning("RAVDESS clip %s is left out: its sound is that of %s", clip, same_as)
    manifest = Manifest([_utterance(row, root, out) for row in kept], root=out)
    for utterance in manifest:
        path = out / "visual_features" / f"{utterance.utterance_id}.npy"
        with atomic_write(path) as temporary:
            np.save(temporary, units[utterance.utterance_id][None, :])  # (1, 35): one step
    with atomic_write(out / "visual_features_columns.txt") as temporary:
        temporary.write_text("\n".join(columns) + "\n", encoding="utf-8")
    save_corpus(manifest, left_out, header=("utterance_id", "same_sound_as"))
    return manifest


def _utterance(row: TableRow, root: Path, out: Path) -> Utterance:
    values = row.values
    return Utterance(
        utterance_id=values["clip"],
        corpus="ravdess",
        speaker=f"actor-{int(values['actor']):02d}",
        audio_path=stored_path(root / values["audio"], out),
        visual_features_path=f"visual_features/{values['clip']}.npy",
        category=values["emotion"],
        fold=int(values["fold5"]),
        metadata={name: values[name] for name in _METADATA},
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


def _row_problems(row: TableRow, root: Path, units: dict[str, NDArray[np.float32]]) -> list[str]:
    values = row.values
    problems = [
        f"{name}: expected an integer >= 0, got {values[name]!r}"
        for name in ("actor", "fold5")
        if not (values[name].isascii() and values[name].isdigit())
    ]
    problems += [f"{name}: is empty" for name in ("emotion", "audio") if not values[name]]
    if values["audio"] and not (root / values["audio"]).is_file():
        problems.append(f"audio: {root / values['audio']} does not exist")
    if values["clip"] not in units:
        problems.append("no action units in visual_au.npz")
    elif not np.isfinite(units[values["clip"]]).all():
        problems.append("action units are not all finite")
    return problems


def _without_identical_audio(
    rows: list[TableRow], root: Path
) -> tuple[list[TableRow], list[tuple[str, str]]]:
    """The rows to keep, and (clip left out, clip with the same sound file)."""
    first_with: dict[str, str] = {}
    kept, left_out = [], []
    for row in rows:
        with (root / row.values["audio"]).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        first = first_with.setdefault(content, row.values["clip"])
        # The same clip twice is a fault of the table, which the manifest reports.
        if first == row.values["clip"]:
            kept.append(row)
        else:
            left_out.append((row.values["clip"], first))
    return kept, left_out
