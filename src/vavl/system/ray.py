"""Work on a cluster of `Ray <https://docs.ray.io>`_, for ``--engine ray``.

What :func:`vavl.system.processes.run_job` does with processes of this machine, :func:`run_on_ray`
does with actors of a cluster. An actor that dies costs nothing but the time for what it was at.
Needs the extra ``vavl[ray]``.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, NamedTuple

from vavl.errors import InputError, VavlError
from vavl.system.extras import extra_module
from vavl.system.processes import (
    THREAD_SETTINGS,
    Failure,
    Item,
    Job,
    Lost,
    Result,
    one_line,
    run_one,
)

GPU_SHARE = 0.25
"""What an actor gets of a GPU, by default: four share one."""

_PURPOSE = "--engine ray"
_MOST_DEATHS = 3
"""How often actors may die at an item before it is left out."""
_MOST_FAILED_STARTS = 3
"""How often in a row actors may die before they are ready."""
_DIED = object()
"""Stands for the result of an item at which an actor died."""


def run_on_ray(
    items: Sequence[Item],
    job: Job[Item, Result],
    *,
    workers: int = 0,
    threads: int = 1,
    device: str = "cpu",
    gpus: float = GPU_SHARE,
    apart: Callable[[Item], Sequence[Item]] = lambda item: (item,),
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Does a job over items on a Ray cluster; yields each item with its result, as they are done.

    Actors work in this folder, on machines that have it, so that relative paths mean the same. When
    one dies, another takes its place and what it was at is done again; after the third time, the
    item is :class:`Lost`. Whoever stops early ends all actors at once.

    Args:
        items: All of them; an actor has one at a time.
        job: What is done with each.
        workers: Number of actors; 0 takes as many as the cluster has room for.
        threads: CPU threads of each.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for GPUs if the cluster has any.
        gpus: What each gets of a GPU, if it gets any: more than 0 and at most 1.
        apart: The parts of an item at which an actor died, to be done one by one in its place.

    Raises:
        InputError: Ray is missing, the cluster too small or without a GPU, or the job's ``load``
            has failed; it concerns every item.
        VavlError: No actor lives long enough to load.
    """
    if not items:
        return
    with ray_cluster("util") as ray:
        machines = machine_resources(ray)
        gpus = gpu_share(machines, device, gpus)
        room = actors_that_fit(machines, threads, gpus)
        queue = deque(_Task(item) for item in items)
        unfinished = len(queue)
        actors = _Actors(ray, job, threads, gpus)
        try:
            for _ in range(min(workers or room, len(items))):
                actors.start()
            while unfinished:
                (item, deaths), result = actors.next_result(queue)
                if result is not _DIED:
                    unfinished -= 1
                    yield item, result
                elif deaths + 1 < _MOST_DEATHS:
                    parts = apart(item)
                    unfinished += len(parts) - 1
                    queue.extend(_Task(part, deaths + 1) for part in parts)
                else:
                    unfinished -= 1
                    yield item, Lost(f"each of the {_MOST_DEATHS} processes that began it died")
        finally:
            actors.end()


def gpu_share(machines: Sequence[Mapping[str, float]], device: str, gpus: float) -> float:
    """What each actor gets of a GPU: nothing for the CPU, and none where there are none.

    Raises:
        InputError: A share that is none, or a device that Ray cannot give: it numbers the GPUs
            itself.
    """
    if not 0 < gpus <= 1:
        raise InputError(f"gpus: expected a share of a GPU, above 0 and at most 1, got {gpus}")
    if device not in ("cpu", "cuda", "auto"):
        raise InputError(f"device: expected cpu, cuda or auto on Ray, got {device!r}")
    if device == "auto" and not any(machine.get("GPU") for machine in machines):
        return 0.0
    return 0.0 if device == "cpu" else gpus


def actors_that_fit(
    machines: Sequence[Mapping[str, float]], threads: int, gpus: float = 0.0
) -> int:
    """How many actors a cluster has room for, each with CPU threads and a share of a GPU.

    Raises:
        InputError: Not for one.

    Example:
        >>> actors_that_fit([{"CPU": 8, "GPU": 1}, {"CPU": 64}], threads=1, gpus=0.25)
        4
    """
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    if not any(count >= threads for count in cpus):
        raise InputError(
            f"threads: expected at most {max(cpus, default=0)}, the CPUs of the largest machine, "
            f"got {threads}"
        )
    fitting = [count // threads for count in cpus]
    if gpus:
        each = int(1 / gpus + 1e-9)  # an actor gets no parts of two
        of_gpus = [each * int(machine.get("GPU", 0)) for machine in machines]
        fitting = [min(pair) for pair in zip(fitting, of_gpus, strict=True)]
    if not sum(fitting):
        raise InputError(
            f"device: expected cpu, or a machine with a GPU and {threads} CPUs in the cluster"
        )
    return sum(fitting)


@contextmanager
def ray_cluster(library: str) -> Iterator[Any]:
    """Joins a cluster, unless that was done already, and leaves it again; keeps Ray quiet.

    The cluster is the one that ``RAY_ADDRESS`` names, or that runs on this machine. Where there is
    none, Ray is started here for as long. Gives the module ``ray``, with one part of it loaded,
    e.g. ``"data"``.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """
    ray = extra_module("ray", "ray", _PURPOSE)
    extra_module(f"ray.{library}", "ray", _PURPOSE)
    joined = not ray.is_initialized()
    if joined:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage report is sent
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f"RAY_ADDRESS: expected the address of a Ray cluster that runs, got none: {error}"
            ) from error
    logger = logging.getLogger(f"ray.{library}")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        logger.setLevel(level)
        if joined:
            ray.shutdown()


def machine_resources(ray: Any) -> list[dict[str, float]]:
    """What each machine of the cluster has, e.g. ``{"CPU": 8.0, "GPU": 1.0}``."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class _Task(NamedTuple, Generic[Item]):
    """An item that is to be done, and how many actors have died at it."""

    item: Item
    deaths: int = 0


class _Actors(Generic[Item]):
    """The actors of a job, each with a call in flight or ready for one."""

    def __init__(self, ray: Any, job: Job[Item, Any], threads: int, gpus: float) -> None:
        environment = {"env_vars": dict.fromkeys(THREAD_SETTINGS, str(threads))}
        self._ray = ray
        needs = {"num_cpus": threads, "num_gpus": gpus}
        self._class = ray.remote(**needs, runtime_env=environment)(_Actor)
        self._arguments = (ray.put(job), Path.cwd())
        self._calls: dict[Any, tuple[Any, _Task[Item] | None]] = {}
        self._ready: list[Any] = []
        self._failed_starts = 0

    def start(self) -> None:
        """Starts an actor. It gets work when it is ready: one too many for the cluster never is."""
        actor = self._class.remote(*self._arguments)
        self._calls[actor.load.remote()] = (actor, None)

    def end(self) -> None:
        """Ends all actors at once."""
        for actor in (*self._ready, *(actor for actor, _ in self._calls.values())):
            self._ray.kill(actor)

    def next_result(self, queue: deque[_Task[Item]]) -> tuple[_Task[Item], Any]:
        """Gives work to the actors that are ready, and waits until some is done.

        The result is ``_DIED`` if the actor died at it.
        """
        while True:
            self._hand_out(queue)
            [call], _ = self._ray.wait(list(self._calls))
            actor, task = self._calls.pop(call)
            try:
                result = self._ray.get(call)
            except self._ray.exceptions.RayTaskError:
                raise  # a defect of ours
            except self._ray.exceptions.RayError as error:
                self._ray.kill(actor)  # in case it was only out of reach
                self._failed_starts += task is None
                if self._failed_starts >= _MOST_FAILED_STARTS:
                    raise VavlError(f"ray: actors die before they are ready ({error})") from error
                self.start()
                result = _DIED
            else:
                if task is None and result is not None:
                    raise result
                self._ready.append(actor)
                self._failed_starts = 0
                self._hand_out(queue)  # before the caller takes time for the result
            if task is not None:
                return task, result

    def _hand_out(self, queue: deque[_Task[Item]]) -> None:
        while queue and self._ready:
            actor, task = self._ready.pop(), queue.popleft()
            self._calls[actor.do.remote(task.item)] = (actor, task)


class _Actor:
    """Runs in the cluster."""

    def __init__(self, job: Job[Any, Any], folder: Path) -> None:
        with suppress(OSError):  # this machine does not have it
            os.chdir(folder)
        self._job = job

    def load(self) -> InputError | None:
        """Prepares the job; returns why it cannot, which Ray would wrap if it were raised."""
        try:
            self._job.load()
        except Exception as error:
            return InputError(str(error) if isinstance(error, VavlError) else one_line(error))
        return None

    def do(self, item: Any) -> Any:
        """Does an item."""
        return run_one(self._job, item)
