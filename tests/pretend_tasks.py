"""A task that does what the clip says, for what no real clip does at will."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from typing import Any

from vavl.service.tasks import PredictClip, Progress, Stopped


class PretendClip(PredictClip):
    """``sleep 3`` takes three seconds, ``hang`` does not listen, ``die`` ends the process."""

    def run(self, recognizer: Any, parent: Connection) -> dict[str, bytes]:
        word, *number = self.path.read_text().split()
        if word == "die":
            os._exit(9)
        if word == "raise":
            raise RuntimeError("a defect")
        if word == "hang":
            time.sleep(60)
        for step in range(round(20 * float(number[0]))):
            if parent.poll():
                raise Stopped
            parent.send(Progress(step / 20, float(number[0])))
            time.sleep(0.05)
        return {"json": b'{"name": "pretend"}', "csv": b"name\n"}
