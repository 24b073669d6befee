"""Carrying out a study: its data, how long it will take, its models, and the record of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vavl.config.experiment import ExperimentConfig, to_toml
from vavl.data.corpora import prepare
from vavl.data.dataset import BucketSampler, read_ahead
from vavl.data.manifest import Manifest
from vavl.errors import InputError, StoreError, VavlError
from vavl.evaluation.evaluate import predict_fold
from vavl.evaluation.wording import csv_table, write_texts
from vavl.features.extract import extract, training_statistics
from vavl.features.registry import build_extractor
from vavl.studies.config import StudyConfig, load_study
from vavl.studies.plan import Plan, Task
from vavl.system.atomic import read_json
from vavl.system.locks import alone
from vavl.system.processes import Failure, run_job, usable_cores
from vavl.system.progress import with_progress
from vavl.training.experiment import make_datasets, make_partitions, open_stores, train_experiment
from vavl.training.loop import train_epoch
from vavl.training.objective import Objective
from vavl.training.run_folder import (
    PROVENANCE_FILE,
    SCHEMA_VERSION,
    check_provenance,
    differing_lines,
    has_learned,
)
from vavl.training.setup import compile_layers, make_fabric, make_model, make_optimizer

STUDY_FILE = "study.toml"
FAILURES_FILE = "failures.csv"

TIMED_BATCHES = 6
"""Batches that are trained to find out how long one takes."""


def prepare_data(study: StudyConfig, root: Path, *, workers: int = 0) -> int:
    """Makes the utterance table and all stores of a study; what is there is left as it is.

    Args:
        study: One with ``corpus`` and ``stores``.
        root: The copy of the corpus.
        workers: Processes that extract; 0 works in this process.

    Returns:
        How many clips failed, over all stores; the reasons are in the stores' ``failures.csv``.

    Raises:
        InputError: The study does not say how its data are made, or the corpus, an extractor or
            one of its parameters does not fit.
        StoreError: A store holds features of another extractor.
    """
    if study.corpus is None:
        raise InputError(f"--root: the study {study.name} does not say how its data are made")
    table = study.corpus.out / "manifest.parquet"
    if not table.is_file():
        prepare(study.corpus.name, root=root, out=study.corpus.out, **study.corpus.options)
    manifest = Manifest.load(table)
    print(f"{table}: {len(manifest)} utterances of {len(manifest.speakers)} speakers")
    failed = 0
    for store in study.stores:
        parameters = dict(store.parameters)
        if store.statistics_of is not None:
            parameters |= training_statistics(manifest, store.statistics_of)
        extractor = build_extractor(store.modality, store.extractor, **parameters)
        report = extract(manifest, extractor, store.out, workers=workers)
        failed += len(report.failed)
        print(f"{store.out}: {report.summary()}")
    return failed


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
        histories = [task.directory.history() for task in tasks if task.directory.finished]
        seconds, problem = float("nan"), ""
        if histories:
            times = [sum(record["seconds"] for record in history) for history in histories]
            seconds = float(np.mean(times))
        elif left:
            try:
                seconds = _tried_seconds(tasks[0].experiment, tasks[0].fold)
            except VavlError as error:
                problem = str(error)
        yield Estimate(variants, len(tasks), left, seconds, bool(histories), problem)


def _tried_seconds(config: ExperimentConfig, fold: str) -> float:
    """Seconds that a training would take, from a few batches of its first epoch on one fold.

    Nothing is written. Scoring of development and test clips is not counted.
    """
    manifest, stores = Manifest.load(config.data.manifest), open_stores(config)
    (partition,) = (p for p in make_partitions(config, manifest) if p.name == fold)
    settings = config.training
    fabric = make_fabric(settings)
    train, _ = make_datasets(config, manifest, stores, partition)
    model = make_model(config, train)
    if settings.compile:
        compile_layers(model)
    objective = Objective(model, settings)
    objective, optimizer = fabric.setup(objective, make_optimizer(model, settings))
    sampler = BucketSampler(train.lengths.max(0).tolist(), settings.batch_size, seed=settings.seed)
    # A few of an epoch, which are drawn from all lengths of clips.
    places = list(islice(sampler, TIMED_BATCHES))

    def seconds() -> float:
        started = time.perf_counter()
        with read_ahead(train.__getitem__, places) as batches:
            train_epoch(fabric, objective, optimizer, batches, len(places), settings, 0)
        return time.perf_counter() - started

    seconds()  # warms caches and the files
    return seconds() / len(places) * len(sampler) * settings.epochs


@dataclass(frozen=True)
class TaskJob:
    """Trains and predicts; what is done already is left as it is."""

    def load(self) -> None:
        """One thread: the numbers must not depend on how many tasks run at a time."""
        torch.set_num_threads(1)

    def __call__(self, task: Task) -> None:
        """Does one task."""
        (fold,) = train_experiment(task.experiment, only=[task.fold])
        manifest = Manifest.load(task.experiment.data.manifest)
        stores = open_stores(task.experiment)
        for condition in task.conditions:
            predict_fold(fold, manifest, stores, condition)
        if task.on_training:
            predict_fold(fold, manifest, stores, split="train")


def is_done(task: Task) -> bool:
    """Whether a task has left its model and all its predictions."""
    return task.directory.finished and all(file.is_file() for file in task.files)


def run_tasks(
    plan: Plan, *, workers: int | None = None, progress: bool = True
) -> list[tuple[Task, str]]:
    """Does all tasks that are not done yet; a task that fails harms no other.

    Args:
        plan: The study.
        workers: Processes that train at a time; None takes one per CPU core, and 0 trains in this
            process.
        progress: Whether to show a bar on standard error.

    Returns:
        The tasks that failed, with the reason; the next call tries them again.

    Raises:
        StoreError: The models that are there were trained on other data, or another study is
            training in the same folder.
        VavlError: A worker process died.
    """
    _check_data(plan)
    busy = (
        "expected no other study to train here, found one; wait until it has ended, or take "
        "another folder (--out)"
    )
    with alone(plan.models, busy):  # two would write to the same models
        todo = [task for task in plan.tasks if not is_done(task)]
        workers = min(len(todo), usable_cores() if workers is None else workers)
        job = TaskJob()
        with closing(run_job(todo, job, workers, abandon=True)) as results:
            done = with_progress(results, len(todo), what=plan.study.name, progress=progress)
            failures = [(task, str(result)) for task, result in done if isinstance(result, Failure)]
    _record_failures(plan, failures)
    return failures


def _record_failures(plan: Plan, failures: Sequence[tuple[Task, str]]) -> None:
    """Writes ``failures.csv``, or removes an earlier one where nothing failed."""
    if not failures:
        (plan.folder / FAILURES_FILE).unlink(missing_ok=True)
        return
    rows = (
        {
            "variants": "; ".join(task.variants),
            "seed": task.experiment.training.seed,
            "fold": task.fold,
            "reason": reason,
        }
        for task, reason in failures
    )
    text = csv_table(("variants", "seed", "fold", "reason"), rows)
    write_texts(plan.folder, {FAILURES_FILE: text})


def _check_data(plan: Plan) -> None:
    """Raises StoreError unless the data are those that the finished runs were made with."""
    for experiment in {task.experiment.run_dir: task.experiment for task in plan.tasks}.values():
        if has_learned(experiment.run_dir):
            manifest = Manifest.load(experiment.data.manifest)
            try:
                check_provenance(experiment.run_dir, manifest, open_stores(experiment))
            except StoreError as error:
                raise StoreError(f"{error} For a study that is another folder (--out).") from error


def made_with(plan: Plan) -> list[str]:
    """What the models were trained with, as their runs recorded it: revisions, versions, system."""
    lines = []
    for folder in dict.fromkeys(task.experiment.run_dir for task in plan.tasks):
        if (folder / PROVENANCE_FILE).is_file():
            content = read_json(folder / PROVENANCE_FILE, SCHEMA_VERSION)
            versions = content["versions"]
            packages = ", ".join(f"{name} {versions[name]}" for name in ("vavl", "torch", "python"))
            revision = content["git_revision"] or "unknown"
            lines.append(f"{packages}; revision {revision}; {content['platform']}")
    return list(dict.fromkeys(lines))


def begin(plan: Plan) -> list[str]:
    """Keeps the study as it was begun; returns how its analysis was changed since, if it was.

    The reference, metrics, hypotheses and the meaning of the variants are to be written down before
    anything is trained. Changes are allowed, and told by the report.
    """
    path = plan.folder / STUDY_FILE
    if not path.is_file() or not any(task.directory.finished for task in plan.tasks):
        # TOML has no None.
        common = {k: "none" if value is None else value for k, value in plan.study.set.items()}
        text = to_toml(plan.study.model_copy(update={"set": common}))
        write_texts(plan.folder, {STUDY_FILE: text})
        return []
    return differing_lines(_analysis(load_study(path)), _analysis(plan.study))


def _analysis(study: StudyConfig) -> dict[str, Any]:
    content = study.model_dump(mode="json")
    # Where files lie, and wording, may change freely.
    for part in (content, *content["variants"].values(), *content["sweeps"]):
        for name in ("base", "title", "question", "about", "label"):
            part.pop(name, None)
    # Nor do these decide anything: how the data are made, and what others found.
    for name in ("set", "corpus", "stores", "published"):
        del content[name]
    return {
        **content,
        "sweeps": {sweep["name"]: sweep for sweep in content["sweeps"]},
        "hypotheses": {
            f"{h['variant']} against {h['against']}, {h['metric']}": h["expect"]
            for h in content["hypotheses"]
        },
    }
