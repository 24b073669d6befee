"""What tests of extraction share; not in a test, which worker processes cannot import."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pretend_remote  # noqa: F401 - makes fsspec know pretend:// and full://, also in workers

from vavl.data.manifest import Manifest, Utterance
from vavl.errors import InputError
from vavl.types import FeatureSpec, Modality

NAMES = [f"clip-{number:02d}" for number in range(10)]
MANY = [f"clip-{number:03d}" for number in range(300)]


@dataclass
class LoggingExtractor:
    """Reads arrays, and notes each clip it reads in a file, so that repeated work shows."""

    log: Path
    delay_s: float = 0.0
    parameters: dict[str, str] = field(default_factory=dict)
    source_field: str = "visual_features_path"

    @property
    def spec(self) -> FeatureSpec:
        return FeatureSpec(Modality.VISUAL, "logging", 2, None, self.parameters)

    def extract_file(self, path: Path, start_s=None, end_s=None) -> np.ndarray:
        with self.log.open("a") as file:
            file.write(f"{path.stem} {os.getpid()}\n")
        time.sleep(self.delay_s)
        match path.stem:
            case "crash":
                raise RuntimeError("broken\nin two lines")
            case "nan":
                return np.array([[1.0, np.nan]])
            case "overflow":
                return np.array([[1.0, 7e4]])
            case "wide":
                return np.ones((2, 3))
            case "die":
                os._exit(9)
        return np.load(path)

    def read(self) -> list[str]:
        return [line.split()[0] for line in self.log.read_text().splitlines()]


class WithoutWeights(LoggingExtractor):
    """Cannot load its weights."""

    def load(self) -> None:
        raise InputError("the weights are damaged")


def make_manifest(folder: Path, names: list[str]) -> Manifest:
    utterances = []
    for number, name in enumerate(names):
        np.save(folder / f"{name}.npy", np.full((1 + number % 3, 2), number, np.float32))
        utterances.append(Utterance(name, "test", "ann", visual_features_path=f"{name}.npy"))
    return Manifest(utterances, root=folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@dataclass
class Mortal(LoggingExtractor):
    """Kills its process at the clip ``victim``, the first time."""

    victim: str = ""

    def extract_file(self, path: Path, start_s=None, end_s=None) -> np.ndarray:
        features = super().extract_file(path, start_s, end_s)
        if path.stem == self.victim and self.read().count(path.stem) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return features


def wait_until(condition, job: subprocess.Popen[bytes] | None = None, limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert job is None or job.poll() is None, "the job ended early"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    # An orphan that nobody collects stays listed as a zombie.
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
