"""Predictions as tables, CSV and Parquet, and as captions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vavl.inference.captions import CaptionFormat, captions
from vavl.system.atomic import atomic_write, write_csv
from vavl.types import Person, Prediction, Segment

Record = dict[str, Any]
"""Of a clip: ``clip``, and ``error`` or ``prediction``, the fields of a prediction."""


def write_tables(folder: Path, records: Sequence[Record], *, segments: bool) -> None:
    """``predictions`` and ``people``, and what failed; with segments ``segments``, ``speakers``."""
    failures = [[record["clip"], record["error"]] for record in records if "error" in record]
    write_csv(folder / "failures.csv", ["clip", "reason"], failures)
    found = [(r["clip"], r["prediction"]) for r in records if "prediction" in r]
    _write(folder / "predictions", [_clip(*clip) for clip in found], ["clip"])
    # A folder of an earlier version may know of no people.
    people = [_person(*clip, person) for clip in found for person in clip[1].get("people", [])]
    _write(folder / "people", people, ["clip", "person"])
    if segments:
        rows = [_segment(*clip, segment) for clip in found for segment in clip[1]["segments"]]
        _write(folder / "segments", rows, ["clip", "start_s", "end_s"])
        speakers = [_speaker(*clip, name) for clip in found for name in clip[1]["speakers"]]
        _write(folder / "speakers", speakers, ["clip", "speaker"])


def write_captions(folder: Path, records: Sequence[Record], form: CaptionFormat) -> None:
    """A file for each clip; of several clips of one name, the later ones have a number."""
    taken: set[str] = set()
    for record in records:
        if "prediction" not in record:
            continue
        recording = name = Path(record["clip"]).stem
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{recording}-{number}"
        taken.add(name.casefold())
        found = [
            Segment(**{key: value for key, value in segment.items() if key != "confidence"})
            for segment in record["prediction"]["segments"]
        ]
        with atomic_write(folder / f"{name}.{form}") as file:
            file.write_text(captions(found, form, recording), encoding="utf-8")


def clips_csv(predictions: Sequence[Prediction]) -> str:
    """A table with a row for each clip, and one for each of several people in it, as CSV."""
    if not predictions:
        return ""
    table = io.StringIO()
    first = predictions[0]
    writer = csv.writer(table, lineterminator="\n")
    named = [*first.probabilities, *first.attributes]
    about = ["name", "person", "modality", "label", "confidence"]
    writer.writerow([*about, *named, "duration_s", "face_share", "warnings"])
    for clip in predictions:
        rows: list[Prediction | Person] = [clip, *(clip.people if len(clip.people) > 1 else ())]
        for row in rows:
            probabilities = [row.probabilities.get(name) for name in first.probabilities]
            attributes = [row.attributes.get(name) for name in first.attributes]
            numbers = [row.confidence, *probabilities, *attributes]
            if isinstance(row, Prediction):
                number, length_s, warnings = "", row.duration_s, "; ".join(row.warnings)
            else:
                number, length_s, warnings = str(row.number), row.end_s - row.start_s, ""
            writer.writerow(
                [
                    *(clip.name, number, row.modality, row.label),
                    *("" if value is None else f"{value:.6f}" for value in numbers),
                    *(length_s, row.face_share, warnings),
                ]
            )
    return table.getvalue()


def segments_csv(predictions: Sequence[Prediction]) -> str:
    """A table with a row for each segment, as CSV."""
    if not predictions:
        return ""
    table = io.StringIO()
    first = predictions[0]
    about = ["name", "start_s", "end_s", "speaker", "text", "modality", "label", "confidence"]
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*about, *first.probabilities, *first.attributes, "face_share"])
    for prediction in predictions:
        for segment in prediction.segments:
            numbers = [segment.confidence]
            numbers += [segment.probabilities.get(name) for name in first.probabilities]
            numbers += [segment.attributes.get(name) for name in first.attributes]
            writer.writerow(
                [
                    *(prediction.name, f"{segment.start_s:.3f}", f"{segment.end_s:.3f}"),
                    *(segment.speaker, segment.text, segment.modality, segment.label),
                    *("" if value is None else f"{value:.6f}" for value in numbers),
                    segment.face_share,
                ]
            )
    return table.getvalue()


def _write(path: Path, rows: Sequence[Record], least: Sequence[str]) -> None:
    """A table as CSV and as Parquet; of one without rows the columns are those it has at least."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(rows[0]) if rows else list(least)
    write_csv(path.with_suffix(".csv"), columns, [list(row.values()) for row in rows])
    with atomic_write(path.with_suffix(".parquet")) as file:
        pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), file)


def _clip(clip: str, prediction: Record) -> Record:
    return {
        "clip": clip,
        **_emotion(prediction, prediction),
        "duration_s": prediction["duration_s"],
        "face_share": prediction["face_share"],
        "warnings": "; ".join(prediction["warnings"]),
    }


def _person(clip: str, prediction: Record, person: Record) -> Record:
    about = {name: person[name] for name in ("is_main", "start_s", "end_s", "face_share")}
    return {"clip": clip, "person": person["number"], **about, **_emotion(person, prediction)}


def _segment(clip: str, prediction: Record, segment: Record) -> Record:
    about = {name: segment[name] for name in ("start_s", "end_s", "speaker", "text")}
    found = _emotion(segment, prediction) | {"face_share": segment["face_share"]}
    return {"clip": clip, **about, **found}


def _speaker(clip: str, prediction: Record, name: str) -> Record:
    whole = prediction["speakers"][name]
    found = _emotion(whole, prediction) | {"duration_s": whole["duration_s"]}
    return {"clip": clip, "speaker": name, **found}


def _emotion(part: Record, whole: Record) -> Record:
    """What is predicted of a part of a clip, in the columns of the whole."""
    return {
        "modality": part["modality"],
        "label": part["label"],
        "confidence": max(part["probabilities"].values(), default=None),
        **{name: part["probabilities"].get(name) for name in whole["probabilities"]},
        **{name: part["attributes"].get(name) for name in whole["attributes"]},
    }
