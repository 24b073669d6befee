"""Where the time of a prediction goes: decode, detect, embed, model; prints JSON.

python benchmarks/predict.py clip.mp4 --repeats 5

Each stage is timed by itself on the same clip, the repeats interleaved. The real-time factor is the
time of the whole prediction over the duration of the clip; the first one, which reads the weights,
is told apart.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import circumstances, interleaved, seconds, spread

import vavl
from vavl.inference.windows import Window
from vavl.media.audio import audio_blocks
from vavl.media.container import media_info


def stages(recognizer: vavl.Recognizer, path: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name; each stage works on what the one before found."""
    info = media_info(path)
    found: dict[str, Callable[[], object]] = {}
    steps = []
    if info.has_video and recognizer.reader.accepts_video:
        visual = recognizer.reader.visual_extractor
        frames = list(visual.frames(path))
        steps = list(visual.steps(frames))
        keys = frames[:: visual.detect_every]
        shown = [
            (frame.pixels, step.face)
            for frame, step in zip(frames, steps, strict=True)
            if step.face is not None
        ]
        found["decode picture"] = lambda: [None for _ in visual.frames(path)]
        found["detect faces"] = lambda: [visual.detector.detect(f.pixels[None]) for f in keys]
        if shown:
            found["embed faces"] = lambda: [
                visual.embedder.embed_faces(
                    np.stack([pixels for pixels, _ in shown[start : start + 5]]),
                    [face for _, face in shown[start : start + 5]],
                )
                for start in range(0, len(shown), 5)
            ]
    samples = np.zeros(0, np.float32)
    if info.has_audio and recognizer.reader.accepts_audio:
        samples = np.concatenate(list(audio_blocks(path)))
        found["decode sound"] = lambda: [None for _ in audio_blocks(path)]
        found["acoustic features"] = lambda: recognizer.reader.acoustic_extractor.extract(samples)
    if len(samples) or steps:
        window = Window(0.0, 10.0, samples[:160_000], tuple(s for s in steps if s.time_s < 10))
        found["features and model, first 10 s"] = lambda: recognizer.predict_window(window)
    found["whole prediction"] = lambda: recognizer.predict(path)
    found["whole prediction, timeline"] = lambda: recognizer.predict(path, timeline=True)
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default=None, help="default: the model of the package")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recognizer = vavl.load(options.model)
    first = seconds(lambda: recognizer.predict(options.clip))
    duration_s = recognizer.predict(options.clip).duration_s or float("nan")
    times = interleaved(stages(recognizer, options.clip), repeats=options.repeats)
    result = {
        "clip": options.clip.name,
        "duration_s": round(duration_s, 3),
        "first_prediction_s": round(first, 3),
        "stages": {
            name: {
                "seconds": spread(values),
                "real_time_factor": round(spread(values)["median"] / duration_s, 4),
            }
            for name, values in times.items()
        },
        "repeats": options.repeats,
        "threads": options.threads,
        **circumstances(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
