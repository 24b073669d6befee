"""Scores the compact-face weights of the package, as the extractor uses them by default.

    python scripts/score_compact_face.py FACES_FOLDER --split validation
    python scripts/score_compact_face.py FACES_FOLDER --split test    # once, at the end

The truth is what more than half of ten people say; faces where no expression has more than half of
the votes are left out, as in the published scores on FER+, and those called contempt count as
errors. Beside it stand the scores by FER2013's own labels. Each face is scored as it is, and
pasted: enlarged by a factor of 2 to 6 at some place in a frame of 640 x 360, over one tone, a
gradient or clouds (all drawn from ``--seed``), found by the detector with its default settings, and
cropped by the template where the detector's score is highest. A face that is not found is an error
in one accuracy and left out in the other. Prints JSON.
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
from compact_face_data import (
    CONTEMPT,
    LARGE_FRAMES,
    SPLITS,
    VotedFaces,
    find_and_crop,
    load_split,
)
from numpy.typing import NDArray

from vavl.features.compact_face import CLASSES, CompactFaceFeatures, pretrained
from vavl.metrics import class_recalls, confusion_matrix, f1_macro, uar

sys.path.append(str(Path(__file__).parents[1] / "research"))
from calibration import expected_calibration_error


def scores(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """All measures of one set of faces; a truth of CONTEMPT is an error in the accuracy alone."""
    guesses = probabilities.argmax(axis=1)
    named = truth != CONTEMPT
    labels, chosen = truth[named], guesses[named]
    confusion = confusion_matrix(labels, chosen, classes=len(CLASSES))
    recalls = class_recalls(confusion)
    return {
        "faces": len(truth),
        "accuracy": round(float((guesses == truth).mean()), 4),
        "uar": round(uar(labels, chosen), 4),
        "f1_macro": round(f1_macro(labels, chosen), 4),
        "ece": round(expected_calibration_error(labels, probabilities[named]), 4),
        "recall": dict(zip(CLASSES, recalls.round(3).tolist(), strict=True)),
        "confusion": confusion.tolist(),
    }


def judged(crops: NDArray[np.uint8], *, mirrored: bool = True) -> NDArray[np.float32]:
    """Probabilities ``(N, 8)`` of the outputs."""
    embeddings = torch.from_numpy(CompactFaceFeatures(mirrored).embed(crops))
    return pretrained().classifier(embeddings).softmax(dim=1).numpy()


def of_expressions(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities ``(N, 7)`` given that an expression can be read."""
    expressions = outputs[:, : len(CLASSES)]
    return expressions / expressions.sum(axis=1, keepdims=True)


def score(faces: VotedFaces, seed: int, *, pasted: bool) -> dict[str, Any]:
    """Plain faces with and without the mirror image, and pasted ones."""
    CompactFaceFeatures().load()
    started = time.perf_counter()
    outputs = judged(faces.images)
    seconds = time.perf_counter() - started
    plain = of_expressions(outputs)
    once = of_expressions(judged(faces.images, mirrored=False))
    clear, labelled, truth = faces.majority >= 0, faces.labels >= 0, faces.majority
    result = {
        "milliseconds_per_face": round(1000 * seconds / len(truth), 2),
        "plain": scores(truth[clear], plain[clear]),
        "plain_accuracy_without_mirror_image": round(
            float((once.argmax(axis=1) == truth)[clear].mean()), 4
        ),
        "plain_by_labels_of_fer2013": scores(faces.labels[labelled], plain[labelled]),
        "called_unreadable": round(float((outputs[:, -1] > 0.5).mean()), 4),
    }
    if not pasted:
        return result
    cropped = find_and_crop(faces.images, LARGE_FRAMES, seed)
    found = cropped.found & clear
    of_found = scores(truth[found], of_expressions(judged(cropped.crops[found])))
    share = float(found.sum() / clear.sum())
    return result | {
        "pasted": {
            "found": round(share, 4),
            "accuracy_not_found_is_wrong": round(of_found["accuracy"] * share, 4),
            "plain_accuracy_of_found": round(
                float((plain.argmax(axis=1) == truth)[found].mean()), 4
            ),
            "of_found": of_found,
        }
    }


def main() -> None:
    """Scores one split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path, help="folder of faces48.npz and its votes-only file")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--seed", type=int, default=0, help="of factors, places and backgrounds")
    parser.add_argument("--skip-pasted", action="store_true", help="plain faces only: seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    faces = load_split(options.faces, options.split)
    result = score(faces, options.seed, pasted=not options.skip_pasted)
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
