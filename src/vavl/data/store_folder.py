"""Where a feature store lies: a folder of this machine, or an address that fsspec knows."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vavl.errors import InputError, StoreError
from vavl.system.atomic import atomic_write


class StoreFolder(Protocol):
    """The files of one folder, by their names; can be pickled."""

    @property
    def is_local(self) -> bool:
        """Whether the files lie on this machine, where reading them whole is cheap."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same files."""

    def prepare(self) -> None:
        """Makes the folder where there is none, and removes what killed writers left half written.

        Raises:
            StoreError: There is a file of that name.
        """

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, in the order of their names; none where there is no folder."""

    def size(self, name: str) -> int | None:
        """Bytes of one file, or None where there is none."""

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Contents of files that are there."""

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces a file."""

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    def sha256(self, name: str) -> str:
        """Hash of a file; reads it all."""

    def local_file(self, name: str, sha256: str) -> Path:
        """A file of this machine with the content of a file that never changes.

        Raises:
            StoreError: The file had to be fetched, and its hash is not ``sha256``.
        """


def open_folder(path: str | os.PathLike[str]) -> StoreFolder:
    """The folder at a path or an address; it need not exist.

    Args:
        path: A path, or an address such as ``s3://bucket/stores/logmel``, for which the package
            that fsspec names must be installed (``s3fs``, ``gcsfs``, ``adlfs``, ...).

    Raises:
        InputError: No package knows such an address, or it is not installed.

    Example:
        >>> folder = open_folder("memory://doctest")
        >>> folder.write("a.txt", b"abc")
        >>> folder.sizes(), folder.read(["a.txt"])
        ({'a.txt': 3}, [b'abc'])
    """
    text = os.fspath(path)
    if "://" not in text:
        return _LocalFolder(Path(text).absolute())
    from fsspec.implementations.local import LocalFileSystem

    file_system, root = _file_system(text)
    if type(file_system) is LocalFileSystem:  # file://
        return _LocalFolder(Path(root))
    return _RemoteFolder(text)


@dataclass(frozen=True)
class _LocalFolder:
    """A folder of this machine."""

    path: Path
    is_local = True
    is_shared = True

    def __str__(self) -> str:
        return str(self.path)

    def prepare(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path}: expected a folder for the features, got a file")
        self.path.mkdir(parents=True, exist_ok=True)
        for part in self.path.glob(".*.part*"):
            with suppress(OSError):  # gone meanwhile, or still open on Windows
                # A younger one may belong to a living writer.
                if time.time() - part.stat().st_mtime > 3600:
                    part.unlink()

    def sizes(self) -> dict[str, int]:
        if not self.path.is_dir():
            return {}
        with os.scandir(self.path) as entries:
            found = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        return dict(sorted(found.items()))

    def size(self, name: str) -> int | None:
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def read(self, names: Sequence[str]) -> list[bytes]:
        return [(self.path / name).read_bytes() for name in names]

    def write(self, name: str, data: bytes) -> None:
        with atomic_write(self.path / name) as temporary:
            temporary.write_bytes(data)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def sha256(self, name: str) -> str:
        return _sha256(self.path / name)

    def local_file(self, name: str, sha256: str) -> Path:  # noqa: ARG002
        return self.path / name


@dataclass(frozen=True)
class _RemoteFolder:
    """A folder in an object store, or wherever else fsspec reaches.

    A file is put there by one call; in an object store it is then whole or not there. Elsewhere a
    broken connection may leave a part of it, which its sidecar gives away.
    """

    url: str
    is_local = False

    def __str__(self) -> str:
        return self.url

    @property
    def is_shared(self) -> bool:
        with self._opened() as (file_system, _):
            protocols = file_system.protocol
        return "memory" not in ([protocols] if isinstance(protocols, str) else protocols)

    def prepare(self) -> None:
        pass  # folders come with their first file, and nothing is written beside its place

    def sizes(self) -> dict[str, int]:
        with self._opened() as (file_system, root):
            file_system.invalidate_cache(root)  # another process may have written meanwhile
            try:
                entries = file_system.ls(root, detail=True)
            except FileNotFoundError:
                return {}
            found = {_name(e["name"]): e["size"] for e in entries if e["type"] == "file"}
        return dict(sorted(found.items()))

    def size(self, name: str) -> int | None:
        with self._opened() as (file_system, root):
            file_system.invalidate_cache(root)
            try:
                return int(file_system.size(f"{root}/{name}"))
            except FileNotFoundError:
                return None

    def read(self, names: Sequence[str]) -> list[bytes]:
        if not names:
            return []
        with self._opened() as (file_system, root):
            contents = file_system.cat([f"{root}/{name}" for name in names])  # all at once
            found = {_name(path): content for path, content in contents.items()}
        return [found[name] for name in names]

    def write(self, name: str, data: bytes) -> None:
        with self._opened() as (file_system, root):
            try:
                file_system.pipe_file(f"{root}/{name}", data)
            except FileNotFoundError:  # not an object store: folders must be there first
                file_system.makedirs(root, exist_ok=True)
                file_system.pipe_file(f"{root}/{name}", data)

    def remove(self, name: str) -> None:
        with self._opened() as (file_system, root), suppress(FileNotFoundError):
            file_system.rm_file(f"{root}/{name}")

    def sha256(self, name: str) -> str:
        with (
            self._opened() as (file_system, root),
            file_system.open(f"{root}/{name}", "rb") as file,
        ):
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def local_file(self, name: str, sha256: str) -> Path:
        """A copy in :func:`cache_folder`, kept by its hash: stores and processes share it."""
        kept = cache_folder() / f"{sha256}{Path(name).suffix}"
        if not kept.is_file():
            with atomic_write(kept) as temporary:
                with self._opened() as (file_system, root):
                    file_system.get_file(f"{root}/{name}", str(temporary))
                if _sha256(temporary) != sha256:
                    raise StoreError(f"{self.url}/{name}: damaged, its hash is not the recorded")
        return kept

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, str]]:
        """The file system, of this process, and the path in it; says in what a call failed."""
        file_system, root = _file_system(self.url)
        try:
            yield file_system, root.rstrip("/")
        except StoreError:
            raise
        except Exception as error:  # each file system raises types of its own
            raise StoreError(
                f"{self.url}: cannot be reached ({type(error).__name__}: {error}); check the "
                "address, the connection and the credentials"
            ) from error


def cache_folder() -> Path:
    """Where copies of remote shards are kept: ``VAVL_CACHE``, by default ``~/.cache/vavl``.

    Nothing is ever removed from it; all of it can be deleted when nothing reads from it.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vavl"
    return Path(os.environ.get("VAVL_CACHE") or default)


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        file_system, root = url_to_fs(url)  # fsspec keeps one for each process
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{url}: expected a path or an address that fsspec knows ({error})"
        ) from error
    return file_system, root


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
