"""Latency and throughput of `small` in torch, ONNX and ONNX with 8 bits; prints JSON.

python benchmarks/export.py --repeats 9

One clip of 4 s at a time, as features (200 acoustic steps of 512 at 50 Hz, and 50 visual steps of
256), with one and with two threads; and batches. All alternatives run in turns in one process.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import interleaved, print_report, ratios, spread

import vavl
from vavl.export import export_model
from vavl.inference.exported import PREDICTION, ExportedModel
from vavl.types import Modality

DIMS = {Modality.ACOUSTIC: 512, Modality.VISUAL: 256}
STEPS = {Modality.ACOUSTIC: 200, Modality.VISUAL: 50}
CATEGORIES = ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")


def batch(clips: int, streams: tuple[Modality, ...]) -> dict[str, torch.Tensor]:
    """Random features of full length."""
    return {str(s): torch.randn(clips, STEPS[s], DIMS[s]) for s in streams}


def alternatives(
    model: vavl.VAVL, exported: dict[str, Path], threads: int, inputs: dict[str, torch.Tensor]
) -> dict[str, Callable[[], Any]]:
    """The same prediction by each of the alternatives; the graphs with and without our checks."""

    def eager() -> Any:
        with torch.inference_mode():
            return model(**inputs).prediction

    found: dict[str, Callable[[], Any]] = {"torch": eager}
    use = Modality.AUDIOVISUAL if len(inputs) > 1 else Modality(next(iter(inputs)))
    arrays: dict[str, Any] = {}
    for name, x in inputs.items():
        arrays |= {name: x.numpy(), f"{name}_mask": np.ones(x.shape[:2], bool)}
    for name, folder in exported.items():
        exported_model = ExportedModel.from_folder(folder, threads=threads)
        found[name] = lambda model=exported_model: model(**inputs).prediction
        graph = exported_model.graphs[use]
        found[f"{name}, graph alone"] = lambda graph=graph: graph.run([PREDICTION], arrays)
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--calls", type=int, default=20, help="calls in a repeat, in turns")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    torch.manual_seed(0)
    model = vavl.VAVL(
        vavl.VAVLConfig.preset(
            options.preset,
            acoustic_dim=DIMS[Modality.ACOUSTIC],
            visual_dim=DIMS[Modality.VISUAL],
            categories=CATEGORIES,
        )
    ).eval()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model"
        model.save_pretrained(source)
        exported = {"onnx": Path(scratch) / "onnx", "onnx int8": Path(scratch) / "int8"}
        export_model(source, exported["onnx"])
        export_model(source, exported["onnx int8"], quantize="int8")
        for threads in options.threads:
            torch.set_num_threads(threads)
            for name, clips, streams in (
                ("acoustic", 1, (Modality.ACOUSTIC,)),
                ("audiovisual", 1, (Modality.ACOUSTIC, Modality.VISUAL)),
                ("acoustic", options.batch, (Modality.ACOUSTIC,)),
            ):
                inputs = batch(clips, streams)
                times = interleaved(
                    alternatives(model, exported, threads, inputs),
                    repeats=options.repeats,
                    calls=options.calls if clips == 1 else 3,
                    warm_up=3,
                )
                results[f"{name}, {clips} clips, {threads} threads"] = {
                    "latency_ms": {n: spread([1e3 * t for t in ts]) for n, ts in times.items()},
                    "torch_over": {
                        n: ratios(times["torch"], ts) for n, ts in times.items() if n != "torch"
                    },
                    "clips_per_s": {n: clips / spread(ts)["median"] for n, ts in times.items()},
                }
    print_report("export", vars(options) | {"dims": DIMS, "steps": STEPS}, results=results)


if __name__ == "__main__":
    main()
