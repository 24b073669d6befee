"""How long what is left of a study will take, before it is begun."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from lightning_fabric import Fabric

from vavl.config.experiment import ExperimentConfig
from vavl.data.dataset import BucketSampler, read_ahead
from vavl.data.manifest import Manifest
from vavl.errors import VavlError
from vavl.studies.plan import Plan, Task
from vavl.studies.run import is_done
from vavl.training.experiment import make_datasets, make_partitions, open_stores
from vavl.training.loop import train_epoch
from vavl.training.objective import Objective
from vavl.training.setup import compile_layers, make_fabric, make_model, make_optimizer

TIMED_BATCHES = 6
"""Batches that are trained to find out how long one takes."""


@dataclass(frozen=True)
class Estimate:
    """What is left of one training, the variants that share it, and how long one model takes.

    Attributes:
        variants: Names of the variants.
        tasks: Its models.
        left: Those that are not done.
        seconds: Of one core, for one model; NaN where nothing is left, or where it cannot be known.
        measured: Whether that was taken from finished models, rather than from a few batches.
        problem: Why it cannot be trained; empty otherwise.
    """

    variants: tuple[str, ...]
    tasks: int
    left: int
    seconds: float
    measured: bool
    problem: str = ""


def estimates(plan: Plan) -> Iterator[Estimate]:
    """One estimate per training; a training without a finished model is tried for a few batches."""
    groups: dict[tuple[str, ...], list[Task]] = {}
    for task in plan.tasks:
        groups.setdefault(task.variants, []).append(task)
    for variants, tasks in groups.items():
        left = sum(not is_done(task) for task in tasks)
        seconds, measured, problem = finished_seconds(tasks), True, ""
        if np.isnan(seconds) and left:
            measured = False
            try:
                seconds = tried_seconds(tasks[0].experiment, tasks[0].fold)
            except VavlError as error:
                problem = str(error)
        yield Estimate(variants, len(tasks), left, seconds, measured, problem)


def finished_seconds(tasks: Sequence[Task]) -> float:
    """Mean duration of the finished trainings in seconds; NaN without any."""
    times = [
        sum(record["seconds"] for record in task.directory.history())
        for task in tasks
        if task.directory.finished
    ]
    return float(np.mean(times)) if times else float("nan")


def tried_seconds(config: ExperimentConfig, fold: str) -> float:
    """Seconds that a training would take, from a few batches of its first epoch on one fold.

    Nothing is written. Scoring of development and test clips is not counted.
    """
    manifest = Manifest.load(config.data.manifest)
    stores = open_stores(config)
    (partition,) = (p for p in make_partitions(config, manifest) if p.name == fold)
    settings = config.training
    fabric: Fabric = make_fabric(settings)
    train, _ = make_datasets(config, manifest, stores, partition)
    model = make_model(config, train, stores)
    if settings.compile:
        compile_layers(model)
    objective = Objective(model, settings)
    objective, optimizer = fabric.setup(objective, make_optimizer(model, settings))
    sampler = BucketSampler(train.lengths.max(0).tolist(), settings.batch_size, seed=settings.seed)
    # A few of an epoch, which are drawn from all lengths of clips.
    places = list(itertools.islice(sampler, TIMED_BATCHES))

    def seconds() -> float:
        started = time.perf_counter()
        with read_ahead(train.__getitem__, places) as batches:
            train_epoch(fabric, objective, optimizer, batches, len(places), settings, 0)
        return time.perf_counter() - started

    seconds()  # warms caches and the files
    return seconds() / len(places) * len(sampler) * settings.epochs
