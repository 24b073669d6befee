"""The revision of a working tree, read from the files of git as data.

The program ``git`` is not run: the configuration of a repository can name programs that it starts,
and a folder may have come from anywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HASH = re.compile(r"[0-9a-f]{40}")
_LONGEST_TEXT = 1 << 20
_LARGEST_INDEX = 1 << 26
_REFERENCES = 5
"""One may name another so many times."""
_ENTRY = struct.Struct(">10I20sH")
"""Times of change and of content (s, ns), device, inode, mode, user, group, size; hash; flags."""


def git_revision(folder: Path) -> str | None:
    """The commit that is checked out around a folder; None where no repository is.

    A ``+`` behind it says that a file of the commit has changed, is gone, or is about to be
    committed. New files that git was not told of do not count. Where the index is of a format that
    is not read, ``?`` stands in its place.

    Source: gitrepository-layout(5) and gitformat-index(5).
    """
    try:
        for root in (folder.absolute(), *folder.absolute().parents):
            if (found := _git_folder(root / ".git")) is not None:
                commit = _commit(found)
                return None if commit is None else commit + _changes(root, found / "index")
    except (OSError, ValueError, struct.error):
        pass  # not to be read, or damaged: nothing is known
    return None


def _git_folder(path: Path) -> Path | None:
    """Where the files of git lie: of a second working tree elsewhere, which a file names."""
    if path.is_dir():
        return path
    if not path.is_file():
        return None
    return path.parent / _text(path).removeprefix("gitdir: ")


def _commit(git: Path) -> str | None:
    """The commit of ``HEAD``, by way of the names it has; None before the first one."""
    shared = git / _text(git / "commondir") if (git / "commondir").is_file() else git
    text = _text(git / "HEAD")
    for _ in range(_REFERENCES):
        if _HASH.fullmatch(text):
            return text
        name = text.removeprefix("ref: ")
        if not name.startswith("refs/") or ".." in name:
            return None
        places = [place / name for place in (git, shared) if (place / name).is_file()]
        text = _text(places[0]) if places else _packed(shared / "packed-refs", name)
    return None


def _packed(path: Path, name: str) -> str:
    lines = _text(path).splitlines() if path.is_file() else []
    return next((line[:40] for line in lines if line[41:] == name), "")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_LONGEST_TEXT).decode(errors="replace").strip()


def _changes(root: Path, index: Path) -> str:
    if not index.is_file():
        return "+"
    with index.open("rb") as file:
        content = file.read(_LARGEST_INDEX + 1)
    signature, version, count = struct.unpack_from(">4sII", content)
    if signature != b"DIRC" or version not in (2, 3) or len(content) > _LARGEST_INDEX:
        return "?"
    position = 12
    for _ in range(count):
        fields = _ENTRY.unpack_from(content, position)
        flags = fields[11]
        name_at = position + _ENTRY.size + (2 if flags & 0x4000 else 0)
        end = content.index(b"\0", name_at)
        if _differs(root, content[name_at:end], fields):
            return "+"
        position += (end - position) // 8 * 8 + 8
    return "+" if _is_staged(content[position:-20]) else ""


def _differs(root: Path, name: bytes, fields: tuple[Any, ...]) -> bool:
    """Whether a file is no longer as its entry of the index says."""
    kind, size, expected = fields[6] >> 12, fields[9], fields[10]
    if kind == 0xE:  # another repository within, which has a revision of its own
        return False
    if fields[11] & 0x3000:  # a conflict
        return True
    path = root / os.fsdecode(name)
    if ".." in path.parts or path == root:
        raise ValueError("a name that leads out of the working tree")
    try:
        state = path.lstat()
    except OSError:
        return True
    written = divmod(state.st_mtime_ns, 10**9)
    if (*written, state.st_size & 0xFFFFFFFF) == (fields[2] & 0xFFFFFFFF, fields[3], size):
        return False
    if size and (state.st_size & 0xFFFFFFFF) != size:  # 0 where git itself wants to look again
        return True
    if stat.S_ISLNK(state.st_mode):
        content = os.fsencode(path.readlink())
    elif stat.S_ISREG(state.st_mode):
        content = path.read_bytes()
    else:
        return True
    found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return found.digest() != expected


def _is_staged(extensions: bytes) -> bool:
    """Whether the index holds what is not committed: git then forgets the tree's hash."""
    for name, content in _extensions(extensions):
        if name == b"TREE":
            return content[:3] == b"\0-1"
    return True


def _extensions(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    while len(content) >= 8:
        name, size = struct.unpack_from(">4sI", content)
        yield name, content[8 : 8 + size]
        content = content[8 + size :]
