"""Your own clips: a folder of media with a CSV table of labels."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from vavl.data.corpora.table import WITHOUT_THEM, read_table, save_corpus
from vavl.data.manifest import (
    MEDIA_FIELDS,
    Manifest,
    Utterance,
    stored_path,
    utterance_problems,
)
from vavl.errors import InputError, all_problems, did_you_mean
from vavl.media.files import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from vavl.metrics.attributes import Scale

_log = logging.getLogger(__name__)

_ARRAY_SUFFIXES = frozenset({".npy"})
_VOTES = "votes:"
# Column to (suffixes it takes, columns of the manifest it fills). A video's sound track is sound.
_MEDIA_COLUMNS: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "audio": (AUDIO_SUFFIXES | VIDEO_SUFFIXES, ("audio_path",)),
    "video": (VIDEO_SUFFIXES, ("video_path", "audio_path")),
    "acoustic_features": (_ARRAY_SUFFIXES, ("acoustic_features_path",)),
    "visual_features": (_ARRAY_SUFFIXES, ("visual_features_path",)),
}
_OTHER_NAMES_OF_CATEGORY = frozenset(
    {"emotion", "emotions", "label", "labels", "class", "target", "expression"}
)
_KNOWN_COLUMNS = frozenset(
    ["utterance", "file", *_MEDIA_COLUMNS, "speaker", "category", "start_s", "end_s", "fold"]
)


@dataclass(frozen=True)
class _Reading:
    """What all rows of the table are read with."""

    root: Path
    out: Path
    corpus: str
    attributes: Sequence[str]
    scale: Scale
    missing: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Column to the files that it names and that are not there; filled on the way."""


def prepare_folder(
    root: Path,
    out: Path,
    *,
    csv: Path | None = None,
    corpus: str = "folder",
    attributes: Sequence[str] = ("arousal", "valence", "dominance"),
    attribute_range: tuple[float, float] = (0.0, 1.0),
    allow_missing: bool = False,
) -> Manifest:
    r"""Your own clips, described by a CSV table with one row per utterance.

    Columns, of which only ``speaker`` and one that names a medium are needed:

    - ``file``: a sound or video file, told apart by its suffix; or ``audio``, ``video``,
      ``acoustic_features``, ``visual_features`` (``.npy``, (T, D) or (D,)). The sound of a video is
      used unless ``audio`` names another file. Relative paths start from ``root`` and stay in it.
    - ``utterance``: the id; by default the path of the medium without its suffix.
    - ``speaker``, ``category``, ``fold``; ``start_s`` and ``end_s`` in seconds.
    - ``votes:happy``, ``votes:sad``, ...: how many raters chose the category.
    - the columns named by ``attributes``.
    - any other column is kept as metadata.

    Args:
        root: Folder of the clips.
        out: Folder for ``manifest.parquet`` and ``left_out.csv``. The media stay where they lie.
        csv: The table; by default ``ROOT/labels.csv``.
        corpus: Name of the corpus in the manifest.
        attributes: Columns that are attributes.
        attribute_range: Values in the table that become 0 and 1, e.g. ``(1, 5)``.
        allow_missing: Do with the files that are there: a row lacks what is missing, and one
            without any file is listed in ``OUT/left_out.csv``.

    Raises:
        InputError: Naming every problem by its row in the CSV (the header is row 1) and its
            utterance at once, and how many files are missing. Nothing is written then.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> _ = (root / "a.wav").write_bytes(b"")
        >>> _ = (root / "labels.csv").write_text("file,speaker,category,arousal\na.wav,ann,happy,5")
        >>> manifest = prepare_folder(root, root / "prepared", attribute_range=(1, 5))
        >>> manifest[0].utterance_id, manifest[0].audio_path, manifest[0].attributes
        ('a', '../a.wav', {'arousal': 1.0})
    """
    root, out = Path(root), Path(out)
    if not root.is_dir():
        raise InputError(
            f"ROOT: expected the folder of the clips, got {root}; a table elsewhere than "
            "ROOT/labels.csv is named by --csv"
        )
    path = root / "labels.csv" if csv is None else Path(csv)
    scale = Scale(*attribute_range)
    columns, rows = read_table(path, ["speaker"])
    problems = _column_problems(columns, attributes)
    if problems:
        raise InputError(all_problems(f"table {path}", problems))

    reading = _Reading(root.resolve(), out, corpus, attributes, scale)
    utterances = []
    first_row: dict[str, int] = {}
    for row in rows:
        utterance, row_problems = _utterance(row.values, reading)
        utterances.append(utterance)
        first = first_row.setdefault(utterance.utterance_id, row.number)
        if first != row.number:
            row_problems.append(
                f"utterance: already used by row {first}; give each its own in a column 'utterance'"
            )
        where = f"row {row.number} ({utterance.utterance_id!r})"
        problems += [f"{where}: {problem}" for problem in row_problems]
    for column, files in reading.missing.items():
        named = sum(bool(row.values.get(column)) for row in rows)
        lack = f"{column}: {len(files)} of {named} files do not exist (first: {files[0]})"
        if allow_missing:
            _log.warning("%s: %s", path, lack)
        else:
            problems.append(f"{lack}{WITHOUT_THEM}")
    if problems:
        raise InputError(all_problems(f"table {path}", problems))
    kept = [utterance for utterance in utterances if _has_media(utterance)]
    if not kept:
        raise InputError(f"table {path}: expected files that are there, got none in {root}")
    manifest = Manifest(kept, root=out)
    if not manifest.categories and not manifest.attribute_names:
        _log.warning(
            "%s has no labels: no column 'category', 'votes:...' or %s; a model can predict these "
            "clips, but not learn from them%s",
            path,
            ", ".join(map(repr, attributes)),
            "".join(_looks_like_labels(columns, attributes)),
        )
    spellings: dict[str, list[str]] = {}
    for category in manifest.categories:
        spellings.setdefault(category.casefold(), []).append(category)
    for alike in spellings.values():
        if len(alike) > 1:
            names = " and ".join(map(repr, alike))
            _log.warning(
                "%s: %s are different categories; spell them alike if they are one", path, names
            )
    counts = Counter(clip.category for clip in manifest if clip.category is not None)
    for category in (name for name, count in counts.items() if count == 1):
        others = [name for name in counts if counts[name] > 1]
        if hint := did_you_mean(category, others):
            _log.warning("%s: one clip alone is %r%s", path, category, hint)
    left_out = [(u.utterance_id, "no media") for u in utterances if not _has_media(u)]
    save_corpus(manifest, left_out)
    return manifest


def _looks_like_labels(columns: Sequence[str], attributes: Sequence[str]) -> Iterator[str]:
    """What to do about columns that may well hold labels, under another name."""
    for column in columns:
        name = column.casefold()
        if name in _OTHER_NAMES_OF_CATEGORY:
            yield f"; if {column!r} is the category, call it 'category'"
        for attribute in attributes:
            if attribute in name and column not in attributes:
                yield f"; if {column!r} is {attribute}, call it {attribute!r}"


def _has_media(utterance: Utterance) -> bool:
    """Whether a file goes with it."""
    return any(getattr(utterance, name) is not None for name in MEDIA_FIELDS)


def _column_problems(columns: Sequence[str], attributes: Sequence[str]) -> list[str]:
    known = {*_KNOWN_COLUMNS, *attributes}
    media = ("file", *_MEDIA_COLUMNS)
    problems = []
    if not set(media) & set(columns):
        problems.append(f"no column names a medium; expected one of {', '.join(media)}")
    # Such a column would become metadata in silence.
    return problems + [
        f"column {name!r}: did you mean {name.lower()!r}?"
        for name in columns
        if name not in known and name.lower() in known
    ]


def _utterance(values: dict[str, str], reading: _Reading) -> tuple[Utterance, list[str]]:
    """What one row says, and all that is wrong with it."""
    problems: list[str] = []
    known = _KNOWN_COLUMNS.union(reading.attributes)
    names = ("start_s", "end_s", "fold", *reading.attributes)
    numbers = {name: _number(name, values.get(name, ""), problems) for name in names}
    fold = numbers["fold"]
    if fold is not None and not fold.is_integer():
        problems.append(f"fold: expected an integer >= 0, got {values['fold']!r}")
        fold = None
    attributes, scale = {}, reading.scale
    for name in reading.attributes:
        value = numbers[name]
        if value is not None and value not in scale:
            problems.append(
                f"{name}: expected {scale.low:g} to {scale.high:g} (attribute_range), got "
                f"{value:g}; --attribute-range 1 5 is for raters' values of 1 to 5"
            )
        elif value is not None:
            attributes[name] = scale.to_unit(value)
    utterance = Utterance(
        utterance_id=values.get("utterance") or _default_id(values),
        corpus=reading.corpus,
        speaker=values["speaker"],
        start_s=numbers["start_s"],
        end_s=numbers["end_s"],
        category=values.get("category") or None,
        votes=_votes(values, problems),
        attributes=attributes or None,
        fold=None if fold is None else int(fold),
        metadata={
            name: text
            for name, text in values.items()
            if name and text and name not in known and not name.startswith(_VOTES)
        },
        **_media(values, reading, problems),
    )
    # What the manifest would say, except for absent media, which the columns tell better.
    problems += [p for p in utterance_problems(utterance) if not p.startswith("no media")]
    return utterance, problems


def _default_id(values: dict[str, str]) -> str:
    for column in ("file", *_MEDIA_COLUMNS):
        if values.get(column):
            path = PurePath(values[column])
            folders = () if path.is_absolute() else path.parts[:-1]
            return "-".join([*folders, path.stem])
    return ""


def _media(values: dict[str, str], reading: _Reading, problems: list[str]) -> dict[str, Any]:
    """Paths by column of the manifest."""
    given = {column: values[column] for column in _MEDIA_COLUMNS if values.get(column)}
    file = values.get("file")
    if file:
        suffix = PurePath(file).suffix.lower()
        column = next((c for c in ("video", "audio") if suffix in _MEDIA_COLUMNS[c][0]), None)
        if column is None:
            known = ", ".join(sorted(AUDIO_SUFFIXES | VIDEO_SUFFIXES))
            is_array = suffix in _ARRAY_SUFFIXES
            hint = "; name arrays in 'acoustic_features' or 'visual_features'" if is_array else ""
            problems.append(f"file: {file!r} is neither sound nor video ({known}){hint}")
        elif column in given:
            problems.append(
                f"file: {file!r} and {column}: {given[column]!r} both name one; drop one"
            )
        else:
            given[column] = file
    elif not given:
        problems.append(f"no medium; fill one of file, {', '.join(_MEDIA_COLUMNS)}")
    paths: dict[str, Any] = {}
    # Audio comes first: a video's own sound track gives way to it.
    for column, (suffixes, targets) in _MEDIA_COLUMNS.items():
        if column not in given:
            continue
        problem = _path_problem(given[column], suffixes, reading.root)
        if problem is not None:
            problems.append(f"{column}: {problem}")
            continue
        # Path.is_file raises on overlong names.
        if not os.path.isfile(reading.root / given[column]):  # noqa: PTH113
            named = column if values.get(column) else "file"
            reading.missing[named].append(str(reading.root / given[column]))
            continue
        for target in targets:
            paths.setdefault(target, stored_path(reading.root / given[column], reading.out))
    return paths


def _path_problem(given: str, suffixes: frozenset[str], root: Path) -> str | None:
    if PurePath(given).suffix.lower() not in suffixes:
        return f"{given!r}: expected a suffix of {', '.join(sorted(suffixes))}"
    # Compared as written: a symbolic link inside the folder may well lead to another disk.
    inside = Path(os.path.normpath(root / given)).is_relative_to(root)
    if not PurePath(given).is_absolute() and not inside:
        return f"{given!r} leads out of {root}; give an absolute path if that is meant"
    return None


def _number(name: str, text: str, problems: list[str]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        problems.append(f"{name}: {text!r} is not a number")
        return None
    return value


def _votes(values: dict[str, str], problems: list[str]) -> dict[str, float] | None:
    """Category to votes; an empty cell is 0, and a row of empty cells has no votes."""
    columns = [name for name in values if name.startswith(_VOTES)]
    if not any(values[name] for name in columns):
        return None
    return {
        name.removeprefix(_VOTES).strip(): _number(name, values[name], problems) or 0.0
        for name in columns
    }
