"""The utterance table: what each clip is, where its media lie and what is known about it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, overload

from vavl.atomic import atomic_write
from vavl.data.utterance import MEDIA_FIELDS, MediaField, Utterance, utterance_problems
from vavl.errors import InputError, StoreError, all_problems

if TYPE_CHECKING:
    import pyarrow

__all__ = ["MEDIA_FIELDS", "SCHEMA_VERSION", "Manifest", "MediaField", "Utterance", "stored_path"]

SCHEMA_VERSION = 1
"""Raised whenever a manifest written before can no longer be read the same way."""

_VERSION_KEY = "vavl.manifest.schema_version"
_HASH_KEY = "vavl.manifest.sha256"
_MAP_COLUMNS = ("votes", "attributes", "metadata")


class Manifest(Sequence[Utterance]):
    """An immutable, validated table of utterances.

    Paths may lead out of ``root``: a corpus usually lies elsewhere than what is prepared from it.
    Whether the files exist is asked by :meth:`missing_media` only, so that a batch job can record
    the missing ones and go on.

    Attributes:
        root: The folder that relative paths start from, absolute.
        utterances: The rows.

    Example:
        >>> clips = [Utterance("c1", "mine", "ann", audio_path="c1.wav", category="happy")]
        >>> manifest = Manifest(clips, root=Path("clips"))
        >>> manifest.categories, manifest.path(manifest[0], "audio_path").name
        (('happy',), 'c1.wav')
    """

    def __init__(self, utterances: Iterable[Utterance], *, root: Path) -> None:
        """Checks every row.

        Args:
            utterances: The rows.
            root: The folder that relative paths start from; need not exist.

        Raises:
            InputError: Naming every problem of every row at once.
        """
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
        """Where a medium of an utterance lies, or None where the utterance has none.

        Raises:
            InputError: If ``media_field`` is not one of :data:`MEDIA_FIELDS`.
        """
        if media_field not in MEDIA_FIELDS:
            raise InputError(f"media_field: expected one of {MEDIA_FIELDS}, got {media_field!r}")
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

    def missing_media(self) -> list[str]:
        """One sentence for each file that the manifest names and that is not there."""
        missing = []
        for utterance in self.utterances:
            for name in MEDIA_FIELDS:
                path = self.path(utterance, name)
                if path is not None and not path.is_file():
                    missing.append(f"{utterance.utterance_id!r}: {name} {path} does not exist")
        return missing

    def save(self, path: Path) -> None:
        """Writes the table as Parquet, atomically.

        Where the file goes to another folder than ``root``, relative paths are rewritten so that
        they lead to the same files from there.

        Args:
            path: The file, by custom ``manifest.parquet``.
        """
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
            InputError: If the file does not exist.
            StoreError: If it is truncated, damaged, no manifest, or of another schema version.
        """
        path = Path(path)
        if path.is_dir():
            raise InputError(f"manifest: expected a file, got the folder {path}; name one in it")
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
    content: dict[str, Any] = {f.name: getattr(utterance, f.name) for f in fields(utterance)}
    for name in ("start_s", "end_s"):
        content[name] = None if content[name] is None else float(content[name])
    for name in ("votes", "attributes"):
        if content[name] is not None:
            content[name] = {key: float(value) for key, value in content[name].items()}
    content["fold"] = None if utterance.fold is None else int(utterance.fold)
    content["metadata"] = dict(utterance.metadata)
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _arrow_schema() -> pyarrow.Schema:
    import pyarrow as pa

    text, number, numbers = pa.string(), pa.float64(), pa.map_(pa.string(), pa.float64())
    types = {"start_s": number, "end_s": number, "votes": numbers, "attributes": numbers}
    types |= {"fold": pa.int64(), "metadata": pa.map_(text, text)}
    return pa.schema([(f.name, types.get(f.name, text)) for f in fields(Utterance)])


def _read_rows(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The columns of each row, and the content hash they were saved with."""
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
        for problem in utterance_problems(utterance):
            yield f"{where}: {problem}"
        first = first_row.setdefault(str(utterance.utterance_id), row)
        if first != row:
            yield f"{where}: utterance_id: already used by row {first}; ids must be unique"
