"""Files that are either complete or not there: written beside their place, then renamed.

A process that is killed while it writes leaves its temporary file. The next process that writes
into the same folder removes it.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import shutil
import socket
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from vavl.errors import StoreError

NOT_TEXT = "backslashreplace"
"""How names of files that are no text are written: their bytes as ``\\udcff``."""
_MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_OLD_S = 3600
"""A temporary file of another machine is left over when nobody has written to it for so long."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder, and renames it to ``path`` on success.

    A reader sees the old file or the complete new one, never a part. An error inside leaves the old
    file alone and removes the temporary one. The folder is made where missing.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with atomic_write(target) as temporary:
        ...     _ = temporary.write_text("complete")
        >>> target.read_text()
        'complete'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.parent, path.suffix)
    try:
        with naming(path):
            yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - says what it does; Path.replace is the same call
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Inside, an error of the system that names no file, as of a full disk, gets this one's name.

    Example:
        >>> with naming(Path("notes.txt")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
            ...
        OSError: [Errno 28] No space left on device: 'notes.txt'
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside ``path``, and renames it to ``path`` on success.

    ``path`` must be empty or not there. An error inside removes the temporary folder.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "results"
        >>> with atomic_folder(target) as temporary:
        ...     _ = (temporary / "notes.txt").write_text("complete")
        >>> [file.name for file in target.iterdir()]
        ['notes.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path.parent)
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            path.rmdir()  # not every system replaces an empty folder
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Gives a folder that this user alone may read, and removes it with all that is in it.

    Example:
        >>> import tempfile
        >>> with scratch_folder(Path(tempfile.mkdtemp())) as folder:
        ...     _ = (folder / "notes.txt").write_text("for now")
        >>> folder.exists()
        False
    """
    temporary = _temporary(parent)
    temporary.mkdir(mode=0o700)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(folder: Path, suffix: str = "") -> Path:
    """A new name in a folder, from which dead processes' temporary files are removed first."""
    _remove_leftovers_once(folder, os.getpid())
    # Not tempfile.mkstemp: its files are private to their owner, also after the rename. The name
    # does not repeat the target's, which may already be as long as a file system allows.
    return folder / f".{_MACHINE}-{os.getpid()}-{secrets.token_hex(8)}.part{suffix}"


@lru_cache(maxsize=4096)
def _remove_leftovers_once(folder: Path, _process: int) -> None:
    """Once per folder and process: a forked process asks again."""
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that dead processes have left in a folder.

    Those of a process of this machine that lives stay. Those of other machines, and of releases
    whose names do not tell the process, go when nobody has written to them for an hour.
    """
    for path in folder.glob(".*.part*"):
        try:
            if not _is_left_over(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        except OSError:
            continue  # another process has just renamed or removed it, or may alone do so


def _is_left_over(path: Path) -> bool:
    machine, *process = path.name.lstrip(".").split("-")
    if machine == _MACHINE and process and process[0].isdigit() and sys.platform != "win32":
        try:
            os.kill(int(process[0]), 0)  # asks whether it lives; on Windows it would end it
        except ProcessLookupError:
            return True
        except OSError:  # it lives and belongs to somebody else
            return False
        return False
    return time.time() - path.stat().st_mtime > _OLD_S


def write_json(path: Path, schema_version: int, content: Mapping[str, Any]) -> None:
    """Writes a JSON object with its schema version, whole or not at all."""
    text = json.dumps({"schema_version": schema_version, **content}, indent=2)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table with its header, whole or not at all."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=NOT_TEXT) as file,
    ):
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def json_object(text: str | bytes) -> dict[str, Any]:
    """An object of JSON that may come from anywhere.

    Raises:
        ValueError: It is no JSON, holds NaN or infinity, which JSON does not have, is nested too
            deep, or is no object.

    Example:
        >>> json_object('{"a": 1}')
        {'a': 1}
    """

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no number of JSON")

    try:
        content = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {type(content).__name__}")
    return content


def read_json(path: Path, schema_version: int) -> dict[str, Any]:
    """Reads what :func:`write_json` wrote, without the schema version.

    Raises:
        StoreError: Missing, damaged, or of another schema version.
    """
    try:
        content = json_object(path.read_bytes())
        found = content.pop("schema_version")
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: missing, or no file of vavl ({error})") from None
    if found != schema_version:
        raise StoreError(
            f"{path}: expected schema version {schema_version}, got {found}; use the vavl release "
            "that wrote it, or a newer one"
        )
    return content
