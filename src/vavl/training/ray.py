"""Training by Ray Train: it starts the processes on the machines of a cluster, and joins them.

The processes do what those of torchrun do (:func:`vavl.training.experiment.train_experiment`). When
one is lost, all are started again, and go on from the checkpoint in the run's folder. Needs the
extra ``vavl[ray]``.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, current_thread, main_thread
from typing import Any

import torch.distributed as dist

from vavl.config.experiment import ExperimentConfig, TrainingConfig
from vavl.errors import InputError, VavlError
from vavl.system.processes import one_line
from vavl.system.ray import machine_resources, ray_cluster
from vavl.training.experiment import FoldCallback, begin, epochs_of, train_experiment
from vavl.training.run_folder import FoldDirectory

RESTARTS = 3
"""How often the processes are started again after one was lost."""

_LOOK_S = 0.5
"""How often the display looks for a new epoch."""

_KEPT = "What is done is kept: the same command goes on."

_CONNECTION = re.compile("gloo|nccl|connection", re.IGNORECASE)
"""What errors of torch name that are no ``DistError``, e.g. those of gloo while ranks exchange."""

_log = logging.getLogger(__name__)


def train_on_ray(
    config: ExperimentConfig,
    *,
    workers: int,
    only: Sequence[str] = (),
    final: bool = False,
    overwrite: bool = False,
    on_fold: FoldCallback | None = None,
) -> list[FoldDirectory]:
    """As :func:`train_experiment`, by several processes of a Ray cluster.

    The cluster is the one that ``RAY_ADDRESS`` names, or one on this machine. All machines must see
    the working directory, the manifest, the feature stores and the run's folder under the same
    paths. Each process has a GPU, if the cluster has any and ``training.device`` does not say
    otherwise, and as many CPUs as ``training.threads`` says, by default one.

    ``on_fold`` is called in a thread of its own.

    Raises:
        InputError: Ray is missing, the cluster is too small, or something in the configuration or
            the data does not fit.
        StoreError: A store or the run's folder cannot be used.
        VavlError: Processes were lost more than :data:`RESTARTS` times, one failed for another
            reason, or Ray cannot run them.
    """
    with ray_cluster("train") as ray:
        settings, each, strategy = _placed(config.training, workers, machine_resources(ray))
        # What is wrong shows here, and not in each process.
        _, _, partitions = begin(config, only, final=final, overwrite=overwrite)
        folds = [FoldDirectory(config.run_dir / partition.name) for partition in partitions]
        placed = config.model_copy(update={"training": settings})
        job = {"config": placed, "only": tuple(only), "final": final, "folder": Path.cwd()}
        with _shown(folds, epochs_of(config, final=final), on_fold):
            restarts = 0
            while (problem := _attempt(ray.train, job, workers, each, strategy)) is not None:
                if restarts == RESTARTS:
                    raise VavlError(f"{problem}, after {RESTARTS} restarts. {_KEPT}")
                restarts += 1
                _log.warning("%s; restart %d of %d", problem, restarts, RESTARTS)
    return folds


def _placed(
    settings: TrainingConfig, workers: int, machines: Sequence[dict[str, float]]
) -> tuple[TrainingConfig, dict[str, float], str]:
    """What each process needs of a machine, and how Ray is to place them so that shares are equal.

    Returns the settings with the device that follows, the needs, and Ray's name of the strategy.
    """
    each: dict[str, float] = {"CPU": settings.threads or 1}
    if settings.device == "auto":
        device = "cuda" if any("GPU" in machine for machine in machines) else "cpu"
        settings = settings.model_copy(update={"device": device})
    if settings.device.startswith("cuda"):
        each["GPU"] = 1
    rooms = [
        int(min(machine.get(name, 0) // needed for name, needed in each.items()))
        for machine in machines
    ]
    rooms = [count for count in rooms if count]
    room = sum(rooms)
    if not 1 <= workers <= room:
        needs = " and ".join(f"{needed} {name}" for name, needed in each.items())
        raise InputError(
            f"workers: expected at least 1 and no more than the cluster has room for ({room}, with "
            f"{needs} each), got {workers}"
        )
    largest = max(rooms)
    if workers <= largest:
        return settings, each, "STRICT_PACK"
    # Ray deals to the machine that has most left: to machines that are not alike, unequal shares.
    alike = len(set(rooms)) == 1
    if not alike or workers % len(rooms):
        several = (
            f"a multiple of {len(rooms)} up to {room}, as many on each machine"
            if alike
            else f"machines with equal room (theirs is {sorted(rooms, reverse=True)}; Ray leaves "
            "out those where it was started with --num-cpus 0)"
        )
        raise InputError(
            f"workers: expected at most {largest}, all on one machine, or {several}; got {workers}"
        )
    return settings, each, "SPREAD"


def _attempt(
    train: Any, job: dict[str, Any], workers: int, each: dict[str, float], strategy: str
) -> str | None:
    """Trains; returns why it ended too early, if it did and another attempt may fare better."""
    from ray.exceptions import RayError
    from ray.train.torch import TorchTrainer

    with TemporaryDirectory() as notes, _interruptible():
        trainer = TorchTrainer(
            _work,
            train_loop_config=job,
            scaling_config=train.ScalingConfig(
                num_workers=workers,
                use_gpu="GPU" in each,
                resources_per_worker=each,
                placement_strategy=strategy,
            ),
            run_config=train.RunConfig(
                name="training",
                storage_path=notes,  # Ray's own, and empty: the run's folder has the checkpoint
                # Ray itself would start again whatever fails, after bad input too. It waits for
                # machines to come (back), a minute each time.
                failure_config=train.FailureConfig(controller_failure_limit=RESTARTS),
            ),
        )
        try:
            trainer.fit()
        except train.WorkerGroupError as error:
            failures = error.worker_failures
            for failure in failures.values():
                if isinstance(failure, VavlError):
                    raise failure from None
            # Where Ray misses one, the others have failed for want of its answer.
            lost = sum(type(failure).__module__.startswith("ray.") for failure in failures.values())
            if lost:
                return f"lost {lost} of {workers} processes"
            for rank, failure in failures.items():
                if not _is_disconnected(failure):
                    raise VavlError(
                        f"process {rank} of {workers} failed, as it would again: "
                        f"{one_line(failure)}. Mend that first. {_KEPT}\n{error}"
                    ) from error
            # Ray may see those first that have lost another.
            first = next(iter(failures.values()), error)
            return f"{len(failures)} of {workers} processes lost the others ({one_line(first)})"
        except (train.ControllerError, RayError) as error:
            reason = str(error).splitlines()[-1]
            raise VavlError(
                f"Ray cannot run {workers} processes ({reason}). They need CPUs or GPUs that are "
                f"free, and the same packages on all machines. {_KEPT}"
            ) from error
    return None


def _is_disconnected(failure: Exception) -> bool:
    """Whether a process failed because another was not there any more, or not to be reached."""
    if isinstance(failure, dist.DistError | ConnectionError):
        return True
    return isinstance(failure, RuntimeError) and _CONNECTION.search(str(failure)) is not None


def _work(job: dict[str, Any]) -> None:
    """What each process does."""
    config, folder = job["config"], job["folder"]
    if folder.is_dir():
        os.chdir(folder)  # paths of an experiment may be relative
    if not config.run_dir.is_dir():  # it was made by the command
        raise InputError(
            f"runs_dir: expected a folder that all machines of the cluster share, got "
            f"{config.run_dir} in {folder}, which {platform.node()} does not see"
        )
    train_experiment(config, only=job["only"], final=job["final"])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt; Ray Train would end the process, as if all had gone well."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if current_thread() is main_thread():  # elsewhere neither Ray nor we may set it
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _shown(
    folds: Sequence[FoldDirectory], epochs: int, on_fold: FoldCallback | None
) -> Iterator[None]:
    """Shows the epochs that the first process writes down, on whatever machine it is.

    What the display raises, this raises at the end, unless the training has failed itself.
    """
    if on_fold is None:
        yield
        return
    ended = Event()
    states = [(fold, fold.finished) for fold in folds]

    def show() -> None:
        for fold, finished in states:
            if ended.is_set() and not fold.finished:
                return
            on_epoch, shown = on_fold(fold, finished), 0
            while on_epoch is not None and not finished:
                finished = ended.wait(_LOOK_S) or fold.finished
                records = fold.history()
                for record in records[shown:]:
                    on_epoch(record, epochs)
                shown = len(records)

    with ThreadPoolExecutor(1, "display") as display:
        done = display.submit(show)
        try:
            yield
        finally:
            ended.set()
    done.result()
