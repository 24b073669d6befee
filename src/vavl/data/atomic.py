"""Files that are either complete or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder, and renames it to ``path`` on success.

    A reader sees the old file or the complete new one, never a part; whatever is raised inside
    leaves the old file alone and removes the temporary one. The folder is made where missing.

    Args:
        path: Where the file shall lie.

    Yields:
        The path to write to.

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
    # Not tempfile.mkstemp: its files are private to their owner, also after the rename. The name
    # does not repeat the target's, which may already be as long as a file system allows.
    temporary = path.parent / f".{secrets.token_hex(8)}.part{path.suffix}"
    try:
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - says what it does; Path.replace is the same call
    finally:
        temporary.unlink(missing_ok=True)
