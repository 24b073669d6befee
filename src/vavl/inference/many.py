"""Predictions for many clips: in parallel, resumable, with what failed recorded beside the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError, StoreError
from vavl.inference.files import ClipFiles
from vavl.inference.loading import COMPACT, load, model_folder, model_sha256
from vavl.system.atomic import atomic_write, write_csv
from vavl.system.processes import Failure, run_job, with_progress
from vavl.types import Prediction

RECORDS_FILE = "predictions.jsonl"
"""One line for each clip that was tried; a second run goes on from it."""


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
        timeline: bool,
        device: str,
        speaker: SpeakerProfile | None,
        unsure_below: float | None,
    ) -> None:
        self.model = model
        self.timeline = timeline
        self.device = device
        self.speaker = speaker
        self.unsure_below = unsure_below

    def load(self) -> None:
        """Loads the model in the process where it runs, and checks that the profile is for it."""
        self._recognizer = load(self.model, device=self.device, unsure_below=self.unsure_below)
        if self.speaker is not None:
            self._recognizer.profile_of(self.speaker)

    def __call__(self, clip: ClipFiles) -> Prediction:
        return self._recognizer.predict_files(clip, timeline=self.timeline, speaker=self.speaker)


def predict_many(
    clips: Sequence[ClipFiles],
    out: Path | str,
    *,
    model: str | None = None,
    timeline: bool = False,
    workers: int = 0,
    device: str = "cpu",
    speaker: SpeakerProfile | None = None,
    unsure_below: float | None = None,
    progress: bool = True,
) -> BatchReport:
    """Predicts many clips into a folder; the same call goes on where it was interrupted.

    It writes ``predictions.jsonl`` (everything about each clip, or why it failed; a line as soon as
    the clip is done), and at the end ``predictions.csv`` and ``predictions.parquet`` (a row per
    clip) and ``failures.csv``. A clip that was done before, failed or not, is not done again unless
    its files have changed.

    Args:
        clips: Made by :func:`vavl.inference.group_files`.
        out: Folder, made if needed.
        model: What :func:`vavl.inference.load` takes; None is the model of the package.
        timeline: Whether to predict over time as well.
        workers: Processes, each with one thread; 0 works in this process.
        device: Where the model runs.
        speaker: Profile of the one person in all clips, if there is one.
        unsure_below: As for :func:`vavl.load`.
        progress: Whether to show a progress bar on standard error.

    Raises:
        InputError: A negative number of workers, or a threshold that is none.
        StoreError: The folder holds predictions of another model or kind.
        VavlError: A worker died, or the model cannot be loaded.
    """
    if workers < 0:
        raise InputError(f"workers: expected 0 or more, got {workers}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / RECORDS_FILE
    weights = model_sha256(model_folder(model))
    kind: dict[str, Any] = {"model": model or COMPACT, "sha256": weights, "timeline": timeline}
    if speaker is not None:
        kind["speaker"] = speaker.key
    if unsure_below is not None:
        kind["unsure_below"] = unsure_below
    known = _read_records(records, kind)
    todo = [clip for clip in clips if known.get(_key(clip), {}).get("files") != _state(clip)]
    job = _PredictionJob(
        model, timeline=timeline, device=device, speaker=speaker, unsure_below=unsure_below
    )
    results = run_job(todo, job, workers)
    with records.open("a", encoding="utf-8") as file, closing(results):
        for clip, result in with_progress(results, len(todo), what="predicting", progress=progress):
            record: dict[str, Any] = {"clip": _key(clip), "files": _state(clip)}
            if isinstance(result, Failure):
                record["error"] = str(result)
            else:
                record["prediction"] = asdict(result)
            if not file.tell():  # not before: arguments that cannot be used leave no trace
                _append(file, kind)
            _append(file, record)
            known[_key(clip)] = record
    asked = [known[_key(clip)] for clip in clips]
    _write_tables(folder, asked)
    failed = {record["clip"]: record["error"] for record in asked if "error" in record}
    return BatchReport(len(asked) - len(failed), failed, skipped=len(clips) - len(todo))


def _key(clip: ClipFiles) -> str:
    """What a clip is known by: the path of its first file."""
    return str(clip.media or clip.acoustic or clip.visual)


def _state(clip: ClipFiles) -> list[list[Any]]:
    """Size and time of each file, which change with its content; nothing of one that is missing."""
    state: list[list[int]] = []
    for path in (clip.media, clip.acoustic, clip.visual):
        state.append([])
        if path is not None:
            with suppress(OSError):
                status = path.stat()
                state[-1] = [status.st_size, status.st_mtime_ns]
    return state


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


def _write_tables(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """``predictions.csv``, ``predictions.parquet`` and ``failures.csv``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(record) for record in records if "prediction" in record]
    columns = list(rows[0]) if rows else ["clip"]
    write_csv(folder / "predictions.csv", columns, [list(row.values()) for row in rows])
    with atomic_write(folder / "predictions.parquet") as file:
        pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), file)
    failures = [[record["clip"], record["error"]] for record in records if "error" in record]
    write_csv(folder / "failures.csv", ["clip", "reason"], failures)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    prediction = record["prediction"]
    return {
        "clip": record["clip"],
        "modality": prediction["modality"],
        "label": prediction["label"],
        "confidence": max(prediction["probabilities"].values(), default=None),
        **prediction["probabilities"],
        **prediction["attributes"],
        "duration_s": prediction["duration_s"],
        "face_share": prediction["face_share"],
        "warnings": "; ".join(prediction["warnings"]),
    }
