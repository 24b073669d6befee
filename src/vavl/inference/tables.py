"""Predictions as tables, CSV and Parquet and of pandas, and as captions."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vavl.errors import InputError
from vavl.inference.captions import CaptionFormat, captions
from vavl.inference.files import distinct_stems
from vavl.system.atomic import NOT_TEXT, atomic_write, write_csv
from vavl.system.extras import extra_module
from vavl.types import Person, Prediction, Segment

if TYPE_CHECKING:
    from pandas import DataFrame

Record = dict[str, Any]
"""Of a clip: ``clip``, and ``error`` or ``prediction``, the fields of a prediction."""


Rows = Literal["clip", "timeline", "people", "segments", "speakers"]
"""What the rows of a table are."""

_LEAST = {
    "clip": ["clip"],
    "timeline": ["clip", "person", "start_s", "end_s"],
    "people": ["clip", "person"],
    "segments": ["clip", "start_s", "end_s"],
    "speakers": ["clip", "speaker"],
}
"""Columns of a table without rows."""


def rows(clip: str, prediction: Record, of: Rows) -> list[Record]:
    """What is predicted of a clip as rows of a table; the fields are those of a prediction."""
    about = {"clip": clip}
    return [about | row for row in _ROWS[of](prediction)]


def to_frame(predictions: Iterable[tuple[str, Record]], of: Rows) -> DataFrame:
    """A table of pandas: rows of clips, each by its name and the fields of its prediction.

    Raises:
        InputError: pandas is not installed, or there are no such rows.
    """
    if of not in _ROWS:
        raise InputError(f"of: expected one of {', '.join(_ROWS)}, got {of!r}")
    pandas = extra_module("pandas", "notebook", "to_frame()")
    found = [row for clip, prediction in predictions for row in rows(clip, prediction, of)]
    return pandas.DataFrame(found, columns=None if found else _LEAST[of])


def write_tables(
    folder: Path, records: Sequence[Record], *, timeline: bool = False, segments: bool
) -> None:
    """``predictions``, ``people`` and what failed; where asked for, also the other tables."""
    records = [_of_text(record) for record in records]
    failures = [[record["clip"], record["error"]] for record in records if "error" in record]
    write_csv(folder / "failures.csv", ["clip", "reason"], failures)
    found = [(r["clip"], r["prediction"]) for r in records if "prediction" in r]
    tables: dict[str, Rows] = {"predictions": "clip", "people": "people"}
    if timeline:
        tables["timeline"] = "timeline"
    if segments:
        tables |= {"segments": "segments", "speakers": "speakers"}
    for name, of in tables.items():
        _write(folder / name, [row for clip in found for row in rows(*clip, of)], _LEAST[of])


def _of_text(value: Any) -> Any:
    """The same, without what UTF-8 cannot hold: names of files may be any bytes."""
    if isinstance(value, str):
        return value.encode(errors=NOT_TEXT).decode()
    if isinstance(value, dict):
        return {key: _of_text(item) for key, item in value.items()}
    return [_of_text(item) for item in value] if isinstance(value, list) else value


def write_captions(folder: Path, records: Sequence[Record], form: CaptionFormat) -> None:
    """A file for each clip; of several clips of one name, the later ones have a number."""
    made = [record for record in records if "prediction" in record]
    for record, name in zip(made, distinct_stems(r["clip"] for r in made), strict=True):
        found = [
            Segment(**{key: value for key, value in segment.items() if key != "confidence"})
            for segment in record["prediction"]["segments"]
        ]
        with atomic_write(folder / f"{name}.{form}") as file:
            recording = Path(record["clip"]).stem
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
    return _csv(predictions, "segments")


def timeline_csv(predictions: Sequence[Prediction]) -> str:
    """A table with a row for each window, and for those of each of several people, as CSV."""
    return _csv(predictions, "timeline")


def _csv(predictions: Sequence[Prediction], of: Rows) -> str:
    table = io.StringIO()
    found = [(p.name, row) for p in predictions for row in _ROWS[of](asdict(p))]
    writer = csv.writer(table, lineterminator="\n")
    if predictions:
        writer.writerow(["name", *(found[0][1] if found else _LEAST[of][1:])])
    for name, row in found:
        writer.writerow([name, *(_cell(column, value) for column, value in row.items())])
    return table.getvalue()


def _cell(column: str, value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.3f}" if column in ("start_s", "end_s") else f"{value:.6f}"


def _write(path: Path, rows: Sequence[Record], least: Sequence[str]) -> None:
    """A table as CSV, and as Parquet where pyarrow is there.

    The columns of a table without rows are those it has at least.
    """
    columns = list(rows[0]) if rows else list(least)
    write_csv(path.with_suffix(".csv"), columns, [list(row.values()) for row in rows])
    if find_spec("pyarrow") is None:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_write(path.with_suffix(".parquet")) as file:
        pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), file)


def _clip(prediction: Record) -> Iterator[Record]:
    yield {
        **_emotion(prediction, prediction),
        "duration_s": prediction["duration_s"],
        "face_share": prediction["face_share"],
        "warnings": "; ".join(prediction["warnings"]),
    }


def _timeline(prediction: Record) -> Iterator[Record]:
    """The windows of the clip, then of several people those of each."""
    people = prediction.get("people", [])  # an earlier version knew of none
    everybody = [(None, prediction)]
    everybody += [(person["number"], person) for person in people if len(people) > 1]
    for number, whole in everybody:
        for window in whole["timeline"]:
            yield {"person": number} | _span(window) | _emotion_and_face(window, prediction)


def _people(prediction: Record) -> Iterator[Record]:
    for person in prediction.get("people", []):
        about = {name: person[name] for name in ("is_main", "start_s", "end_s", "face_share")}
        yield {"person": person["number"], **about, **_emotion(person, prediction)}


def _segments(prediction: Record) -> Iterator[Record]:
    for segment in prediction["segments"]:
        about = {name: segment[name] for name in ("speaker", "text")}
        yield _span(segment) | about | _emotion_and_face(segment, prediction)


def _speakers(prediction: Record) -> Iterator[Record]:
    for name, whole in prediction["speakers"].items():
        yield {
            "speaker": name,
            **_emotion(whole, prediction),
            "duration_s": whole["duration_s"],
        }


_ROWS: dict[str, Callable[[Record], Iterator[Record]]] = {
    "clip": _clip,
    "timeline": _timeline,
    "people": _people,
    "segments": _segments,
    "speakers": _speakers,
}


def _span(part: Record) -> Record:
    return {"start_s": part["start_s"], "end_s": part["end_s"]}


def _emotion_and_face(part: Record, whole: Record) -> Record:
    return _emotion(part, whole) | {"face_share": part["face_share"]}


def _emotion(part: Record, whole: Record) -> Record:
    """What is predicted of a part of a clip, in the columns of the whole."""
    return {
        "modality": part["modality"],
        "label": part["label"],
        "confidence": max(part["probabilities"].values(), default=None),
        **{name: part["probabilities"].get(name) for name in whole["probabilities"]},
        **{name: part["attributes"].get(name) for name in whole["attributes"]},
    }
