"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vavl.errors import StoreError

LOCK_FILE = ".lock"
"""It may stay in a folder that nobody works in: only the system knows who holds it."""


@contextmanager
def alone(folder: Path, refusal: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Keeps other processes out of a folder, made where missing, as far as they ask for it, too.

    The system lets go of the lock when the process ends, however that happens.

    Args:
        folder: What is to be changed by one process at a time.
        refusal: What to say where another process is there.
        wait_s: How long to wait for it to go.

    Raises:
        StoreError: Another process is there: ``FOLDER: REFUSAL``.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with alone(folder, "somebody writes here"):
        ...     with alone(folder, "somebody writes here"):
        ...         pass
        Traceback (most recent call last):
        vavl.errors.StoreError: ...: somebody writes here
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise StoreError(f"{folder}: {refusal}") from None
    try:
        yield
    finally:
        lock.release()
