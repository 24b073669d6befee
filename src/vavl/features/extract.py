"""Extracts the features of a whole manifest into a store; an interrupted job can be resumed."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.store import StoreWriter
from vavl.errors import InputError
from vavl.features.arrays import ArrayFeatures
from vavl.features.clips import ClipExtraction, ClipTask, clip_tasks
from vavl.features.registry import Extractor
from vavl.features.waveform import corpus_statistics
from vavl.media.audio import audio_blocks
from vavl.system.processes import Failure, run_job, with_progress

CLIPS_PER_SHARD = 64
"""A killed job loses at most so many."""


@dataclass(frozen=True)
class ExtractionReport:
    """The outcome of a batch job.

    Attributes:
        done: Clips that were extracted by this run.
        skipped: Clips that were in the store already.
        absent: Clips that lack this modality: nothing to do, no failure.
        failed: Utterance id to reason, in one line each; also in the store's ``failures.csv``.
        seconds: How long the run took.
        damaged_shards: Shards that were found damaged, and redone.
    """

    done: int
    skipped: int
    failed: dict[str, str]
    seconds: float
    absent: int = 0
    damaged_shards: tuple[str, ...] = field(default=())

    @property
    def all_failed(self) -> bool:
        """Whether the store is left without a single clip, since every one failed."""
        return bool(self.failed) and not self.done and not self.skipped

    def summary(self) -> str:
        """One sentence for a user.

        Example:
            >>> ExtractionReport(done=3, skipped=1, failed={}, seconds=2.0).summary()
            '3 clips extracted in 2.0 s, 1 already there'
        """
        parts = [f"{self.done} clips extracted in {self.seconds:.1f} s"]
        if self.skipped:
            parts.append(f"{self.skipped} already there")
        if self.absent:
            parts.append(f"{self.absent} without this modality")
        if self.damaged_shards:
            parts.append(f"damaged shards redone: {', '.join(self.damaged_shards)}")
        if self.failed:
            first = next(iter(self.failed))
            number = "every clip" if self.all_failed else str(len(self.failed))
            parts.append(f"{number} failed (first: {first}: {self.failed[first]})")
        return ", ".join(parts)


def extract(
    manifest: Manifest,
    extractor: Extractor,
    out: str | os.PathLike[str],
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    threads: int = 1,
    progress: bool = True,
    clips_per_shard: int = CLIPS_PER_SHARD,
) -> ExtractionReport:
    """Extracts the features of every utterance that has the modality.

    Clips are taken in the order of their ids, so that the shards of two runs are the same. The same
    call resumes a run that was interrupted or killed: clips in the store are skipped, failed clips
    are tried again, and damaged shards are redone. A clip that fails is recorded, and the job goes
    on.

    Args:
        manifest: Utterance table. Utterances without the extractor's medium are only counted.
        extractor: Made by :func:`vavl.features.registry.build_extractor`, or of your own;
            picklable if ``workers`` > 0.
        out: Folder of the store, or its address, e.g. ``s3://bucket/stores/logmel``; see
            :func:`vavl.data.store_folder.open_folder`.
        engine: ``"local"``, or ``"ray"`` for the actors of a Ray cluster: the one that
            ``RAY_ADDRESS`` names, or one on this machine. Each actor writes its shards itself, and
            a shard whose actor dies is done again by another. The features are the same.
        workers: Processes that extract. Locally each has one thread, and 0 extracts in this
            process, with the threads that torch uses; where ``workers`` > 0, a script must keep its
            calls under ``if __name__ == "__main__":``. In Ray, 0 is as many as there is room for.
        threads: CPU threads of each actor in Ray.
        progress: Whether to show a progress bar on standard error.
        clips_per_shard: Clips per file of the store. A killed job loses at most so many for each
            process that writes.

    Returns:
        What was done; see :attr:`ExtractionReport.all_failed`.

    Raises:
        StoreError: ``out`` holds features of another extractor.
        InputError: No utterance has the medium, the extractor's weights cannot be loaded, or Ray is
            not installed.
        VavlError: A worker process died.

    Example:
        >>> import tempfile, wave
        >>> from pathlib import Path
        >>> from vavl.data.manifest import Utterance
        >>> from vavl.features.registry import build_extractor
        >>> folder = Path(tempfile.mkdtemp())
        >>> with wave.open(str(folder / "a.wav"), "wb") as file:
        ...     file.setparams((1, 2, 16000, 0, "NONE", ""))
        ...     file.writeframes(bytes(2 * 16000))
        >>> clips = [Utterance("a", "mine", "ann", audio_path="a.wav")]
        >>> logmel = build_extractor("acoustic", "logmel")
        >>> extract(Manifest(clips, root=folder), logmel, folder / "logmel", progress=False).done
        1
    """
    started = time.monotonic()
    if workers < 0:
        raise InputError(f"workers: expected 0 or more, got {workers}")
    if threads < 1:
        raise InputError(f"threads: expected 1 or more, got {threads}")
    if engine not in ("local", "ray"):
        raise InputError(f"engine: expected 'local' or 'ray', got {engine!r}")
    tasks = clip_tasks(manifest, extractor)
    if isinstance(extractor, ArrayFeatures):
        extractor = extractor.sized(task.path for task in tasks)
    done = 0
    failed: dict[str, str] = {}
    with StoreWriter(out, extractor.spec, clips_per_shard) as writer:
        completed = writer.completed
        todo = [task for task in tasks if task.utterance_id not in completed]
        job = ClipExtraction(extractor)
        if engine == "ray":
            from vavl.features.ray import extract_on_ray

            outcomes = extract_on_ray(writer, todo, job, workers=workers, threads=threads)
        else:
            outcomes = _local(writer, todo, job, workers)
        with closing(outcomes):
            for utterance_id, failure in with_progress(
                outcomes, len(todo), what="extracting", progress=progress
            ):
                if failure is None:
                    done += 1
                else:
                    writer.record_failure(utterance_id, failure)
                    failed[utterance_id] = failure
    return ExtractionReport(
        done=done,
        skipped=len(tasks) - len(todo),
        absent=len(manifest) - len(tasks),
        failed=failed,
        seconds=time.monotonic() - started,
        damaged_shards=writer.dropped,
    )


def training_statistics(manifest: Manifest, partition: Path) -> dict[str, float]:
    """Waveform statistics of the training clips of a partition, for corpus normalisation.

    Args:
        manifest: Utterance table.
        partition: The partition's file (JSON).

    Returns:
        The parameters ``corpus_mean`` and ``corpus_std`` of an acoustic extractor.

    Raises:
        InputError: The partition does not fit, or its clips have no sound.
        MediaError: A file cannot be read.
    """
    clips = manifest.select(Partition.load(partition).train)
    statistics = corpus_statistics(
        block
        for clip in clips
        if (path := manifest.path(clip, "audio_path")) is not None
        for block in audio_blocks(path, start_s=clip.start_s, end_s=clip.end_s)
    )
    return {"corpus_mean": statistics.mean, "corpus_std": statistics.std}


def _local(
    writer: StoreWriter, tasks: list[ClipTask], job: ClipExtraction, workers: int
) -> Generator[tuple[str, Failure | None], None, None]:
    """Extracts on this machine; this process writes."""
    with closing(run_job(tasks, job, workers)) as outcomes:  # stops at once, whatever happens here
        for task, outcome in outcomes:
            if isinstance(outcome, Failure):
                yield task.utterance_id, outcome
            else:
                writer.write(task.utterance_id, outcome)
                yield task.utterance_id, None
