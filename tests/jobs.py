"""Jobs for worker processes, which cannot import them from a test."""

from __future__ import annotations

import time


class Sleeper:
    """Sleeps for as many seconds as the item says."""

    def load(self) -> None:
        """Nothing to load."""

    def __call__(self, item: float) -> float:
        time.sleep(item)
        return item
