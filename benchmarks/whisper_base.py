"""Time of `whisper-base` on one thread, and beside it of the same layers by `hf:`; prints JSON.

python benchmarks/whisper_base.py [WHISPER_BASE_FOLDER]

Noise of 3, 10 and 30 s, layers 2 to 4, in turns. Processor time counts besides the time of the
clock, since other work on the machine hardly changes it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import print_report, spread

from vavl.features.speech_encoder import SpeechEncoder
from vavl.features.waveform import WaveformExtractor
from vavl.features.whisper import WhisperBase
from vavl.media.audio import SAMPLING_RATE_HZ

LAYERS = (2, 3, 4)
DURATIONS_S = (3, 10, 30)
START = """
import time
started = time.perf_counter()
import torch
from vavl.features.registry import build_extractor
imported = time.perf_counter()
build_extractor("acoustic", "whisper-base").load()
print(imported - started, time.perf_counter() - imported)
"""


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Time of one call: by the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - clock, time.process_time() - processor


def timed(extractors: dict[str, WaveformExtractor], duration_s: int, repeats: int) -> Any:
    """Real-time factors of the extractors on a clip, in turns."""
    samples = np.random.default_rng(0).standard_normal(duration_s * SAMPLING_RATE_HZ)
    clip = samples.astype(np.float32)
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in extractors}
    for number in range(repeats + 1):
        for name, extractor in extractors.items():
            taken = seconds(lambda extractor=extractor: extractor.extract(clip))
            if number:  # the first one loads the weights
                turns[name].append(taken)
    return {
        name: {
            kind: spread([value / duration_s for value in values])
            for kind, values in zip(("clock", "processor"), zip(*taken, strict=True), strict=True)
        }
        for name, taken in turns.items()
    }


def start(repeats: int) -> dict[str, dict[str, float]]:
    """Seconds until everything is imported in a fresh process, and until the weights are read."""
    runs = [
        subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
        for _ in range(repeats)
    ]
    imports, loads = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return {"imports": spread(imports), "weights": spread(loads)}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="Whisper-base in the layout of transformers")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    extractors: dict[str, WaveformExtractor] = {"whisper-base": WhisperBase(layer=LAYERS)}
    if arguments.folder:
        extractors["hf"] = SpeechEncoder(arguments.folder, layer=LAYERS)
    print_report(
        "whisper-base",
        vars(arguments),
        real_time_factors={f"{s} s": timed(extractors, s, arguments.repeats) for s in DURATIONS_S},
        start_s=start(5),
    )


if __name__ == "__main__":
    main()
