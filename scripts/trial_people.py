"""Composed scenes of several people: are they told apart, followed, and is the speaker found?

    python scripts/trial_people.py SAMPLES_FOLDER --out docs/results/people/scenes.json

Scenes are made of the talking faces of GRID and RAVDESS, side by side at the same time and all
talking, with the voice of one of them: harder than a conversation, where the others listen. Two
GRID clips show the same man; a scene has him once. ``side``: two, three or six people. ``visits``:
of three, one comes late, one leaves early and one leaves and comes back. ``cuts``: one person fills
the picture, then another, then the first again. Who is in which scene is drawn from the seed.

The truth of a box is what the detector finds in every frame of that clip alone. A person counts as
found in a frame if the box overlaps; a switch is a frame in which the person found is another than
in the frame before. A scene's speaker is right if the main person lies where the speaker sits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

import vavl
from vavl.faces.detector import MtcnnDetector
from vavl.inference.drawing import box_at
from vavl.media.audio import read_audio
from vavl.media.video import video_frames
from vavl.types import Person

WIDTH, HEIGHT, RATE_HZ = 360, 288, 25
SECONDS = 2.96
SAME_MAN = ("grid_id2_vcd_swwp2s", "grid_pwij3p")
COUNTS = {"two": 60, "three": 60, "six": 15, "visits": 30, "cuts": 30}
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Talker:
    """A clip of somebody who talks: pictures, sound, and where the face is."""

    name: str
    frames: NDArray[np.uint8]  # (T, 288, 360, 3)
    audio: NDArray[np.float32]
    boxes: list[Box | None]  # in pixels


@dataclass(frozen=True)
class Part:
    """A talker in a scene: where, and in which frames."""

    talker: Talker
    column: int
    row: int
    shown: NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """Parts beside each other or one after the other; the voice is that of the first talker."""

    kind: str
    columns: int
    rows: int
    parts: list[Part]

    def frames(self) -> NDArray[np.uint8]:
        """``(T, H, W, 3)``; an empty place shows the colour of the corner of its clip."""
        count = len(self.parts[0].shown)
        canvas = np.zeros((count, self.rows * HEIGHT, self.columns * WIDTH, 3), np.uint8)
        for part in self.parts:
            top, left = part.row * HEIGHT, part.column * WIDTH
            place = canvas[:, top : top + HEIGHT, left : left + WIDTH]
            empty = ~place.any(axis=(1, 2, 3))
            place[empty] = part.talker.frames[0, 2, 2]
            place[part.shown] = part.talker.frames[part.shown]
        return canvas

    def truth(self, part: Part, frame: int) -> Box | None:
        """The box of a part in a frame, in shares of the picture."""
        box = part.talker.boxes[frame]
        if box is None or not part.shown[frame]:
            return None
        left, top = part.column * WIDTH, part.row * HEIGHT
        width, height = self.columns * WIDTH, self.rows * HEIGHT
        x0, y0, x1, y1 = box
        return (left + x0) / width, (top + y0) / height, (left + x1) / width, (top + y1) / height


def talkers(samples: Path) -> list[Talker]:
    """The clips in the folder that show one talking face."""
    paths = [*sorted(samples.glob("grid_*.mpg")), *sorted(samples.glob("ravdess_*.mp4"))]
    count = round(SECONDS * RATE_HZ)
    detector, found = MtcnnDetector(), []
    for path in paths:
        frames = [_fitted(f.pixels) for f in video_frames(path, frame_rate_hz=RATE_HZ)][:count]
        pixels = np.stack(frames)
        faces = detector.detect(pixels)
        audio = read_audio(path)[: round(SECONDS * 16_000)]
        boxes = [seen[0].box if seen else None for seen in faces]
        found.append(Talker(path.stem, pixels, audio, boxes))
    return found


def _fitted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a picture, in the size of GRID's."""
    height, width = pixels.shape[:2]
    part = min(width, round(height * WIDTH / HEIGHT))
    left = (width - part) // 2
    picture = Image.fromarray(pixels[:, left : left + part])
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def scenes(known: list[Talker], seed: int) -> Iterator[Scene]:
    """All scenes, in a fixed order."""
    for number, (kind, count) in enumerate(COUNTS.items()):
        for n in range(count):
            yield _scene(kind, known, np.random.default_rng([seed, number, n]))


def _scene(kind: str, known: list[Talker], random: Generator) -> Scene:
    columns, rows = {"two": (2, 1), "six": (3, 2), "cuts": (1, 1)}.get(kind, (3, 1))
    people = 2 if kind == "cuts" else columns * rows
    while True:
        chosen = [known[n] for n in random.permutation(len(known))[:people]]
        if sum(talker.name in SAME_MAN for talker in chosen) < 2:
            break
    count = min(len(talker.frames) for talker in chosen)
    places = random.permutation(columns * rows).tolist()
    parts = []
    for number, talker in enumerate(chosen):
        shown = np.ones(count, np.bool_)
        first, last = sorted(random.integers(count // 4, 3 * count // 4, 2).tolist())
        last = max(last, first + count // 6)
        if kind == "cuts":
            shown[first:last] = False
            shown = shown if number == 0 else ~parts[0].shown
            parts.append(Part(talker, 0, 0, shown))
            continue
        if kind == "visits":
            span = (slice(0, first), slice(last, None), slice(first, last))[number]
            shown[span] = False
        parts.append(Part(talker, places[number] % columns, places[number] // columns, shown))
    return Scene(kind, columns, rows, parts)


def judged(scene: Scene, people: tuple[Person, ...]) -> dict[str, Any]:
    """What was right in a scene."""
    overlaps, switches, sightings, main_hits = [], 0, 0, 0
    for number, part in enumerate(scene.parts):
        who = []
        for frame in range(0, len(part.shown), 2):
            truth = scene.truth(part, frame)
            if truth is None:
                continue
            at = {p.number: box_at(p.track, frame / RATE_HZ) for p in people}
            best = max(at, key=lambda n: _overlap(at[n], truth), default=None)
            shared = 0.0 if best is None else _overlap(at[best], truth)
            overlaps.append(shared)
            sightings += 1
            if shared > 0.3:
                who.append(best)
                main_hits += number == 0 and people[best - 1].is_main
        switches += sum(a != b for a, b in pairwise(who))
    speaking = sum(scene.truth(scene.parts[0], f) is not None for f in range(0, len(part.shown), 2))
    return {
        "kind": scene.kind,
        "people": len(scene.parts),
        "found": len(people),
        "overlap": float(np.mean(overlaps)),
        "overlapping": float(np.mean(np.array(overlaps) >= 0.6)),
        "switches": switches,
        "sightings": sightings,
        "speaker": main_hits > speaking / 2,
    }


def _overlap(one: Box | None, other: Box) -> float:
    """Intersection over union."""
    if one is None:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of scenes of one kind, or of all."""
    return {
        "scenes": len(rows),
        "number_right": round(float(np.mean([r["found"] == r["people"] for r in rows])), 3),
        "switches": round(sum(r["switches"] for r in rows) / sum(r["sightings"] for r in rows), 4),
        "overlap": round(float(np.mean([r["overlap"] for r in rows])), 3),
        "overlap_at_least_0.6": round(float(np.mean([r["overlapping"] for r in rows])), 3),
        "speaker_found": round(float(np.mean([r["speaker"] for r in rows])), 3),
    }


def main() -> None:
    """Reads the arguments, and prints and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("samples", type=Path, help="folder of grid_*.mpg and ravdess_*.mp4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(COUNTS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    recognizer, known = vavl.load(), talkers(given.samples)
    started, rows = time.perf_counter(), []
    for scene in scenes(known, given.seed):
        if scene.kind in given.kinds:
            prediction = recognizer.predict(
                frames=scene.frames(), frame_rate_hz=RATE_HZ, audio=scene.parts[0].talker.audio
            )
            rows.append(judged(scene, prediction.people))
            print(len(rows), rows[-1], prediction.warnings, flush=True)
    kinds = dict.fromkeys(row["kind"] for row in rows)
    result = {
        "seed": given.seed,
        "seconds": round(time.perf_counter() - started),
        "all": summary(rows),
        **{kind: summary([row for row in rows if row["kind"] == kind]) for kind in kinds},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
