"""What a prediction table must hold: every check that it makes of itself, with all problems listed.

In two steps, because values can only be checked where names and shapes fit.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from vavl.metrics import UNKNOWN_CATEGORY
from vavl.types import Modality

if TYPE_CHECKING:
    from vavl.evaluation.predictions import PredictionTable

TEXT_FIELDS = ("utterance_ids", "speakers", "partitions")
"""The fields of a prediction table that hold one text per clip."""


def form_problems(table: PredictionTable) -> list[str]:
    """Problems of names, lengths, shapes, keys and number types."""
    return [*_name_problems(table), *_shape_problems(table)]


def value_problems(table: PredictionTable) -> list[str]:
    """Problems of rows and values, in a table whose form is right."""
    numbers = _number_problems(table)
    # Which modality a clip has is read from its numbers: asked only where those are right.
    return [*_row_problems(table), *(numbers or _presence_problems(table))]


def _name_problems(table: PredictionTable) -> list[str]:
    problems = []
    if not table.categories and not table.attributes:
        problems.append("categories, attributes: expected names in at least one, got none")
    for name in ("categories", "attributes"):
        twice = [text for text, count in Counter(getattr(table, name)).items() if count > 1]
        if twice:
            problems.append(f"{name}: expected each name once, got {twice} more than once")
    if not table.utterance_ids:
        problems.append("utterance_ids: expected at least one clip, got none")
    for name in TEXT_FIELDS:
        texts = getattr(table, name)
        if len(texts) != len(table):
            problems.append(f"{name}: expected {len(table)}, one per id, got {len(texts)}")
        wrong = [row for row, text in enumerate(texts) if not isinstance(text, str) or not text]
        if wrong:
            problems.append(f"{name}: expected non-empty texts, got others in rows {wrong[:5]}")
    return problems


def _shape_problems(table: PredictionTable) -> list[str]:
    n, c, a = len(table), len(table.categories), len(table.attributes)
    expected: dict[str, tuple[Any, tuple[int, ...], str]] = {
        "category_targets": (table.category_targets, (n,), "iu"),
        "attribute_targets": (table.attribute_targets, (n, a), "f"),
    }
    problems = []
    for name, width in (("logits", c), ("attribute_outputs", a)):
        for modality, values in getattr(table, name).items():
            if modality in set(Modality):
                expected[f"{name}[{modality}]"] = (values, (n, width), "f")
            else:
                known = [str(m) for m in Modality]
                problems.append(f"{name}: expected keys among {known}, got {modality!r}")
    for name, (values, shape, kinds) in expected.items():
        array = np.asarray(values)
        if array.shape != shape:
            problems.append(f"{name}: expected shape {shape}, got {array.shape}")
        if array.dtype.kind not in kinds:
            kind = "integers" if kinds == "iu" else "floats"
            problems.append(f"{name}: expected {kind}, got {array.dtype}")
    return problems


def _row_problems(table: PredictionTable) -> list[str]:
    keys = Counter(zip(table.partitions, table.utterance_ids, strict=True))
    problems = [
        f"{utterance!r}: expected once in partition {partition!r}, got {count} rows"
        for (partition, utterance), count in keys.items()
        if count > 1
    ]
    speaker_of: dict[str, str] = {}
    for utterance, speaker in zip(table.utterance_ids, table.speakers, strict=True):
        known = speaker_of.setdefault(utterance, speaker)
        if known != speaker:
            problems.append(f"{utterance!r}: expected one speaker, got {known!r} and {speaker!r}")
    return problems


def _number_problems(table: PredictionTable) -> list[str]:
    ids, classes, targets = table.utterance_ids, len(table.categories), table.category_targets
    wrong = (targets < UNKNOWN_CATEGORY) | (targets >= classes)
    problems = [
        f"{ids[row]!r}: expected a category target in [-1, {classes}), got {targets[row]}"
        for row in np.flatnonzero(wrong)
    ]
    problems += [
        f"{ids[row]!r}: expected attribute targets finite or NaN (unknown), got an infinite one"
        for row in np.flatnonzero(np.isinf(table.attribute_targets).any(axis=1))
    ]
    for name, outputs in (("logits", table.logits), ("attributes", table.attribute_outputs)):
        for modality, values in outputs.items():
            fits = np.isfinite(values).all(axis=1) | np.isnan(values).all(axis=1)
            problems += [
                f"{ids[row]!r}: expected {modality} {name} finite in float32, or all NaN where "
                f"the modality is absent, got {values[row].tolist()}"
                for row in np.flatnonzero(~fits)
            ]
    return problems


def _presence_problems(table: PredictionTable) -> list[str]:
    ids = table.utterance_ids
    present = {modality: table.present(modality) for modality in Modality}
    problems = []
    if table.categories and table.attributes:
        for modality in Modality:
            other = ~np.isnan(table.attribute_outputs[modality]).all(axis=1)
            problems += [
                f"{ids[row]!r}: expected {modality} outputs for categories and attributes, or for "
                "neither, got one of the two"
                for row in np.flatnonzero(present[modality] != other)
            ]
    nothing = ~np.logical_or.reduce(list(present.values()))
    return problems + [
        f"{ids[row]!r}: expected an output from some modality, got none"
        for row in np.flatnonzero(nothing)
    ]
