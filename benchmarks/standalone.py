"""What the standalone export of `compact` costs, and how fast its graphs answer; prints JSON.

python benchmarks/standalone.py --exports 3

Each export runs in a process of its own, whose CPU seconds count, from the start of Python to its
end. Then one voice of 4 s, with and without 50 pictures of a face, one thread: opened graphs beside
vavl's own networks on the same samples and crops, in turns.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import interleaved, print_report, ratios, seconds, spread

import vavl
from vavl.export.standalone import PROBABILITIES, drawn_faces
from vavl.features.compact_face import LUMA
from vavl.inference.windows import Window
from vavl.system.onnx import open_session
from vavl.types import Modality


def cpu_s() -> float:
    """CPU seconds of the child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def exported(out: Path, *options: str) -> float:
    """Exports in a process of its own; returns its CPU seconds."""
    before = cpu_s()
    command = [sys.executable, "-m", "vavl", "export", "compact", "--out", str(out), *options]
    subprocess.run(command, check=True, capture_output=True)
    return cpu_s() - before


def alternatives(
    recognizer: vavl.Recognizer, session: Any, media: dict[str, Any]
) -> dict[str, Callable[[], Any]]:
    """The same answer by vavl and by a graph."""
    nothing = Window(0.0, 4.0, np.zeros(0, np.float32), ())
    reader = recognizer.reader

    def by_vavl() -> Any:
        features = {}
        if "waveform" in media:
            sound = media["waveform"][0]
            features[Modality.ACOUSTIC] = reader.acoustic_extractor.extract(sound, is_speech=True)
        if "faces" in media:
            grey = (media["faces"] @ LUMA).round().astype(np.uint8)
            features[Modality.VISUAL] = reader.visual_extractor.embedder.embed(grey)
        return recognizer.predict_window(nothing, features=features)

    return {"vavl": by_vavl, "graph": lambda: session.run([PROBABILITIES], media)}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exports", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="calls in a repeat, in turns")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    voice = rng.normal(0, 0.1, (1, 64_000)).astype(np.float32)
    faces = drawn_faces(rng, 50)
    results: dict[str, Any] = {"export_cpu_s": {}, "bytes": {}, "open_s": {}, "latency_ms": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for name, flags in (("of features", ()), ("standalone", ("--standalone",))):
            folders = [Path(scratch) / f"{name}-{number}" for number in range(options.exports)]
            results["export_cpu_s"][name] = spread([exported(out, *flags) for out in folders])
        recognizer = vavl.load()
        for use, media in (
            ("acoustic", {"waveform": voice}),
            ("visual", {"faces": faces}),
            ("audiovisual", {"waveform": voice, "faces": faces}),
        ):
            content = (folders[-1] / f"{use}.onnx").read_bytes()
            results["bytes"][use] = len(content)
            results["open_s"][use] = seconds(lambda c=content, u=use: open_session(c, u, 1))
            times = interleaved(
                alternatives(recognizer, open_session(content, use, 1), media),
                repeats=options.repeats,
                calls=options.calls,
                warm_up=2,
            )
            results["latency_ms"][use] = {
                **{n: spread([1e3 * t for t in ts]) for n, ts in times.items()},
                "vavl_over_graph": ratios(times["vavl"], times["graph"]),
            }
    print_report("standalone", vars(options), results=results)


if __name__ == "__main__":
    main()
