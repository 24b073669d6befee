"""Fits the line that reads how wide a mouth is open from the embeddings of compact-face.

    pip install ai-edge-litert
    python scripts/train_mouth_opening.py FACES_FOLDER LANDMARKER.task src/vavl/features/assets

The teacher is MediaPipe's face landmarker (Apache-2.0): the gap between the inner lips over the
distance between the outer corners of the eyes, whose square root is nearer to a line. It looks at
the first training faces of faces48, as they are; compact-face looks at the same faces pasted into
frames, found and cropped, as it was trained. Ridge regression; the penalty is chosen on the
validation faces. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
from compact_face_data import SMALL_FRAMES, find_and_crop, load_split
from numpy.typing import NDArray
from safetensors.numpy import save

from vavl.faces.alignment import Face, align
from vavl.features.compact_face import CompactFaceFeatures, crop_template

FACES = {"train": 9000, "validation": 1500}
_SIDE, _SHARE = 256, 0.72
"""Of the crop that the landmarker sees, in pixels, and of it what compact-face sees."""
_UPPER_LIP, _LOWER_LIP, _LEFT_EYE, _RIGHT_EYE = 13, 14, 33, 263
_SURE = 3.0
"""Logit of the landmarker's own certainty that there is a face."""


class Landmarker:
    """The network of 478 landmarks in MediaPipe's bundle."""

    def __init__(self, bundle: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with zipfile.ZipFile(bundle) as files:
            content = files.read("face_landmarks_detector.tflite")
        self._network = Interpreter(model_content=content, num_threads=1)
        self._network.allocate_tensors()
        [given] = self._network.get_input_details()
        points, certainty, _ = self._network.get_output_details()
        self._places = given["index"], points["index"], certainty["index"]

    def opening(self, grey: NDArray[np.uint8]) -> float:
        """Gap of the lips in a crop ``(256, 256)``; NaN where no face is seen."""
        given, points, certainty = self._places
        picture = np.repeat(grey[None, :, :, None], 3, axis=3).astype(np.float32) / 255
        self._network.set_tensor(given, picture)
        self._network.invoke()
        if self._network.get_tensor(certainty).item() <= _SURE:
            return float("nan")
        places = self._network.get_tensor(points).reshape(-1, 3)[:, :2]
        gap = np.linalg.norm(places[_UPPER_LIP] - places[_LOWER_LIP])
        return float(gap / np.linalg.norm(places[_LEFT_EYE] - places[_RIGHT_EYE]))


def taught(
    folder: Path, split: str, landmarker: Landmarker
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Embeddings ``(N, 256)`` and square roots of the opening ``(N,)`` of a split's faces."""
    images = load_split(folder, split).images[: FACES[split]]
    cropped = find_and_crop(images, SMALL_FRAMES, seed=0)
    embeddings = CompactFaceFeatures().embed(cropped.crops)
    goal = _SIDE / 2 + (crop_template() - 24) * _SIDE / 48 * _SHARE
    openings = np.full(len(images), np.nan)
    for number in np.flatnonzero(cropped.found):
        face = Face((0, 0, 48, 48), 1.0, cropped.landmarks[number])
        picture = np.repeat(images[number][:, :, None], 3, axis=2)
        openings[number] = landmarker.opening(align([picture], [face], _SIDE, goal=goal)[0, ..., 0])
    seen = np.isfinite(openings)
    return embeddings[seen].astype(np.float64), np.sqrt(openings[seen])


def main() -> None:
    """Reads the arguments, fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("faces", type=Path, help="folder of faces48.npz")
    parser.add_argument("landmarker", type=Path, help="face_landmarker.task")
    parser.add_argument("out", type=Path, help="folder for mouth_opening.safetensors")
    given = parser.parse_args()
    landmarker = Landmarker(given.landmarker)
    x, y = taught(given.faces, "train", landmarker)
    held_x, held_y = taught(given.faces, "validation", landmarker)
    centre = x.mean(axis=0)
    found = {}
    for penalty in (10.0, 100.0, 1000.0):
        gram = (x - centre).T @ (x - centre) + penalty * np.eye(x.shape[1])
        weight = np.linalg.solve(gram, (x - centre).T @ (y - y.mean()))
        correlation = float(np.corrcoef(held_x @ weight, held_y)[0, 1])
        found[correlation] = penalty, weight
    best = max(found)
    penalty, weight = found[best]
    bias = np.array([y.mean() - centre @ weight])
    content = save({"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)})
    (given.out / "mouth_opening.safetensors").write_bytes(content)
    result = {
        "faces": len(y),
        "validation_faces": len(held_y),
        "penalty": penalty,
        "correlation": round(best, 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
