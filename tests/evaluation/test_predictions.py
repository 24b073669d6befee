from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vavl.errors import InputError, StoreError
from vavl.evaluation import predictions
from vavl.evaluation.predictions import PredictionTable
from vavl.types import Modality

Make = Callable[..., PredictionTable]


def assert_same(one: PredictionTable, other: PredictionTable) -> None:
    for name in ("categories", "attributes", "utterance_ids", "speakers", "partitions"):
        assert getattr(one, name) == getattr(other, name)
    np.testing.assert_array_equal(one.category_targets, other.category_targets)
    np.testing.assert_array_equal(one.attribute_targets, other.attribute_targets)
    for modality in Modality:
        np.testing.assert_array_equal(one.logits[modality], other.logits[modality])
        np.testing.assert_array_equal(
            one.attribute_outputs[modality], other.attribute_outputs[modality]
        )


def test_examples_in_the_documentation_run() -> None:
    failed, run = doctest.testmod(predictions)
    assert run > 0
    assert failed == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attributes": ("arousal",), "without_sound": 0.3, "unknown": 0.2},
        {"categories": (), "attributes": ("arousal", "valence")},
        {"categories": ("ängstlich", "a, b", 'say "x"', "喜び")},
    ],
)
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, make: Make, options: dict) -> None:
    table = make(clips=50, **options)
    table.save(tmp_path / "predictions.parquet")
    loaded = PredictionTable.load(tmp_path / "predictions.parquet")
    assert_same(table, loaded)
    assert loaded.category_targets.dtype == np.int64
    assert loaded.logits[Modality.ACOUSTIC].dtype == np.float32


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "predictions.parquet"
    make(clips=12).save(path)
    make(clips=24).save(path)
    assert len(PredictionTable.load(path)) == 24
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.parquet"]


def test_a_foreign_or_damaged_file_is_named_with_a_remedy(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(StoreError, match="no prediction table there"):
        PredictionTable.load(path)
    make(clips=50).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="not readable as Parquet"):
        PredictionTable.load(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(StoreError, match="not a prediction table"):
        PredictionTable.load(path)


def test_another_schema_version_is_refused(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "predictions.parquet"
    monkeypatch.setattr(predictions, "SCHEMA_VERSION", 2)
    make(clips=12).save(path)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="schema version 2, this vavl reads 1"):
        PredictionTable.load(path)


def test_a_table_with_a_column_missing_or_shortened_is_refused(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "predictions.parquet"
    make(clips=12).save(path)
    stored = pq.read_table(path)
    for damaged in (
        stored.drop_columns(["visual_logits"]),
        stored.set_column(
            stored.column_names.index("visual_logits"), "visual_logits", pa.array([1.0] * 12)
        ),
    ):
        pq.write_table(damaged, path)
        with pytest.raises(StoreError, match="damaged prediction table"):
            PredictionTable.load(path)


def test_arrays_are_copied_and_cannot_be_changed(make: Make) -> None:
    targets = np.array([0, 1])
    table = PredictionTable(
        ("a", "b"), (), ("x", "y"), ("s", "s"), ("f", "f"), targets, np.empty((2, 0)),
        {Modality.ACOUSTIC: np.eye(2)},
    )  # fmt: skip
    targets[0] = 1
    assert table.category_targets.tolist() == [0, 1]
    for array in (table.category_targets, table.logits[Modality.ACOUSTIC]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5


def test_presence_follows_the_rows_of_nan(make: Make) -> None:
    for options in ({}, {"categories": (), "attributes": ("arousal",)}):
        table = make(without_sound=0.2, without_face=0.3, **options)
        acoustic, visual, both = (table.present(m) for m in Modality)
        assert 0.7 < acoustic.mean() < 0.9
        assert 0.6 < visual.mean() < 0.8
        np.testing.assert_array_equal(both, acoustic & visual)


def test_concat_puts_rows_after_each_other(make: Make) -> None:
    table = make(clips=60, attributes=("arousal",), unknown=0.2, without_sound=0.2)
    parts = [table.take(range(0, 20)), table.take(range(20, 21)), table.take(range(21, 60))]
    assert_same(PredictionTable.concat(parts), table)


def test_concat_refuses_what_does_not_belong_together(make: Make) -> None:
    table = make(clips=12)
    with pytest.raises(InputError, match="at least one"):
        PredictionTable.concat([])
    with pytest.raises(InputError, match="once in partition 'fold-0'"):
        PredictionTable.concat([table, table])
    with pytest.raises(InputError, match=r"table 1: expected categories .*'calm'"):
        PredictionTable.concat([table, make(clips=12, categories=("a", "b", "c", "d"))])


def test_one_clip_may_be_tested_by_several_partitions(make: Make, change: Make) -> None:
    table = make(clips=12, folds=1)
    again = change(table, partitions=("other",) * 12)
    assert len(PredictionTable.concat([table, again])) == 24


def replaced(values: np.ndarray, row: int, value: object) -> np.ndarray:
    copy = values.copy()
    copy[row] = value
    return copy


@pytest.mark.parametrize(
    ("field", "mend", "said"),
    [
        ("utterance_ids", lambda t: (*t.utterance_ids[:-1], t.utterance_ids[8]), "clip-0008"),
        ("utterance_ids", lambda t: t.utterance_ids[:-1], "speakers: expected 11"),
        ("speakers", lambda t: ("", *t.speakers[1:]), "speakers: expected 12 .*, got 11"),
        ("categories", lambda t: t.categories[:3], r"logits\[acoustic\]: expected shape \(12, 3\)"),
        ("category_targets", lambda t: replaced(t.category_targets, 2, 4), r"clip-0002.*\[-1, 4\)"),
        ("attribute_targets", lambda t: replaced(t.attribute_targets, 3, np.inf), "clip-0003"),
        ("attribute_targets", lambda t: t.attribute_targets[:5], r"expected shape \(12, 1\)"),
        ("logits", lambda t: {**t.logits, "visual": np.full((12, 4), 1e300)}, "finite in float32"),
        (
            "logits",
            lambda t: {**t.logits, "visual": replaced(t.logits["visual"], 5, [np.nan, 1, 1, 1])},
            "clip-0005.*visual logits",
        ),
        (
            "logits",
            lambda t: {**t.logits, "visual": replaced(t.logits["visual"], 5, np.nan)},
            "clip-0005.*for categories and attributes, or for neither",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    make: Make, change: Make, field: str, mend: Callable[[PredictionTable], object], said: str
) -> None:
    table = make(clips=12, attributes=("arousal",))
    with pytest.raises(InputError, match=said):
        change(table, **{field: mend(table)})


def test_a_clip_without_any_output_is_refused(make: Make, change: Make) -> None:
    table = make(clips=12)
    with pytest.raises(InputError, match=r"clip-0001.*some modality, got none"):
        change(table, logits={m: replaced(v, 1, np.nan) for m, v in table.logits.items()})


def test_an_empty_table_is_refused() -> None:
    nothing = np.empty((0, 0))
    with pytest.raises(InputError, match=r"2 problems(.|\n)*names(.|\n)*one clip"):
        PredictionTable((), (), (), (), (), np.empty(0, int), nothing)


def test_all_problems_are_reported_at_once(make: Make, change: Make) -> None:
    table = make(clips=12)
    logits = replaced(replaced(table.logits["visual"], 5, np.inf), 7, np.inf)
    with pytest.raises(
        InputError, match=r"3 problems(.|\n)*clip-0001(.|\n)*clip-0005(.|\n)*clip-0007"
    ):
        change(
            table,
            category_targets=replaced(table.category_targets, 1, 9),
            logits={**table.logits, "visual": logits},
        )
