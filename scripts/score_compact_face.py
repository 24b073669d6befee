"""Scores the compact-face weights of the package, as the extractor uses them by default.

    python scripts/score_compact_face.py FACES48_NPZ --split validation
    python scripts/score_compact_face.py FACES48_NPZ --split test    # once, at the end

Each face is scored as it is, and pasted: enlarged by a factor of 2 to 6 at some place in a frame of
640 x 360, over one tone, a gradient or clouds (all drawn from ``--seed``), found by the detector
with its default settings, and cropped by the template where the detector's score is highest. A face
that is not found is an error in one accuracy and left out in the other. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compact_face_data import LARGE_FRAMES, SPLITS, find_and_crop, load_split
from numpy.typing import NDArray

from vavl.features.compact_face import CLASSES, CompactFaceFeatures
from vavl.metrics import accuracy, class_recalls, confusion_matrix, f1_macro, uar

sys.path.append(str(Path(__file__).parents[1] / "research"))
from calibration import expected_calibration_error


def scores(labels: NDArray[np.int64], log_probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """All measures of one set of faces."""
    guesses = log_probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, guesses, classes=len(CLASSES))
    recalls = class_recalls(confusion)
    return {
        "faces": len(labels),
        "accuracy": round(accuracy(labels, guesses), 4),
        "uar": round(uar(labels, guesses), 4),
        "f1_macro": round(f1_macro(labels, guesses), 4),
        "ece": round(expected_calibration_error(labels, np.exp(log_probabilities)), 4),
        "recall": dict(zip(CLASSES, recalls.round(3).tolist(), strict=True)),
        "confusion": confusion.tolist(),
    }


def score(
    images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int, *, pasted: bool
) -> dict[str, Any]:
    """Plain faces with and without the mirror image, and pasted ones."""

    def judged(crops: NDArray[np.uint8], *, mirrored: bool = True) -> NDArray[np.float32]:
        features = CompactFaceFeatures(mirrored)
        return features.log_probabilities(features.embed(crops))

    CompactFaceFeatures().load()
    started = time.perf_counter()
    plain = judged(images)
    seconds = time.perf_counter() - started
    once = accuracy(labels, judged(images, mirrored=False).argmax(axis=1))
    result = {
        "milliseconds_per_face": round(1000 * seconds / len(labels), 2),
        "plain": scores(labels, plain),
        "plain_accuracy_without_mirror_image": round(once, 4),
    }
    if not pasted:
        return result
    cropped = find_and_crop(images, LARGE_FRAMES, seed)
    found = cropped.found
    of_found = scores(labels[found], judged(cropped.crops[found]))
    shared = accuracy(labels[found], plain[found].argmax(axis=1))
    return result | {
        "pasted": {
            "found": round(float(found.mean()), 4),
            "accuracy_not_found_is_wrong": round(of_found["accuracy"] * float(found.mean()), 4),
            "plain_accuracy_of_found": round(shared, 4),
            "of_found": of_found,
        }
    }


def main() -> None:
    """Scores one split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces48", type=Path, help="faces48.npz: images, labels, split, classes")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--seed", type=int, default=0, help="of factors, places and backgrounds")
    parser.add_argument("--skip-pasted", action="store_true", help="plain faces only: seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    images, labels = load_split(options.faces48, options.split)
    result = score(images, labels, options.seed, pasted=not options.skip_pasted)
    text = json.dumps(
        {
            "split": options.split,
            "seed": options.seed,
            "weights_sha256": CompactFaceFeatures().weights_sha256,
            **result,
        },
        indent=1,
    )
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
