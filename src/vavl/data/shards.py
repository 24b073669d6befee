"""The files of a feature store: its description, its shards with their sidecars, its failures.

:mod:`vavl.data.store` says what the folder looks like; this module reads and writes single files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.atomic import atomic_write
from vavl.errors import StoreError
from vavl.types import FeatureSpec

STORE_SCHEMA_VERSION = 1
FRAMES = "frames"
_FAILURE_COLUMNS = ("utterance_id", "reason")


@dataclass(frozen=True)
class Shard:
    """A sidecar: what lies where in one safetensors file.

    Attributes:
        data_path: The safetensors file.
        ids: Ids of the clips, in order.
        starts: First row of each clip.
        lengths: Rows of each clip.
        size: Bytes of the safetensors file.
        sha256: Hash of the safetensors file.
    """

    data_path: Path
    ids: tuple[str, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    size: int
    sha256: str


def read_spec(folder: Path) -> FeatureSpec:
    """Reads ``store.json``.

    Raises:
        StoreError: It is missing, damaged, or of a newer schema version.
    """
    path = folder / "store.json"
    if not path.is_file():
        what = "the folder has no store.json" if folder.is_dir() else "there is no such folder"
        raise StoreError(
            f"feature store {folder}: {what}. Make the store with `vavl extract`, "
            "or give the folder that it wrote."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
            f"{path}: not a valid store description ({type(error).__name__}: {error}). "
            "Delete the folder and extract again."
        ) from error
    return spec


def write_spec(folder: Path, spec: FeatureSpec) -> None:
    """Writes ``store.json``."""
    content = {"schema_version": STORE_SCHEMA_VERSION, "key": spec.key, "spec": spec.to_dict()}
    _write(folder / "store.json", _to_json(content))


def describe(spec: FeatureSpec) -> str:
    """One line that tells a user two extractors apart."""
    weights = f", weights {spec.weights_sha256[:12]}" if spec.weights_sha256 else ""
    source = f" from {spec.source}" if spec.source else ""
    parameters = json.dumps(dict(spec.parameters), sort_keys=True)
    return f"{spec.modality} {spec.extractor}, dim {spec.dim}{weights}{source}, {parameters}"


def read_sidecars(folder: Path, key: str) -> tuple[list[Shard], list[Path]]:
    """Reads the sidecars of a store, in the order of their names.

    Args:
        folder: The store.
        key: Key of its features; a shard of other features does not belong to it.

    Returns:
        The shards whose sidecar is valid, and the paths of the sidecars that are not.
    """
    shards: list[Shard] = []
    unreadable: list[Path] = []
    for path in sorted(folder.glob("shard-*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            shard = Shard(
                data_path=path.with_suffix(".safetensors"),
                ids=tuple(content["ids"]),
                starts=tuple(content["starts"]),
                lengths=tuple(content["lengths"]),
                size=content["bytes"],
                sha256=content["sha256"],
            )
            if not len(shard.ids) == len(shard.starts) == len(shard.lengths):
                raise ValueError("ids, starts and lengths differ in number")
            if content["key"] != key:
                raise ValueError("the shard holds other features")
        except (ValueError, KeyError, TypeError):
            unreadable.append(path)
        else:
            shards.append(shard)
    return shards, unreadable


def write_shard(folder: Path, key: str, clips: Mapping[str, NDArray[np.float16]]) -> None:
    """Writes clips, each ``(T, D)``, as the shard with the lowest free number."""
    from safetensors.numpy import save

    lengths = [len(frames) for frames in clips.values()]
    data = save({FRAMES: np.ascontiguousarray(np.concatenate(list(clips.values())))})
    number = 0
    while (folder / f"shard-{number:05d}.json").exists():
        number += 1
    data_path = folder / f"shard-{number:05d}.safetensors"
    sidecar = {
        "schema_version": STORE_SCHEMA_VERSION,
        "key": key,
        "ids": list(clips),
        "starts": (np.cumsum(lengths) - lengths).tolist(),
        "lengths": lengths,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    _write(data_path, data)
    _write(data_path.with_suffix(".json"), _to_json(sidecar))


def read_frames(path: Path, start: int, length: int) -> NDArray[Any]:
    """Some rows of a shard, through a memory map that lasts as long as this call.

    One that is kept would make every page that was ever read count as memory of this process: all
    stores of a training, after an epoch. To open it again takes 25 microseconds.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as shard:
        frames: NDArray[Any] = shard.get_slice(FRAMES)[start : start + length]
    return frames


def has_recorded_size(shard: Shard) -> bool:
    """Whether the data file is there and as long as when it was written; cheap."""
    return shard.data_path.is_file() and shard.data_path.stat().st_size == shard.size


def is_intact(shard: Shard) -> bool:
    """Whether the data file is the one that was written, by its hash; reads it all."""
    if not has_recorded_size(shard):
        return False
    with shard.data_path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256


def read_failures(folder: Path) -> dict[str, str]:
    """Reads ``failures.csv``: utterance id to reason; empty when there is none."""
    path = folder / "failures.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["utterance_id"]: row["reason"] for row in csv.DictReader(file)}


def write_failures(folder: Path, failures: Mapping[str, str]) -> None:
    """Writes ``failures.csv``; without failures there is none."""
    path = folder / "failures.csv"
    if not failures:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_FAILURE_COLUMNS)
    writer.writerows(sorted(failures.items()))
    _write(path, text.getvalue().encode())


def remove_stale_parts(folder: Path) -> None:
    """Removes what a killed writer left half written.

    Only parts that nobody has touched for an hour: a younger one may belong to a living writer.
    """
    for part in folder.glob(".*.part"):
        with suppress(OSError):  # gone meanwhile, or still open on Windows
            if time.time() - part.stat().st_mtime > 3600:
                part.unlink()


def _to_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
