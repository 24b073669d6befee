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

import os
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.data import shards as files
from vavl.data.shards import STORE_SCHEMA_VERSION, Frames, Shard
from vavl.data.store_folder import StoreFolder, open_folder
from vavl.errors import InputError, StoreError, all_problems
from vavl.types import FeatureSpec

__all__ = ["STORE_SCHEMA_VERSION", "FeatureStore", "StoreWriter"]


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

    def __init__(self, folder: StoreFolder, spec: FeatureSpec, shards: tuple[Shard, ...]) -> None:
        self._folder = folder
        self._shards = shards
        self._frames: dict[int, Frames] = {}  # by shard, of those that were read from
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
        """Opens a finished or unfinished store.

        Args:
            path: Folder of the store, or its address.

        Raises:
            InputError: No package knows such an address, or it is not installed.
            StoreError: The folder is not a store, was written by a newer version, or has shards
                that are missing or truncated (all are named; the same extraction mends them).
        """
        folder = open_folder(path)
        spec = files.read_spec(folder)
        sizes = folder.sizes()
        shards, unreadable = files.read_sidecars(folder, sizes, spec.key)
        problems = [f"{name}.json: not a valid sidecar of this store" for name in unreadable]
        problems += [
            f"{shard.data_name}: missing or truncated ({len(shard.ids)} clips)"
            for shard in shards
            if sizes.get(shard.data_name) != shard.size
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
        """Features of one clip.

        Returns:
            ``(T, D)`` float16.

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
                f"feature store {self._folder}: cannot read {self._shards[number].data_name}: "
                f"{error}. Run the same extraction again: it redoes this shard alone."
            ) from error

    def _located(self, number: int) -> Frames:
        """Where a shard's rows lie on this machine, which fetches it if need be."""
        frames = self._frames.get(number)
        if frames is None:
            shard = self._shards[number]
            path = self._folder.local_file(shard.data_name, shard.sha256)
            frames = self._frames[number] = Frames.locate(path, self.spec.dim)
        return frames

    def __getstate__(self) -> dict[str, Any]:
        # Another machine may keep its copies of shards elsewhere.
        return {**self.__dict__, "_frames": {}}

    def verify(self) -> list[str]:
        """Names of the damaged shards, by the hash of every byte; empty if all is well."""
        return [s.data_name for s in self._shards if not files.is_intact(self._folder, s)]

    def failures(self) -> dict[str, str]:
        """Utterance id to reason, for the clips whose last extraction failed."""
        return files.read_failures(self._folder)


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
        clips_per_shard: As given.
        free_shards: Names for new shards, each handed out once; for processes that write shards
            themselves, see :meth:`adopt`.
        dropped: Names of the damaged shards that were dropped on opening.

    Raises:
        StoreError: The folder holds features with another key, or something else than a store.
        InputError: ``clips_per_shard`` is below 1, or no package knows such an address.

    Example:
        See :class:`FeatureStore`.
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
        self.free_shards = files.free_shards(self.folder.sizes())
        self._failures = files.read_failures(self.folder)
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
        self._pending[utterance_id] = files.as_half(utterance_id, features, self._spec.dim)
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
            name = next(n for n in self.free_shards if not files.holds_shard(self.folder, n))
            files.write_shard(self.folder, name, self._spec.key, self._pending)
            self._pending = {}
        if self._failures_changed:
            files.write_failures(self.folder, self._failures)
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
        if not files.holds_store(self.folder):
            files.write_spec(self.folder, self._spec)
            return
        existing = files.read_spec(self.folder)
        if existing.key != self._spec.key:
            raise StoreError(
                f"feature store {self.folder} holds other features:\n"
                f"  in the store: {files.describe(existing)}\n"
                f"  asked for:    {files.describe(self._spec)}\n"
                "Choose another --out for the new features, or delete this folder."
            )

    def _drop_damaged_shards(self) -> tuple[str, ...]:
        """Takes note of the clips in intact shards; removes the others, and returns their names."""
        sizes = self.folder.sizes()
        shards, damaged = files.read_sidecars(self.folder, sizes, self._spec.key)
        for shard in shards:
            intact = sizes.get(shard.data_name) == shard.size
            if intact and self.folder.is_local:
                intact = files.is_intact(self.folder, shard)
            if intact:
                self._completed.update(shard.ids)
            else:
                damaged.append(shard.name)
        for name in damaged:
            files.remove_shard(self.folder, name)
        return tuple(map(files.data_name, damaged))


def known_steps(features: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which steps of ``(T, D)`` features are known: ``(T,)``.

    A step that could not be observed, e.g. because the face is out of sight, is a row of NaN. It
    keeps its place in time, and is masked wherever the features are used.
    """
    # One column tells: stores take rows of NaN only whole.
    return ~np.isnan(features[:, 0])
