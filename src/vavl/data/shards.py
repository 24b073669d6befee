"""The files of a feature store: its description, its shards with their sidecars, its failures.

:mod:`vavl.data.store` says what the folder looks like; this module reads and writes single files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.data.store_folder import StoreFolder
from vavl.errors import InputError, StoreError
from vavl.types import FeatureSpec

STORE_SCHEMA_VERSION = 1
FRAMES = "frames"
_SPEC = "store.json"
_FAILURES = "failures.csv"
_FAILURE_COLUMNS = ("utterance_id", "reason")
_SIDECAR = re.compile(r"(shard-.*)\.json")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """A sidecar: what lies where in one safetensors file.

    Attributes:
        name: Of both files, without their endings.
        ids: Ids of the clips, in order.
        starts: First row of each clip.
        lengths: Rows of each clip.
        size: Bytes of the safetensors file.
        sha256: Hash of the safetensors file.
    """

    name: str
    ids: tuple[str, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    size: int
    sha256: str

    @property
    def data_name(self) -> str:
        """The safetensors file."""
        return data_name(self.name)


def data_name(name: str) -> str:
    """The safetensors file of a shard."""
    return f"{name}.safetensors"


def holds_store(folder: StoreFolder) -> bool:
    """Whether there is a ``store.json``."""
    return folder.size(_SPEC) is not None


def read_spec(folder: StoreFolder) -> FeatureSpec:
    """Reads ``store.json``.

    Raises:
        StoreError: It is missing, damaged, or of a newer schema version.
    """
    if not holds_store(folder):
        raise StoreError(
            f"feature store {folder}: no store.json in it, or no such folder. Make the store with "
            "`vavl extract`, or give the folder that it wrote."
        )
    try:
        content = json.loads(folder.read([_SPEC])[0])
        version = content["schema_version"]
        if isinstance(version, int) and version > STORE_SCHEMA_VERSION:
            raise StoreError(
                f"feature store {folder}: schema version {version} is newer than "
                f"{STORE_SCHEMA_VERSION}, the newest this vavl reads. Upgrade vavl."
            )
        spec = FeatureSpec.from_dict(content["spec"])
        if version != STORE_SCHEMA_VERSION or spec.key != content["key"]:
            raise ValueError("the specification does not belong to its key")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder}/{_SPEC}: not a valid store description ({type(error).__name__}: {error}). "
            "Delete the folder and extract again."
        ) from error
    return spec


def write_spec(folder: StoreFolder, spec: FeatureSpec) -> None:
    """Writes ``store.json``."""
    content = {"schema_version": STORE_SCHEMA_VERSION, "key": spec.key, "spec": spec.to_dict()}
    folder.write(_SPEC, _to_json(content))


def describe(spec: FeatureSpec) -> str:
    """One line that tells a user two extractors apart."""
    weights = f", weights {spec.weights_sha256[:12]}" if spec.weights_sha256 else ""
    source = f" from {spec.source}" if spec.source else ""
    parameters = json.dumps(dict(spec.parameters), sort_keys=True)
    return f"{spec.modality} {spec.extractor}, dim {spec.dim}{weights}{source}, {parameters}"


def read_sidecars(
    folder: StoreFolder, names: Iterable[str], key: str
) -> tuple[list[Shard], list[str]]:
    """Reads the sidecars of a store, in the order of their names.

    Args:
        folder: The store.
        names: The files in it.
        key: Key of its features; a shard of other features does not belong to it.

    Returns:
        The shards whose sidecar is valid, and the names of the shards whose sidecar is not.
    """
    shards: list[Shard] = []
    unreadable: list[str] = []
    sidecars = [match for name in names if (match := _SIDECAR.fullmatch(name))]
    texts = folder.read([match[0] for match in sidecars])
    for name, text in zip([match[1] for match in sidecars], texts, strict=True):
        try:
            content = json.loads(text)
            shard = Shard(
                name=name,
                ids=tuple(content["ids"]),
                starts=tuple(content["starts"]),
                lengths=tuple(content["lengths"]),
                size=content["bytes"],
                sha256=content["sha256"],
            )
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


def free_shards(names: Container[str]) -> Iterator[str]:
    """Names for new shards of a store that has these files, the lowest number first.

    Example:
        >>> free = free_shards(["shard-00000.json", "shard-00000.safetensors"])
        >>> next(free), next(free)
        ('shard-00001', 'shard-00002')
    """
    numbered = (f"shard-{number:05d}" for number in itertools.count())
    return (name for name in numbered if f"{name}.json" not in names)


def holds_shard(folder: StoreFolder, name: str) -> bool:
    """Whether there is a shard of that name."""
    return folder.size(f"{name}.json") is not None


def write_shard(
    folder: StoreFolder, name: str, key: str, clips: Mapping[str, NDArray[np.float16]]
) -> int:
    """Writes clips, each ``(T, D)``, as a shard of that name; returns the bytes of its data."""
    from safetensors.numpy import save

    lengths = [len(frames) for frames in clips.values()]
    data = save({FRAMES: np.ascontiguousarray(np.concatenate(list(clips.values())))})
    sidecar = {
        "schema_version": STORE_SCHEMA_VERSION,
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


def remove_shard(folder: StoreFolder, name: str) -> None:
    """Removes a shard, its sidecar first: data without one does not exist."""
    folder.remove(f"{name}.json")
    folder.remove(data_name(name))


@dataclass(frozen=True)
class Frames:
    """Where the rows of a shard lie in its file, of which nothing is kept open or mapped.

    A memory map that is kept would make every page that was ever read count as memory of this
    process: all stores of a training, after an epoch. To map a shard anew for each clip takes
    several times as long as to read one.

    Attributes:
        path: The file.
        offset: Its byte at which the rows begin.
        rows: Their number.
        dim: Numbers in a row.
    """

    path: str
    offset: int
    rows: int
    dim: int

    @classmethod
    def locate(cls, path: Path, dim: int) -> Self:
        """Looks up the rows of ``dim`` numbers in a shard.

        Raises:
            ValueError: It holds something else; or what safetensors raises.
        """
        from safetensors import safe_open

        with safe_open(str(path), framework="np") as shard:
            names, frames = list(shard.keys()), shard.get_slice(FRAMES)
            kind, shape = frames.get_dtype(), frames.get_shape()
        if names != [FRAMES] or kind != "F16" or shape[1:] != [dim]:
            raise ValueError(f"expected F16 {FRAMES} (N, {dim}), got {names} and {kind} {shape}")
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


def is_intact(folder: StoreFolder, shard: Shard) -> bool:
    """Whether the data file is the one that was written, by its hash; reads it all."""
    found = folder.size(shard.data_name)
    return found == shard.size and folder.sha256(shard.data_name) == shard.sha256


def read_failures(folder: StoreFolder) -> dict[str, str]:
    """Reads ``failures.csv``: utterance id to reason; empty when there is none."""
    if folder.size(_FAILURES) is None:
        return {}
    text = io.StringIO(folder.read([_FAILURES])[0].decode(), newline="")
    return {row["utterance_id"]: row["reason"] for row in csv.DictReader(text)}


def write_failures(folder: StoreFolder, failures: Mapping[str, str]) -> None:
    """Writes ``failures.csv``; without failures there is none."""
    if not failures:
        folder.remove(_FAILURES)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_FAILURE_COLUMNS)
    writer.writerows(sorted(failures.items()))
    folder.write(_FAILURES, text.getvalue().encode())


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


def _to_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
