"""Predictions for many clips: in parallel, resumable, with what failed recorded beside the rest."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO, Unpack

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError, MediaError, StoreError
from vavl.inference.captions import CaptionFormat
from vavl.inference.files import ClipFiles, turns_file
from vavl.inference.loading import COMPACT, load, model_folder, model_sha256
from vavl.inference.reader import Reading
from vavl.inference.recognizer import Recognizer
from vavl.inference.tables import write_captions, write_tables
from vavl.system.processes import Failure, run_job
from vavl.system.progress import with_progress
from vavl.types import Prediction

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
    """

    predicted: int
    failed: dict[str, str]
    skipped: int

    def summary(self) -> str:
        """One sentence for a user.

        Example:
            >>> BatchReport(predicted=3, failed={}, skipped=1).summary()
            '3 clips predicted (1 of all before)'
        """
        parts = f"{self.predicted} clips predicted"
        if self.skipped:
            parts += f" ({self.skipped} of all before)"
        if self.failed:
            parts += f", {len(self.failed)} failed"
        return parts


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

    def __call__(self, clip: ClipFiles) -> Prediction:
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


def get_to_know(
    clips: Sequence[ClipFiles],
    recognizer: Callable[[], Recognizer],
    *,
    workers: int = 0,
    progress: bool = True,
    **reading: Unpack[Reading],
) -> SpeakerProfile:
    """The profile of the one person in all clips that can be read, without labels.

    A clip that cannot be read is left out, and so it is no part of the profile; predicting it tells
    why. With one clip alone, a warning is logged.

    Args:
        clips: Made by :func:`vavl.inference.group_files`.
        recognizer: Gives the recogniser; called in each process that works.
        workers: As for :func:`predict_many`.
        progress: Whether to show a progress bar on standard error.
        reading: As for :meth:`vavl.Recognizer.adapt`.
    """
    profile, read = SpeakerProfile(_PERSON), 0
    with closing(run_job(clips, _AdaptingJob(recognizer, reading), workers)) as results:
        for _, found in with_progress(
            results, len(clips), what="getting to know the person", progress=progress
        ):
            if not isinstance(found, Failure):
                profile, read = profile + found, read + 1
    if read == 1:
        _log.warning("one clip tells little of a person: ten or more, of all moods, are better")
    return profile


def predict_many(
    clips: Sequence[ClipFiles],
    out: Path | str,
    *,
    model: str | None = None,
    timeline: bool = False,
    segments: bool | Path | str = False,
    captions_as: CaptionFormat | None = None,
    workers: int = 0,
    device: str = "cpu",
    speaker: SpeakerProfile | None = None,
    same_speaker: bool = False,
    unsure_below: float | None = None,
    progress: bool = True,
    **reading: Unpack[Reading],
) -> BatchReport:
    """Predicts many clips into a folder; the same call goes on where it was interrupted.

    It writes ``predictions.jsonl`` (everything about each clip, or why it failed; a line as soon as
    the clip is done), and at the end ``predictions.csv`` and ``predictions.parquet`` (a row per
    clip), ``people.csv`` and ``people.parquet`` (a row per person in it) and ``failures.csv``. A
    clip that was done before, failed or not, is not done again unless its files have changed. With
    segments there are also ``segments.csv`` and ``.parquet`` (a row per segment), and
    ``speakers.csv`` and ``.parquet`` (a row per speaker of a clip).

    With ``same_speaker``, the clips are read twice: first the person is got to know by all of them,
    then each is predicted with that profile, which is kept as ``speaker.safetensors``. What was
    interrupted while predicting goes on; an interrupted first reading begins anew. Where a clip was
    added or has changed, the profile and with it all predictions would be others: then the folder
    is refused.

    Args:
        clips: Made by :func:`vavl.inference.group_files`.
        out: Folder, made if needed.
        model: What :func:`vavl.inference.load` takes; None is the model of the package.
        timeline: Whether to predict over time as well.
        segments: Whether to predict by sentence as well; or a file of turns for all clips, or a
            folder with one for each: NAME.srt, .vtt, .rttm or .csv for the clip NAME.
        captions_as: Also writes the segments of each clip into a file of this format, in a folder
            of its name. Needs ``segments``.
        workers: Processes, each with one thread; 0 works in this process.
        device: Where the model and the networks of its features run. The processes share it.
        speaker: Profile of the one person in all clips, if there is one.
        same_speaker: Whether all clips are of one person, of whom there is no profile: it is made
            of these clips, without labels.
        unsure_below: As for :func:`vavl.load`.
        progress: Whether to show a progress bar on standard error.
        reading: ``start_s``, ``end_s``, ``audio_track``, ``face`` and ``people``, as for
            :meth:`vavl.Recognizer.predict`.

    Raises:
        InputError: A negative number of workers, a threshold that is none, captions without
            segments, or both a profile and ``same_speaker``.
        StoreError: The folder holds predictions of another model or kind.
        VavlError: A worker died, or the model cannot be loaded.
    """
    if workers < 0:
        raise InputError(f"workers: expected 0 or more, got {workers}")
    if captions_as is not None and not segments:
        raise InputError("captions_as: expected segments with it, got none")
    if same_speaker and speaker is not None:
        raise InputError("speaker, same_speaker: expected one of them, got both")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / RECORDS_FILE
    weights = model_sha256(model_folder(model))
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
    todo = [clip for clip in clips if known.get(_key(clip), {}).get("files") != states[_key(clip)]]
    job = _PredictionJob(
        model,
        device=device,
        speaker=speaker,
        unsure_below=unsure_below,
        timeline=timeline,
        segments=segments,
        reading=reading,
    )
    if same_speaker and todo:
        profile = folder / PROFILE_FILE
        # Only of a folder with records is it sure that its profile is of these very clips.
        if known and profile.is_file():
            job.speaker = SpeakerProfile.load(profile)
        else:
            job.speaker = get_to_know(
                clips, job.recognizer, workers=workers, progress=progress, **reading
            )
            if job.speaker.moments:
                job.speaker.save(profile)
    results = run_job(todo, job, workers)
    with records.open("a", encoding="utf-8") as file, closing(results):
        for clip, result in with_progress(results, len(todo), what="predicting", progress=progress):
            record: dict[str, Any] = {"clip": _key(clip), "files": states[_key(clip)]}
            if isinstance(result, Failure):
                record["error"] = str(result)
            else:
                record["prediction"] = asdict(result)
            if not file.tell():  # not before: arguments that cannot be used leave no trace
                _append(file, kind)
            _append(file, record)
            known[_key(clip)] = record
    asked = [known[_key(clip)] for clip in clips]
    write_tables(folder, asked, segments=bool(segments))
    if captions_as is not None:
        write_captions(folder / captions_as, asked, captions_as)
    failed = {record["clip"]: record["error"] for record in asked if "error" in record}
    return BatchReport(len(asked) - len(failed), failed, skipped=len(clips) - len(todo))


def _asked(reading: Reading) -> dict[str, Any]:
    """What differs from the default, so that folders of earlier versions are gone on with."""
    usual: Reading = {"face": "found", "people": "all"}
    return {n: value for n, value in reading.items() if value not in (None, usual.get(n))}


def _key(clip: ClipFiles) -> str:
    """What a clip is known by: the path of its first file."""
    return str(clip.media or clip.acoustic or clip.visual)


def _state(clip: ClipFiles, segments: bool | Path | str = False) -> list[list[Any]]:
    """Size and time of each file, which change with its content; nothing of one that is missing."""
    paths = [clip.media, clip.acoustic, clip.visual]
    if not isinstance(segments, bool):
        paths.append(None)
        with suppress(InputError, MediaError):  # predicting the clip says why there is none
            paths[-1] = turns_file(Path(segments), clip)
    state: list[list[int]] = []
    for path in paths:
        state.append([])
        if path is not None:
            with suppress(OSError):
                status = path.stat()
                state[-1] = [status.st_size, status.st_mtime_ns]
    return state


def _digest(clips: Sequence[ClipFiles]) -> str:
    """Hash of which clips there are and of their state, in whatever order."""
    content = json.dumps(sorted([_key(clip), _state(clip)] for clip in clips))
    return hashlib.sha256(content.encode()).hexdigest()


def _append(file: TextIO, record: dict[str, Any]) -> None:
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
        records = {record["clip"]: record for record in lines[1:]}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it to begin anew") from None
    if lines and lines[0] != kind:
        raise StoreError(
            f"{path} holds other predictions:\n  there:     {lines[0]}\n  asked for: {kind}\n"
            "Choose another --out, or delete this folder."
        )
    return records
