"""Extraction on Ray: each actor holds the models, and writes its shards where it runs.

This process names the shards and hands them out; only the ids and failures of the clips come back.
Of a shard at which an actor died the clips are extracted one by one, so that a clip which kills
every process costs no other clip. Needs the extra ``vavl[ray]``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import Utterance
from vavl.data.store import StoreWriter, data_name, write_shard
from vavl.data.store_folder import StoreFolder
from vavl.errors import InputError, StoreError, VavlError
from vavl.system.processes import Failure, Job, one_line
from vavl.system.ray import run_on_ray

_Outcome: TypeAlias = NDArray[np.float16] | Failure
"""Features of a clip, or why there are none."""
_Failures: TypeAlias = dict[str, Failure | None]
"""The clips of a shard that is done; None for those whose features are in it."""


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
        workers: This and what follows is as for :func:`vavl.system.ray.run_on_ray`.
        threads: CPU threads of each actor.
        device: Where the networks run.
        gpus: What each actor gets of a GPU.

    Yields:
        Utterance id, and its failure or None; in no particular order.
    """
    if not writer.folder.is_shared:
        raise InputError(
            f"{writer.folder}: expected a place that all processes see, got one in the memory of "
            "this process; give a folder, or an object store"
        )
    store = _Store(writer.folder, key)
    size = writer.clips_per_shard
    shards = [
        _Work(next(writer.free_shards), clips[start : start + size])
        for start in range(0, len(clips), size)
    ]
    results = run_on_ray(
        shards,
        _ShardJob(job, store),
        workers=workers,
        threads=threads,
        device=device,
        gpus=gpus,
        apart=_one_by_one,
    )
    with closing(results):
        for failures in _written(shards, results, store):
            writer.adopt(i for i, failure in failures.items() if failure is None)
            yield from failures.items()


class _Store(NamedTuple):
    """Where shards are written, and the key of their features."""

    folder: StoreFolder
    key: str

    def write(self, name: str, outcomes: Mapping[str, _Outcome]) -> _Written:
        """Writes a shard."""
        failures: _Failures = {}
        features: dict[str, NDArray[np.float16]] = {}
        for clip, outcome in outcomes.items():
            if isinstance(outcome, Failure):
                failures[clip] = outcome
            else:
                failures[clip], features[clip] = None, outcome
        size = write_shard(self.folder, name, self.key, features) if features else None
        return _Written(size, failures)


class _Written(NamedTuple):
    """A shard: its size in bytes, None without features, and the failures of its clips."""

    size: int | None
    failures: _Failures


class _Work(NamedTuple):
    """Clips that are stored together; or one of them alone, after an actor died at the shard."""

    shard: str
    clips: Sequence[Utterance]
    is_alone: bool = False


def _one_by_one(shard: _Work) -> list[_Work]:
    return [_Work(shard.shard, [clip], is_alone=True) for clip in shard.clips]


@dataclass(frozen=True)
class _ShardJob:
    """Extracts and writes a shard; of one at which an actor died, it extracts a clip."""

    job: _Job
    store: _Store

    def load(self) -> None:
        """Loads the weights."""
        self.job.load()

    def __call__(self, work: _Work) -> _Written | StoreError | NDArray[np.float16]:
        if work.is_alone:
            return self.job(work.clips[0])
        outcomes = {clip.utterance_id: outcome for clip, outcome in self.job.run(work.clips)}
        try:
            return self.store.write(work.shard, outcomes)
        except Exception as error:  # of the place, not of a clip: others would fare no better
            return StoreError(str(error) if isinstance(error, VavlError) else one_line(error))


def _written(
    shards: Sequence[_Work],
    results: Iterable[tuple[_Work, _Written | StoreError | _Outcome]],
    store: _Store,
) -> Iterator[_Failures]:
    """The failures of each shard when it is written, here if an actor died at it."""
    ids = {work.shard: [clip.utterance_id for clip in work.clips] for work in shards}
    alone: defaultdict[str, dict[str, _Outcome]] = defaultdict(dict)
    for work, result in results:
        name = work.shard
        if isinstance(result, np.ndarray) or (work.is_alone and isinstance(result, Failure)):
            alone[name][work.clips[0].utterance_id] = result
            if len(alone[name]) < len(ids[name]):
                continue
            outcomes = alone.pop(name)
            result = store.write(name, {clip: outcomes[clip] for clip in ids[name]})
        if isinstance(result, Failure):
            raise VavlError(result)  # a defect of ours: a clip fails by itself
        if isinstance(result, StoreError):
            raise result
        if result.size is not None and store.folder.size(data_name(name)) != result.size:
            raise StoreError(
                f"{store.folder}: {data_name(name)} was written by an actor and is not seen "
                "here; give a folder that all machines share, or an object store"
            )
        yield result.failures
