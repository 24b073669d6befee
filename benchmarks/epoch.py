"""An epoch of training on features that are there: its time, and where it goes; prints JSON.

python benchmarks/epoch.py ravdess --threads 1 2 \
    --set model.acoustic_subsampling=4

Whole epochs that read their batches ahead, as training does, take turns with epochs that read each
when it is wanted, and with reading alone. Waiting is the time for which the steps of an epoch wait
for their batches. The profile has shares of the time that one thread spends in torch's operations
during an epoch.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timing import interleaved, print_report, ratios, spread
from torch.profiler import ProfilerActivity, profile

from vavl.cli.options import parse_assignments
from vavl.config.experiment import ExperimentConfig, load_experiment
from vavl.data.dataset import BucketSampler, read_ahead
from vavl.data.manifest import Manifest
from vavl.training.experiment import make_datasets, make_partitions, open_stores
from vavl.training.loop import train_epoch
from vavl.training.objective import Objective
from vavl.training.setup import make_fabric, make_model, make_optimizer
from vavl.types import Batch

GROUPS = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul"),
    "convolution": ("mkldnn_convolution", "convolution_backward", "conv2d"),
    "normalisation": (
        *("native_layer_norm", "native_layer_norm_backward"),
        *("native_batch_norm", "native_batch_norm_backward"),
    ),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "random numbers": ("random_", "randn_like", "normal_"),
    "copies": ("copy_", "fill_", "cat", "index", "index_select", "index_copy"),
    "optimizer": ("_fused_adam_", "_fused_adamw_"),
    "element by element": (
        *("mul", "mul_", "add", "add_", "sub", "div", "lerp", "ge_", "sum", "sigmoid"),
        *("silu", "silu_backward", "glu", "glu_backward", "masked_fill_"),
    ),
}


class Training:
    """What an epoch takes, as the training loop sets it up."""

    def __init__(self, config: ExperimentConfig, batches: int | None = None) -> None:
        manifest = Manifest.load(config.data.manifest)
        stores = open_stores(config)
        partition = make_partitions(config, manifest)[0]
        self.settings = config.training
        self.fabric = make_fabric(self.settings)
        self.train, _ = make_datasets(config, manifest, stores, partition)
        model = make_model(config, self.train)
        optimizer = make_optimizer(model, self.settings)
        objective = Objective(model, self.settings)
        self.objective, self.optimizer = self.fabric.setup(objective, optimizer)
        sampler = BucketSampler(self.train.lengths.max(0).tolist(), self.settings.batch_size)
        self.places = list(sampler)[:batches]
        self.train.draw_variants(0)
        self.waiting: dict[str, list[float]] = {"ahead": [], "when wanted": []}

    def read(self) -> None:
        for rows in self.places:
            self.train[rows]

    def read_ahead(self) -> None:
        with read_ahead(self.train.__getitem__, self.places) as batches:
            self._epoch(batches, self.waiting["ahead"])

    def read_when_wanted(self) -> None:
        self._epoch(map(self.train.__getitem__, self.places), self.waiting["when wanted"])

    def _epoch(self, batches: Iterator[Batch], waiting: list[float]) -> None:
        waiting.append(0.0)

        def timed() -> Iterator[Batch]:
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                waiting[-1] += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

        train_epoch(
            self.fabric,
            self.objective,
            self.optimizer,
            timed(),
            len(self.places),
            self.settings,
            epoch=0,
        )


def profile_shares(training: Training) -> dict[str, float]:
    """Share of the time of an epoch that operations of each kind take."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        training.read_ahead()
    kinds = {f"aten::{name}": group for group, names in GROUPS.items() for name in names}
    times: Counter[str] = Counter()
    for event in profiled.key_averages():
        times[kinds.get(event.key, "other")] += event.self_cpu_time_total
    total = sum(times.values())
    return {kind: round(time / total, 3) for kind, time in times.most_common()}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, help="of the epoch, from its beginning; else all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="keys of the experiment: KEY=VALUE")
    options = parser.parse_args()
    config = load_experiment(options.config, parse_assignments(options.set))
    training = Training(config, options.batches)
    results: dict[str, Any] = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        seconds = interleaved(
            {
                "reading": training.read,
                "ahead": training.read_ahead,
                "when wanted": training.read_when_wanted,
            },
            repeats=options.repeats,
            warm_up=1,
        )
        waiting = {name: s[-options.repeats :] for name, s in training.waiting.items()}
        results[f"{threads} threads"] = {
            "seconds": {name: spread(values) for name, values in seconds.items()},
            "reading_over_epoch": ratios(seconds["reading"], seconds["ahead"]),
            "share_of_waiting": {n: ratios(s, seconds[n]) for n, s in waiting.items()},
            "when_wanted_over_ahead": ratios(seconds["when wanted"], seconds["ahead"]),
            "load": os.getloadavg()[0],
            "profile": profile_shares(training),
        }
    print_report(
        "epoch",
        vars(options),
        clips=sum(map(len, training.places)),
        batches=len(training.places),
        results=results,
    )


if __name__ == "__main__":
    main()
