"""Bringing prediction tables of several folds and seeds to one table per seed, row by row alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vavl.errors import InputError, all_problems
from vavl.evaluation.predictions import PredictionTable
from vavl.media.files import natural_key
from vavl.types import Modality


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
        InputError: No table, not one seed per table, a clip twice within a seed and partition, or
            seeds that do not hold the same clips with the same targets, speakers and modalities.
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
        for problem in _differences(joined[0], table)
    ]
    if problems:
        raise InputError(all_problems(f"seeds to average with seed {order[0]}", problems))
    return (() if seeds is None else order), tuple(joined)


def _in_canonical_order(table: PredictionTable) -> PredictionTable:
    # Training may have scored the clips, and the caller listed the folds, in any order.
    def key(row: int) -> tuple[list[tuple[int, str]], str]:
        return natural_key(table.partitions[row]), table.utterance_ids[row]

    return table.take(sorted(range(len(table)), key=key))


def _differences(first: PredictionTable, other: PredictionTable) -> list[str]:
    keys = [set(zip(t.partitions, t.utterance_ids, strict=True)) for t in (first, other)]
    problems = []
    for word, rows in (("lacks", keys[0] - keys[1]), ("adds", keys[1] - keys[0])):
        if rows:
            shown = ", ".join(f"{clip} ({partition})" for partition, clip in sorted(rows)[:3])
            problems.append(f"{word} {len(rows)} clips, e.g. {shown}; evaluate the same folds")
    if problems:
        return problems
    same = {
        "categories": first.categories == other.categories,
        "attributes": first.attributes == other.attributes,
        "speakers": first.speakers == other.speakers,
        "category targets": np.array_equal(first.category_targets, other.category_targets),
        "attribute targets": np.array_equal(
            first.attribute_targets, other.attribute_targets, equal_nan=True
        ),
        "modalities of the clips": all(
            np.array_equal(first.present(m), other.present(m)) for m in Modality
        ),
    }
    return [
        f"has other {name}; only the seed may differ" for name, equal in same.items() if not equal
    ]
