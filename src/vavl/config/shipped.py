"""Experiments and studies that come with the package, found by name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from vavl.errors import InputError, did_you_mean

Kind = Literal["experiments", "studies"]

COMMAND = "#     "
"""What a command begins with in the comment at the head of a file, for a user to type."""


def shipped(kind: Kind) -> dict[str, Path]:
    """The files of a kind by name.

    Example:
        >>> "folder" in shipped("experiments"), "ablation" in shipped("studies")
        (True, True)
    """
    return {file.stem: file for file in sorted((Path(__file__).parent / kind).glob("*.toml"))}


def find_shipped(name: str, kind: Kind) -> Path | None:
    """The file of that name, or of the paper's recipe for a corpus of that name; None without.

    Example:
        >>> find_shipped("crema_d", "studies").name
        'paper-crema-d.toml'
    """
    known = shipped(kind)
    return known.get(name) or known.get(f"paper-{name.replace('_', '-')}")


def find_toml(given: Path | str, kind: Kind, argument: str, folder: Path = Path()) -> Path:
    """The TOML file that is meant: one of the user's, with or without its ending, or a shipped one.

    The user's come first, but for an experiment where a study is meant that comes with vavl:
    ``vavl init ravdess`` writes one of the same name.

    Args:
        given: A path or a name, e.g. ``mine.toml``, ``mine`` or ``ablation``.
        kind: What it is to be.
        argument: What an error calls it.
        folder: Where the user's files are looked for, by default the working directory.

    Raises:
        InputError: There is neither.
    """
    path = folder / given
    found = find_shipped(str(given), kind)
    for own in (path, path.with_name(f"{path.name}.toml")) if path.name else ():
        if own.is_file() and not (found and kind == "studies" and _is_experiment(own)):
            return own
    if found is None:
        names = ", ".join(shipped(kind))
        hint = did_you_mean(path.stem, shipped(kind))
        raise InputError(
            f"{argument}: expected a TOML file, or one of {names}; found none at {path}{hint}"
        )
    return found


def _is_experiment(file: Path) -> bool:
    """Whether a file has what experiments have and studies have not."""
    try:
        return "data" in tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # whoever reads it says what is wrong


def commands_of(text: str) -> list[str]:
    """What the comment at the head of a file says is to be typed, in its order.

    Example:
        >>> commands_of(shipped("experiments")["synthetic"].read_text())[-2:]
        ['vavl train synthetic', 'vavl evaluate runs/synthetic-study']
    """
    lines = text.splitlines()
    return [line.removeprefix(COMMAND) for line in lines if line.startswith(COMMAND)]
