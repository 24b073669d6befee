"""What ONNX and 8 bits do to predictions on unseen speakers; prints JSON.

python benchmarks/quantization.py RAVDESS_FOLDER
python benchmarks/quantization.py --run runs/ravdess-0

The first is about the bundled `compact` and the sound of the 300 clips of fold 0, whose actors it
has not heard; the second about the models of a run, each with its test clips: sound and face, and
each alone. Features are made once; each clip is then predicted by all alternatives in turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import circumstances, interleaved, ratios, spread

import vavl
from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.evaluation.evaluate import run_config
from vavl.export import export_model
from vavl.metrics import accuracy, uar
from vavl.training.experiment import open_stores
from vavl.training.run_folder import folds_of_run
from vavl.types import STREAMS

OF_RAVDESS = {"calm": "neutral", "fearful": "fear", "surprised": "surprise"}
"""Categories of RAVDESS that go by another name in `compact`."""

Clip = tuple[str, dict[str, Any]]
"""Category, and features by modality."""


def of_compact(ravdess: Path) -> list[Clip]:
    """The clips of fold 0, their sound."""
    extractor = vavl.load().reader.acoustic_extractor
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        manifest = prepare_ravdess(ravdess, Path(scratch))
        for clip in manifest:
            path = manifest.path(clip, "audio_path")
            if clip.fold == 0 and path is not None:
                name = OF_RAVDESS.get(str(clip.category), str(clip.category))
                found.append((name, {"acoustic": extractor.extract_file(path)}))
    return found


def of_run(run: Path) -> list[tuple[Path, list[Clip]]]:
    """Each model of a run, and the features of its test clips."""
    config = run_config(run)
    manifest, stores = Manifest.load(config.data.manifest), open_stores(config)
    found = []
    for fold in folds_of_run(run):
        clips = [
            (
                str(manifest.by_id[name].category),
                {str(m): stores[m].read(name) for m in STREAMS if name in stores[m]},
            )
            for name in Partition.load(fold.partition_file).test
        ]
        found.append((fold.path, clips))
    return found


class Comparison:
    """Predictions of the alternatives for the same clips, and how long they took."""

    def __init__(self) -> None:
        self.labels: list[int] = []
        self.probabilities: defaultdict[str, list[list[float]]] = defaultdict(list)
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, recognizers: Mapping[str, vavl.Recognizer], clip: Clip, calls: int) -> None:
        """Has a clip predicted by all."""
        category, features = clip
        predictions: dict[str, Callable[[], vavl.Prediction]] = {
            name: lambda recognizer=recognizer: recognizer.predict(**features)
            for name, recognizer in recognizers.items()
        }
        self.labels.append(recognizers["torch"].categories.index(category))
        for name, predict in predictions.items():
            self.probabilities[name].append(list(predict().probabilities.values()))
        if calls:
            for name, [value] in interleaved(predictions, repeats=1, calls=calls).items():
                self.seconds[name].append(value)

    def results(self) -> dict[str, Any]:
        """Scores of each alternative, and how far it is from torch."""
        expected = np.array(self.probabilities["torch"])
        found = {}
        for name, rows in self.probabilities.items():
            apart = np.abs(np.array(rows) - expected)
            guesses = np.array(rows).argmax(1)
            found[name] = {
                "clips": len(rows),
                "accuracy": accuracy(self.labels, guesses),
                "uar": uar(self.labels, guesses),
                "other_labels_than_torch": int((guesses != expected.argmax(1)).sum()),
                "largest_difference": float(apart.max()),
                "mean_difference": float(apart.mean()),
            }
            if self.seconds[name]:
                found[name] |= {
                    "latency_ms": 1e3 * spread(self.seconds[name])["median"],
                    "torch_over": ratios(self.seconds["torch"], self.seconds[name])["median"],
                }
        return found


def compare(
    models: Sequence[tuple[Path | None, list[Clip]]], uses: Sequence[Sequence[str]], calls: int
) -> dict[str, Any]:
    """Exports each model and predicts its clips, from each of some sets of modalities."""
    comparisons = {" and ".join(use): Comparison() for use in uses}
    for model, clips in models:
        with tempfile.TemporaryDirectory() as scratch:
            recognizers = {"torch": vavl.load(model)}
            for name, bits in (("onnx", None), ("onnx int8", "int8")):
                export_model(model, Path(scratch) / name, quantize=bits)
                recognizers[name] = vavl.load(Path(scratch) / name)
        for category, features in clips:
            for use, comparison in zip(uses, comparisons.values(), strict=True):
                given = {m: features[m] for m in use if m in features}
                comparison.add(recognizers, (category, given), calls)
    return {use: comparison.results() for use, comparison in comparisons.items()}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("ravdess", type=Path, nargs="?")
    source.add_argument("--run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--calls", type=int, default=3, help="timed for each clip, the best counts; 0 times nothing"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.run is None:
        models, uses = [(None, of_compact(options.ravdess))], [("acoustic",)]
    else:
        models, uses = of_run(options.run), [("acoustic",), ("visual",), ("acoustic", "visual")]
    content = {"benchmark": "quantization", "results": compare(models, uses, options.calls)}
    print(json.dumps(content | {"threads": options.threads} | circumstances(), indent=2))


if __name__ == "__main__":
    main()
