"""Feature sequences on disk: half-precision safetensors shards with an index, keyed by content.

A store is a folder::

    store.json                  schema version, feature specification and its key
    shard-00000.safetensors     one tensor "frames" (N, D), float16: the clips one after another
    shard-00000.json            its sidecar: key, ids, starts, lengths, bytes, sha256
    failures.csv                clips that could not be extracted, and why

Each file is written beside its final place and then moved onto it, the sidecar last: a shard
without a valid sidecar does not exist. A process killed at any moment therefore leaves a store that
opens, short of at most the shard it was filling.

The folder may lie elsewhere, at an address such as ``s3://bucket/stores/logmel``: see
:mod:`vavl.data.store_folder`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.data.store_folder import StoreFolder, open_folder
from vavl.errors import InputError, StoreError, all_problems
from vavl.system.atomic import json_object
from vavl.types import FeatureSpec

_SCHEMA_VERSION = 1
_FRAMES = "frames"
_SPEC = "store.json"
_FAILURES = "failures.csv"
_SIDECAR = re.compile(r"(shard-.*)\.json")
_SHA256 = re.compile("[0-9a-f]{64}")


class FeatureStore:
    """Reads the feature sequences of a store. Opened with :meth:`open`.

    A clip is read without the rest of its shard, and nothing stays open or mapped. A shard that
    lies elsewhere is fetched when first read, see :func:`vavl.data.store_folder.cache_folder`.
    Several threads may read at once, and the object can be pickled, e.g. for other processes.

    Attributes:
        path: Folder of the store, absolute, or its address.
        spec: What the features are, and how they were made.
        ids: Ids of all N clips, in the order of the shards.
        lengths: ``(N,)`` steps of each clip, in the order of :attr:`ids`; read-only.

    Example:
        >>> import tempfile
        >>> from vavl.types import FeatureSpec, Modality
        >>> folder = tempfile.mkdtemp()
        >>> with StoreWriter(folder, FeatureSpec(Modality.VISUAL, "arrays", 2, None)) as writer:
        ...     writer.write("clip-1", [[0.5, 1.0], [1.5, 2.0]])
        >>> store = FeatureStore.open(folder)
        >>> store.read("clip-1").shape, store.ids, "clip-2" in store
        ((2, 2), ('clip-1',), False)
    """

    def __init__(self, folder: StoreFolder, spec: FeatureSpec, shards: tuple[_Shard, ...]) -> None:
        self._folder = folder
        self._shards = shards
        self._frames: dict[int, _Frames] = {}  # by shard, of those that were read from
        places: dict[str, tuple[int, int, int]] = {}
        for number, shard in enumerate(shards):
            for utterance_id, start, length in zip(
                shard.ids, shard.starts, shard.lengths, strict=True
            ):
                # Two writers may both have made a clip. The key is the same, so are the numbers.
                places.setdefault(utterance_id, (number, start, length))
        self._places = list(places.values())
        self._rows = {utterance_id: row for row, utterance_id in enumerate(places)}
        self.path = str(folder)
        self.spec = spec
        self.ids = tuple(places)
        self.lengths: NDArray[np.int64] = np.array([n for _, _, n in self._places], dtype=np.int64)
        self.lengths.flags.writeable = False

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Opens a finished or unfinished store, by the path of its folder or its address.

        Raises:
            InputError: No package knows such an address, or it is not installed.
            StoreError: The folder is not a store, was written by a newer version, or has shards
                that are missing or truncated (all are named; the same extraction mends them).
        """
        folder = open_folder(path)
        spec = _read_spec(folder)
        sizes = folder.sizes()
        shards, unreadable = _read_sidecars(folder, sizes, spec.key)
        problems = [f"{name}.json: not a valid sidecar of this store" for name in unreadable]
        problems += [
            f"{data_name(shard.name)}: missing or truncated ({len(shard.ids)} clips)"
            for shard in shards
            if sizes.get(data_name(shard.name)) != shard.size
        ]
        if problems:
            raise StoreError(
                all_problems(f"feature store {folder}", problems)
                + "\nRun the same extraction again: it redoes these shards alone."
            )
        return cls(folder, spec, tuple(shards))

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._rows

    def row(self, utterance_id: str) -> int:
        """Position of a clip in :attr:`ids` and :attr:`lengths`.

        Raises:
            StoreError: The clip is not in the store; says whether its extraction failed.
        """
        try:
            return self._rows[utterance_id]
        except KeyError:
            reason = self.failures().get(utterance_id)
            why = "its extraction failed: " + reason if reason else "it was not extracted"
            raise StoreError(
                f"feature store {self._folder}: utterance {utterance_id!r} is not in it: {why}. "
                "Run the extraction again, or leave the utterance out."
            ) from None

    def read(self, utterance_id: str) -> NDArray[np.float16]:
        """Features of one clip, ``(T, D)`` float16.

        Raises:
            StoreError: The clip is not in the store, or its shard cannot be read.
        """
        number, start, length = self._places[self.row(utterance_id)]
        try:
            try:
                return self._located(number).read(start, length)
            except FileNotFoundError:  # a cache may be cleared while we run
                self._frames.pop(number, None)
                return self._located(number).read(start, length)
        except Exception as error:  # safetensors raises its own type, which it does not document
            raise StoreError(
                f"feature store {self._folder}: cannot read {data_name(self._shards[number].name)}:"
                f" {error}. Run the same extraction again: it redoes this shard alone."
            ) from error

    def _located(self, number: int) -> _Frames:
        """Where a shard's rows lie on this machine; fetches the shard if need be."""
        frames = self._frames.get(number)
        if frames is None:
            shard = self._shards[number]
            path = self._folder.local_file(data_name(shard.name), shard.sha256)
            frames = self._frames[number] = _Frames.locate(path, self.spec.dim)
        return frames

    def __getstate__(self) -> dict[str, Any]:
        # Another machine may keep its copies of shards elsewhere.
        return {**self.__dict__, "_frames": {}}

    def verify(self) -> list[str]:
        """Names of the damaged shards, by the hash of every byte; empty if all is well."""
        return [data_name(s.name) for s in self._shards if not _is_intact(self._folder, s)]

    def failures(self) -> dict[str, str]:
        """Utterance id to reason, for the clips whose last extraction failed."""
        return _read_failures(self._folder)


class StoreWriter:
    """Creates a store, or goes on with one that holds the same features.

    On reopening, every shard is hashed (of a remote store only the sizes are compared: hashing
    would fetch it all), and those that are damaged are dropped: their clips are no longer in
    :attr:`completed`, and are to be written again. A new shard takes the lowest free number, so a
    store that was mended or resumed is the same as one written in one go.

    Args:
        path: Folder of the store, created if missing, or its address.
        spec: What the features are.
        clips_per_shard: Clips that are collected before a shard is written; what a killed process
            loses at most.

    Attributes:
        folder: Where the store lies.
        free_shards: Names for new shards, each handed out once; for processes that write shards
            themselves, see :meth:`adopt`.
        dropped: Names of the damaged shards that were dropped on opening.

    Raises:
        StoreError: The folder holds features with another key, or something else than a store.
        InputError: ``clips_per_shard`` is below 1, or no package knows such an address.
    """

    def __init__(
        self, path: str | os.PathLike[str], spec: FeatureSpec, clips_per_shard: int = 256
    ) -> None:
        if clips_per_shard < 1:
            raise InputError(f"clips_per_shard: expected at least 1, got {clips_per_shard}")
        self.folder = open_folder(path)
        self._spec = spec
        self.clips_per_shard = clips_per_shard
        self._pending: dict[str, NDArray[np.float16]] = {}
        self._completed: set[str] = set()
        self._create_or_check()
        self.dropped = self._drop_damaged_shards()
        names = self.folder.sizes()
        numbered = (f"shard-{number:05d}" for number in itertools.count())
        self.free_shards = (name for name in numbered if f"{name}.json" not in names)
        self._failures = _read_failures(self.folder)
        self._failures_changed = False

    @property
    def completed(self) -> frozenset[str]:
        """Ids that need not be done again: those on disk, and those written since."""
        return frozenset(self._completed)

    def write(self, utterance_id: str, features: ArrayLike) -> None:
        """Adds a clip, as half precision; full shards go to disk.

        Args:
            utterance_id: Id of the clip, new to this store.
            features: ``(T, D)`` with T >= 1, finite, within +-65504 (the range of float16).

        Raises:
            InputError: The array does not fit, or the id is in the store already.
        """
        if utterance_id in self._completed:
            raise InputError(f"utterance {utterance_id!r}: is already in the store {self.folder}")
        self._pending[utterance_id] = as_half(utterance_id, features, self._spec.dim)
        self._complete(utterance_id)
        if len(self._pending) >= self.clips_per_shard:
            self.flush()

    def adopt(self, utterance_ids: Iterable[str]) -> None:
        """Takes note of clips that another process has written into this store, as a shard."""
        for utterance_id in utterance_ids:
            self._complete(utterance_id)
        self.flush()

    def record_failure(self, utterance_id: str, reason: str) -> None:
        """Notes why a clip has no features; goes to ``failures.csv`` with the next flush."""
        self._failures[utterance_id] = " ".join(reason.split())
        self._failures_changed = True

    def flush(self) -> None:
        """Writes what was collected: a shard, however small, and the list of failures."""
        if self._pending:
            # Asked again: another writer may have taken the name since.
            name = next(n for n in self.free_shards if self.folder.size(f"{n}.json") is None)
            write_shard(self.folder, name, self._spec.key, self._pending)
            self._pending = {}
        if self._failures_changed:
            self._write_failures()
            self._failures_changed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Also after Ctrl-C: each collected clip is whole, and need not be done again.
        self.flush()

    def _complete(self, utterance_id: str) -> None:
        self._completed.add(utterance_id)
        if self._failures.pop(utterance_id, None) is not None:
            self._failures_changed = True

    def _create_or_check(self) -> None:
        self.folder.prepare()
        key = self._spec.key
        if self.folder.size(_SPEC) is None:
            content = {"schema_version": _SCHEMA_VERSION, "key": key, "spec": self._spec.to_dict()}
            self.folder.write(_SPEC, _to_json(content))
            return
        existing = _read_spec(self.folder)
        if existing.key != key:
            raise StoreError(
                f"feature store {self.folder} holds other features:\n"
                f"  in the store: {existing.description}\n"
                f"  asked for:    {self._spec.description}\n"
                "Choose another --out for the new features, or delete this folder."
            )

    def _drop_damaged_shards(self) -> tuple[str, ...]:
        """Takes note of the clips in intact shards; removes the others, and returns their names."""
        sizes = self.folder.sizes()
        shards, damaged = _read_sidecars(self.folder, sizes, self._spec.key)
        for shard in shards:
            intact = sizes.get(data_name(shard.name)) == shard.size
            if intact and self.folder.is_local:
                intact = _is_intact(self.folder, shard)
            if intact:
                self._completed.update(shard.ids)
            else:
                damaged.append(shard.name)
        for name in damaged:
            self.folder.remove(f"{name}.json")  # first: data without a sidecar does not exist
            self.folder.remove(data_name(name))
        return tuple(map(data_name, damaged))

    def _write_failures(self) -> None:
        if not self._failures:
            self.folder.remove(_FAILURES)
            return
        text = io.StringIO(newline="")
        rows = [("utterance_id", "reason"), *sorted(self._failures.items())]
        csv.writer(text).writerows(rows)
        self.folder.write(_FAILURES, text.getvalue().encode())


@dataclass(frozen=True)
class _Shard:
    """A sidecar: first row and number of rows of each clip in one safetensors file."""

    name: str  # of both files, without their endings
    ids: tuple[str, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    size: int  # bytes of the safetensors file
    sha256: str  # of the safetensors file


def data_name(name: str) -> str:
    """The safetensors file of a shard."""
    return f"{name}.safetensors"


def _read_spec(folder: StoreFolder) -> FeatureSpec:
    if folder.size(_SPEC) is None:
        raise StoreError(
            f"feature store {folder}: no store.json in it, or no such folder. Make the store with "
            "`vavl extract`, or give the folder that it wrote."
        )
    try:
        content = json_object(folder.read([_SPEC])[0])
        version = content["schema_version"]
        if isinstance(version, int) and version > _SCHEMA_VERSION:
            raise StoreError(
                f"feature store {folder}: schema version {version} is newer than "
                f"{_SCHEMA_VERSION}, the newest this vavl reads. Upgrade vavl."
            )
        spec = FeatureSpec.from_dict(content["spec"])
        if version != _SCHEMA_VERSION or spec.key != content["key"]:
            raise ValueError("the specification does not belong to its key")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder}/{_SPEC}: not a valid store description ({type(error).__name__}: {error}). "
            "Delete the folder and extract again."
        ) from error
    return spec


def _read_sidecars(
    folder: StoreFolder, names: Iterable[str], key: str
) -> tuple[list[_Shard], list[str]]:
    """The shards among these files, by name, and the names of shards without a valid sidecar.

    A shard of features with another key does not belong to the store.
    """
    shards: list[_Shard] = []
    unreadable: list[str] = []
    sidecars = [match for name in names if (match := _SIDECAR.fullmatch(name))]
    texts = folder.read([match[0] for match in sidecars])
    for name, text in zip([match[1] for match in sidecars], texts, strict=True):
        try:
            content = json_object(text)
            shard = _Shard(
                name=name,
                ids=tuple(content["ids"]),
                starts=tuple(content["starts"]),
                lengths=tuple(content["lengths"]),
                size=content["bytes"],
                sha256=content["sha256"],
            )
            if not all(isinstance(i, str) for i in shard.ids):
                raise ValueError("an id is no text")
            if not all(type(n) is int and n >= 0 for n in (*shard.starts, *shard.lengths)):
                raise ValueError("starts and lengths are numbers of rows")
            if not len(shard.ids) == len(shard.starts) == len(shard.lengths):
                raise ValueError("ids, starts and lengths differ in number")
            if not _SHA256.fullmatch(shard.sha256):  # copies are named by it
                raise ValueError("the hash is no SHA-256")
            if content["key"] != key:
                raise ValueError("the shard holds other features")
        except (ValueError, KeyError, TypeError):
            unreadable.append(name)
        else:
            shards.append(shard)
    return shards, unreadable


def write_shard(
    folder: StoreFolder, name: str, key: str, clips: Mapping[str, NDArray[np.float16]]
) -> int:
    """Writes clips, each ``(T, D)``, as a shard of that name; returns the bytes of its data."""
    from safetensors.numpy import save

    lengths = [len(frames) for frames in clips.values()]
    data = save({_FRAMES: np.ascontiguousarray(np.concatenate(list(clips.values())))})
    sidecar = {
        "schema_version": _SCHEMA_VERSION,
        "key": key,
        "ids": list(clips),
        "starts": (np.cumsum(lengths) - lengths).tolist(),
        "lengths": lengths,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder.write(data_name(name), data)
    folder.write(f"{name}.json", _to_json(sidecar))
    return len(data)


def _to_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _is_intact(folder: StoreFolder, shard: _Shard) -> bool:
    """Whether the data file is the one that was written, by its hash; reads it all."""
    name = data_name(shard.name)
    return folder.size(name) == shard.size and folder.sha256(name) == shard.sha256


def _read_failures(folder: StoreFolder) -> dict[str, str]:
    if folder.size(_FAILURES) is None:
        return {}
    text = io.StringIO(folder.read([_FAILURES])[0].decode(), newline="")
    return {row["utterance_id"]: row["reason"] for row in csv.DictReader(text)}


@dataclass(frozen=True)
class _Frames:
    """Where the rows of a shard lie in its file, which is neither kept open nor mapped.

    A memory map that is kept would make every page that was ever read count as memory of this
    process: all stores of a training, after an epoch. To map a shard anew for each clip takes
    several times as long as to read one.
    """

    path: str
    offset: int  # the byte at which the rows begin
    rows: int
    dim: int

    @classmethod
    def locate(cls, path: Path, dim: int) -> Self:
        """Finds the rows of ``dim`` numbers; raises ValueError, or what safetensors raises."""
        from safetensors import safe_open

        with safe_open(str(path), framework="np") as shard:
            names, frames = list(shard.keys()), shard.get_slice(_FRAMES)
            kind, shape = frames.get_dtype(), frames.get_shape()
        if names != [_FRAMES] or kind != "F16" or shape[1:] != [dim]:
            raise ValueError(f"expected F16 {_FRAMES} (N, {dim}), got {names} and {kind} {shape}")
        # safetensors has made sure that the data of its tensors are the end of the file.
        return cls(str(path), path.stat().st_size - 2 * shape[0] * dim, shape[0], dim)

    def read(self, start: int, length: int) -> NDArray[np.float16]:
        """``(length, dim)`` from a row on."""
        if not 0 <= start <= start + length <= self.rows:
            raise ValueError(f"expected rows up to {self.rows}, got {start} to {start + length}")
        frames = np.empty((length, self.dim), dtype=np.float16)
        with io.FileIO(self.path) as file:
            file.seek(self.offset + 2 * start * self.dim)
            if file.readinto(frames.data) != frames.nbytes:
                raise ValueError("it ends early")
        return frames


def as_half(utterance_id: str, features: ArrayLike, dim: int) -> NDArray[np.float16]:
    """Checks the ``(T, dim)`` features of a clip, and converts them to float16.

    Raises:
        InputError: Another shape, no known step, or values that are not finite in half precision.
    """
    subject = f"utterance {utterance_id!r}"
    array = np.asarray(features)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] != dim:
        raise InputError(
            f"{subject}: expected features (T, {dim}) with T >= 1, got {array.shape}; "
            "were they extracted with another extractor?"
        )
    known = ~np.isnan(array).all(1)
    if not known.any():
        raise InputError(f"{subject}: expected at least one known step, all {len(array)} are NaN")
    bad = ~np.isfinite(array) & known[:, None]
    if bad.any():
        step, column = np.argwhere(bad)[0]
        raise InputError(
            f"{subject}: expected finite features, got {int(bad.sum())} NaN or infinite values of "
            f"{array.size}, the first at step {step}, dimension {column}"
        )
    with np.errstate(over="ignore"):
        # In C order: safetensors writes the memory as it lies, and would transpose other layouts.
        half = array.astype(np.float16, order="C")
    if not np.isfinite(half[known]).all():
        raise InputError(
            f"{subject}: expected features within +-65504, the range of the half-precision store, "
            f"got {float(np.abs(array[known]).max()):g}; scale them first"
        )
    return half


def known_steps(features: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which steps of ``(T, D)`` features are known: ``(T,)``.

    A step that could not be observed, e.g. because the face is out of sight, is a row of NaN. It
    keeps its place in time, and is masked wherever the features are used.
    """
    # One column tells: stores take rows of NaN only whole.
    return ~np.isnan(features[:, 0])
