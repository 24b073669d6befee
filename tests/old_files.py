"""Small files of one revision, and what they must still give when a later one opens them.

    python tests/old_files.py FOLDER    # writes them as this revision does, with their answers

``tests/fixtures/v0`` was made so, once. It is never made again: ``test_old_files.py`` opens it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from golden_inputs import interrupted, vavl

EXPERIMENT = """
name = "tiny"
[data]
manifest = "data/manifest.parquet"
acoustic = "stores/acoustic"
visual = "stores/visual"
attributes = ["arousal"]
kfold = 2
development_share = 0.0
[model]
preset = "small"
width = 4
heads = 2
kernel = 3
projection_channels = 2
head_widths = [4, 4]
[training]
epochs = 12
batch_size = 4
learning_rate = 2e-2
selection = "last"
threads = 1
device = "cpu"
"""
TRAIN = ("train", "experiment.toml", "--folds", "fold-0")
HALF = (*TRAIN, "--set", "name=half", "model.name=visual-conformer", "blocks=1", "epochs=2")
EXTRACT = ("extract", "data/manifest.parquet", "--out", "stores", "--acoustic", "logmel",
           "--visual", "arrays")  # fmt: skip
MODEL = "runs/tiny/fold-0"
CLIPS = [f"clips/clip-{number:02d}.wav" for number in range(16)]


def write_clips() -> None:
    """Sixteen clips of a quarter of a second: a tone, and a face of three numbers."""
    Path("clips").mkdir()
    random = np.random.default_rng(0)
    rows = ["audio,visual_features,speaker,category,arousal"]
    for number, clip in enumerate(CLIPS):
        happy, path = number % 2, Path(clip)
        angle = np.arange(2000) / 8000 * (1500 + 900 * happy + 90 * random.normal())
        sound = np.sin(angle) * (6000 + 900 * number) + random.normal(0, 200, 2000)
        with wave.open(clip, "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(sound.astype("<i2").tobytes())
        face = random.normal((happy, -happy, number / 16), 0.5, (5, 3))
        np.save(path.with_suffix(".npy"), face.astype(np.float32))
        label = f"speaker-{number // 4},{('sad', 'happy')[happy]},{1 + number % 5}"
        rows.append(f"{path.name},{path.stem}.npy,{label}")
    Path("clips/labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def predict_some() -> str:
    """Into a folder; what is there already is known by the time at which a clip was changed."""
    for clip in CLIPS[:2]:
        os.utime(clip, (1_700_000_000, 1_700_000_000))
    return vavl("predict", *CLIPS[:2], "--model", MODEL, "--out", "results")


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chdir(folder)
    write_clips()
    Path("experiment.toml").write_text(EXPERIMENT.lstrip(), encoding="utf-8")
    vavl("prepare", "folder", "clips", "--out", "data", "--attribute-range", 1, 5)
    vavl(*EXTRACT)
    vavl(*TRAIN)
    with interrupted(checkpoints=2):
        vavl(*HALF, expect=130)
    vavl("evaluate", "runs/tiny", "--replicates", 50)
    shutil.rmtree("runs/tiny/evaluation")
    vavl("enrol", *CLIPS[:3], "--speaker", "ann", "--out", "ann.safetensors", "--model", MODEL)
    predict_some()
    vavl(*TRAIN, "--set", "name=heard", "visual=none")
    vavl("export", "runs/heard/fold-0", "--out", "exported")
    shutil.rmtree("runs/heard")
    # On what machine and by which command they were made is nobody's business.
    for path in Path("runs").glob("*/provenance.json"):
        made = {"platform": "Linux", "git_revision": None, "command": ["train", "experiment.toml"]}
        content = {**json.loads(path.read_text("utf-8")), **made}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for log in Path("runs").rglob("tensorboard"):
        shutil.rmtree(log)


# What a copy of the files gives ------------------------------------------------------------------


def arrays(clip: int = 3) -> dict[str, np.ndarray]:
    sound = np.random.default_rng(clip).normal(size=(20, 80)).astype(np.float32)
    return {"acoustic": sound, "visual": np.load(Path(CLIPS[clip]).with_suffix(".npy"))}


def numbers(prediction: Any) -> list[Any]:
    return [prediction.label, *prediction.probabilities.values(), *prediction.attributes.values()]


def model() -> Any:
    """A trained model, on features of both modalities and of each alone."""
    from vavl import load

    recognizer, both = load(MODEL), arrays()
    given = (both, *({name: array} for name, array in both.items()))
    return [numbers(recognizer.predict(**inputs)) for inputs in given]


def exported() -> Any:
    from vavl import load

    return numbers(load("exported").predict(acoustic=arrays()["acoustic"]))


def sound() -> Any:
    """A clip through the extractor that the model was trained with, of a stranger and of Ann."""
    command = ("predict", CLIPS[5], "--model", MODEL, "--format", "json")
    found = [json.loads(vavl(*command, *known)) for known in ((), ("--profile", "ann.safetensors"))]
    return [[prediction["probabilities"], prediction["attributes"]] for [prediction] in found]


def scores() -> Any:
    """From the predictions that lie there, and from predictions made anew."""
    kept = []
    for _ in range(2):
        vavl("evaluate", "runs/tiny", "--replicates", 50)
        found = json.loads(Path("runs/tiny/evaluation/scores.json").read_text("utf-8"))["scores"]
        kept.append({f"{s['view']} {s['measure']}": s["pooled"]["estimate"] for s in found})
        Path("runs/tiny/fold-0/predictions.parquet").unlink()
    return kept


def left_alone() -> Any:
    """Features, a training and predictions that are there are not made again."""
    kept = [p for part in ("stores", "runs/tiny", "results") for p in sorted(Path(part).rglob("*"))]
    before = {path: path.read_bytes() for path in kept if path.is_file()}
    said = (vavl(*EXTRACT), vavl(*TRAIN), predict_some())
    words = ("16 already there", "finished before", "2 of these were done before")
    same = [str(path) for path, content in before.items() if holds(path, content)]
    return [word in text for word, text in zip(words, said, strict=True)], same


def holds(path: Path, content: bytes) -> bool:
    """Whether a file is what it was; a table may have got columns since."""
    from pyarrow import csv, parquet

    read = {".csv": csv.read_csv, ".parquet": parquet.read_table}.get(path.suffix)
    if read is None or path.read_bytes() == content:
        return path.read_bytes() == content
    before, now = read(io.BytesIO(content)), read(path)
    return bool(before.equals(now.select(before.column_names)))


def resumed() -> Any:
    """A training that was interrupted: how it ends."""
    vavl(*HALF)
    lines = Path("runs/half/fold-0/metrics.jsonl").read_text("utf-8").splitlines()
    from vavl import load

    losses = [json.loads(line)["train"]["loss"] for line in lines]
    return losses, numbers(load("runs/half/fold-0").predict(visual=arrays()["visual"]))


ANSWERS: dict[str, Callable[[], Any]] = {
    answer.__name__: answer for answer in (model, exported, sound, scores, left_alone, resumed)
}


def main(folder: Path) -> None:
    write(folder)
    answers = {}
    for name, answer in ANSWERS.items():
        copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-{name}"))
        os.chdir(copy)
        answers[name] = answer()
        os.chdir(folder)
        shutil.rmtree(copy)
    Path("answers.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
