"""Peak memory of a training, and of extractions of more and more clips; Linux; prints JSON.

python benchmarks/memory.py --train ravdess \
    --set model.acoustic_subsampling=4
python benchmarks/memory.py --clips 300 600 1200

Each is a process of its own. Its resident memory is what Linux reports at its peak; anonymous
memory and mapped files (libraries, stores) are looked at every 20 ms, and each has its own peak.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
from timing import print_report

FIELDS = {"VmHWM": "resident", "RssAnon": "anonymous", "RssFile": "mapped_files"}
"""Lines of ``/proc/PID/status``, in kB."""

CLIP_S, SAMPLING_RATE_HZ = 3.0, 16_000


def peak_mb(arguments: list[str]) -> dict[str, float]:
    """Peaks of memory of a command of vavl."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vavl", *arguments], stdout=subprocess.DEVNULL
    )
    status = Path(f"/proc/{process.pid}/status")
    peaks = dict.fromkeys(FIELDS.values(), 0)
    while process.poll() is None:
        for line in status.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in FIELDS:
                peaks[FIELDS[name]] = max(peaks[FIELDS[name]], int(value.split()[0]))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"vavl {' '.join(arguments)}: exit code {process.returncode}")
    return {name: round(peak / 1024, 1) for name, peak in peaks.items()}


def write_corpus(folder: Path, clips: int) -> None:
    """Clips of noise with a table of labels."""
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file", "speaker", "category"])
        for index in range(clips):
            name = f"clip-{index:05}.wav"
            rows.writerow([name, f"speaker-{index % 10}", ("happy", "sad")[index % 2]])
            samples = rng.normal(0, 1000, round(CLIP_S * SAMPLING_RATE_HZ)).astype("<i2")
            with wave.open(str(folder / name), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(SAMPLING_RATE_HZ)
                file.writeframes(samples.tobytes())


def extraction(clips: int, acoustic: str) -> dict[str, float]:
    """Peaks of an extraction of so many clips."""
    with tempfile.TemporaryDirectory() as scratch:
        corpus, data, store = (Path(scratch) / name for name in ("corpus", "data", "store"))
        corpus.mkdir()
        write_corpus(corpus, clips)
        peak_mb(["prepare", "folder", str(corpus), "--out", str(data)])
        manifest = str(data / "manifest.parquet")
        return peak_mb(["extract", manifest, "--out", str(store), "--acoustic", acoustic])


def training(config: Path, epochs: int, assignments: list[str], threads: int) -> dict[str, float]:
    """Peaks of a training of one fold."""
    with tempfile.TemporaryDirectory() as scratch:
        overrides = [f"runs_dir={scratch}", f"training.threads={threads}"]
        overrides += [f"training.epochs={epochs}", *assignments]
        return peak_mb(["train", str(config), "--folds", "fold-0", "--set", *overrides])


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, help="an experiment")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the training")
    parser.add_argument("--set", nargs="*", default=[], help="keys of the experiment: KEY=VALUE")
    parser.add_argument("--clips", type=int, nargs="*", default=[], help="clips to extract")
    parser.add_argument("--acoustic", default="logmel", help="extractor")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.train is not None:
        results["training_peak_mb"] = training(
            options.train, options.epochs, options.set, options.threads
        )
    for clips in options.clips:
        results[f"extraction_peak_mb, {clips} clips"] = extraction(clips, options.acoustic)
    print_report("memory", vars(options), results=results)


if __name__ == "__main__":
    main()
