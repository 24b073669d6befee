"""File names: suffixes of media files, and the order of numbered names."""

from __future__ import annotations

import re

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff"})

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".webm", ".flv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts"}
)

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
"""Of the frames in a folder."""


def natural_key(text: str) -> list[tuple[int, str]]:
    """Key that sorts texts with their numbers by value; spelling decides where that does not.

    Example:
        >>> sorted(["fold-10", "fold-9", "fold-09"], key=natural_key)
        ['fold-09', 'fold-9', 'fold-10']
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]
