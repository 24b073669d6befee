"""Puts a model on trial: what it must not answer, and what recordings do to what it answers.

    python scripts/trial_compact.py --ravdess RAVDESS_FOLDER --faces FACES_FOLDER \
        --samples SAMPLES_FOLDER --out docs/results/compact/trial.json

Parts (``--parts``), each on its own; those of an earlier run stay in the file of --out:

sounds      60 sounds without speech (trial_sounds.py)
pictures    40 pictures without a usable face (trial_pictures.py)
silence     a sentence with up to a minute of silence, hum or hiss around it
conditions  UAR of seven classes on held-out actors in each condition of speech_conditions.py
faces       GRID clips and the RAVDESS video of neutral speakers: picture alone, sound alone, both
speed       cold start, real-time factor and memory (trial_speed.py); an hour's with --hour

Voices for babble are those of the actors who are not held out. Prints tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from compact_voices import HELD_OUT, OF_RAVDESS
from numpy.typing import NDArray
from speech_conditions import CONDITIONS, Waveform, hiss, hum
from trial_pictures import FRAME_RATE_HZ, first_frames, pictures, shown, some_faces
from trial_sounds import at_level, sounds
from trial_speed import speed

import vavl
from vavl.errors import MediaError
from vavl.evaluation.bootstrap import percentile_interval, speaker_weights
from vavl.features.compact_face import CLASSES
from vavl.inference.loading import model_folder, model_sha256
from vavl.media.audio import SAMPLING_RATE_HZ, read_audio
from vavl.media.writing import copy_picture
from vavl.system.atomic import atomic_write
from vavl.system.processes import Failure, run_job
from vavl.system.progress import with_progress
from vavl.training.run_folder import git_revision
from vavl.types import UNSURE

SURROUNDINGS = ("silence", "hum", "hiss")
AROUND_S = (1, 6, 20, 60)
AROUND_DBFS = -50.0
_VOICES = 24
_REPLICATES = 2000

Clip = Callable[[], dict[str, Any]]
"""Makes what ``predict`` takes, in the process where it is used: it may be large."""


@dataclass(frozen=True)
class Answer:
    """What a model said of a clip.

    Attributes:
        label: A category or "unsure"; None where it refused.
        confidence: Calibrated probability of the most probable category.
        probabilities: By category.
        warnings: What may be wrong with the clip.
        reason: Why it refused; empty where it answered.
    """

    label: str | None
    confidence: float | None
    probabilities: dict[str, float]
    warnings: tuple[str, ...]
    reason: str = ""

    @property
    def best(self) -> str | None:
        """Most probable category, however unsure."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)

    @property
    def outcome(self) -> str:
        """The label, or "refused"."""
        return self.label or "refused"

    def to_dict(self) -> dict[str, Any]:
        """For a table: without the probabilities."""
        confidence = None if self.confidence is None else round(self.confidence, 3)
        why = self.reason or "; ".join(self.warnings)
        return {"answer": self.outcome, "confidence": confidence, "why": why}


class Ask:
    """Answers clip after clip; a job of :func:`vavl.system.processes.run_job`."""

    def __init__(self, model: str | None) -> None:
        self.model = model

    def load(self) -> None:
        """Loads the model."""
        self._recognizer = vavl.load(self.model)

    def __call__(self, clip: Clip) -> Answer:
        """Predicts; a refusal is an answer as well."""
        try:
            found = self._recognizer.predict(**clip())
        except MediaError as error:
            return Answer(None, None, {}, (), str(error))
        return Answer(found.label, found.confidence, found.probabilities, found.warnings)


class Trial(NamedTuple):
    """What every part is given."""

    options: argparse.Namespace

    def ask(self, clips: Sequence[Clip]) -> list[Answer]:
        """Answers to clips, in their order; stops at an error that is no refusal."""
        answers = []
        pairs = run_job(clips, Ask(self.options.model), self.options.processes)
        for _, answer in with_progress(pairs, len(clips), what="clips"):
            if isinstance(answer, Failure):
                raise SystemExit(f"not an answer: {answer}")
            answers.append(answer)
        return answers


# --- data ----------------------------------------------------------------------------------------


class Utterance(NamedTuple):
    """A clip of RAVDESS."""

    path: Path
    category: str
    speaker: str


def read_ravdess(folder: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Clips of the held-out actors, and of all others; calm is called neutral."""
    held_out: list[Utterance] = []
    others: list[Utterance] = []
    with (folder / "manifest.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            category = OF_RAVDESS.get(row["emotion"], row["emotion"])
            clip = Utterance(folder / row["audio"], category, row["actor"])
            (held_out if row["fold5"] == str(HELD_OUT) else others).append(clip)
    return held_out, others


def voices_of(folder: Path, seed: int) -> tuple[Path, ...]:
    """Some clips of actors who are not held out."""
    _, others = read_ravdess(folder)
    chosen = np.random.default_rng(seed).choice(len(others), _VOICES, replace=False)
    return tuple(others[index].path for index in chosen)


@cache
def _read(paths: tuple[Path, ...]) -> list[Waveform]:
    return [read_audio(path) for path in paths]


def _given(**clip: Any) -> dict[str, Any]:
    return clip


def _shown(picture: NDArray[np.uint8]) -> dict[str, Any]:
    # Upright alone: faces upside down are here to be refused, not to be turned back.
    return {"frames": shown(picture), "frame_rate_hz": FRAME_RATE_HZ, "face": "upright"}


def batched(answers: Sequence[Answer], size: int) -> list[Sequence[Answer]]:
    """One after the other, so many at a time."""
    return [answers[start : start + size] for start in range(0, len(answers), size)]


# --- the parts -----------------------------------------------------------------------------------


def try_sounds(trial: Trial) -> dict[str, Any]:
    """What is said of sounds without speech."""
    options = trial.options
    voices = _read(voices_of(options.ravdess, options.seed)) if options.ravdess else []
    made = list(sounds(options.seed, voices))
    _say_what_is_left_out(trial, {"ravdess": "reversed babble"})
    answers = trial.ask([partial(_given, audio=waveform) for _, _, waveform in made])
    return _nothing_to_say([(kind, name) for kind, name, _ in made], answers)


def try_pictures(trial: Trial) -> dict[str, Any]:
    """What is said of pictures without a usable face."""
    options = trial.options
    faces = some_faces(options.faces, options.seed) if options.faces else []
    films = first_frames(sorted(options.samples.glob("grid_*"))) if options.samples else []
    made = list(pictures(options.seed, faces, films))
    _say_what_is_left_out(trial, {"faces": "real faces", "samples": "films upside down"})
    answers = trial.ask([partial(_shown, picture) for _, _, picture in made])
    return _nothing_to_say([(kind, name) for kind, name, _ in made], answers)


def _say_what_is_left_out(trial: Trial, needed: Mapping[str, str]) -> None:
    for option, what in needed.items():
        if getattr(trial.options, option) is None:
            print(f"no --{option}: {what} left out")


def _nothing_to_say(names: Sequence[tuple[str, str]], answers: Sequence[Answer]) -> dict[str, Any]:
    """Each answer, and how many of each kind there are: no label is right."""
    kinds = {kind: Counter[str]() for kind, _ in names}
    for (kind, _), answer in zip(names, answers, strict=True):
        kinds[kind][answer.outcome] += 1
    return {
        "tried": len(answers),
        "labelled": sum(answer.label not in (None, UNSURE) for answer in answers),
        "unsure": sum(answer.label == UNSURE for answer in answers),
        "refused": sum(answer.label is None for answer in answers),
        "by_kind": {kind: dict(found.most_common()) for kind, found in kinds.items()},
        "each": [
            {"kind": kind, "name": name, **answer.to_dict()}
            for (kind, name), answer in zip(names, answers, strict=True)
        ],
    }


def try_silence(trial: Trial) -> dict[str, Any]:
    """A clip per category, alone and surrounded: is the label kept, how far do they move."""
    held_out, _ = read_ravdess(trial.options.ravdess)
    first = {clip.category: clip for clip in reversed(held_out)}
    ways = [("silence", 0), *((kind, seconds) for kind in SURROUNDINGS for seconds in AROUND_S)]
    answers = trial.ask(
        [
            partial(surrounded, clip.path, kind, seconds, trial.options.seed)
            for kind, seconds in ways
            for clip in first.values()
        ]
    )
    alone, *others = batched(answers, len(first))
    rows, each = [], []
    for (kind, seconds), found in zip(ways[1:], others, strict=True):
        pairs = list(zip(alone, found, strict=True))
        rows.append(
            {
                "around": kind,
                "seconds": seconds,
                "clips": len(pairs),
                "label_kept": sum(one.outcome == other.outcome for one, other in pairs),
                "largest_move": round(max(move(*pair) for pair in pairs), 3),
            }
        )
        each += [
            {
                "category": category,
                "around": kind,
                "seconds": seconds,
                "alone": one.outcome,
                "answer": other.outcome,
                "move": round(move(one, other), 3),
            }
            for category, (one, other) in zip(first, pairs, strict=True)
        ]
    return {"level_dbfs": AROUND_DBFS, "rows": rows, "each": each}


def surrounded(path: Path, kind: str, seconds: float, seed: int) -> dict[str, Any]:
    """A sentence somewhere in so many seconds of something else."""
    speech = read_audio(path)
    rng = np.random.default_rng([seed, round(1000 * seconds)])
    size = round(seconds * SAMPLING_RATE_HZ)
    around = np.zeros(size, np.float32)
    if kind != "silence" and size:
        around = at_level({"hum": hum, "hiss": hiss}[kind](size, rng), AROUND_DBFS)
    before = int(rng.integers(size + 1))
    return {"audio": np.concatenate([around[:before], speech, around[before:]])}


def move(one: Answer, other: Answer) -> float:
    """Largest change of a probability; 1 where one of them refuses."""
    if not one.probabilities or not other.probabilities:
        return float(one.probabilities != other.probabilities)
    return max(abs(p - other.probabilities[name]) for name, p in one.probabilities.items())


def try_conditions(trial: Trial) -> dict[str, Any]:
    """UAR on held-out actors in each condition, and its difference to clean."""
    options = trial.options
    held_out = read_ravdess(options.ravdess)[0][:: options.every]
    voices = voices_of(options.ravdess, options.seed)
    recalls = Recalls([clip.category for clip in held_out], [clip.speaker for clip in held_out])
    answers = trial.ask(
        [
            partial(in_condition, clip.path, name, (options.seed, number), voices)
            for name in CONDITIONS
            for number, clip in enumerate(held_out)
        ]
    )
    rows = []
    clean: NDArray[np.float64] | None = None
    for name, found in zip(CONDITIONS, batched(answers, len(held_out)), strict=True):
        uars = recalls.uars([answer.best for answer in found])
        clean = uars if clean is None else clean
        rows.append(
            {
                "condition": name,
                **_interval("uar", uars, recalls.speakers),
                **_interval("to_clean", uars - clean, recalls.speakers),
                "unsure": _share([answer.label == UNSURE for answer in found]),
                "refused": _share([answer.label is None for answer in found]),
            }
        )
    return {"clips": len(held_out), "speakers": recalls.speakers, "rows": rows}


def in_condition(
    path: Path, name: str, seed: tuple[int, int], voices: tuple[Path, ...]
) -> dict[str, Any]:
    """A clip as a condition leaves it; the same chance for a clip in all conditions."""
    rng = np.random.default_rng(seed)
    return {"audio": CONDITIONS[name](read_audio(path), rng, _read(voices))}


class Recalls:
    """Scores answers on the clips as they are, and on resamples of their speakers.

    Args:
        categories: Of each of N clips.
        speakers: Of each.
    """

    def __init__(self, categories: Sequence[str], speakers: Sequence[str]) -> None:
        self._categories = np.array(categories)
        self._is = (self._categories[:, None] == CLASSES).astype(float)
        names, rows = np.unique(speakers, return_inverse=True)
        self.speakers = len(names)
        self._of = np.eye(self.speakers)[:, rows]
        drawn = speaker_weights(self.speakers, _REPLICATES, seed=(0,))
        self._weights = np.concatenate([np.ones((1, self.speakers)), drawn])

    def uars(self, answers: Sequence[str | None]) -> NDArray[np.float64]:
        """``(1 + R,)`` unweighted average recalls, the first of the clips as they are.

        No answer is a wrong one.
        """
        right = np.array([str(answer) for answer in answers]) == self._categories
        found, there = (
            self._weights @ (self._of @ clips) for clips in (self._is * right[:, None], self._is)
        )
        with np.errstate(invalid="ignore"):
            uars: NDArray[np.float64] = np.nanmean(found / there, axis=1)
        return uars


def _interval(name: str, values: NDArray[np.float64], speakers: int) -> dict[str, Any]:
    found = percentile_interval(float(values[0]), values[1:], speakers)
    rounded: dict[str, Any] = {name: round(found.estimate, 3)}
    if math.isnan(found.low):  # too few speakers
        return rounded
    return {**rounded, f"{name}_interval": [round(found.low, 3), round(found.high, 3)]}


def _share(values: Sequence[bool]) -> float:
    return round(float(np.mean(values)), 3)


def try_faces(trial: Trial) -> dict[str, Any]:
    """Neutral people who talk: neutral and unsure are right."""
    samples = trial.options.samples
    films = [*sorted(samples.glob("grid_*")), *sorted(samples.glob("ravdess_*"))]
    with tempfile.TemporaryDirectory() as scratch:
        silent = [copy_picture(film, Path(scratch) / film.name) for film in films]
        ways = {
            "face": trial.ask([partial(_given, path=path) for path in silent]),
            "sound": trial.ask([partial(_given, audio=read_audio(film)) for film in films]),
            "both": trial.ask([partial(_given, path=path) for path in films]),
        }
    each = [
        {"film": film.stem, "from": way, **answer.to_dict()}
        for way, answers in ways.items()
        for film, answer in zip(films, answers, strict=True)
    ]
    right = {
        way: sum(answer.label in ("neutral", UNSURE) for answer in answers)
        for way, answers in ways.items()
    }
    return {"films": len(films), "right": right, "each": each}


def try_speed(trial: Trial) -> dict[str, Any]:
    """Time and memory on the first GRID clip."""
    options = trial.options
    clip = sorted(options.samples.glob("grid_*"))[0]
    return speed(clip, options.model, hour=options.hour)


PARTS: dict[str, tuple[Callable[[Trial], dict[str, Any]], tuple[str, ...]]] = {
    "sounds": (try_sounds, ()),
    "pictures": (try_pictures, ()),
    "silence": (try_silence, ("ravdess",)),
    "conditions": (try_conditions, ("ravdess",)),
    "faces": (try_faces, ("samples",)),
    "speed": (try_speed, ("samples",)),
}
"""Each part, and the options that it cannot do without."""


# --- what is written -----------------------------------------------------------------------------


def show(part: str, result: Mapping[str, Any]) -> None:
    """Prints a part as tables."""
    plain = {name: value for name, value in result.items() if not isinstance(value, list)}
    print(f"\n{part}: " + ", ".join(f"{n} {v}" for n, v in plain.items() if n != "by_kind"))
    for kind, found in plain.get("by_kind", {}).items():
        print(f"  {kind:24}" + ", ".join(f"{label} {count}" for label, count in found.items()))
    rows = result.get("rows") or result.get("each") or []
    if "by_kind" in plain or not rows:
        return
    table = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [min(60, max(map(len, column))) for column in zip(*table, strict=True)]
    for line in table:
        print("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="default: the model of the package")
    parser.add_argument("--ravdess", type=Path, help="folder with manifest.csv and audio16k")
    parser.add_argument("--faces", type=Path, help="folder of faces48.npz")
    parser.add_argument("--samples", type=Path, help="folder of grid_*.mpg and ravdess_*.mp4")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("docs/results/compact/trial.json"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="conditions: each Nth clip alone")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--hour", action="store_true", help="speed: of an hour as well, slow")
    options = parser.parse_args()
    missing = {need for part in options.parts for need in PARTS[part][1]}
    missing = {need for need in missing if getattr(options, need) is None}
    if missing:
        parser.error(f"{', '.join(options.parts)}: --{', --'.join(sorted(missing))} is needed")

    sha256 = model_sha256(model_folder(options.model))
    record: dict[str, Any] = {}
    if options.out.is_file():
        record = json.loads(options.out.read_text())
    if record.get("model_sha256") != sha256:
        record = {"model": options.model or "compact", "model_sha256": sha256, "parts": {}}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        result = PARTS[part][0](Trial(options))
        revision = git_revision(Path.cwd())
        record["parts"][part] = {"seed": options.seed, "revision": revision, **result}
        with atomic_write(options.out) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")
        show(part, result)


if __name__ == "__main__":
    main()
