"""Where a feature store lies: a folder of this machine, or an address of an object store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vavl.errors import InputError, StoreError
from vavl.system.atomic import atomic_write, remove_leftovers

SCHEMES = {
    **dict.fromkeys(("file", "local", "memory"), "this machine"),
    **dict.fromkeys(("s3", "s3a"), "an object store of Amazon's kind"),
    **dict.fromkeys(("gs", "gcs"), "Google Cloud Storage"),
    **dict.fromkeys(("abfs", "abfss", "az"), "Azure Blob Storage"),
    "hf": "the Hugging Face hub",
    **dict.fromkeys(("http", "https"), "a server of the web, which is read alone"),
}
"""How addresses may begin, and what they name. fsspec knows more, some of which run programs, or
ask hosts that a file names."""

_READ_ONLY = ("http", "https")


@dataclass(frozen=True)
class StoreFolder:
    """The files of one folder, by their names; it need not exist. Can be pickled."""

    address: str
    """Absolute path, or address."""
    is_local: bool
    """Whether the files lie on this machine, where reading them whole is cheap."""

    def __str__(self) -> str:
        return self.address

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same files."""
        with self._opened() as (file_system, _):
            protocols = file_system.protocol
        return "memory" not in ([protocols] if isinstance(protocols, str) else protocols)

    def prepare(self) -> None:
        """Makes the folder if there is none, and removes what killed writers left half written."""
        scheme = self.address.partition("://")[0]
        if not self.is_local and scheme in _READ_ONLY:
            raise InputError(
                f"{self}: expected an address that can be written to, got {SCHEMES[scheme]}"
            )
        if not self.is_local:
            return  # folders come with their first file, and nothing is written beside its place
        folder = Path(self.address)
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder}: expected a folder for the features, got a file")
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, in the order of their names; none where there is no folder."""
        with self._opened() as (file_system, root):
            file_system.invalidate_cache(root)  # another process may have written meanwhile
            try:
                entries = file_system.ls(root, detail=True)
            except FileNotFoundError:
                return {}
        # A link to a file is neither a folder nor a file.
        found = {e["name"]: e["size"] for e in entries if e["type"] != "directory"}
        return {name.rsplit("/", 1)[-1]: size for name, size in sorted(found.items())}

    def size(self, name: str) -> int | None:
        """Bytes of one file, or None where there is none."""
        with self._opened() as (file_system, root):
            file_system.invalidate_cache(root)
            try:
                return int(file_system.size(f"{root}/{name}"))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Contents of files that are there, fetched all at once."""
        with self._opened() as (file_system, root):
            contents = file_system.cat_ranges([f"{root}/{name}" for name in names], None, None)
            for content in contents:
                if isinstance(content, Exception):
                    raise content
        return list(contents)

    def write(self, name: str, data: bytes) -> None:
        """Writes or replaces a file.

        A file of this machine is whole or not there, and so is one in an object store, where one
        call puts it. Elsewhere a broken connection may leave a part, which its sidecar gives away.
        """
        if self.is_local:
            with atomic_write(Path(self.address, name)) as temporary:
                temporary.write_bytes(data)
            return
        with self._opened() as (file_system, root):
            try:
                file_system.pipe_file(f"{root}/{name}", data)
            except FileNotFoundError:  # not an object store: folders must be there first
                file_system.makedirs(root, exist_ok=True)
                file_system.pipe_file(f"{root}/{name}", data)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with self._opened() as (file_system, root), suppress(FileNotFoundError):
            file_system.rm_file(f"{root}/{name}")

    def sha256(self, name: str) -> str:
        """Hash of a file; reads it all."""
        with self._opened() as (file_system, root), file_system.open(f"{root}/{name}") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def local_file(self, name: str, sha256: str) -> Path:
        """A file of this machine with the content of a file that never changes.

        A file from elsewhere is copied into :func:`cache_folder`, where its hash names it: a copy
        is fetched once for all stores and processes. (The caches of fsspec name copies by their
        address. They would go on with an old copy of a shard that was written anew, and would not
        notice a damaged one.)

        Raises:
            StoreError: Its hash is not ``sha256``: of a file of this machine when this process
                first reads it, of a copy when it is fetched.
        """
        if self.is_local:
            path = Path(self.address, name)
            state = path.stat()
            if _hash_once(path, state.st_size, state.st_mtime_ns) != sha256:
                raise StoreError(f"{path}: damaged, its hash is not the recorded one")
            return path
        kept = cache_folder() / f"{sha256}{Path(name).suffix}"
        if not kept.is_file():
            with atomic_write(kept) as temporary:
                with self._opened() as (file_system, root):
                    file_system.get_file(f"{root}/{name}", str(temporary))
                with temporary.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != sha256:
                    raise StoreError(f"{self}/{name}: damaged, its hash is not the recorded one")
        return kept

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, str]]:
        """The file system, of this process, and the path in it; says where a call failed."""
        if self.is_local:  # not to be read as an address: it may hold "::"
            from fsspec.implementations.local import LocalFileSystem

            yield LocalFileSystem(), self.address.rstrip("/")
            return
        file_system, root = _file_system(self.address)
        try:
            yield file_system, root.rstrip("/")
        except Exception as error:  # each file system raises types of its own
            raise StoreError(
                f"{self}: cannot be reached ({type(error).__name__}: {error}); check the "
                "address, the connection and the credentials"
            ) from error


def open_folder(path: str | os.PathLike[str]) -> StoreFolder:
    """The folder at a path or an address such as ``s3://bucket/stores/logmel``; it need not exist.

    Raises:
        InputError: The address is of a kind that is not followed (:data:`SCHEMES`), or the package
            for it (``s3fs``, ...) is not installed.

    Example:
        >>> folder = open_folder("memory://doctest")
        >>> folder.write("a.txt", b"abc")
        >>> folder.sizes(), folder.read(["a.txt"])
        ({'a.txt': 3}, [b'abc'])
    """
    text = os.fspath(path)
    if "://" not in text:
        return StoreFolder(str(Path(text).absolute()), is_local=True)
    scheme = text.partition("://")[0]
    if scheme not in SCHEMES or "::" in text:
        what = "an address within another" if "::" in text else f"{scheme}://"
        raise InputError(
            f"{text}: expected a folder, or an address that begins with "
            f"{', '.join(f'{name}://' for name in SCHEMES)}; got {what}, which is not followed"
        )
    file_system, root = _file_system(text)
    from fsspec.implementations.local import LocalFileSystem

    if type(file_system) is LocalFileSystem:  # file://
        return StoreFolder(str(Path(root)), is_local=True)
    return StoreFolder(text, is_local=False)


@lru_cache(maxsize=65_536)
def _hash_once(path: Path, _size: int, _time_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where copies of remote shards are kept: ``VAVL_CACHE``, by default ``~/.cache/vavl``.

    Nothing is ever removed from it; all of it can be deleted when nothing reads from it.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vavl"
    return Path(os.environ.get("VAVL_CACHE") or default)


def _file_system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # here, since predicting a clip opens no store

    try:
        file_system, root = url_to_fs(address)  # fsspec keeps one for each process
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{address}: expected a path or an address that fsspec knows ({error})"
        ) from error
    return file_system, root
