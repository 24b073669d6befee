"""Training of the published implementation beside ours: steps, and an epoch; prints JSON.

python benchmarks/reference.py VAVL_CHECKOUT --store stores/ravdess/layers-3/speed-1.0/acoustic

Same sizes (preset `paper`), same clips, in turns in one process. Two measurements:

- a batch of fixed lengths: 32 clips of 125 acoustic steps of 1024 and 75 visual steps of 1408;
- with `--store`, the lengths of the clips in that feature store at 50 Hz, and 30 visual steps a
  second, with random features: the published training takes clips in the order of their names and
  pads to the longest of a batch; ours puts clips of similar length into a batch. Each measurement
  draws batches of the published order anew; ours are made of the same clips.

The epoch is an estimate: the mean step times the number of batches, and for the published training
twice a forward pass of its frozen speech encoder (random weights) over the padded sound, timed on a
few clips in the same turns and scaled to all. Its backward passes through that encoder, whose
gradients nobody uses, are not counted, nor is scoring after the epoch on either side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from published import WIDTHS, Published, speech_encoder
from timing import interleaved, print_report, ratios, spread
from train_step import make_batch, take_steps

from vavl.config.experiment import TrainingConfig
from vavl.config.models import VAVLConfig
from vavl.data.dataset import BucketSampler
from vavl.data.store import FeatureStore
from vavl.models.conformer import lengths_to_mask
from vavl.models.vavl import SCHEDULES, VAVL
from vavl.training.objective import Objective
from vavl.training.setup import make_optimizer
from vavl.types import Batch

ACOUSTIC_HZ, VISUAL_HZ, SAMPLING_RATE_HZ = 50, 30, 16_000
CATEGORIES = "abcdef"

Step = Callable[[Batch], None]


def steps_of(checkout: Path) -> dict[str, Step]:
    """A training step on a batch, of the published implementation and of ours."""
    published = Published(checkout, len(CATEGORIES))

    def published_step(batch: Batch) -> None:
        published.take_steps(batch.acoustic, batch.visual, batch.category_targets)  # type: ignore[arg-type]

    found: dict[str, Step] = {"published": published_step}
    config = VAVLConfig.preset(
        "paper", acoustic_dim=WIDTHS[0], visual_dim=WIDTHS[1], categories=list(CATEGORIES)
    )
    for schedule in SCHEDULES:
        settings = TrainingConfig(schedule=schedule)  # type: ignore[arg-type]
        objective = Objective(VAVL(config), settings).train()
        found[schedule] = partial(take_steps, objective, make_optimizer(objective.model, settings))
    return found


def batch_of(lengths: NDArray[np.int64]) -> Batch:
    """Random features of clips of ``(B, 2)`` acoustic and visual lengths."""
    acoustic, visual = lengths.max(0).tolist()
    batch = make_batch(len(lengths), (acoustic, visual), WIDTHS)
    counts = torch.from_numpy(lengths)
    batch.acoustic_mask = lengths_to_mask(counts[:, 0], acoustic)
    batch.visual_mask = lengths_to_mask(counts[:, 1], visual)
    return batch


def padded_share(batches: Sequence[NDArray[np.int64]]) -> float:
    """Share of the acoustic steps of some batches that is padding."""
    valid = sum(int(b[:, 0].sum()) for b in batches)
    return 1 - valid / sum(len(b) * int(b[:, 0].max()) for b in batches)


def compared(times: dict[str, list[float]]) -> dict[str, Any]:
    """Seconds of each alternative, and how many times faster than the published one each is."""
    return {
        "seconds": {name: spread(values) for name, values in times.items()},
        "published_over": {name: ratios(times["published"], times[name]) for name in SCHEDULES},
    }


def fixed_lengths(steps: dict[str, Step], options: argparse.Namespace) -> dict[str, Any]:
    """A step on a batch without padding."""
    batch = make_batch(options.clips, (125, 75), WIDTHS)
    return compared(
        interleaved(
            {name: partial(step, batch) for name, step in steps.items()},
            repeats=options.repeats,
            warm_up=1,
        )
    )


def corpus_lengths(
    steps: dict[str, Step], lengths: NDArray[np.int64], options: argparse.Namespace
) -> dict[str, Any]:
    """Steps on batches of a corpus, and what an epoch comes to.

    Args:
        steps: A training step of each implementation.
        lengths: ``(N, 2)`` acoustic and visual steps of the clips, in the order of their names.
        options: Of the command line.
    """
    in_order = [
        lengths[i : i + options.clips]
        for i in range(0, len(lengths) - options.clips + 1, options.clips)
    ]
    rng = np.random.default_rng(0)
    encoder = speech_encoder()
    seconds_of_sound = sum(len(b) * float(b[:, 0].max()) for b in in_order) / ACOUSTIC_HZ
    timed_s = float(np.mean([b[:, 0].max() for b in in_order])) / ACOUSTIC_HZ
    wave = torch.randn(options.encoder_clips, round(timed_s * SAMPLING_RATE_HZ))

    @torch.inference_mode()
    def encode() -> None:
        encoder(wave)

    def run(step: Step, batches: Sequence[Batch]) -> None:
        for batch in batches:
            step(batch)

    times: dict[str, list[float]] = {}
    padding: dict[str, list[float]] = {"published": [], "bucketed": []}
    encode()
    for _ in range(options.repeats):
        drawn = [in_order[i] for i in rng.choice(len(in_order), options.batches, replace=False)]
        clips = np.concatenate(drawn)
        sampler = BucketSampler(clips.max(1).tolist(), options.clips)
        bucketed = [clips[rows] for rows in sampler]
        padding["published"].append(padded_share(drawn))
        padding["bucketed"].append(padded_share(bucketed))
        theirs, ours = ([batch_of(b) for b in batches] for batches in (drawn, bucketed))
        turns = {n: partial(run, s, theirs if n == "published" else ours) for n, s in steps.items()}
        for name, values in interleaved({**turns, "encoder": encode}, repeats=1).items():
            times.setdefault(name, []).extend(values)

    whole = len(in_order) / options.batches
    encoding = seconds_of_sound / (options.encoder_clips * timed_s)
    epochs = {name: [whole * t for t in times[name]] for name in steps}
    epochs["published"] = [
        trunk + 2 * encoding * once
        for trunk, once in zip(epochs["published"], times["encoder"], strict=True)
    ]
    return {
        "steps": compared({name: times[name] for name in steps}),
        "padded_share": {name: spread(shares) for name, shares in padding.items()},
        "epoch_estimate": {
            "batches": len(in_order),
            "encoder_timed_s_of_sound": options.encoder_clips * timed_s,
            "encoder_s_of_sound": 2 * seconds_of_sound,
            **compared(epochs),
        },
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder of ilucasgoncalves/VAVL")
    parser.add_argument("--store", type=Path, help="acoustic feature store at 50 Hz: its lengths")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=32, help="clips per batch")
    parser.add_argument("--batches", type=int, default=4, help="of the corpus, per measurement")
    parser.add_argument("--encoder-clips", type=int, default=2, help="through the speech encoder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    steps = steps_of(options.checkout)
    results = {"fixed_lengths": fixed_lengths(steps, options)}
    if options.store is not None:
        store = FeatureStore.open(options.store)
        acoustic = store.lengths[np.argsort(store.ids)]
        visual = np.maximum(np.rint(acoustic * VISUAL_HZ / ACOUSTIC_HZ).astype(np.int64), 1)
        results["corpus_lengths"] = corpus_lengths(
            steps, np.stack([acoustic, visual], axis=1), options
        )
    print_report("reference", vars(options), results=results)


if __name__ == "__main__":
    main()
