"""How far features of `whisper-base` move in half precision, and what `compact` says; prints JSON.

python benchmarks/precision.py RAVDESS_AUDIO --clips 100

Distances are root mean squares over a clip: over those of the hidden states, and over those of what
changes in time, for each layer; the median over the clips and the largest. Beside them the answers
of the model of the package from sound alone: in how many clips another category is the most
probable one, and how far a probability moves.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timing import print_report, spread

import vavl
from vavl.features.registry import Extractor, rebuild_extractor
from vavl.features.whisper import WIDTH
from vavl.types import FeatureSpec, Modality


def in_precision(spec: FeatureSpec, precision: str, device: str) -> Extractor:
    """The same extractor, computing in another precision."""
    parameters = {**spec.parameters, "precision": precision}
    if precision == "float32":
        del parameters["precision"]
    return rebuild_extractor(replace(spec, parameters=parameters), device=device)


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.square(values.astype(np.float64)).mean()))


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with clips of sound")
    parser.add_argument("--clips", type=int, default=100, help="at most, evenly spread")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = sorted(path for path in options.folder.rglob("*.*") if path.is_file())
    clips = found[:: max(len(found) // options.clips, 1)][: options.clips]
    recognizer = vavl.load(device=options.device)
    spec = recognizer.features[Modality.ACOUSTIC]
    layers = spec.parameters["layer"]
    exact: dict[Path, tuple[NDArray[np.float32], vavl.Prediction]] = {}
    results: dict[str, Any] = {}
    for precision in ["float32", *options.precisions]:
        extractor = in_precision(spec, precision, options.device)
        recognizer.reader.__dict__["acoustic_extractor"] = extractor
        moved: dict[str, list[float]] = defaultdict(list)
        others, largest = [], 0.0
        for path in clips:
            features, answer = extractor.extract_file(path), recognizer.predict(path)
            if precision == "float32":
                exact[path] = features, answer
                continue
            expected, said = exact[path]
            for number, layer in enumerate(layers):
                columns = slice(number * WIDTH, (number + 1) * WIDTH)
                there, error = expected[:, columns], (features - expected)[:, columns]
                moved[f"layer {layer}, of the values"].append(rms(error) / rms(there))
                deviation = rms(there - there.mean(axis=0))
                moved[f"layer {layer}, of the deviation over time"].append(rms(error) / deviation)
            if answer.label != said.label:
                others.append(path.name)
            differences = (
                abs(answer.probabilities[name] - value)
                for name, value in said.probabilities.items()
            )
            largest = max(largest, *differences)
        if precision != "float32":
            results[precision] = {
                "features": {name: spread(values) for name, values in moved.items()},
                "other_answers": others,
                "largest_change_of_a_probability": largest,
            }
    print_report("precision", vars(options), clips=len(clips), results=results)


if __name__ == "__main__":
    main()
