"""Jobs for worker processes, which cannot import them from a test."""

from __future__ import annotations

import logging
import time

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
