"""A prediction that dies; not in a test, which the actors of Ray cannot import."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vavl.inference.files import ClipFiles
from vavl.inference.many import _PredictionJob
from vavl.types import Prediction


class MortalJob(_PredictionJob):
    """Notes each clip that it begins in a file; kills its process so many times at some."""

    def __init__(self, *args: Any, log: Path, deaths: Mapping[str, int], **options: Any) -> None:
        super().__init__(*args, **options)
        self.log = log
        self.deaths = deaths

    def __call__(self, clip: ClipFiles) -> Prediction:
        with self.log.open("a") as file:
            file.write(f"{clip.name} {os.getpid()}\n")
        if self.begun().count(clip.name) <= self.deaths.get(clip.name, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(clip)

    def begun(self) -> list[str]:
        """Names of the clips that were begun, in their order."""
        return [line.split()[0] for line in self.log.read_text().splitlines()]
