"""The utterance table: what each clip is, where its media lie and what is known about it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from vavl.errors import InputError, StoreError, all_problems
from vavl.system.atomic import atomic_write
from vavl.system.extras import extra

if TYPE_CHECKING:
    import pyarrow

MediaField = Literal["audio_path", "video_path", "acoustic_features_path", "visual_features_path"]
MEDIA_FIELDS: tuple[MediaField, ...] = get_args(MediaField)
"""The columns that point to files."""

SCHEMA_VERSION = 1
"""Raised whenever a manifest written before can no longer be read the same way."""

_VERSION_KEY = "vavl.manifest.schema_version"
_HASH_KEY = "vavl.manifest.sha256"
_MAP_COLUMNS = ("votes", "attributes", "metadata")
_LONGEST_ID = 180  # bytes; file systems allow 255, and suffixes are added
_LARGEST_FOLD = 2**31 - 1
_UNSAFE_IN_FILE_NAMES = frozenset('/\\:*?"<>|')
# Windows opens devices by these names, whatever the suffix.
_DEVICE_NAMES = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))]
)


@dataclass(frozen=True)
class Utterance:
    """One clip of one speaker. Any medium and any label may be absent.

    Nothing is checked here: :class:`Manifest` checks all its rows and reports them together.

    Attributes:
        utterance_id: Unique in its manifest, and usable as a file name.
        corpus: Name of the corpus, e.g. ``"ravdess"``.
        speaker: Who speaks; splits never divide a speaker.
        audio_path: File with a sound track (also a video file), relative to the manifest's root
            or absolute. Likewise the paths below.
        video_path: File with the pictures.
        acoustic_features_path: Precomputed acoustic features, ``.npy`` (T, D) or (D,).
        visual_features_path: Precomputed visual features, ``.npy`` (T, D) or (D,).
        start_s: Where the utterance starts in its media, in seconds; None = at the beginning.
        end_s: Where it ends, in seconds; None = at the end.
        category: The emotion, e.g. ``"happy"``.
        votes: Category to number of raters who chose it (non-negative, weights allowed).
        attributes: Attribute to value in [0, 1], e.g. ``{"arousal": 0.8}``.
        fold: Test fold this utterance belongs to in a published protocol.
        metadata: Anything else, e.g. ``{"sex": "female", "intensity": "strong"}``.
    """

    utterance_id: str
    corpus: str
    speaker: str
    audio_path: str | None = None
    video_path: str | None = None
    acoustic_features_path: str | None = None
    visual_features_path: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    category: str | None = None
    votes: Mapping[str, float] | None = field(default=None, hash=False)
    attributes: Mapping[str, float] | None = field(default=None, hash=False)
    fold: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


def most_chosen(votes: Mapping[str, float]) -> list[str]:
    """The category with the most votes; several where they have equally many, none without votes.

    Example:
        >>> most_chosen({"happy": 2.0, "sad": 1.0}), most_chosen({"happy": 1.0, "sad": 1.0})
        (['happy'], ['happy', 'sad'])
    """
    most = max(votes.values(), default=0.0)
    return [category for category, count in votes.items() if count == most > 0]


def utterance_problems(utterance: Utterance) -> Iterator[str]:
    """Everything that is wrong with one row by itself.

    Example:
        >>> row = Utterance("a/b", "demo", "s1", audio_path="a.wav", start_s=-1.0)
        >>> list(utterance_problems(row))
        ["utterance_id: '/' cannot stand in a file name", 'start_s: expected >= 0, got -1.0']
    """
    category, votes, fold = utterance.category, utterance.votes, utterance.fold
    maps = {"votes": votes, "attributes": utterance.attributes, "metadata": utterance.metadata}
    for column, content in maps.items():
        if not isinstance(content, Mapping) and (content is not None or column == "metadata"):
            yield f"{column}: expected a mapping, got {content!r}"
            return  # what follows would trip over it
    yield from _id_problems(utterance.utterance_id)
    yield from _text_problems("corpus", utterance.corpus)
    yield from _text_problems("speaker", utterance.speaker)
    yield from _media_problems(utterance)
    yield from _time_problems(utterance.start_s, utterance.end_s)
    if category is not None:
        yield from _text_problems("category", category)
    for column, content in maps.items():
        yield from (problem for name in content or () for problem in _text_problems(column, name))
    if votes is not None:
        bad_votes = [p for name in votes for p in _number_problems(f"votes:{name}", votes[name])]
        yield from bad_votes
        if not bad_votes and sum(votes.values()) <= 0:
            yield "votes: nobody voted; leave the votes out"
        if category is not None and category not in votes:
            yield (
                f"category: {category!r} is not among the votes ({', '.join(map(str, votes))}); "
                "give every category a count, if only 0"
            )
    for name, value in (utterance.attributes or {}).items():
        yield from _number_problems(f"attribute {name}", value, at_most=1)
    whole = isinstance(fold, Integral) and not isinstance(fold, bool)
    if fold is not None and not (whole and 0 <= fold <= _LARGEST_FOLD):
        yield f"fold: expected an integer >= 0, got {fold!r}"
    for name, text in utterance.metadata.items():
        if not isinstance(text, str) or text.strip():  # it may be blank
            yield from _text_problems(f"metadata {name}", text)


def _text_problems(name: str, value: object) -> list[str]:
    if not isinstance(value, str):
        return [f"{name}: expected text, got {value!r}"]
    if not value.strip():
        return [f"{name}: is empty"]
    try:
        value.encode()
    except UnicodeEncodeError:
        return [f"{name}: {value!r} is not valid Unicode"]
    return []


def _id_problems(value: str) -> Iterator[str]:
    problems = _text_problems("utterance_id", value)
    if problems:
        yield from problems
        return
    unsafe = sorted(c for c in set(value) if c in _UNSAFE_IN_FILE_NAMES or not c.isprintable())
    if unsafe:
        yield f"utterance_id: {', '.join(map(repr, unsafe))} cannot stand in a file name"
    if value != value.strip() or value.endswith(".") or value.startswith("."):
        yield f"utterance_id: {value!r} must not begin or end with a space, or with a dot"
    if value.split(".")[0].upper() in _DEVICE_NAMES:
        yield f"utterance_id: {value!r} is a device name on Windows"
    if len(value.encode()) > _LONGEST_ID:
        yield f"utterance_id: longer than {_LONGEST_ID} bytes"


def _media_problems(utterance: Utterance) -> Iterator[str]:
    paths = {name: path for name in MEDIA_FIELDS if (path := getattr(utterance, name)) is not None}
    for name, path in paths.items():
        yield from _text_problems(name, path)
        if "\0" in str(path):
            yield f"{name}: {path!r} holds a null character"
    if not paths:
        yield f"no media at all; give at least one of {', '.join(MEDIA_FIELDS)}"


def _time_problems(start_s: float | None, end_s: float | None) -> Iterator[str]:
    given = {name: t for name, t in (("start_s", start_s), ("end_s", end_s)) if t is not None}
    problems = [problem for name in given for problem in _number_problems(name, given[name])]
    yield from problems
    if not problems and end_s is not None and end_s <= (start_s or 0.0):
        yield f"end_s: expected more than start_s ({start_s or 0.0}), got {end_s}"


def _number_problems(name: str, value: object, at_most: float = math.inf) -> list[str]:
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer that no float can hold
            number = math.inf
    if not math.isfinite(number):
        return [f"{name}: expected a finite number, got {value!r}"]
    if not 0 <= number <= at_most:
        wanted = ">= 0" if at_most == math.inf else f"0 to {at_most:g}"
        return [f"{name}: expected {wanted}, got {value!r}"]
    return []


class Manifest(Sequence[Utterance]):
    """An immutable, validated table of utterances.

    Paths may lead out of ``root``: a corpus usually lies elsewhere than what is prepared from it.
    Whether the files exist is not checked, so that a batch job can record the missing ones and go
    on.

    Args:
        utterances: The rows.
        root: The folder that relative paths start from; need not exist.

    Attributes:
        root: The same folder, absolute.
        utterances: The rows.

    Raises:
        InputError: Naming every problem of every row at once.

    Example:
        >>> clips = [Utterance("c1", "mine", "ann", audio_path="c1.wav", category="happy")]
        >>> manifest = Manifest(clips, root=Path("clips"))
        >>> manifest.categories, manifest.path(manifest[0], "audio_path").name
        (('happy',), 'c1.wav')
    """

    def __init__(self, utterances: Iterable[Utterance], *, root: Path) -> None:
        self.utterances = tuple(utterances)
        # Resolved, because the ".." of a relative path is followed on disk, behind symbolic links.
        self.root = Path(root).resolve()
        problems = list(_table_problems(self.utterances))
        if problems:
            raise InputError(all_problems("manifest", problems))

    def __len__(self) -> int:
        return len(self.utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Manifest: ...
    def __getitem__(self, index: int | slice) -> Utterance | Manifest:
        if isinstance(index, slice):
            return Manifest(self.utterances[index], root=self.root)
        return self.utterances[index]

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return self.root == other.root and self.utterances == other.utterances

    def __hash__(self) -> int:
        return hash((self.root, self.utterances))

    def __repr__(self) -> str:
        return (
            f"Manifest({len(self)} utterances, {len(self.speakers)} speakers, "
            f"categories={self.categories}, attributes={self.attribute_names}, root={self.root})"
        )

    @cached_property
    def by_id(self) -> Mapping[str, Utterance]:
        """Utterance id to utterance, in the order of the rows."""
        return {utterance.utterance_id: utterance for utterance in self.utterances}

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Every category that occurs as a label or can be voted for, sorted."""
        labels = {u.category for u in self.utterances if u.category is not None}
        voted = {category for u in self.utterances for category in u.votes or ()}
        return tuple(sorted(labels | voted))

    @cached_property
    def attribute_names(self) -> tuple[str, ...]:
        """Every attribute that is known for at least one utterance, sorted."""
        return tuple(sorted({name for u in self.utterances for name in u.attributes or ()}))

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Every speaker, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal hash of all rows in their order, paths as they are stored, without root."""
        digest = hashlib.sha256()
        for utterance in self.utterances:
            digest.update(_canonical(utterance).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def path(self, utterance: Utterance, media_field: MediaField) -> Path | None:
        """Where a medium of an utterance lies, or None where the utterance has none."""
        stored: str | None = getattr(utterance, media_field)
        return None if stored is None else self.root / stored

    def select(self, ids: Iterable[str]) -> Manifest:
        """The rows with these ids, in the order of the ids.

        Raises:
            InputError: Naming every id that is unknown or asked for twice.
        """
        wanted = list(ids)
        unknown = [f"no utterance {name!r}" for name in wanted if name not in self.by_id]
        if unknown:
            raise InputError(all_problems("ids", unknown))
        return Manifest([self.by_id[name] for name in wanted], root=self.root)

    def save(self, path: Path) -> None:
        """Writes the table as Parquet, atomically.

        Where the file goes to another folder than ``root``, relative paths are rewritten so that
        they lead to the same files from there.
        """
        with extra("train", "utterance tables"):
            import pyarrow.parquet

        path = Path(path)
        folder = path.parent.resolve()
        stored = self if folder == self.root else self._moved_to(folder)
        rows = [{f.name: getattr(u, f.name) for f in fields(Utterance)} for u in stored]
        for row in rows:
            for name in _MAP_COLUMNS:  # Arrow maps are lists of pairs
                row[name] = None if row[name] is None else list(row[name].items())
        metadata = {_VERSION_KEY: str(SCHEMA_VERSION), _HASH_KEY: stored.sha256}
        table = pyarrow.Table.from_pylist(rows, schema=_arrow_schema())
        with atomic_write(path) as temporary:
            pyarrow.parquet.write_table(
                table.replace_schema_metadata(metadata), temporary, write_page_checksum=True
            )

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Reads what :meth:`save` wrote; its folder becomes the root.

        Raises:
            InputError: The file does not exist.
            StoreError: It is damaged, no manifest, or of another schema version.
        """
        path = Path(path)
        if path.is_dir():
            raise InputError(
                f"manifest: expected the table that `vavl prepare` writes, got the folder {path}"
            )
        if not path.is_file():
            raise InputError(f"manifest: {path} does not exist; make one with `vavl prepare`")
        rows, sha256 = _read_rows(path)
        try:
            manifest = cls([Utterance(**row) for row in rows], root=path.parent)
        except InputError as error:
            raise StoreError(f"{path}: {error}") from error
        if manifest.sha256 != sha256:
            raise StoreError(
                f"{path}: the rows are not those that were saved (content hash differs); the file "
                "is damaged or was edited outside vavl: prepare the corpus again"
            )
        return manifest

    def _moved_to(self, folder: Path) -> Manifest:
        """The same rows, with relative paths that start from another folder."""
        moved = []
        for utterance in self.utterances:
            paths: dict[str, Any] = {
                name: stored_path(self.root / getattr(utterance, name), folder)
                for name in MEDIA_FIELDS
                if getattr(utterance, name) is not None
                and not PurePath(getattr(utterance, name)).is_absolute()
            }
            moved.append(replace(utterance, **paths))
        return Manifest(moved, root=folder)


def stored_path(path: Path, root: Path) -> str:
    """How a manifest with this root names a file: relative, with forward slashes, if it can be.

    Example:
        >>> stored_path(Path("corpus/audio/a.flac"), Path("prepared/demo"))
        '../../corpus/audio/a.flac'
    """
    # Only folders are resolved: a file that is a symbolic link keeps its own name.
    file = Path(path).parent.resolve() / Path(path).name
    try:
        return Path(os.path.relpath(file, Path(root).resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return file.as_posix()


def _canonical(utterance: Utterance) -> str:
    """What is hashed: 1 and 1.0 are the same second, vote or value."""
    content: dict[str, Any] = {f.name: getattr(utterance, f.name) for f in fields(utterance)}
    for name, number in (("start_s", float), ("end_s", float), ("fold", int)):
        content[name] = None if content[name] is None else number(content[name])
    for name in ("votes", "attributes"):
        if content[name] is not None:
            content[name] = {key: float(value) for key, value in content[name].items()}
    content["metadata"] = dict(utterance.metadata)
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _arrow_schema() -> pyarrow.Schema:
    with extra("train", "utterance tables"):
        import pyarrow as pa

    text, number, numbers = pa.string(), pa.float64(), pa.map_(pa.string(), pa.float64())
    types = {"start_s": number, "end_s": number, "votes": numbers, "attributes": numbers}
    types |= {"fold": pa.int64(), "metadata": pa.map_(text, text)}
    return pa.schema([(f.name, types.get(f.name, text)) for f in fields(Utterance)])


def _read_rows(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The columns of each row, and the content hash they were saved with."""
    with extra("train", "utterance tables"):
        import pyarrow
        import pyarrow.parquet

    remedy = "prepare the corpus again"
    try:
        # Not memory-mapped: a file that is replaced while it is read must not change under us.
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file, page_checksum_verification=True)
        saved = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
        rows: list[dict[str, Any]] = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        # The first line is enough; Arrow appends pages of its own context.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{path}: not a readable Parquet file ({reason}); {remedy}") from error
    if _VERSION_KEY not in saved:
        raise StoreError(f"{path}: a Parquet file, but no vavl manifest; {remedy}")
    if saved[_VERSION_KEY] != str(SCHEMA_VERSION):
        raise StoreError(
            f"{path}: expected schema version {SCHEMA_VERSION}, got {saved[_VERSION_KEY]}; "
            f"{remedy} with this version of vavl"
        )
    if not table.schema.equals(_arrow_schema(), check_metadata=False):
        raise StoreError(f"{path}: its columns are not those of a manifest; {remedy}")
    for row in rows:
        for name in _MAP_COLUMNS:
            row[name] = None if row[name] is None else dict(row[name])
    return rows, saved.get(_HASH_KEY, "")


def _table_problems(utterances: Sequence[Utterance]) -> Iterator[str]:
    first_row: dict[str, int] = {}
    for row, utterance in enumerate(utterances):
        where = f"row {row} ({utterance.utterance_id!r})"
        yield from (f"{where}: {problem}" for problem in utterance_problems(utterance))
        first = first_row.setdefault(str(utterance.utterance_id), row)
        if first != row:
            yield f"{where}: utterance_id: already used by row {first}; ids must be unique"
