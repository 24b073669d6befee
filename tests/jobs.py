"""Jobs for worker processes, which cannot import them from a test."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from vavl.system.notices import say_once


class Sleeper:
    """Sleeps for as many seconds as the item says."""

    def load(self) -> None:
        """Nothing to load."""

    def __call__(self, item: float) -> float:
        time.sleep(item)
        return item


class Speaker:
    """Says once that it is there."""

    def load(self) -> None:
        say_once(logging.getLogger(__name__), "spoken")

    def __call__(self, item: int) -> int:
        return item


class Mortal:
    """Ends its process at items below 0; at -2 the first time alone, as for want of memory.

    Args:
        folder: Where it notes what it was at.
        at_start: Whether it never gets ready.
    """

    def __init__(self, folder: Path, *, at_start: bool = False) -> None:
        self.folder = folder
        self.at_start = at_start

    def load(self) -> None:
        if self.at_start:
            os._exit(9)

    def __call__(self, item: int) -> int:
        note = self.folder / str(item)
        first = not note.exists()
        note.touch()
        if item == -1 or (item == -2 and first):
            os._exit(9)
        if item == -3:
            raise MemoryError
        return item
