"""The order that people put numbered names in."""

from __future__ import annotations

import re


def natural_key(text: str) -> list[tuple[int, str]]:
    """Key that sorts texts with their numbers by value; spelling decides where that does not.

    Example:
        >>> sorted(["fold-10", "fold-9", "fold-09"], key=natural_key)
        ['fold-09', 'fold-9', 'fold-10']
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]
