"""Extraction on Ray: each actor holds the models, and writes its shards where it runs.

This process names the shards and hands them out; only the ids and failures of the clips come back.
When an actor dies, another one takes its place, and the clips of its shard are extracted one by
one, so that a clip which kills every process costs no other clip. Needs the extra ``vavl[ray]``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import Utterance
from vavl.data.store import StoreWriter, data_name, write_shard
from vavl.data.store_folder import StoreFolder
from vavl.errors import InputError, StoreError, VavlError
from vavl.system.processes import THREAD_SETTINGS, Failure, Job, one_line, run_one
from vavl.system.ray import machine_resources, ray_cluster

_Outcome: TypeAlias = NDArray[np.float16] | Failure
"""Features of a clip, or why there are none."""
_Failures: TypeAlias = dict[str, Failure | None]
"""The clips of a shard that is done; None for those whose features are in it."""

_MOST_DEATHS = 2
"""How often actors may die at a single clip before it is left out."""
_MOST_FAILED_STARTS = 3
"""How often in a row actors may die before they are ready."""
_DEADLY = Failure("the process that extracts this clip dies at it every time")


class _Job(Job[Utterance, NDArray[np.float16]], Protocol):
    """Extracts clips one by one, or several as is best on the device."""

    def run(self, clips: Sequence[Utterance]) -> Iterable[tuple[Utterance, _Outcome]]:
        """Extracts several, in their order."""


def extract_on_ray(
    writer: StoreWriter,
    clips: Sequence[Utterance],
    job: _Job,
    key: str,
    *,
    workers: int,
    threads: int,
    device: str,
    gpus: float,
) -> Generator[tuple[str, Failure | None], None, None]:
    """Extracts clips on a Ray cluster, into the store of a writer.

    Args:
        writer: The store; only its failures are written by this process.
        clips: What is to be extracted.
        job: Extracts one.
        key: Of the features.
        workers: Number of actors; 0 takes as many as the cluster has room for.
        threads: CPU threads of each.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for GPUs if the cluster has any.
        gpus: What each gets of a GPU, if it gets any.

    Yields:
        Utterance id, and its failure or None; in no particular order.
    """
    if not writer.folder.is_shared:
        raise InputError(
            f"{writer.folder}: expected a place that all processes see, got one in the memory of "
            "this process; give a folder, or an object store"
        )
    if not clips:
        return
    size = writer.clips_per_shard
    shards = [
        _Shard(next(writer.free_shards), clips[start : start + size])
        for start in range(0, len(clips), size)
    ]
    with ray_cluster("util") as ray:
        machines = machine_resources(ray)
        gpus = gpu_share(machines, device, gpus)
        room = actors_that_fit(machines, threads, gpus)
        store = _Store(writer.folder, key)
        actors = _Actors(ray, job, store, threads, gpus)
        try:
            for _ in range(min(workers or room, len(shards))):
                actors.start()
            for failures in _finished(shards, actors, store):
                writer.adopt(i for i, failure in failures.items() if failure is None)
                yield from failures.items()
        finally:
            actors.end()


def gpu_share(machines: Sequence[Mapping[str, float]], device: str, gpus: float) -> float:
    """What each actor gets of a GPU: nothing for the CPU, and none where there are none.

    Raises:
        InputError: A device that Ray cannot give: it numbers the GPUs itself.
    """
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


class _Store(NamedTuple):
    """Where shards are written, and the key of their features."""

    folder: StoreFolder
    key: str

    def write(self, name: str, outcomes: Mapping[str, _Outcome]) -> tuple[int | None, _Failures]:
        """Writes a shard; returns its size in bytes, None without features, and the failures."""
        failures: _Failures = {}
        features: dict[str, NDArray[np.float16]] = {}
        for clip, outcome in outcomes.items():
            if isinstance(outcome, Failure):
                failures[clip] = outcome
            else:
                failures[clip], features[clip] = None, outcome
        size = write_shard(self.folder, name, self.key, features) if features else None
        return size, failures


@dataclass
class _Shard:
    """Clips that are stored together; ``outcomes`` are those of clips extracted one by one."""

    name: str
    clips: Sequence[Utterance]
    outcomes: dict[str, _Outcome] = field(default_factory=dict)


class _Work(NamedTuple):
    """A shard, or a single clip of it."""

    shard: _Shard
    clip: Utterance | None = None


def _finished(shards: Sequence[_Shard], actors: _Actors, store: _Store) -> Iterator[_Failures]:
    """Hands out the shards; yields the failures of each when it is written."""
    queue = deque(_Work(shard) for shard in shards)
    deaths: Counter[str] = Counter()
    unfinished = len(shards)
    while unfinished:
        (shard, clip), result = actors.next_result(queue)
        if clip is None and result is None:  # the actor died: find out at which clip
            queue.extend(_Work(shard, each) for each in shard.clips)
            continue
        if clip is not None:
            name = clip.utterance_id
            deaths[name] += result is None
            if result is None and deaths[name] < _MOST_DEATHS:
                queue.append(_Work(shard, clip))
                continue
            shard.outcomes[name] = _DEADLY if result is None else result
            if len(shard.outcomes) < len(shard.clips):
                continue
            ids = [each.utterance_id for each in shard.clips]
            result = store.write(shard.name, {i: shard.outcomes[i] for i in ids})
        size, failures = result
        if size is not None and store.folder.size(data_name(shard.name)) != size:
            raise StoreError(
                f"{store.folder}: {data_name(shard.name)} was written by an actor and is not seen "
                "here; give a folder that all machines share, or an object store"
            )
        unfinished -= 1
        yield failures


class _Actors:
    """The actors of a job, each with a call in flight or ready for one."""

    def __init__(self, ray: Any, job: _Job, store: _Store, threads: int, gpus: float) -> None:
        environment = {"env_vars": dict.fromkeys(THREAD_SETTINGS, str(threads))}
        self._ray = ray
        needs = {"num_cpus": threads, "num_gpus": gpus}
        self._class = ray.remote(**needs, runtime_env=environment)(_Actor)
        self._arguments = (ray.put(job), store)
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

        The result is None if the actor died at it; what an actor returns as an error is raised.
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
        if work.clip is None:
            call = actor.write_shard.remote(work.shard.name, work.shard.clips)
        else:
            call = actor.extract.remote(work.clip)
        self._calls[call] = (actor, work)


class _Actor:
    """Runs in the cluster; returns errors of the whole job, which Ray would wrap if raised."""

    def __init__(self, job: _Job, store: _Store) -> None:
        self._job = job
        self._store = store

    def load(self) -> InputError | None:
        """Loads the weights."""
        try:
            self._job.load()
        except Exception as error:
            return InputError(_reason(error))
        return None

    def extract(self, clip: Utterance) -> _Outcome:
        """Extracts a clip."""
        return run_one(self._job, clip)

    def write_shard(
        self, name: str, clips: Sequence[Utterance]
    ) -> tuple[int | None, _Failures] | StoreError:
        """Extracts clips and writes them as a shard."""
        outcomes = {clip.utterance_id: outcome for clip, outcome in self._job.run(clips)}
        try:
            return self._store.write(name, outcomes)
        except Exception as error:  # of the place, not of a clip: others would fare no better
            return StoreError(_reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, VavlError) else one_line(error)
