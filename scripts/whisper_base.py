"""What the 8 bits of whisper-base cost, and which layers to take by default.

    python scripts/whisper_base.py RAVDESS_FOLDER WHISPER_BASE_ENCODER_FOLDER --out FILE.json

RAVDESS_FOLDER holds ``manifest.csv`` with columns ``clip``, ``audio``, ``emotion`` and ``fold5``.
Every clip goes through the encoder with the original weights and with those of the package, each
layer is pooled into its mean and deviation over time, and a logistic regression is trained and
scored on the five speaker-independent folds. Nothing is drawn at random. The folds are development
data here: C and the default layers are chosen on them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import platform
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from quantize_whisper import OUT, first_layers
from safetensors.torch import load
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vavl.features.waveform import Conditioning
from vavl.features.whisper import LAYERS, WIDTH, WhisperEncoder, load_encoder, log_mel
from vavl.media.audio import read_audio

ALL_LAYERS = tuple(range(LAYERS + 1))
LAYER_SETS = (*((k,) for k in ALL_LAYERS), (2, 3), (3, 4), (2, 3, 4), (1, 2, 3, 4))
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)
"""C of the logistic regression; chosen once, for the layers 2 to 4 with the original weights."""
CHOSEN_FOR = (2, 3, 4)
SAME_SOUND = "01-01-03-01-02-02-07"
"""Its sound is that of 01-01-03-01-02-01-07 to the last sample, so it is left out."""
PRECISIONS = ("float32", "8 bits")

Floats: TypeAlias = NDArray[np.float32]


def hidden_states(encoder: WhisperEncoder, path: Path) -> torch.Tensor:
    """All layers of a clip: ``(T, layers, width)``."""
    waveform = Conditioning().apply(read_audio(path))
    with torch.inference_mode():
        [states] = encoder([log_mel(torch.from_numpy(waveform))], ALL_LAYERS)
    return states.unflatten(1, (len(ALL_LAYERS), WIDTH))


def pooled(states: torch.Tensor) -> torch.Tensor:
    """Mean and deviation over time: ``(layers, 2 * width)``."""
    deviation, mean = torch.std_mean(states, dim=0, correction=0)
    return torch.cat([mean, deviation], dim=1)


def all_clips(
    paths: list[Path], original: WhisperEncoder, stored: WhisperEncoder
) -> tuple[dict[str, Floats], dict[str, list[float]]]:
    """Pooled features ``(N, layers, 2 * width)`` of both encoders, and how far they are apart.

    The difference of a clip is the root of its mean square, over that of the hidden states, and
    over that of their deviation from their mean over time, in each layer.
    """
    features: dict[str, list[Floats]] = {precision: [] for precision in PRECISIONS}
    errors: dict[str, list[Floats]] = {"of the values": [], "of their deviation over time": []}
    for number, path in enumerate(paths):
        exact, rounded = hidden_states(original, path), hidden_states(stored, path)
        for precision, states in zip(PRECISIONS, (exact, rounded), strict=True):
            features[precision].append(pooled(states).numpy())
        difference = (rounded - exact).norm(dim=(0, 2))
        for (_, shares), scale in zip(errors.items(), (exact, exact - exact.mean(0)), strict=True):
            shares.append((difference / scale.norm(dim=(0, 2))).numpy())
        if number % 200 == 0:
            print(f"{number} of {len(paths)} clips", flush=True)
    medians = {name: np.median(shares, axis=0).tolist() for name, shares in errors.items()}
    return {name: np.stack(clips) for name, clips in features.items()}, medians


def predictions(features: Floats, labels: NDArray, folds: NDArray, strength: float) -> NDArray:
    """What a logistic regression says of each clip, trained on the other folds."""
    predicted = labels.copy()
    for fold in np.unique(folds):
        test = folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        predicted[test] = model.fit(features[~test], labels[~test]).predict(features[test])
    return predicted


def score(predicted: NDArray, labels: NDArray, folds: NDArray) -> dict[str, float]:
    """Mean and deviation over folds of the accuracy, and UAR over all clips."""
    by_fold = [float((predicted == labels)[folds == fold].mean()) for fold in np.unique(folds)]
    return {
        "accuracy": float(np.mean(by_fold)),
        "sd": float(np.std(by_fold, ddof=1)),
        "uar": float(recall_score(labels, predicted, average="macro")),
    }


def chosen(features: Floats, layers: tuple[int, ...]) -> Floats:
    """The layers beside each other: ``(N, layers * 2 * width)``."""
    return features[:, list(layers)].reshape(len(features), -1)


def accuracies(features: dict[str, Floats], labels: NDArray, folds: NDArray) -> dict[str, Any]:
    """The choice of C, and the scores of every set of layers with both precisions."""
    by_strength = {
        strength: score(
            predictions(chosen(features["float32"], CHOSEN_FOR), labels, folds, strength),
            labels,
            folds,
        )["accuracy"]
        for strength in STRENGTHS
    }
    best = max(by_strength, key=by_strength.__getitem__)
    print(f"C: {by_strength}", flush=True)
    scores = {}
    for layers in LAYER_SETS:
        predicted = {
            precision: predictions(chosen(values, layers), labels, folds, best)
            for precision, values in features.items()
        }
        name = " ".join(map(str, layers))
        scores[name] = {
            **{precision: score(p, labels, folds) for precision, p in predicted.items()},
            "clips with another answer": int((predicted["float32"] != predicted["8 bits"]).sum()),
        }
        print(name, scores[name], flush=True)
    return {"accuracy by C": by_strength, "C": best, "scores by layers": scores}


def main() -> None:
    """Measures everything, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("ravdess", type=Path, help="folder with manifest.csv")
    parser.add_argument("whisper", type=Path, help="folder with the original model.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the figures")
    arguments = parser.parse_args()
    with (arguments.ravdess / "manifest.csv").open(encoding="utf-8") as file:
        clips = [row for row in csv.DictReader(file) if row["clip"] != SAME_SOUND]
    labels = np.array([clip["emotion"] for clip in clips])
    folds = np.array([clip["fold5"] for clip in clips])
    source, asset = (arguments.whisper / "model.safetensors").read_bytes(), OUT.read_bytes()
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "original_sha256": hashlib.sha256(source).hexdigest(),
        "stored_sha256": hashlib.sha256(asset).hexdigest(),
        "stored_bytes": len(asset),
        "clips": len(clips),
    }
    features, figures["relative error by layer, median over clips"] = all_clips(
        [arguments.ravdess / clip["audio"] for clip in clips],
        load_encoder(first_layers(source)),
        load_encoder(load(asset)),
    )
    figures |= accuracies(features, labels, folds)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
