"""Doing what is left of a study: each task trains one fold with one seed."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from vavl.config.experiment import to_toml
from vavl.data.manifest import Manifest
from vavl.errors import StoreError
from vavl.evaluation.run import predict_fold
from vavl.studies.config import StudyConfig, load_study
from vavl.studies.plan import Plan, Task
from vavl.system.atomic import atomic_write, read_json
from vavl.system.processes import Failure, run_here, run_in_processes, shown
from vavl.training.experiment import open_stores, train_experiment
from vavl.training.run_folder import (
    PROVENANCE_FILE,
    SCHEMA_VERSION,
    check_provenance,
    differing_lines,
)

STUDY_FILE = "study.toml"
FAILURES_FILE = "failures.csv"


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
        for gaps in task.gaps:
            predict_fold(fold, manifest, stores, gaps)
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
        The tasks that failed, with the reason. Run again, they are tried again.

    Raises:
        StoreError: The models that are there were trained on other data, or another study is
            training in the same folder.
        VavlError: A worker process died.
    """
    check_data(plan)
    with _alone(plan.models):
        todo = [task for task in plan.tasks if not is_done(task)]
        workers = min(len(todo), usable_cores() if workers is None else workers)
        job = TaskJob()
        results = (
            run_in_processes(todo, job, workers, abandon=True) if workers else run_here(todo, job)
        )
        with closing(results):
            done = shown(todo, results, what=plan.study.name, progress=progress)
            failures = [(task, str(result)) for task, result in done if isinstance(result, Failure)]
    record_failures(plan, failures)
    return failures


@contextmanager
def _alone(models: Path) -> Iterator[None]:
    """Keeps other studies out while this one trains: two would write to the same models.

    The system lets go of the lock when the process ends, however that happens.
    """
    models.mkdir(parents=True, exist_ok=True)
    lock = FileLock(models / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"{models}: expected no other study to train here, found one; wait until it has "
            "ended, or take another folder (--out)"
        ) from None
    try:
        yield
    finally:
        lock.release()


def record_failures(plan: Plan, failures: Sequence[tuple[Task, str]]) -> None:
    """Writes ``failures.csv``, or removes an earlier one where nothing failed."""
    path = plan.folder / FAILURES_FILE
    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variants", "seed", "fold", "reason"])
        for task, reason in failures:
            seed = task.experiment.training.seed
            writer.writerow(["; ".join(task.variants), seed, task.fold, reason])


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_data(plan: Plan) -> None:
    """Raises StoreError unless the data are those that the finished runs were made with."""
    for experiment in {task.experiment.run_dir: task.experiment for task in plan.tasks}.values():
        if (experiment.run_dir / PROVENANCE_FILE).is_file():
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
        with atomic_write(path) as temporary:
            temporary.write_text(to_toml(_storable(plan.study)), encoding="utf-8")
        return []
    before = load_study(path)
    return differing_lines(_analysis(before), _analysis(plan.study))


def _storable(study: StudyConfig) -> StudyConfig:
    """With the text that stands for None, which TOML has no value for."""
    common = {key: "none" if value is None else value for key, value in study.set.items()}
    return study.model_copy(update={"set": common})


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
