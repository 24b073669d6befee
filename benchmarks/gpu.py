"""What a GPU does for extraction and training, against what is asked of it; prints JSON.

python benchmarks/gpu.py --published VAVL_CHECKOUT
python benchmarks/gpu.py --device cpu --tiny

At most eight minutes (``--budget-s``): what there is no time left for is named. The material is
made on the spot: voices made of harmonics, and a drawn face in a picture of 1280 x 720.

- ``sound``: `whisper-base` over many clips, in single precision and in bfloat16, as `vavl extract
  --device` does it with decoding workers. Asked: 500 times real time.
- ``faces``: `compact-face` over films, likewise. Asked: 20 times real time with 8 workers.
- ``step``: a training step of the preset `paper` in single precision, in bfloat16, and in bfloat16
  with compiled layers, in turns with the published modules in the precision of their training.

Factors of real time are those of the whole job, from the start of the workers on; ``beyond_start``
is that of what three quarters of the clips take more than one quarter. ``against_cpu`` has the
largest differences from the features and outputs of the CPU, as shares of the largest value.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from published import WIDTHS, Published
from timing import interleaved, print_report, ratios, spread
from train_step import make_batch, take_steps

from vavl.config.experiment import TrainingConfig
from vavl.config.models import VAVLConfig
from vavl.data.corpora.synthetic_drawing import draw_look, film
from vavl.data.corpora.synthetic_signals import ACTION_UNITS
from vavl.data.manifest import Manifest, Utterance
from vavl.data.store import FeatureStore
from vavl.features.extract import extract
from vavl.features.registry import Extractor, build_extractor
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.media.writing import write_mp4, write_wav
from vavl.models.vavl import VAVL
from vavl.system.device import usable_device
from vavl.training.objective import Objective
from vavl.training.setup import compile_layers, make_optimizer
from vavl.types import Batch

SOUND_ASKED, FACES_ASKED = 500.0, 20.0
"""Times real time."""
FRAME_RATE_HZ = 25.0
WIDTH, HEIGHT, FACE = 1280, 720, 480
CATEGORIES = "abcdef"
COMPARED = 8
"""Clips whose features are computed on the CPU as well."""

Steps = dict[str, Callable[[], None]]


# Material


def voice(generator: np.random.Generator, duration_s: float) -> NDArray[np.float64]:
    """Syllables of a voice: harmonics of a pitch that moves, and some noise."""
    times = np.arange(round(duration_s * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
    pitch_hz = generator.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * times))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLING_RATE_HZ
    tone = sum(np.sin(k * phase) * generator.uniform(0.2, 1) / k for k in range(1, 12))
    loudness = np.clip(np.sin(2 * np.pi * generator.uniform(2, 4) * times), 0, None)
    return 0.1 * tone * loudness + 0.003 * generator.standard_normal(len(times))


def pictures(generator: np.random.Generator, duration_s: float) -> Iterator[NDArray[np.uint8]]:
    """A drawn face before a wall with a pattern, at 1280 x 720."""
    wall = generator.integers(90, 140, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    picture = wall.repeat(8, axis=0).repeat(8, axis=1)
    units = np.abs(
        generator.standard_normal((round(duration_s * FRAME_RATE_HZ), len(ACTION_UNITS)))
    )
    top, left = (HEIGHT - FACE) // 2, (WIDTH - FACE) // 2
    for face in film(generator, draw_look(generator, female=True), units):
        times = FACE // len(face)
        larger = face.repeat(times, axis=0).repeat(times, axis=1)
        picture[top : top + FACE, left : left + FACE] = larger
        yield picture.copy()


def recordings(folder: Path, clips: int, duration_s: float) -> Manifest:
    """Clips of sound."""
    names = [f"sound-{number:04d}" for number in range(clips)]
    for number, name in enumerate(names):
        write_wav(folder / f"{name}.wav", voice(np.random.default_rng(number), duration_s))
    return Manifest([Utterance(n, "made", "x", audio_path=f"{n}.wav") for n in names], root=folder)


def films(folder: Path, clips: int, duration_s: float) -> Manifest:
    """One film, as many times: the codec and the networks have no memory of it."""
    names = [f"film-{number:03d}" for number in range(clips)]
    first = folder / f"{names[0]}.mp4"
    write_mp4(first, pictures(np.random.default_rng(0), duration_s), None, FRAME_RATE_HZ)
    for name in names[1:]:
        shutil.copyfile(first, folder / f"{name}.mp4")
    return Manifest([Utterance(n, "made", "x", video_path=f"{n}.mp4") for n in names], root=folder)


# Extraction


def extraction(
    manifest: Manifest, extractor: Extractor, duration_s: float, workers: int, folder: Path
) -> tuple[dict[str, Any], FeatureStore]:
    """Times a job over a quarter of the clips, and one over all of them."""
    quarter = manifest[: max(len(manifest) // 4, 1)]
    started = time.perf_counter()
    extract(quarter, extractor, folder / "quarter", workers=workers, progress=False)
    middle = time.perf_counter()
    report = extract(manifest, extractor, folder / "all", workers=workers, progress=False)
    whole_s, quarter_s = time.perf_counter() - middle, middle - started
    more_s = duration_s * (len(manifest) - len(quarter))
    return {
        "clips": len(manifest),
        "seconds_of_media": duration_s * len(manifest),
        "failed": report.failed,
        "seconds": whole_s,
        "times_real_time": duration_s * len(manifest) / whole_s,
        "beyond_start": more_s / (whole_s - quarter_s) if whole_s > quarter_s else None,
    }, FeatureStore.open(folder / "all")


def against_cpu(store: FeatureStore, manifest: Manifest, extractor: Extractor) -> dict[str, Any]:
    """Differences of stored features from those of an extractor on the CPU."""
    largest, steps, others = 0.0, 0, 0
    for clip in manifest[:COMPARED]:
        path = manifest.path(clip, extractor.source_field)
        assert path is not None
        expected = extractor.extract_file(path)
        found = store.read(clip.utterance_id).astype(np.float32)
        seen, there = ~np.isnan(expected).any(1), ~np.isnan(found).any(1)
        both = seen & there
        difference = np.abs(found[both] - expected[both]).max(initial=0.0)
        largest = max(largest, float(difference / np.nanmax(np.abs(expected), initial=1e-9)))
        steps, others = steps + len(seen), others + int((seen != there).sum())
    return {"largest_difference": largest, "steps": steps, "steps_seen_by_one_alone": others}


def sound(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """`whisper-base` in both precisions."""
    manifest = recordings(folder, options.clips, options.clip_s)
    here = build_extractor("acoustic", "whisper-base")
    found: dict[str, Any] = {"asked": SOUND_ASKED}
    for precision in ("float32", "bfloat16"):
        there = build_extractor(
            "acoustic", "whisper-base", device=options.device, precision=precision
        )
        place = folder / precision
        found[precision], store = extraction(
            manifest, there, options.clip_s, options.workers, place
        )
        found[precision]["against_cpu"] = against_cpu(store, manifest, here)
    return found


def faces(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """`compact-face`, with the detector."""
    manifest = films(folder, options.films, options.film_s)
    there = build_extractor("visual", "compact-face", device=options.device)
    found, store = extraction(manifest, there, options.film_s, options.workers, folder)
    here = build_extractor("visual", "compact-face")
    return {"asked": FACES_ASKED, **found, "against_cpu": against_cpu(store, manifest[:1], here)}


# Training


def step(options: argparse.Namespace, _: Path) -> dict[str, Any]:
    """Training steps in turns."""
    device = usable_device(options.device)
    batch = make_batch(options.batch, tuple(options.steps), WIDTHS)
    there = batch.to(device)
    config = VAVLConfig.preset(
        options.preset, acoustic_dim=WIDTHS[0], visual_dim=WIDTHS[1], categories=list(CATEGORIES)
    )
    torch.manual_seed(0)
    weights = VAVL(config).state_dict()
    outputs = {}
    for name, place, autocast in (
        ("cpu", torch.device("cpu"), None),
        ("float32", device, None),
        ("bfloat16", device, torch.bfloat16),
    ):
        outputs[name] = _output(config, weights, place, batch, autocast)
    turns: Steps = {}
    ours = ("float32", "bfloat16", "bfloat16, compiled")
    for name in ours if options.compiler else ours[:2]:
        settings = TrainingConfig()
        objective = Objective(VAVL(config), settings).train().to(device)
        objective.model.load_state_dict(weights)
        if name.endswith("compiled"):
            compile_layers(objective.model, options.compiler)
        half = torch.autocast(device.type, torch.bfloat16, enabled=name != "float32")
        optimizer = make_optimizer(objective.model, settings)
        turns[name] = _finished(partial(take_steps, objective, optimizer, there, half), device)
    if options.published is not None:
        published = Published(options.published, len(CATEGORIES), device)
        given = there.acoustic, there.visual, there.category_targets
        turns["published"] = _finished(partial(published.take_steps, *given), device)
    times = interleaved(turns, repeats=options.repeats, warm_up=2)
    scale = outputs["cpu"].abs().max()
    return {
        "seconds": {name: spread(values) for name, values in times.items()},
        "published_over": {
            name: ratios(times["published"], times[name]) for name in times if "published" in times
        },
        "against_cpu": {
            name: float((output - outputs["cpu"]).abs().max() / scale)
            for name, output in outputs.items()
            if name != "cpu"
        },
    }


def _output(
    config: VAVLConfig,
    weights: dict[str, torch.Tensor],
    device: torch.device,
    batch: Batch,
    autocast: torch.dtype | None,
) -> torch.Tensor:
    """Predictions ``(B, C)`` of the model, on the CPU."""
    model = VAVL(config)
    model.load_state_dict(weights)
    model = model.to(device).eval()
    enabled = autocast is not None
    with torch.inference_mode(), torch.autocast(device.type, autocast, enabled=enabled):
        moved = batch.to(device)
        return (
            model(
                acoustic=moved.acoustic,
                acoustic_mask=moved.acoustic_mask,
                visual=moved.visual,
                visual_mask=moved.visual_mask,
            )
            .prediction.float()
            .cpu()
        )


def _finished(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The same, until the device has done all of it."""

    def call() -> None:
        function()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    return call


def device_name(device: torch.device) -> str:
    """What the device is called by its maker."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()})"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--clips", type=int, default=1000, help="of sound")
    parser.add_argument("--clip-s", type=float, default=4.0)
    parser.add_argument("--films", type=int, default=48)
    parser.add_argument("--film-s", type=float, default=10.0)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, nargs=2, default=(125, 75), help="acoustic, visual")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--compiler", default="inductor", help="of torch.compile; '' for none")
    parser.add_argument("--published", type=Path, help="checkout of ilucasgoncalves/VAVL")
    parser.add_argument("--budget-s", type=float, default=480.0)
    parser.add_argument("--tiny", action="store_true", help="seconds on a CPU: it runs at all")
    options = parser.parse_args()
    if options.tiny:
        parser.set_defaults(
            **{"workers": 0, "clips": 2, "clip_s": 0.5, "films": 1, "film_s": 0.4},
            **{"preset": "small", "batch": 2, "steps": (8, 5), "repeats": 1, "compiler": ""},
        )
        options = parser.parse_args()
    started = time.perf_counter()
    device = usable_device(options.device)
    results: dict[str, Any] = {}
    for name, part in (("sound", sound), ("faces", faces), ("step", step)):
        begun = time.perf_counter()
        if begun - started > options.budget_s:
            results[name] = "left out: no time was left"
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = part(options, Path(folder))
        results[name] = {**found, "seconds_in_all": time.perf_counter() - begun}
    print_report("gpu", vars(options), device=device_name(device), results=results)


if __name__ == "__main__":
    main()
