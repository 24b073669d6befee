"""Extracts the features of a whole manifest into a store; an interrupted job can be resumed."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import Partition
from vavl.data.store import StoreWriter, as_half
from vavl.errors import InputError, counted
from vavl.features.arrays import ArrayFeatures
from vavl.features.registry import Extractor
from vavl.features.waveform import WaveformExtractor, corpus_statistics
from vavl.media.audio import SAMPLING_RATE_HZ, audio_blocks
from vavl.system.device import CPU, usable_device
from vavl.system.processes import Failure, one_line, run_job
from vavl.system.progress import with_progress
from vavl.system.ray import GPU_SHARE

CLIPS_PER_SHARD = 64
"""A killed job loses at most so many."""
_BATCH_S = 60.0
"""Seconds of sound that a device is given at once."""


@dataclass(frozen=True)
class ExtractionReport:
    """The outcome of a batch job.

    Attributes:
        done: Clips that were extracted by this run.
        skipped: Clips that were in the store already.
        failed: Utterance id to reason, in one line each; also in the store's ``failures.csv``.
        seconds: How long the run took.
        absent: Clips that lack this modality: nothing to do, no failure.
        damaged_shards: Shards that were found damaged, and redone.
    """

    done: int
    skipped: int
    failed: dict[str, str]
    seconds: float
    absent: int = 0
    damaged_shards: tuple[str, ...] = ()

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
        parts = [f"{counted(self.done, 'clip')} extracted in {self.seconds:.1f} s"]
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


@dataclass(frozen=True)
class ClipExtraction:
    """Extracts the features of one clip; a :class:`vavl.system.processes.Job` for any engine."""

    extractor: Extractor
    root: Path
    """Folder that the paths of the manifest are relative to."""

    def load(self) -> None:
        """Loads the weights, if there are any."""
        if load := getattr(self.extractor, "load", None):
            load()

    def __call__(self, clip: Utterance) -> NDArray[np.float16]:
        """Features ``(T, D)`` of a clip, as they go into a store."""
        features = self.extractor.extract_file(*self.place(clip))
        return self.stored(clip, features)

    def place(self, clip: Utterance) -> tuple[Path, float | None, float | None]:
        """The file of a clip, and from when until when it lasts."""
        path = self.root / getattr(clip, self.extractor.source_field)
        return path, clip.start_s, clip.end_s

    def stored(self, clip: Utterance, features: NDArray[np.float32]) -> NDArray[np.float16]:
        """Features as they go into a store."""
        return as_half(clip.utterance_id, features, self.extractor.spec.dim)

    def run(
        self, clips: Sequence[Utterance], workers: int = 0
    ) -> Generator[tuple[Utterance, NDArray[np.float16] | Failure], None, None]:
        """Extracts clips; yields each with its features, or why there are none, in their order.

        Each of the processes does everything, with the device if there is one: of pictures, far
        more is decoded than a network is given. Sound is small: for an encoder on an accelerator,
        the processes read it, and this process alone has the device, and computes in batches.
        """
        encoder = self.extractor
        if isinstance(encoder, WaveformExtractor) and usable_device(encoder.device) != CPU:
            yield from BatchExtraction(self, encoder).run(clips, workers)
        else:
            yield from run_job(clips, self, workers)


@dataclass(frozen=True)
class BatchExtraction:
    """Reads clips of sound in any number of processes, and computes their features in this one."""

    job: ClipExtraction
    extractor: WaveformExtractor

    def run(
        self, clips: Sequence[Utterance], workers: int
    ) -> Generator[tuple[Utterance, NDArray[np.float16] | Failure], None, None]:
        """As :meth:`ClipExtraction.run`."""
        if clips:
            self.job.load()
        batch: list[tuple[Utterance, NDArray[np.float32] | Failure]] = []
        samples = 0
        with closing(run_job(clips, _Reading(self.job, self.extractor), workers)) as readings:
            for clip, read in readings:
                size = 0 if isinstance(read, Failure) else len(read)
                if samples + size > _BATCH_S * SAMPLING_RATE_HZ:
                    yield from self._computed(batch)
                    batch, samples = [], 0
                batch.append((clip, read))
                samples += size
        yield from self._computed(batch)

    def _computed(
        self, batch: list[tuple[Utterance, NDArray[np.float32] | Failure]]
    ) -> Iterator[tuple[Utterance, NDArray[np.float16] | Failure]]:
        """Features of clips that were read; one that fails harms no other."""
        sounds = [read for _, read in batch if not isinstance(read, Failure)]
        try:
            together = iter(self.extractor.features_of(sounds))
        except Exception:  # of which clip is not known, or there are too many for the memory
            together = None
        for clip, read in batch:
            if isinstance(read, Failure):
                yield clip, read
                continue
            outcome: NDArray[np.float16] | Failure
            try:
                features = next(together) if together else self.extractor.features_of([read])[0]
                outcome = self.job.stored(clip, features)
            except Exception as error:
                outcome = one_line(error)
            yield clip, outcome


@dataclass(frozen=True)
class _Reading:
    """Reads the sound of a clip; a job for processes that feed a device."""

    job: ClipExtraction
    extractor: WaveformExtractor

    def load(self) -> None:
        """Nothing: the weights stay where the device is."""

    def __call__(self, clip: Utterance) -> NDArray[np.float32]:
        return self.extractor.read_file(*self.job.place(clip))


def extract(
    manifest: Manifest,
    extractor: Extractor,
    out: str | os.PathLike[str],
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    threads: int = 1,
    gpus: float = GPU_SHARE,
    progress: bool = True,
    clips_per_shard: int = CLIPS_PER_SHARD,
) -> ExtractionReport:
    """Extracts the features of every utterance that has the modality.

    Clips are taken in the order of their ids, so that the shards of two runs are the same. A clip
    that fails is recorded, and the job goes on. The same call resumes a run that was interrupted:
    clips in the store are skipped, failed clips tried again, and damaged shards redone.

    The networks run on the device of the extractor. On an accelerator, an encoder of sound has it
    in this process alone, which takes clips in batches, and the worker processes read ahead; of
    pictures, each worker does everything, and they share the device.

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
        gpus: What each actor in Ray gets of a GPU, more than 0 and at most 1, where the extractor
            is for one.
        progress: Whether to show a progress bar on standard error.
        clips_per_shard: Clips per file of the store; each process that writes loses at most so
            many when it is killed.

    Raises:
        StoreError: ``out`` holds features of another extractor.
        InputError: No utterance has the medium, the extractor's weights cannot be loaded, its
            device cannot be used here, or Ray is not installed.
        VavlError: Worker processes die before they are ready.

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
    medium = extractor.source_field
    clips = [clip for clip in manifest if getattr(clip, medium) is not None]
    if not clips:
        option = "--visual" if medium.startswith("vi") else "--acoustic"
        raise InputError(
            f"manifest: none of the {len(manifest)} utterances has {medium}, which this extractor "
            f"reads; leave out {option}, or take an extractor that reads what they have"
        )
    clips.sort(key=lambda clip: clip.utterance_id)
    if isinstance(extractor, ArrayFeatures):
        extractor = extractor.sized(manifest.root / getattr(clip, medium) for clip in clips)
    done = 0
    failed: dict[str, str] = {}
    with StoreWriter(out, extractor.spec, clips_per_shard) as writer:
        completed = writer.completed
        todo = [clip for clip in clips if clip.utterance_id not in completed]
        job = ClipExtraction(extractor, manifest.root)
        if engine == "ray":
            from vavl.features.ray import extract_on_ray

            outcomes = extract_on_ray(
                writer,
                todo,
                job,
                extractor.spec.key,
                workers=workers,
                threads=threads,
                device=getattr(extractor, "device", "cpu"),
                gpus=gpus,
            )
        else:
            outcomes = _local(writer, todo, job, workers)
        with closing(outcomes):
            for utterance_id, failure in with_progress(
                outcomes, len(todo), what=f"extracting {extractor.spec.modality}", progress=progress
            ):
                if failure is None:
                    done += 1
                else:
                    writer.record_failure(utterance_id, failure)
                    failed[utterance_id] = failure
    return ExtractionReport(
        done=done,
        skipped=len(clips) - len(todo),
        absent=len(manifest) - len(clips),
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
    writer: StoreWriter, clips: list[Utterance], job: ClipExtraction, workers: int
) -> Generator[tuple[str, Failure | None], None, None]:
    """Extracts on this machine; this process writes."""
    with closing(job.run(clips, workers)) as outcomes:  # stops at once, whatever happens here
        for clip, outcome in outcomes:
            if isinstance(outcome, Failure):
                yield clip.utterance_id, outcome
            else:
                writer.write(clip.utterance_id, outcome)
                yield clip.utterance_id, None
