"""Feature sequences on disk: half-precision safetensors shards with an index, keyed by content.

A store is a folder::

    store.json                  schema version, feature specification and its key
    shard-00000.safetensors     one tensor "frames" (N, D), float16: the clips one after another
    shard-00000.json            its sidecar: key, ids, starts, lengths, bytes, sha256
    failures.csv                clips that could not be extracted, and why

Each file is written beside its final place and then moved onto it, the sidecar last: a shard
without a valid sidecar does not exist. A process killed at any moment therefore leaves a store that
opens, short of at most the shard it was filling.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.data import shards as files
from vavl.data.shards import STORE_SCHEMA_VERSION, Shard
from vavl.errors import InputError, StoreError, all_problems
from vavl.types import FeatureSpec

__all__ = ["STORE_SCHEMA_VERSION", "FeatureStore", "StoreWriter"]


class FeatureStore:
    """Reads the feature sequences of a store. Opened with :meth:`open`.

    Frames are sliced from memory-mapped shards: reading one clip never copies a shard, and leaves
    nothing behind. The object can be pickled, e.g. for the workers of a data loader.

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

    def __init__(self, path: Path, spec: FeatureSpec, shards: tuple[Shard, ...]) -> None:
        self._path = path
        self._spec = spec
        self._shards = shards
        self._rows: dict[str, int] = {}
        places: list[tuple[int, int, int]] = []
        for number, shard in enumerate(shards):
            for utterance_id, start, length in zip(
                shard.ids, shard.starts, shard.lengths, strict=True
            ):
                # Two writers may both have made a clip. The key is the same, so are the numbers.
                if utterance_id not in self._rows:
                    self._rows[utterance_id] = len(places)
                    places.append((number, start, length))
        self._places = places
        self._ids = tuple(self._rows)
        self._lengths = np.array([length for _, _, length in places], dtype=np.int64)
        self._lengths.flags.writeable = False

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Opens a finished or unfinished store.

        Args:
            path: Folder of the store.

        Raises:
            StoreError: The folder is not a store, was written by a newer version, or has shards
                that are missing or truncated (all are named; the same extraction mends them).
        """
        folder = Path(path)
        spec = files.read_spec(folder)
        shards, unreadable = files.read_sidecars(folder, spec.key)
        problems = [f"{path.name}: not a valid sidecar of this store" for path in unreadable]
        problems += [
            f"{shard.data_path.name}: missing or truncated ({len(shard.ids)} clips)"
            for shard in shards
            if not files.has_recorded_size(shard)
        ]
        if problems:
            raise StoreError(
                all_problems(f"feature store {folder}", problems)
                + "\nRun the same extraction again: it redoes these shards alone."
            )
        return cls(folder, spec, tuple(shards))

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self._path

    @property
    def spec(self) -> FeatureSpec:
        """What the features are, and how they were made."""
        return self._spec

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all N clips, in the order of the shards."""
        return self._ids

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(N,)`` steps of each clip, in the order of :attr:`ids`; read-only."""
        return self._lengths

    def __len__(self) -> int:
        return len(self._ids)

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
                f"feature store {self._path}: utterance {utterance_id!r} is not in it: {why}. "
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
            frames = files.read_frames(self._shards[number].data_path, start, length)
        except Exception as error:  # safetensors raises its own type, which it does not document
            raise self._unreadable(number, str(error)) from error
        if frames.shape != (length, self._spec.dim) or frames.dtype != np.float16:
            raise self._unreadable(
                number,
                f"expected ({length}, {self._spec.dim}) float16, "
                f"got {frames.shape} {frames.dtype} for utterance {utterance_id!r}",
            )
        return frames

    def verify(self) -> list[str]:
        """Names of the damaged shards, by the hash of every byte; empty if all is well."""
        return [shard.data_path.name for shard in self._shards if not files.is_intact(shard)]

    def failures(self) -> dict[str, str]:
        """Utterance id to reason, for the clips whose last extraction failed."""
        return files.read_failures(self._path)

    def _unreadable(self, number: int, reason: str) -> StoreError:
        return StoreError(
            f"feature store {self._path}: cannot read {self._shards[number].data_path.name}: "
            f"{reason}. Run the same extraction again: it redoes this shard alone."
        )


class StoreWriter:
    """Creates a store, or goes on with one that holds the same features.

    On reopening, every shard is hashed, and those that are damaged are dropped: their clips are no
    longer in :attr:`completed`, and are to be written again. A new shard takes the lowest free
    number, so a store that was mended or resumed is the same as one written in one go.

    Args:
        path: Folder of the store, created if missing.
        spec: What the features are.
        clips_per_shard: Clips that are collected before a shard is written; what a killed process
            loses at most.

    Raises:
        StoreError: The folder holds features with another key, or something else than a store.
        InputError: ``clips_per_shard`` is below 1.

    Example:
        See :class:`FeatureStore`.
    """

    def __init__(
        self, path: str | os.PathLike[str], spec: FeatureSpec, clips_per_shard: int = 256
    ) -> None:
        if clips_per_shard < 1:
            raise InputError(f"clips_per_shard: expected at least 1, got {clips_per_shard}")
        self._path = Path(path)
        self._spec = spec
        self._clips_per_shard = clips_per_shard
        self._pending: dict[str, NDArray[np.float16]] = {}
        self._completed: set[str] = set()
        self._dropped: list[str] = []
        self._create_or_check()
        files.remove_stale_parts(self._path)
        self._drop_damaged_shards()
        self._failures = files.read_failures(self._path)
        self._failures_changed = False

    @property
    def completed(self) -> frozenset[str]:
        """Ids that need not be done again: those on disk, and those written since."""
        return frozenset(self._completed)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the damaged shards that were dropped on opening."""
        return tuple(self._dropped)

    def write(self, utterance_id: str, features: ArrayLike) -> None:
        """Adds a clip, as half precision; full shards go to disk.

        Args:
            utterance_id: Id of the clip, new to this store.
            features: ``(T, D)`` with T >= 1, finite, within +-65504 (the range of float16).

        Raises:
            InputError: The array does not fit, or the id is in the store already.
        """
        if utterance_id in self._completed:
            raise InputError(f"utterance {utterance_id!r}: is already in the store {self._path}")
        frames = _as_half(f"utterance {utterance_id!r}", features, self._spec.dim)
        self._pending[utterance_id] = frames
        self._completed.add(utterance_id)
        if self._failures.pop(utterance_id, None) is not None:
            self._failures_changed = True
        if len(self._pending) >= self._clips_per_shard:
            self.flush()

    def record_failure(self, utterance_id: str, reason: str) -> None:
        """Notes why a clip has no features; goes to ``failures.csv`` with the next flush."""
        self._failures[utterance_id] = " ".join(reason.split())
        self._failures_changed = True

    def flush(self) -> None:
        """Writes what was collected: a shard, however small, and the list of failures."""
        if self._pending:
            files.write_shard(self._path, self._spec.key, self._pending)
            self._pending = {}
        if self._failures_changed:
            files.write_failures(self._path, self._failures)
            self._failures_changed = False

    def close(self) -> None:
        """Flushes. The writer must not be used afterwards."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Also after Ctrl-C: each collected clip is whole, and need not be done again.
        self.close()

    def _create_or_check(self) -> None:
        if not (self._path / "store.json").exists():
            if self._path.exists() and not self._path.is_dir():
                raise StoreError(f"{self._path}: expected a folder for the features, got a file")
            self._path.mkdir(parents=True, exist_ok=True)
            files.write_spec(self._path, self._spec)
            return
        existing = files.read_spec(self._path)
        if existing.key != self._spec.key:
            raise StoreError(
                f"feature store {self._path} holds other features:\n"
                f"  in the store: {files.describe(existing)}\n"
                f"  asked for:    {files.describe(self._spec)}\n"
                "Choose another --out for the new features, or delete this folder."
            )

    def _drop_damaged_shards(self) -> None:
        shards, unreadable = files.read_sidecars(self._path, self._spec.key)
        for shard in shards:
            if files.is_intact(shard):
                self._completed.update(shard.ids)
            else:
                self._drop(shard.data_path)
        for sidecar in unreadable:
            self._drop(sidecar.with_suffix(".safetensors"))

    def _drop(self, data_path: Path) -> None:
        self._dropped.append(data_path.name)
        # The sidecar goes first: data without one does not exist, one without data is damage.
        data_path.with_suffix(".json").unlink()
        data_path.unlink(missing_ok=True)


def _as_half(subject: str, features: ArrayLike, dim: int) -> NDArray[np.float16]:
    """Checks ``(T, dim)`` features and converts them to float16."""
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
