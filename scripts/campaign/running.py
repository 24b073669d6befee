"""Damages files by a seed, has a process use them, and counts how that ends."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import vavl
from campaign.mutating import damaged, odd_json
from campaign.seeds import write_media, write_model, write_profile, write_store
from vavl.data.partition import Partition
from vavl.data.speakers import SpeakerProfile
from vavl.data.store import FeatureStore
from vavl.errors import VavlError
from vavl.system.revision import git_revision

LONGEST_S = 60.0
MOST_MB = 1500
KINDS = ("media", "model", "store", "profile")


def use_media(path: Path) -> None:
    """Predicts a file in every form at once."""
    json.dumps(_recognizer().predict(path, timeline=True).to_dict(), allow_nan=False)


def use_model(path: Path) -> None:
    """Loads a model folder, and predicts with it."""
    recognizer = vavl.load(path.parent)
    prediction = recognizer.predict(acoustic=np.ones((9, 1536), np.float32))
    json.dumps(prediction.to_dict(), allow_nan=False)
    for modality in recognizer.reader.specs:
        getattr(recognizer.reader, f"{modality}_extractor")


def use_store(path: Path) -> None:
    """Reads a store and the partition beside it."""
    Partition.load(path.parent / "partition.json")
    store = FeatureStore.open(path.parent)
    for name in store.ids:
        assert np.isfinite(store.read(name)).all()


def use_profile(path: Path) -> None:
    """Predicts with a profile."""
    profile = SpeakerProfile.load(path)
    found = _recognizer().predict(acoustic=np.ones((9, 1536), np.float32), speaker=profile)
    json.dumps(found.to_dict(), allow_nan=False)


USES: dict[str, Callable[[Path], None]] = {
    "media": use_media,
    "model": use_model,
    "store": use_store,
    "profile": use_profile,
}

_loaded: list[vavl.Recognizer] = []


def _recognizer() -> vavl.Recognizer:
    if not _loaded:
        _loaded.append(vavl.load())
    return _loaded[0]


def work(connection: Connection) -> None:
    """In a process of its own: uses one file after another, and says how each ended."""
    _recognizer()
    while (task := connection.recv()) is not None:
        kind, path = task
        try:
            USES[kind](path)
            outcome, reason = "answer", ""
        except VavlError as error:
            outcome, reason = "error", str(error)
        except BaseException as error:
            outcome, reason = "defect", f"{type(error).__name__}: {error}"
        connection.send((outcome, reason[:300], _peak_mb()))


def _peak_mb() -> float:
    """The most memory of this process. Linux counts what its parent had in ``ru_maxrss``."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Worker:
    """A process that uses files; another takes its place when it dies or hangs."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def use(self, kind: str, path: Path) -> tuple[str, str, float]:
        """How it ended, why, and the most memory in MB that was taken so far."""
        self._connection.send((kind, path))
        try:
            if self._connection.poll(LONGEST_S):
                return self._connection.recv()
            outcome = "hang", f"nothing after {LONGEST_S:g} s", 0.0
        except EOFError:
            self._process.join()
            outcome = "death", f"exit code {self._process.exitcode}", 0.0
        self._process.kill()
        self._begin()
        return outcome

    def end(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(10)
        self._process.kill()


def damaged_copy(kind: str, intact: Path, folder: Path, seed: int, number: int) -> Path:
    """A copy of an intact file or folder, in which a file is damaged; the damaged file."""
    random = np.random.default_rng((seed, KINDS.index(kind), number))
    if intact.is_dir():
        copy = Path(shutil.copytree(intact, folder / f"{kind}-{number}"))
        files = sorted(p for p in copy.iterdir() if p.suffix in (".json", ".safetensors"))
        path = files[int(random.integers(len(files)))]
    else:
        path = Path(shutil.copy(intact, folder / f"{number}-{intact.name}"))
    content = path.read_bytes()
    as_json = path.suffix == ".json" and random.random() < 0.8
    path.write_bytes((odd_json if as_json else damaged)(content, random))
    return path


def run(seed: int, seconds: float, most: int | None = None, keep: Path | None = None) -> Any:
    """Damages and uses files, kind by kind in turn, until the time or the number is reached."""
    began_s, number = time.monotonic(), 0
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    findings: list[dict[str, Any]] = []
    worker, peak_mb, longest_s = Worker(), 0.0, 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        media = write_media(folder)
        intact = {
            "model": write_model(folder),
            "store": write_store(folder),
            "profile": write_profile(folder),
        }
        try:
            while time.monotonic() - began_s < seconds and (most is None or number < most):
                kind = KINDS[number % len(KINDS)]
                of = media[number // len(KINDS) % len(media)] if kind == "media" else intact[kind]
                path = damaged_copy(kind, of, folder, seed, number)
                asked_s = time.monotonic()
                outcome, reason, now_mb = worker.use(kind, path)
                longest_s = max(longest_s, time.monotonic() - asked_s)
                if now_mb > max(MOST_MB, peak_mb):
                    outcome, reason = "memory", f"{now_mb:.0f} MB"
                peak_mb = max(peak_mb, now_mb)
                counts[kind][outcome] += 1
                if outcome not in ("answer", "error"):
                    name = path.name if kind != "model" else f"model/{path.name}"
                    findings.append({"kind": kind, "number": number, "file": name, outcome: reason})
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        shutil.copy(path, keep / f"{kind}-{number}-{path.name}")
                copy = path.parent if kind in ("model", "store") else path
                shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
                number += 1
        finally:
            worker.end()
    return {
        "seed": seed,
        "revision": git_revision(Path.cwd()),
        "version": vavl.__version__,
        "seconds": round(time.monotonic() - began_s),
        "tried": {kind: {"all": sum(c.values()), **c} for kind, c in counts.items()},
        "longest_s": round(longest_s, 1),
        "peak_mb": round(peak_mb),
        "findings": findings,
    }
