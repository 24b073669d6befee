"""Extraction on Ray: each actor holds the models, and writes its shards where it runs.

This process names the shards and hands them out; only the ids and failures of the clips come back.
When an actor dies, another one takes its place, and the clips of its shard are extracted one by
one, so that a clip which kills every process costs no other clip. Needs the extra ``vavl[ray]``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vavl.data import shards as files
from vavl.data.store import StoreWriter
from vavl.data.store_folder import StoreFolder
from vavl.errors import InputError, StoreError, VavlError
from vavl.features.clips import ClipExtraction, ClipTask
from vavl.system.processes import THREAD_SETTINGS, Failure, one_line, run_one
from vavl.system.ray import machine_resources, ray_cluster

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Outcome: TypeAlias = NDArray[np.float16] | Failure
    """Features of a clip, or why there are none."""

_MOST_DEATHS = 2
"""How often actors may die at a single clip before it is left out."""
_MOST_FAILED_STARTS = 3
"""How often in a row actors may die before they are ready."""
_DEADLY = Failure("the process that extracts this clip dies at it every time")


def extract_on_ray(
    writer: StoreWriter,
    tasks: Sequence[ClipTask],
    job: ClipExtraction,
    *,
    workers: int,
    threads: int,
) -> Generator[tuple[str, Failure | None], None, None]:
    """Extracts clips on a Ray cluster, into the store of a writer.

    Args:
        writer: The store; only its failures are written by this process.
        tasks: The clips.
        job: Extracts one.
        workers: Number of actors; 0 takes as many as the cluster has room for.
        threads: CPU threads of each.

    Yields:
        Utterance id, and its failure or None; in no particular order.

    Raises:
        InputError: Ray is not installed, the weights cannot be loaded, no other process can see the
            store, or no machine has so many CPUs.
        StoreError: An actor cannot write to the store, or what it wrote is not seen here.
        VavlError: Actors die before they are ready.
    """
    if not writer.folder.is_shared:
        raise InputError(
            f"{writer.folder}: expected a place that all processes see, got one in the memory of "
            "this process; give a folder, or an object store"
        )
    if not tasks:
        return
    size = writer.clips_per_shard
    shards = [
        _Shard(next(writer.free_shards), tasks[start : start + size])
        for start in range(0, len(tasks), size)
    ]
    with ray_cluster("util") as ray:
        room = _room(ray, threads)
        actors = _Actors(ray, job, writer.folder, threads)
        try:
            for _ in range(min(workers or room, len(shards))):
                actors.start()
            for failures in _finished(shards, actors, writer.folder, job.extractor.spec.key):
                writer.adopt(i for i, failure in failures.items() if failure is None)
                yield from failures.items()
        finally:
            actors.end()


def _room(ray: Any, threads: int) -> int:
    """How many actors the cluster has room for."""
    cpus = [int(machine.get("CPU", 0)) for machine in machine_resources(ray)]
    room = sum(count // threads for count in cpus)
    if not room:
        raise InputError(
            f"threads: expected at most {max(cpus, default=0)}, the CPUs of the largest machine, "
            f"got {threads}"
        )
    return room


@dataclass
class _Shard:
    """Clips that are stored together; ``outcomes`` are those of clips extracted one by one."""

    name: str
    tasks: Sequence[ClipTask]
    outcomes: dict[str, Outcome] = field(default_factory=dict)


class _Work(NamedTuple):
    """A shard, or a single clip of it."""

    shard: _Shard
    task: ClipTask | None = None


def _finished(
    shards: Sequence[_Shard], actors: _Actors, folder: StoreFolder, key: str
) -> Iterator[dict[str, Failure | None]]:
    """Hands out the shards; yields the failures of each that is written, None for a clip in it."""
    queue = deque(_Work(shard) for shard in shards)
    deaths: Counter[str] = Counter()
    unfinished = len(shards)
    while unfinished:
        (shard, task), result = actors.next_result(queue)
        if task is None and result is None:  # the actor died: find out at which clip
            queue.extend(_Work(shard, each) for each in shard.tasks)
            continue
        if task is not None:
            clip = task.utterance_id
            deaths[clip] += result is None
            if result is None and deaths[clip] < _MOST_DEATHS:
                queue.append(_Work(shard, task))
                continue
            shard.outcomes[clip] = _DEADLY if result is None else result
            if len(shard.outcomes) < len(shard.tasks):
                continue
            ids = [each.utterance_id for each in shard.tasks]
            result = _write(folder, shard.name, key, {i: shard.outcomes[i] for i in ids})
        size, failures = result
        if size is not None and folder.size(files.data_name(shard.name)) != size:
            raise StoreError(
                f"{folder}: {files.data_name(shard.name)} was written by an actor and is not seen "
                "here; give a folder that all machines share, or an object store"
            )
        unfinished -= 1
        yield failures


class _Actors:
    """The actors of a job, each with a call in flight or ready for one."""

    def __init__(self, ray: Any, job: ClipExtraction, folder: StoreFolder, threads: int) -> None:
        environment = {"env_vars": dict.fromkeys(THREAD_SETTINGS, str(threads))}
        self._ray = ray
        self._class = ray.remote(num_cpus=threads, runtime_env=environment)(_Actor)
        self._arguments = (ray.put(job), folder)
        self._calls: dict[Any, tuple[Any, _Work | None]] = {}
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

    def next_result(self, queue: deque[_Work]) -> tuple[_Work, Any]:
        """Gives work to the actors that are ready, and waits until some is done.

        Returns:
            The work, and its result; None if its actor died.

        Raises:
            InputError: The weights cannot be loaded.
            StoreError: A shard cannot be written.
            VavlError: Actors die before they are ready.
        """
        while True:
            while queue and self._ready:
                self._give(self._ready.pop(), queue.popleft())
            [call], _ = self._ray.wait(list(self._calls))
            actor, work = self._calls.pop(call)
            try:
                result = self._ray.get(call)
            except self._ray.exceptions.RayTaskError:
                raise  # a defect of ours
            except self._ray.exceptions.RayError as error:
                self._ray.kill(actor)  # in case it was only out of reach
                self._failed_starts += work is None
                if self._failed_starts >= _MOST_FAILED_STARTS:
                    raise VavlError(f"ray: actors die before they are ready ({error})") from error
                self.start()
                result = None
            else:
                if isinstance(result, VavlError):
                    raise result
                self._ready.append(actor)
                self._failed_starts = 0
            if work is not None:
                return work, result

    def _give(self, actor: Any, work: _Work) -> None:
        if work.task is None:
            call = actor.write_shard.remote(work.shard.name, work.shard.tasks)
        else:
            call = actor.extract.remote(work.task)
        self._calls[call] = (actor, work)


class _Actor:
    """Runs in the cluster; returns errors of the whole job, which Ray would wrap if raised."""

    def __init__(self, job: ClipExtraction, folder: StoreFolder) -> None:
        self._job = job
        self._folder = folder

    def load(self) -> InputError | None:
        """Loads the weights."""
        try:
            self._job.load()
        except Exception as error:
            return InputError(_reason(error))
        return None

    def extract(self, task: ClipTask) -> Outcome:
        """Extracts a clip."""
        return run_one(self._job, task)

    def write_shard(
        self, name: str, tasks: Sequence[ClipTask]
    ) -> tuple[int | None, dict[str, Failure | None]] | StoreError:
        """Extracts clips and writes them as a shard."""
        outcomes = {task.utterance_id: self.extract(task) for task in tasks}
        try:
            return _write(self._folder, name, self._job.extractor.spec.key, outcomes)
        except Exception as error:  # of the place, not of a clip: others would fare no better
            return StoreError(_reason(error))


def _write(
    folder: StoreFolder, name: str, key: str, outcomes: Mapping[str, Outcome]
) -> tuple[int | None, dict[str, Failure | None]]:
    """Writes a shard; returns its size in bytes, None without features, and the failures."""
    failures = {i: found if isinstance(found, Failure) else None for i, found in outcomes.items()}
    frames = {i: found for i, found in outcomes.items() if not isinstance(found, Failure)}
    return files.write_shard(folder, name, key, frames) if frames else None, failures


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, VavlError) else one_line(error)
