"""What a model predicted for the clips of a test set: the table that every score comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, StoreError, all_problems
from vavl.media.files import natural_key
from vavl.metrics import UNKNOWN_CATEGORY
from vavl.system.atomic import atomic_write
from vavl.system.extras import extra
from vavl.types import Modality

SCHEMA_VERSION = 1
"""Raised whenever a table written before can no longer be read the same way."""

_HEADER_KEY = b"vavl.predictions"
_TEXT_COLUMNS = {
    "utterance_id": "utterance_ids",
    "speaker": "speakers",
    "partition": "partitions",
}
_TEXT_FIELDS = tuple(_TEXT_COLUMNS.values())


@dataclass(frozen=True, eq=False, repr=False)
class PredictionTable:
    """Targets and outputs of N clips, each output kept apart by what it was made from.

    Arrays are copied, brought to the types below and made read-only. A modality without an entry in
    ``logits`` or ``attribute_outputs`` is absent from every clip.

    Attributes:
        categories: C category names; empty for a model of attributes only.
        attributes: A attribute names; empty for a model of categories only.
        utterance_ids: N ids, unique within a partition.
        speakers: N speaker names.
        partitions: For each clip the name of the partition that tests it, e.g. ``"fold-0"``.
        category_targets: ``(N,)`` int64 index into ``categories``, -1 where unknown.
        attribute_targets: ``(N, A)`` float32, NaN where unknown.
        logits: Modality to ``(N, C)`` float32; rows of NaN where the clip lacks the modality.
        attribute_outputs: Modality to ``(N, A)`` float32; rows of NaN where the clip lacks it.

    Raises:
        InputError: The parts do not fit each other; all problems are listed.

    Example:
        >>> table = PredictionTable(
        ...     categories=("calm", "happy"),
        ...     attributes=(),
        ...     utterance_ids=("clip-1", "clip-2"),
        ...     speakers=("ann", "bob"),
        ...     partitions=("fold-0", "fold-0"),
        ...     category_targets=np.array([0, 1]),
        ...     attribute_targets=np.empty((2, 0)),
        ...     logits={Modality.ACOUSTIC: np.array([[2.0, 0.0], [0.5, 0.0]])},
        ... )
        >>> len(table), table.present(Modality.VISUAL).tolist()
        (2, [False, False])
    """

    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    utterance_ids: tuple[str, ...]
    speakers: tuple[str, ...]
    partitions: tuple[str, ...]
    category_targets: NDArray[np.int64]
    attribute_targets: NDArray[np.float32]
    logits: Mapping[Modality, NDArray[np.float32]] = field(default_factory=dict)
    attribute_outputs: Mapping[Modality, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def complete(
            outputs: Mapping[Modality, NDArray[np.float32]], names: Sequence[str]
        ) -> dict[Modality, NDArray[np.float32]]:
            absent = np.full((len(self), len(names)), np.nan)
            return {m: _frozen(outputs.get(m, absent), np.float32) for m in Modality}

        frozen = {
            "category_targets": _frozen(self.category_targets, np.int64),
            "attribute_targets": _frozen(self.attribute_targets, np.float32),
            "logits": complete(self.logits, self.categories),
            "attribute_outputs": complete(self.attribute_outputs, self.attributes),
        }
        for name, part in frozen.items():
            object.__setattr__(self, name, part)
        # What is checked of values relies on the shapes.
        problems = _shape_problems(self) or _value_problems(self)
        if problems:
            raise InputError(all_problems("prediction table", problems))

    def __len__(self) -> int:
        return len(self.utterance_ids)

    def __repr__(self) -> str:
        names = f"categories={self.categories}, attributes={self.attributes}"
        return f"<PredictionTable of {len(self)} clips, {names}>"

    def present(self, modality: Modality) -> NDArray[np.bool_]:
        """Which clips have an output made from ``modality``: ``(N,)``, True = has one."""
        outputs = self.logits if self.categories else self.attribute_outputs
        return np.asarray(~np.isnan(outputs[modality]).all(axis=1))

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> PredictionTable:
        """The table of the given row numbers, in their order; at least one."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            category_targets=self.category_targets[index],
            attribute_targets=self.attribute_targets[index],
            logits={m: values[index] for m, values in self.logits.items()},
            attribute_outputs={m: values[index] for m, values in self.attribute_outputs.items()},
            **{name: tuple(getattr(self, name)[row] for row in index) for name in _TEXT_FIELDS},
        )

    @classmethod
    def concat(cls, tables: Sequence[PredictionTable]) -> Self:
        """Puts the rows of several tables after each other, e.g. of all folds.

        Raises:
            InputError: Nothing to join, different categories or attributes, or a clip that two of
                the tables hold for the same partition.
        """
        if not tables:
            raise InputError("tables: expected at least one prediction table, got none")
        first = tables[0]
        problems = [
            f"table {number}: expected {name} {list(getattr(first, name))} as in table 0, "
            f"got {list(getattr(table, name))}"
            for number, table in enumerate(tables)
            for name in ("categories", "attributes")
            if getattr(table, name) != getattr(first, name)
        ]
        if problems:
            raise InputError(all_problems("tables to join", problems))
        texts = {
            name: tuple(text for table in tables for text in getattr(table, name))
            for name in _TEXT_FIELDS
        }
        join = np.concatenate
        return cls(
            categories=first.categories,
            attributes=first.attributes,
            category_targets=join([table.category_targets for table in tables]),
            attribute_targets=join([table.attribute_targets for table in tables]),
            logits={m: join([table.logits[m] for table in tables]) for m in Modality},
            attribute_outputs={
                m: join([table.attribute_outputs[m] for table in tables]) for m in Modality
            },
            **texts,
        )

    def save(self, path: Path | str) -> None:
        """Writes the table as Parquet; a file of that name is replaced in one step."""
        with extra("train", "tables of predictions"):
            import pyarrow as pa
            import pyarrow.parquet as pq

        columns: dict[str, Any] = {
            column: pa.array(getattr(self, name), pa.string())
            for column, name in _TEXT_COLUMNS.items()
        }
        columns["category_target"] = pa.array(self.category_targets)
        vectors = {
            "attribute_targets": self.attribute_targets,
            **{f"{m}_logits": values for m, values in self.logits.items()},
            **{f"{m}_attributes": values for m, values in self.attribute_outputs.items()},
        }
        for column, values in vectors.items():
            if values.shape[1]:
                cells = pa.array(values.ravel())
                columns[column] = pa.FixedSizeListArray.from_arrays(cells, values.shape[1])
        header = {
            "schema_version": SCHEMA_VERSION,
            "categories": self.categories,
            "attributes": self.attributes,
        }
        table = pa.table(columns).replace_schema_metadata({_HEADER_KEY: json.dumps(header)})
        with atomic_write(Path(path)) as temporary:
            pq.write_table(table, temporary)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Reads what :meth:`save` wrote.

        Raises:
            StoreError: The file is missing, truncated, no prediction table, or of a schema version
                that this vavl does not read.
        """
        with extra("train", "tables of predictions"):
            import pyarrow as pa
            import pyarrow.parquet as pq

        path = Path(path)
        remedy = "evaluate the run again to write it anew"
        try:
            stored = pq.read_table(path)
        except FileNotFoundError:
            raise StoreError(f"{path}: no prediction table there; {remedy}") from None
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path}: not readable as Parquet ({error}); {remedy}") from error
        header_text = (stored.schema.metadata or {}).get(_HEADER_KEY)
        if header_text is None:
            raise StoreError(f"{path}: a Parquet file, but not a prediction table of vavl")
        try:
            header = json.loads(header_text)
            version = header["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: its header is damaged ({error!r}); {remedy}") from error
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: schema version {version}, this vavl reads {SCHEMA_VERSION}; "
                "read it with the vavl that wrote it, or evaluate the run again"
            )
        try:
            return cls._from_arrow(stored, header)
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            raise StoreError(f"{path}: damaged prediction table ({error}); {remedy}") from error

    @classmethod
    def _from_arrow(cls, stored: Any, header: Mapping[str, Any]) -> Self:
        rows = stored.num_rows

        def wide(column: str, width: int) -> NDArray[np.float32]:
            if not width:
                return np.empty((rows, 0), np.float32)
            vectors = stored.column(column)
            if not hasattr(vectors.type, "value_type"):
                raise TypeError(f"column {column}: expected vectors, got {vectors.type}")
            cells = vectors.combine_chunks().flatten()
            return np.asarray(cells.to_numpy(zero_copy_only=False)).reshape(rows, width)

        categories, attributes = tuple(header["categories"]), tuple(header["attributes"])
        texts = {
            name: tuple(stored.column(column).to_pylist()) for column, name in _TEXT_COLUMNS.items()
        }
        return cls(
            categories=categories,
            attributes=attributes,
            category_targets=stored.column("category_target").to_numpy(),
            attribute_targets=wide("attribute_targets", len(attributes)),
            logits={m: wide(f"{m}_logits", len(categories)) for m in Modality},
            attribute_outputs={m: wide(f"{m}_attributes", len(attributes)) for m in Modality},
            **texts,
        )


def _frozen(values: NDArray[Any], dtype: type) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what overflows is reported as infinite, with its clip
        array: NDArray[Any] = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def align(
    tables: Sequence[PredictionTable], seeds: Sequence[str | int] | None
) -> tuple[tuple[str, ...], tuple[PredictionTable, ...]]:
    """Joins the tables of each seed, and brings all seeds to the same clips in the same order.

    Args:
        tables: Prediction tables, e.g. one per fold and seed.
        seeds: The seed of each table; None = all tables belong to one run or its folds.

    Returns:
        The distinct seeds in order of appearance (empty for None), and one table for each, sorted
        by partition (fold-2 before fold-10) and id.

    Raises:
        InputError: The tables of a seed cannot be joined, or seeds do not hold the same clips with
            the same targets, speakers and modalities.
    """
    if not tables:
        raise InputError("tables: expected at least one prediction table, got none")
    if seeds is not None and len(seeds) != len(tables):
        raise InputError(
            f"seeds: expected one per table ({len(tables)}), got {len(seeds)}; "
            "repeat a seed for every fold that was trained with it"
        )
    labels = ["" for _ in tables] if seeds is None else [str(seed) for seed in seeds]
    order = tuple(dict.fromkeys(labels))
    joined = []
    for seed in order:
        try:
            mine = [table for table, label in zip(tables, labels, strict=True) if label == seed]
            joined.append(PredictionTable.concat(mine))
        except InputError as error:
            which = "the tables" if seeds is None else f"the tables of seed {seed}"
            raise InputError(
                f"{which} cannot be joined; runs that differ only in seed need their seeds "
                f"told apart by the argument `seeds`\n{error}"
            ) from error
    joined = [_in_canonical_order(table) for table in joined]
    problems = [
        f"seed {seed}: {problem}"
        for seed, table in zip(order[1:], joined[1:], strict=True)
        for problem in _seed_problems(joined[0], table)
    ]
    if problems:
        raise InputError(all_problems(f"seeds to average with seed {order[0]}", problems))
    return (() if seeds is None else order), tuple(joined)


def _in_canonical_order(table: PredictionTable) -> PredictionTable:
    # Training may have scored the clips, and the caller listed the folds, in any order.
    def key(row: int) -> tuple[list[tuple[int, str]], str]:
        return natural_key(table.partitions[row]), table.utterance_ids[row]

    return table.take(sorted(range(len(table)), key=key))


def _seed_problems(first: PredictionTable, other: PredictionTable) -> list[str]:
    keys = [set(zip(t.partitions, t.utterance_ids, strict=True)) for t in (first, other)]
    problems = []
    for word, rows in (("lacks", keys[0] - keys[1]), ("adds", keys[1] - keys[0])):
        if rows:
            shown = ", ".join(f"{clip} ({partition})" for partition, clip in sorted(rows)[:3])
            problems.append(f"{word} {len(rows)} clips, e.g. {shown}; evaluate the same folds")
    if problems:
        return problems
    different = differing_targets(first, other)
    if first.speakers != other.speakers:
        different.append("speakers")
    if any(not np.array_equal(first.present(m), other.present(m)) for m in Modality):
        different.append("modalities of the clips")
    return [f"has other {name}; only the seed may differ" for name in different]


def differing_targets(first: PredictionTable, other: PredictionTable) -> list[str]:
    """Which of names and targets differ, in two tables of the same clips in the same order."""
    same = {
        "categories": first.categories == other.categories,
        "attributes": first.attributes == other.attributes,
        "category targets": np.array_equal(first.category_targets, other.category_targets),
        "attribute targets": np.array_equal(
            first.attribute_targets, other.attribute_targets, equal_nan=True
        ),
    }
    return [name for name, equal in same.items() if not equal]


def _shape_problems(table: PredictionTable) -> list[str]:
    """Problems of names, lengths and shapes."""
    n, c, a = len(table), len(table.categories), len(table.attributes)
    problems = []
    if not c and not a:
        problems.append("categories, attributes: expected names in at least one, got none")
    if not n:
        problems.append("utterance_ids: expected at least one clip, got none")
    for name in _TEXT_FIELDS:
        texts = getattr(table, name)
        if len(texts) != n or not all(texts):
            problems.append(f"{name}: expected {n} non-empty texts, got {sum(map(bool, texts))}")
    shapes: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
        "category_targets": (table.category_targets, (n,)),
        "attribute_targets": (table.attribute_targets, (n, a)),
        **{f"logits[{m}]": (values, (n, c)) for m, values in table.logits.items()},
        **{f"attribute_outputs[{m}]": (v, (n, a)) for m, v in table.attribute_outputs.items()},
    }
    return problems + [
        f"{name}: expected shape {shape}, got {values.shape}"
        for name, (values, shape) in shapes.items()
        if values.shape != shape
    ]


def _value_problems(table: PredictionTable) -> list[str]:
    """Problems of rows and their values, in a table whose shapes are right."""
    keys = Counter(zip(table.partitions, table.utterance_ids, strict=True))
    problems = [
        f"{utterance!r}: expected once in partition {partition!r}, got {count} rows"
        for (partition, utterance), count in keys.items()
        if count > 1
    ]
    classes, targets = len(table.categories), table.category_targets

    def note(
        wrong: NDArray[np.bool_] | np.bool_, expected: str, found: NDArray[Any] | None = None
    ) -> None:
        for row in np.flatnonzero(wrong):
            got = "" if found is None else f", got {found[row].tolist()}"
            problems.append(f"{table.utterance_ids[row]!r}: expected {expected}{got}")

    outside = (targets < UNKNOWN_CATEGORY) | (targets >= classes)
    note(outside, f"a category target in [-1, {classes})", targets)
    infinite = np.isinf(table.attribute_targets).any(axis=1)
    note(infinite, "attribute targets finite or NaN (unknown)", table.attribute_targets)
    absent = {}
    for name, outputs in (("logits", table.logits), ("attributes", table.attribute_outputs)):
        for modality, values in outputs.items():
            absent[name, modality] = np.isnan(values).all(axis=1)
            note(
                ~(np.isfinite(values).all(axis=1) | absent[name, modality]),
                f"{modality} {name} finite in float32, or all NaN where the modality is absent",
                values,
            )
    if table.categories and table.attributes:
        for modality in Modality:
            note(
                absent["logits", modality] != absent["attributes", modality],
                f"{modality} outputs for categories and attributes, or for neither",
            )
    nothing = np.logical_and.reduce([~table.present(modality) for modality in Modality])
    note(nothing, "an output from some modality, got none")
    return problems
