"""What corpora share: strict reading of CSV files, and the files that every corpus is made into."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.errors import InputError, all_problems, did_you_mean
from vavl.system.atomic import atomic_write

WITHOUT_THEM = "; `vavl prepare` does without them with --allow-missing"
"""What to do about files that are missing."""


@dataclass(frozen=True)
class TableRow:
    """One row of a CSV file."""

    number: int  # as a spreadsheet counts: the header is row 1
    values: dict[str, str]
    """Column to text, without the spaces around it; ``""`` where the cell is empty."""


def read_table(path: Path, required: Iterable[str] = ()) -> tuple[tuple[str, ...], list[TableRow]]:
    """Reads a comma-separated UTF-8 file with a header; rows without any text are passed over.

    Args:
        path: The file.
        required: Columns that must be there.

    Returns:
        The columns in their order, and the rows.

    Raises:
        InputError: The file is missing, not UTF-8 or not CSV; a required column is missing or a
            name occurs twice; or rows have more or fewer cells than the header. All of it at once.
    """
    if not path.is_file():
        raise InputError(f"table: {path} does not exist")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except UnicodeDecodeError as error:
        raise InputError(f"table {path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"table {path}: not a readable CSV file ({error})") from error
    columns = tuple(name.strip() for name in lines[0]) if lines else ()
    problems = _header_problems(columns, required)
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        values = [cell.strip() for cell in cells]
        if not any(values):
            continue
        if any(values[len(columns) :]) or len(values) < len(columns):
            problems.append(f"row {number}: {len(values)} cells, but {len(columns)} columns")
        values += [""] * (len(columns) - len(values))
        rows.append(TableRow(number, dict(zip(columns, values, strict=False))))
    if not rows and not problems:
        problems.append("no rows below the header")
    if problems:
        raise InputError(all_problems(f"table {path}", problems))
    return columns, rows


def _header_problems(columns: tuple[str, ...], required: Iterable[str]) -> list[str]:
    if not columns:
        return ["the file is empty"]
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        return ["the columns are not separated by commas; save it with commas"]
    found = ", ".join(filter(None, columns))
    problems = [
        f"no column {name!r} (found: {found}){did_you_mean(name, columns)}"
        for name in required
        if name not in columns
    ]
    counts = Counter(columns)
    problems += [
        f"column {name!r} occurs {count} times"
        for name, count in counts.items()
        if count > 1 and name
    ]
    return problems


def counted_problem(clips: Sequence[str], of: int, what: str) -> list[str]:
    """One problem that some clips have, by their number and the first of them; none without any."""
    return [f"{len(clips)} of {of} clips {what} (first: {clips[0]})"] if clips else []


def save_corpus(
    manifest: Manifest,
    left_out: Iterable[Sequence[str]],
    partitions: Iterable[Partition] = (),
    *,
    header: Sequence[str] = ("utterance_id", "reason"),
) -> None:
    """Writes what a corpus is made into, in the folder that is the manifest's root.

    Args:
        manifest: For ``manifest.parquet``.
        left_out: For ``left_out.csv``, a row for each clip that is not in the manifest.
        partitions: For ``partitions/NAME.json``.
        header: Columns of ``left_out.csv``.
    """
    manifest.save(manifest.root / "manifest.parquet")
    with (
        atomic_write(manifest.root / "left_out.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        csv.writer(file).writerows([header, *left_out])
    for partition in partitions:
        partition.save(manifest.root / "partitions" / f"{partition.name}.json")
