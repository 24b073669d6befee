"""Extraction on Ray Data: each actor holds the models, and writes its shards where it runs.

The driver cuts the clips into shards beforehand, and names them. A shard is one block of a dataset
and one call of an actor, so that an actor that dies on the way costs no more than the shard it was
at: another one does it again, under the same name, with the same content. What comes back to the
driver is a row for each clip. Needs the extra ``vavl[ray]``.

Ray starts dead actors again and gives them their shard again, without end. So that a clip which
kills whoever decodes it does not stop the job, the attempts at each shard are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vavl.data import shards as files
from vavl.data.store import StoreWriter
from vavl.data.store_folder import StoreFolder
from vavl.errors import InputError, StoreError, VavlError
from vavl.features.clips import ClipExtraction, ClipTask
from vavl.system.processes import THREAD_SETTINGS, Failure, one_line, run_one
from vavl.system.ray import machine_resources, ray_cluster

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

_MOST_DEATHS = 2
"""How often actors may die at a clip that is being watched before it is left out."""

_DEADLY = Failure("the process that extracts this clip dies at it every time")

_CLIP = {
    "shard": "string",
    "utterance_id": "string",
    "path": "string",
    "start_s": "double",
    "end_s": "double",
}
"""What an actor is given for each clip."""

_OUTCOME = {"shard": "string", "bytes": "int64", "utterance_id": "string", "failure": "string"}
"""What comes back. Without an id, the failure is one of the whole job: of the weights, or, where a
shard is named, of the place it was to be written to."""


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
        tasks: What there is to do.
        job: How.
        workers: Number of actors; 0 takes as many as the cluster has room for.
        threads: CPU threads of each.

    Yields:
        Utterance id, and why there are no features of it, or None; in no particular order.

    Raises:
        InputError: Ray is not installed, the weights cannot be loaded, no other process can see the
            store, or no machine has so many CPUs.
        StoreError: An actor cannot write to the store, or what it wrote is not seen here.
    """
    if not writer.folder.is_shared:
        raise InputError(
            f"{writer.folder}: expected a place that all processes see, got one in the memory of "
            "this process; give a folder, or an object store"
        )
    if not tasks:
        return
    with ray_cluster("data") as ray, _without_bars(ray):
        room = _room(ray, threads)
        blocks = _blocks(writer, tasks)
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        dataset = ray.data.from_arrow(blocks).map_batches(
            _ShardExtraction,
            fn_constructor_args=(job, writer.folder, attempts),
            batch_size=None,  # a block
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(workers or room, len(blocks)),
                max_tasks_in_flight_per_actor=1,  # shards take long: none waits for a busy actor
            ),
            num_cpus=threads,
            runtime_env={"env_vars": dict.fromkeys(THREAD_SETTINGS, str(threads))},
        )
        rows = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        with closing(iter(rows)) as batches:  # ends the actors at once, whatever happens here
            for batch in batches:
                outcomes = _outcomes(writer.folder, batch)
                writer.adopt(i for i, failure in outcomes.items() if failure is None)
                yield from outcomes.items()


@contextmanager
def _without_bars(ray: Any) -> Iterator[None]:
    """Inside, Ray Data shows no progress bars: there is one of ours."""
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = before


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


def _blocks(writer: StoreWriter, tasks: Sequence[ClipTask]) -> list[pyarrow.Table]:
    """A block for each shard."""
    blocks = []
    for start in range(0, len(tasks), writer.clips_per_shard):
        name = next(writer.free_shards)
        clips = tasks[start : start + writer.clips_per_shard]
        rows = [{"shard": name, **clip._asdict(), "path": str(clip.path)} for clip in clips]
        blocks.append(_table(rows, _CLIP))
    return blocks


def _outcomes(folder: StoreFolder, rows: pyarrow.Table) -> dict[str, Failure | None]:
    """Utterance id to failure or None, of a shard whose file is where it belongs."""
    found: dict[str, Failure | None] = {}
    for row in rows.to_pylist():
        shard, failure = row["shard"], row["failure"]
        if row["utterance_id"] is None:
            raise StoreError(failure) if shard else InputError(failure)
        found[row["utterance_id"]] = None if failure is None else Failure(failure)
    size = row["bytes"]
    if size is not None and folder.size(files.data_name(shard)) != size:
        raise StoreError(
            f"{folder}: {files.data_name(shard)} was written by an actor and is not seen here; "
            "give a folder that all machines share, or an object store"
        )
    return found


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pyarrow.Table:
    import pyarrow as pa

    schema = pa.schema({name: pa.type_for_alias(kind) for name, kind in columns.items()})
    return pa.Table.from_pylist(rows, schema)


class Attempts:
    """Knows which shards were begun, and which clips the actors died at.

    Only a shard that was begun before is watched clip by clip: that costs a call for each.

    Example:
        >>> attempts = Attempts()
        >>> attempts.begin("shard-0")
        (False, frozenset())
        >>> for _ in range(2):  # the actor dies, and the next two die at the same clip
        ...     _ = attempts.begin("shard-0")
        ...     attempts.reach("shard-0", "clip-7")
        >>> attempts.begin("shard-0")
        (True, frozenset({'clip-7'}))
    """

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._reached: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()

    def begin(self, shard: str) -> tuple[bool, frozenset[str]]:
        """Whether the shard was begun before, and the clips to leave out."""
        again = shard in self._begun
        self._begun.add(shard)
        died_at = self._reached.pop(shard, None)
        if died_at is not None:
            self._deaths[died_at] += 1
        left_out = (clip for clip, deaths in self._deaths.items() if deaths >= _MOST_DEATHS)
        return again, frozenset(left_out)

    def reach(self, shard: str, utterance_id: str) -> None:
        """Takes note of the clip that is about to be extracted."""
        self._reached[shard] = utterance_id


class _ShardExtraction:
    """Runs in an actor: extracts the clips of a shard, and writes it."""

    def __init__(self, job: ClipExtraction, folder: StoreFolder, attempts: Any) -> None:
        self._job = job
        self._folder = folder
        self._attempts = attempts
        self._problem: str | None = None
        try:
            job.load()
        except Exception as error:  # raised here, Ray would start the actor again and again
            self._problem = _reason(error)

    def __call__(self, clips: pyarrow.Table) -> pyarrow.Table:
        if self._problem is not None:
            return _table([{"failure": self._problem}], _OUTCOME)
        shard = clips["shard"][0].as_py()
        tasks = [
            ClipTask(**{**row, "path": Path(row["path"])})
            for row in clips.drop_columns("shard").to_pylist()
        ]
        outcomes = self._extract(shard, tasks)
        frames = {i: found for i, found in outcomes.items() if not isinstance(found, Failure)}
        size = None
        if frames:
            try:
                key = self._job.extractor.spec.key
                size = files.write_shard(self._folder, shard, key, frames)
            except Exception as error:  # of the place, not of a clip: others would fare no better
                return _table([{"shard": shard, "failure": _reason(error)}], _OUTCOME)
        rows = [
            {
                "shard": shard,
                "bytes": size,
                "utterance_id": utterance_id,
                "failure": found if isinstance(found, Failure) else None,
            }
            for utterance_id, found in outcomes.items()
        ]
        return _table(rows, _OUTCOME)

    def _extract(
        self, shard: str, tasks: Sequence[ClipTask]
    ) -> dict[str, NDArray[np.float16] | Failure]:
        import ray

        again, left_out = ray.get(self._attempts.begin.remote(shard))
        outcomes: dict[str, NDArray[np.float16] | Failure] = {}
        for task in tasks:
            if task.utterance_id in left_out:
                outcomes[task.utterance_id] = _DEADLY
                continue
            if again:
                ray.get(self._attempts.reach.remote(shard, task.utterance_id))
            outcomes[task.utterance_id] = run_one(self._job, task)
        return outcomes


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, VavlError) else one_line(error)
