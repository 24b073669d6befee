"""Predictions for many clips: in parallel, resumable, with what failed recorded beside the rest."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TextIO, Unpack

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError, MediaError, StoreError, counted
from vavl.inference.captions import CaptionFormat
from vavl.inference.clip_prediction import ClipPrediction
from vavl.inference.files import ClipFiles, find_files, group_files, turns_file
from vavl.inference.loading import COMPACT, COMPACT_NOTICE, load, model_folder, model_sha256
from vavl.inference.reader import Reading
from vavl.inference.recognizer import Recognizer
from vavl.inference.tables import Rows, to_frame, write_captions, write_tables
from vavl.system.atomic import naming
from vavl.system.locks import alone
from vavl.system.notices import say_once
from vavl.system.processes import Failure, Job, Lost, Result, run_job
from vavl.system.progress import with_progress
from vavl.system.ray import GPU_SHARE, run_on_ray

if TYPE_CHECKING:
    from pandas import DataFrame

RECORDS_FILE = "predictions.jsonl"
"""One line for each clip that was tried; a second run goes on from it."""

PROFILE_FILE = "speaker.safetensors"
"""What is known of the one person in all clips, where they are said to be of one."""

_PERSON = "the person in these clips"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchReport:
    """What a batch job did.

    Attributes:
        predicted: Clips with a prediction, of this run and of runs before.
        failed: Clip to reason, in one line each.
        skipped: Clips that were done before.
        predictions: Of the clips that did not fail, in their order, where no folder was given;
            otherwise they are in its tables.
    """

    predicted: int
    failed: dict[str, str]
    skipped: int
    predictions: tuple[ClipPrediction, ...] = ()

    def to_frame(self, of: Rows = "clip") -> DataFrame:
        """The predictions as a table of pandas, as :meth:`ClipPrediction.to_frame` of each.

        Raises:
            InputError: pandas is not installed, or ``of`` is something else.
        """
        return to_frame([(str(p.path or p.name), asdict(p)) for p in self.predictions], of)

    def summary(self) -> str:
        """One sentence for a user.

        Example:
            >>> BatchReport(predicted=3, failed={"a.wav": "empty"}, skipped=1).summary()
            '3 clips predicted, 1 failed (1 of these was done before)'
        """
        text = f"{counted(self.predicted, 'clip')} predicted"
        if self.failed:
            text += f", {len(self.failed):,} failed"
        if self.skipped:
            text += f" ({self.skipped:,} of these {'was' if self.skipped == 1 else 'were'} "
            text += "done before)"
        return text


class _PredictionJob:
    """Predicts one clip after another; arguments as for :func:`predict_many`."""

    def __init__(
        self,
        model: str | None,
        *,
        device: str,
        speaker: SpeakerProfile | None,
        unsure_below: float | None,
        timeline: bool,
        segments: bool | Path | str,
        reading: Reading,
    ) -> None:
        self.model = model
        self.timeline = timeline
        self.segments = segments
        self.device = device
        self.speaker = speaker
        self.unsure_below = unsure_below
        self.reading = reading
        self._recognizer: Recognizer | None = None

    def recognizer(self) -> Recognizer:
        """The model, loaded in the process where it runs when it is first asked for."""
        if self._recognizer is None:
            self._recognizer = load(self.model, device=self.device, unsure_below=self.unsure_below)
        return self._recognizer

    def load(self) -> None:
        """Loads the model, and checks that the profile is for it."""
        recognizer = self.recognizer()
        if self.speaker is not None:
            recognizer.profile_of(self.speaker)

    def __call__(self, clip: ClipFiles) -> ClipPrediction:
        return self.recognizer().predict_files(
            clip,
            timeline=self.timeline,
            segments=self.segments,
            speaker=self.speaker,
            **self.reading,
        )


class _AdaptingJob:
    """Gets to know the person in one clip after another; arguments as for :func:`get_to_know`."""

    def __init__(self, recognizer: Callable[[], Recognizer], reading: Reading) -> None:
        self.recognizer = recognizer
        self.reading = reading

    def load(self) -> None:
        """Loads the model in the process where it runs."""
        self.recognizer()

    def __call__(self, clip: ClipFiles) -> SpeakerProfile:
        recognizer = self.recognizer()
        profile = recognizer.adapt([clip], speaker=_PERSON, **self.reading)
        del recognizer.speakers[_PERSON]  # each clip by itself: they are put together later
        return recognizer.profile_of(profile)  # a clip that does not fit the model harms no other


class _Run(Protocol):
    """Does a job over clips, wherever that is; in this process it is :func:`run_job`."""

    def __call__(
        self, clips: Sequence[ClipFiles], job: Job[ClipFiles, Result], /
    ) -> Generator[tuple[ClipFiles, Result | Failure], None, None]: ...


@dataclass(frozen=True)
class _Elsewhere(Generic[Result]):
    """A job on a machine that may lack a clip, or have another model; it is named then."""

    job: Job[ClipFiles, Result]
    model: str | None
    sha256: str
    segments: bool | Path | str

    def load(self) -> None:
        """Prepares the job."""
        if model_sha256(model_folder(self.model)) != self.sha256:
            raise StoreError(
                f"model: {platform.node()} has another one of this name; all machines of the "
                "cluster must have the same, and the same release of vavl"
            )
        self.job.load()

    def __call__(self, clip: ClipFiles) -> Result | Failure:
        for path in _paths(clip, self.segments):
            if path is not None and not path.exists():
                return Lost(
                    f"MediaError: {path}: not found on {platform.node()}; all machines of the "
                    "cluster must find it under this path"
                )
        return self.job(clip)


def get_to_know(
    clips: Sequence[ClipFiles],
    recognizer: Callable[[], Recognizer],
    *,
    run: _Run = run_job,
    progress: bool = True,
    **reading: Unpack[Reading],
) -> SpeakerProfile:
    """The profile of the one person in all clips that can be read, without labels.

    A clip that cannot be read is left out, and so it is no part of the profile; predicting it tells
    why. With one clip alone, a warning is logged.

    Args:
        clips: Made by :func:`vavl.inference.group_files`.
        recognizer: Gives the recogniser; called in each process that works.
        run: Where the work is done, by default in this process.
        progress: Whether to show a progress bar on standard error.
        reading: As for :meth:`vavl.Recognizer.adapt`.
    """
    profile, read = SpeakerProfile(_PERSON), 0
    clips = list(dict.fromkeys(clips))
    waiting = deque(clips)
    early: dict[ClipFiles, SpeakerProfile | Failure] = {}
    with closing(run(clips, _AdaptingJob(recognizer, reading))) as results:
        for clip, result in with_progress(
            results, len(clips), what="getting to know the person", progress=progress
        ):
            if isinstance(result, Lost):
                _log.warning("the person is got to know without %s: %s", clip.name, result)
            early[clip] = result
            while waiting and waiting[0] in early:  # sums of floats depend on their order
                found = early.pop(waiting.popleft())
                if not isinstance(found, Failure):
                    profile, read = profile + found, read + 1
    if read == 1:
        _log.warning("one clip tells little of a person: ten or more, of all moods, are better")
    return profile


def predict_many(
    clips: Iterable[ClipFiles | Path | str],
    out: Path | str | None = None,
    *,
    model: str | None = None,
    timeline: bool = False,
    segments: bool | Path | str = False,
    captions_as: CaptionFormat | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    device: str = "cpu",
    gpus: float = GPU_SHARE,
    speaker: SpeakerProfile | None = None,
    same_speaker: bool = False,
    unsure_below: float | None = None,
    progress: bool = True,
    **reading: Unpack[Reading],
) -> BatchReport:
    """Predicts many clips, at once or into a folder; there it goes on where it was interrupted.

    Without a folder, the report has the predictions, and ``report.to_frame()`` makes a table of
    them. What is interrupted then begins anew.

    Into a folder it writes ``predictions.jsonl`` (everything about each clip, or why it failed; a
    line as soon as the clip is done), and at the end tables as CSV and Parquet: ``predictions`` (a
    row per clip), ``people`` (a row per person in it), with a timeline ``timeline`` (a row per
    window), with segments ``segments`` and ``speakers`` (a row per speaker of a clip); and
    ``failures.csv``. A clip that was done before, failed or not, is not done again unless its files
    have changed.

    With ``same_speaker``, the clips are read twice: first the person is got to know by all of them,
    then each is predicted with that profile, which is kept as ``speaker.safetensors``. What was
    interrupted while predicting goes on; an interrupted first reading begins anew. Where a clip was
    added or has changed, the profile and with it all predictions would be others: then the folder
    is refused.

    Args:
        clips: Files and folders, of which :func:`vavl.inference.find_files` and
            :func:`vavl.inference.group_files` make clips; or clips that these have made.
        out: Folder, made if needed. Default: none.
        model: What :func:`vavl.inference.load` takes; None is the model of the package.
        timeline: Whether to predict over time as well.
        segments: Whether to predict by sentence as well; or a file of turns for all clips, or a
            folder with one for each: NAME.srt, .vtt, .rttm or .csv for the clip NAME.
        captions_as: Also writes the segments of each clip into a file of this format, in a folder
            of its name. Needs ``segments``.
        engine: ``"local"``, or ``"ray"`` for the actors of a Ray cluster: the one that
            ``RAY_ADDRESS`` names, or one on this machine. All machines must find the clips and the
            model under the same paths; this process writes. The predictions are the same, and a
            folder can be begun with one engine and gone on with by the other. A clip that every
            process dies at, or that a machine does not see, has failed; the same call tries it
            again. So it is with a clip that local workers die at.
        workers: Processes, each with one thread; 0 works in this process. In Ray the actors; 0 is
            as many as there is room for.
        device: Where the model and the networks of its features run. The processes share it.
        gpus: What each actor in Ray gets of a GPU, more than 0 and at most 1, where the device is
            one.
        speaker: Profile of the one person in all clips, if there is one.
        same_speaker: Whether all clips are of one person, of whom there is no profile: it is made
            of these clips, without labels.
        unsure_below: As for :func:`vavl.load`.
        progress: Whether to show a progress bar on standard error.
        reading: ``start_s``, ``end_s``, ``audio_track``, ``face`` and ``people``, as for
            :meth:`vavl.Recognizer.predict`.

    Raises:
        InputError: A negative number of workers, another engine, an address for a folder, a
            threshold that is none, captions without segments, both a profile and ``same_speaker``,
            or Ray is not installed.
        StoreError: The folder holds predictions of another model or kind, or another process
            predicts into it.
        VavlError: Workers die before they are ready, or the model cannot be loaded.

    Example:
        >>> report = predict_many(["clips"], "results", workers=2)  # doctest: +SKIP
        >>> report.failed, report.predictions[0].label  # doctest: +SKIP
        ({}, 'happy')
    """
    if workers < 0:
        raise InputError(f"workers: expected 0 or more, got {workers}")
    if engine not in ("local", "ray"):
        raise InputError(f"engine: expected 'local' or 'ray', got {engine!r}")
    if re.match(r"[a-z][a-z0-9+]+:/", str(out)):  # a path has one slash of s3:// left
        raise InputError(
            f"out: expected a folder, got the address {out}; copy a folder there later"
        )
    if captions_as is not None and not segments:
        raise InputError("captions_as: expected segments with it, got none")
    if captions_as is not None and out is None:
        raise InputError("captions_as: expected a folder to write to, got none")
    if same_speaker and speaker is not None:
        raise InputError("speaker, same_speaker: expected one of them, got both")
    clips = _grouped(clips)
    job = _PredictionJob(
        model,
        device=device,
        speaker=speaker,
        unsure_below=unsure_below,
        timeline=timeline,
        segments=segments,
        reading=reading,
    )
    weights = model_sha256(model_folder(model))

    def run(
        clips: Sequence[ClipFiles], job: Job[ClipFiles, Result], /
    ) -> Generator[tuple[ClipFiles, Result | Failure], None, None]:
        if engine == "local":
            return run_job(clips, job, workers)
        if clips and model in (None, COMPACT):
            say_once(_log, COMPACT_NOTICE)  # of what actors log, nothing is seen here
        there = _Elsewhere(job, model, weights, segments)
        return run_on_ray(clips, there, workers=workers, device=device, gpus=gpus)

    if out is None:
        if same_speaker:
            job.speaker = get_to_know(clips, job.recognizer, run=run, progress=progress, **reading)
        return _predict_at_once(clips, job, run, progress=progress)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "another process predicts into it; wait for it, or choose another folder"):
        records = folder / RECORDS_FILE
        kind: dict[str, Any] = {"model": model or COMPACT, "sha256": weights, "timeline": timeline}
        if speaker is not None:
            kind["speaker"] = speaker.key
        if same_speaker:
            kind["same_speaker"] = _digest(clips)
        if unsure_below is not None:
            kind["unsure_below"] = unsure_below
        if segments:
            kind["segments"] = segments if segments is True else str(segments)
        kind |= _asked(reading)
        states = {_key(clip): _state(clip, segments) for clip in clips}
        known = _read_records(records, kind)
        todo = [
            clip for clip in clips if known.get(_key(clip), {}).get("files") != states[_key(clip)]
        ]
        if same_speaker and todo:
            profile = folder / PROFILE_FILE
            # Only of a folder with records is it sure that its profile is of these very clips.
            if known and profile.is_file():
                job.speaker = SpeakerProfile.load(profile)
            else:
                job.speaker = get_to_know(
                    clips, job.recognizer, run=run, progress=progress, **reading
                )
                if job.speaker.moments:
                    job.speaker.save(profile)
        results = run(todo, job)
        with records.open("a", encoding="utf-8") as file, closing(results):
            for clip, result in with_progress(
                results, len(todo), what="predicting", progress=progress
            ):
                record: dict[str, Any] = {"clip": _key(clip), "files": states[_key(clip)]}
                if isinstance(result, Failure):
                    record["error"] = str(result)
                    if isinstance(result, Lost):  # it is tried again by the next call
                        record["files"] = None
                else:
                    record["prediction"] = result.to_dict()
                if not file.tell():  # not before: arguments that cannot be used leave no trace
                    _append(file, kind)
                _append(file, record)
                known[_key(clip)] = record
        asked = [known[_key(clip)] for clip in clips]
        write_tables(folder, asked, timeline=timeline, segments=bool(segments))
        if captions_as is not None:
            write_captions(folder / captions_as, asked, captions_as)
        failed = {record["clip"]: record["error"] for record in asked if "error" in record}
        return BatchReport(len(asked) - len(failed), failed, skipped=len(clips) - len(todo))


def _grouped(clips: Iterable[ClipFiles | Path | str]) -> list[ClipFiles]:
    """Clips as they are, and those of the files and folders after them."""
    given = list(clips)
    paths = [Path(path) for path in given if not isinstance(path, ClipFiles)]
    return [clip for clip in given if isinstance(clip, ClipFiles)] + group_files(find_files(paths))


def _predict_at_once(
    clips: Sequence[ClipFiles], job: _PredictionJob, run: _Run, *, progress: bool
) -> BatchReport:
    found: list[ClipPrediction] = []
    failed: dict[str, str] = {}
    with closing(run(clips, job)) as results:
        for clip, result in with_progress(
            results, len(clips), what="predicting", progress=progress
        ):
            if isinstance(result, Failure):
                failed[_key(clip)] = str(result)
            else:
                found.append(result)
    return BatchReport(len(found), failed, skipped=0, predictions=tuple(found))


def _asked(reading: Reading) -> dict[str, Any]:
    """What differs from the default, so that folders of earlier versions are gone on with."""
    usual: Reading = {"face": "found", "people": "all"}
    return {n: value for n, value in reading.items() if value not in (None, usual.get(n))}


def _key(clip: ClipFiles) -> str:
    """What a clip is known by: the path of its first file."""
    return str(clip.media or clip.acoustic or clip.visual)


def _state(clip: ClipFiles, segments: bool | Path | str = False) -> list[list[Any]]:
    """Size and time of each file, which change with its content; nothing of one that is missing."""
    state: list[list[int]] = []
    for path in _paths(clip, segments):
        state.append([])
        if path is not None:
            with suppress(OSError):
                status = path.stat()
                state[-1] = [status.st_size, status.st_mtime_ns]
    return state


def _paths(clip: ClipFiles, segments: bool | Path | str) -> list[Path | None]:
    """The file of each part of a clip, with that of its turns if those are in files."""
    paths = [clip.media, clip.acoustic, clip.visual]
    if not isinstance(segments, bool):
        paths.append(None)
        with suppress(InputError, MediaError):  # predicting the clip says why there is none
            paths[-1] = turns_file(Path(segments), clip)
    return paths


def _digest(clips: Sequence[ClipFiles]) -> str:
    """Hash of which clips there are and of their state, in whatever order."""
    content = json.dumps(sorted([_key(clip), _state(clip)] for clip in clips))
    return hashlib.sha256(content.encode()).hexdigest()


def _append(file: TextIO, record: dict[str, Any]) -> None:
    with naming(Path(file.name)):
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read_records(path: Path, kind: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Records by clip; the last of a clip counts. A line cut short by a kill is dropped."""
    if not path.is_file():
        return {}
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        begun = dict(lines[0]) if lines else kind
        records = {record["clip"]: record for record in lines[1:]}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it to begin anew") from None
    if begun != kind:
        others = ", ".join(
            f"{name.replace('_', ' ')} {begun.get(name)} instead of {kind.get(name)}"
            for name in {**begun, **kind}
            if begun.get(name) != kind.get(name)
        )
        raise StoreError(
            f"{path} holds other predictions than those asked for: {others}; choose another "
            "folder, or delete this one"
        )
    return records
