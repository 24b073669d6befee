"""What somebody meets who uses vavl for the first time: commands, and what is expected of each.

    python scripts/first_use.py [VAVL]

VAVL is the command to be tried, e.g. that of a fresh environment with the wheel and the extras
``train`` and ``onnx``. It runs in an empty folder outside the repository, on a synthetic corpus.
The exit code is the number of situations that were otherwise than expected.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Situation:
    """A command, its exit code, and what its output must and must not say."""

    title: str
    command: str
    code: int = 0
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()


CORPUS = "vavl prepare synthetic --out corpus --speakers 5 --clips-per-speaker 6 --workers 2"
EXTRACT = (
    "vavl extract corpus/manifest.parquet --out stores --acoustic logmel --visual compact-face"
)
TRAIN = (
    "vavl train synthetic --name mine --data.manifest corpus/manifest.parquet "
    "--data.acoustic stores/acoustic --data.visual stores/visual --model.preset small "
    "--model.width 16 --model.head-widths [16] --data.kfold 2"
)
CLIP = "corpus/video/speaker-01-angry-01.mp4"
PHOTOS = (
    'python -c \'from PIL import Image; import os; os.makedirs("photos"); '
    '[Image.new("RGB", (64, 64), c).save(f"photos/{c}.png") for c in ("red", "blue")]\''
)
ONE_LINE = (
    'python -c \'import vavl; r = vavl.load("runs/mine"); p = r.predict("' + CLIP + '"); '
    "print(r); print(p); print(sorted(p.to_dict())); print(p.confidence)'"
)
LABELS = (
    'python -c \'import csv, pathlib; out = pathlib.Path("table.csv").open("w"); '
    'out.write("file,speaker,emotion\\n" + "".join(f"video/{p.name},{p.name[:10]},happy\\n" '
    'for p in pathlib.Path("corpus/video").iterdir()))\''
)

SITUATIONS = (
    Situation("16 a command is misspelt", "vavl pedict a.mp4", 2, ("did you mean 'predict'",)),
    Situation(
        "16 help", "vavl predict --help", 0, ("--timeline",), ("{None}", "[[", "(default: )")
    ),
    Situation("16 keys are searched", "vavl keys learning rate", 0, ("learning_rate",)),
    Situation("15 a file that is not there", "vavl predict gone.mp4", 2, ("gone.mp4",)),
    Situation("a corpus out of nothing", CORPUS, 0, ("30 utterances of 5 speakers",)),
    Situation("15 an ending that no video has", f"vavl predict {CLIP} --overlay a.txt", 2),
    Situation("3 a commented file", "vavl init folder", 0, ("vavl train folder.toml",)),
    Situation("10 a table of labels", LABELS),
    Situation(
        "10 a column of another name",
        "vavl prepare folder corpus --csv table.csv --out other",
        0,
        ("has no labels", "call it 'category'"),
    ),
    Situation(
        "8 a parameter of an extractor", "vavl extract --help", 0, ("--visual.frame-rate-hz",)
    ),
    Situation("features", EXTRACT, 0),
    Situation("16 an option is misspelt", TRAIN + " --lr 1", 2, ("learning-rate",)),
    Situation("4 a run that trains nothing", TRAIN + " --epochs 1 --batch-size 0", 2),
    Situation(
        "4 5 the corrected one, without a terminal", TRAIN + " --epochs 2", 0, ("epoch 2 of 2",)
    ),
    Situation("4 another setting", TRAIN + " --epochs 3", 2, ("--overwrite", "--name")),
    Situation("4 begun anew", TRAIN + " --epochs 3 --overwrite", 0),
    Situation(
        "9 few speakers",
        "vavl evaluate runs/mine --replicates 200",
        0,
        ("speakers",),
        ("distinguishably", "confirmed"),
    ),
    Situation(
        "2 a final model", TRAIN + " --epochs 3 --final", 0, (), (), ("runs/mine/README.md",)
    ),
    Situation("2 predict with it", f"vavl predict {CLIP} --model runs/mine", 0, ("audiovisual",)),
    Situation("1 Python", ONE_LINE, 0, ("schema_version", "<Recognizer vavl"), ("object at",)),
    Situation(
        "14 a row for each window",
        f"vavl predict {CLIP} --model runs/mine --timeline --format csv",
        0,
        ("start_s",),
    ),
    Situation(
        "14 pictures of many clips",
        "vavl predict corpus/video/speaker-01-*.mp4 -m runs/mine --plot plots --overlay marked",
        0,
        leaves=("plots/speaker-01-angry-01.png", "marked/speaker-01-angry-01.mp4"),
    ),
    Situation("11 photos", PHOTOS),
    Situation("11 are no film", "vavl predict photos", 3, ("red", "blue")),
    Situation(
        "17 the licence, once",
        f"vavl predict {CLIP} --out out && grep -c . out/predictions.csv",
        0,
        ("vavl model-card",),
    ),
    Situation(
        "6 a dry run writes nothing",
        "vavl study ablation --dry-run --set data.manifest=corpus/manifest.parquet; ls",
        0,
        (),
        ("studies",),
    ),
    Situation("13 the whole way", "vavl export --help", 0, ("onnx",)),
    Situation("12 a plot of one picture", f"{PHOTOS.replace('photos', 'more')}"),
)


def run(situation: Situation, vavl: Path, folder: Path) -> list[str]:
    """What is otherwise than expected."""
    environment = {**os.environ, "PATH": f"{vavl.parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-c", situation.command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = " ".join((done.stdout + done.stderr).split())
    problems = []
    if done.returncode != situation.code:
        problems.append(f"exit code {done.returncode}, expected {situation.code}")
    problems += [f"does not say {words!r}" for words in situation.says if words not in said]
    problems += [f"says {words!r}" for words in situation.never if words in said]
    problems += [f"no {name}" for name in situation.leaves if not (folder / name).is_file()]
    if "Traceback" in said:
        problems.append("a traceback")
    return [*problems, f"said: {said[-600:]}"] if problems else []


def main() -> int:
    """Runs all; prints what is otherwise than expected."""
    vavl = (
        Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else Path(sys.executable).parent / "vavl"
    )
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for situation in SITUATIONS:
            began_s = time.monotonic()
            problems = run(situation, vavl, Path(folder))
            failed += bool(problems)
            print(
                f"{'FAILED' if problems else 'ok':<7}{time.monotonic() - began_s:6.1f} s  "
                f"{situation.title}",
                flush=True,
            )
            for problem in problems:
                print(f"         {problem}")
    print(f"{len(SITUATIONS) - failed} of {len(SITUATIONS)} as expected")
    return failed


if __name__ == "__main__":
    sys.exit(main())
