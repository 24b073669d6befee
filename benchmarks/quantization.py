"""What ONNX and 8 bits do to the predictions of `compact` on unseen actors; prints JSON.

python benchmarks/quantization.py RAVDESS_FOLDER

The sound of the 300 clips of fold 0, whose actors the shipped weights have not heard. Features are
made once; each clip is then predicted by all alternatives in turns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import circumstances, interleaved, ratios, spread

import vavl
from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.export import export_model
from vavl.metrics import accuracy, uar

OF_RAVDESS = {"calm": "neutral", "fearful": "fear", "surprised": "surprise"}
"""Categories of RAVDESS that go by another name in `compact`."""


def unseen_clips(recognizer: vavl.Recognizer, ravdess: Path, scratch: Path) -> list[Any]:
    """Label and acoustic features of each clip of fold 0."""
    manifest = prepare_ravdess(ravdess, scratch)
    found = []
    for clip in manifest:
        path = manifest.path(clip, "audio_path")
        if clip.fold == 0 and path is not None:
            name = OF_RAVDESS.get(str(clip.category), str(clip.category))
            features = recognizer.acoustic_extractor.extract_file(path)
            found.append((recognizer.categories.index(name), features))
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ravdess", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recognizers = {"torch": vavl.load()}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        export_model(None, scratch / "onnx")
        export_model(None, scratch / "int8", quantize="int8")
        recognizers["onnx"] = vavl.load(scratch / "onnx")
        recognizers["onnx int8"] = vavl.load(scratch / "int8")
        clips = unseen_clips(recognizers["torch"], options.ravdess, scratch / "manifest")
    labels = [label for label, _ in clips]
    probabilities: dict[str, Any] = {name: [] for name in recognizers}
    seconds: dict[str, list[float]] = {name: [] for name in recognizers}
    for _, features in clips:
        for name, recognizer in recognizers.items():
            found = recognizer.predict(acoustic=features)
            probabilities[name].append(list(found.probabilities.values()))
        calls = {
            name: lambda recognizer=recognizer, features=features: recognizer.predict(
                acoustic=features
            )
            for name, recognizer in recognizers.items()
        }
        for name, [value] in interleaved(calls, repeats=1, calls=3).items():
            seconds[name].append(value)
    expected = np.array(probabilities["torch"])
    result = {}
    for name, rows in probabilities.items():
        found = np.array(rows)
        guesses = found.argmax(1)
        result[name] = {
            "accuracy": accuracy(labels, guesses.tolist()),
            "uar": uar(labels, guesses.tolist()),
            "other_labels_than_torch": int((guesses != expected.argmax(1)).sum()),
            "largest_difference": float(np.abs(found - expected).max()),
            "mean_difference": float(np.abs(found - expected).mean()),
            "latency_ms": 1e3 * spread(seconds[name])["median"],
            "torch_over": ratios(seconds["torch"], seconds[name])["median"],
        }
    content = {"benchmark": "quantization", "clips": len(clips), "results": result}
    print(json.dumps(content | {"threads": options.threads} | circumstances(), indent=2))


if __name__ == "__main__":
    main()
