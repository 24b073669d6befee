from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import evaluate_tables
from vavl.evaluation.summary import notes, print_scores, to_csv, to_markdown
from vavl.evaluation.wording import number

Make = Callable[..., PredictionTable]


def test_notes_say_what_weakens_the_numbers(make: Make) -> None:
    tables = [make(without_sound=0.2, model_seed=seed) for seed in range(2)]
    evaluation = evaluate_tables(tables, seeds=[4, 5], replicates=5)
    said = " ".join(notes(evaluation))
    assert "240 clips of 12 speakers in 3 partitions." in said
    assert "means over 2 seeds (4, 5)" in said
    assert f"{evaluation.without['acoustic']} clips have no sound" in said
    assert "no face" not in said
    assert "only 12 speakers" in said
    lone = evaluate_tables([make(speakers=1, folds=1)], replicates=5)
    assert "One speaker says nothing about others" in " ".join(notes(lone))


@pytest.mark.parametrize("width", [80, 120])
def test_the_console_shows_every_score_in_80_columns(table: PredictionTable, width: int) -> None:
    evaluation = evaluate_tables([table], replicates=20)
    text = io.StringIO()
    print_scores(evaluation, Console(file=text, width=width))
    shown = text.getvalue()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    for score in evaluation.scores:
        assert number(score.pooled.estimate) in shown
        assert f"{number(score.pooled.low)}-{number(score.pooled.high)}" in shown
    assert shown.count("learned fusion is") == len(evaluation.differences)


@pytest.mark.parametrize(
    "attributes", [tuple(f"emotion-{number}" for number in range(7)), ("sentiment",)]
)
def test_many_attributes_are_shown_in_several_tables(
    make: Make, attributes: tuple[str, ...]
) -> None:
    evaluation = evaluate_tables([make(categories=(), attributes=attributes)], replicates=5)
    text = io.StringIO()
    print_scores(evaluation, Console(file=text, width=80))
    assert "…" not in text.getvalue()
    for score in evaluation.scores:
        assert number(score.pooled.estimate) in text.getvalue()


def test_names_are_printed_as_they_are(make: Make) -> None:
    table = make(categories=(), attributes=("[bold]x[/bold]",))
    text = io.StringIO()
    print_scores(evaluate_tables([table], replicates=5), Console(file=text, width=120))
    assert "[bold]x[/bold] CCC" in text.getvalue()


def test_csv_holds_every_number(table: PredictionTable) -> None:
    evaluation = evaluate_tables([table], replicates=20)
    rows = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    pooled = {
        (row["view"], row["measure"]): row
        for row in rows
        if (row["kind"], row["scope"]) == ("score", "pooled")
    }
    assert len(pooled) == len(evaluation.scores)
    for score in evaluation.scores:
        row = pooled[score.view, score.measure]
        assert float(row["estimate"]) == score.pooled.estimate
        assert float(row["low"]) == score.pooled.low
        assert int(row["clips"]) == score.clips
        assert row["std"] == ""  # a single seed has no spread
    kinds = [row["kind"] for row in rows]
    assert kinds.count("difference") == len(evaluation.differences)
    assert kinds.count("missing") == 11 * len(evaluation.missing_curves)
    folds = [row for row in rows if row["scope"] == "fold"]
    assert {row["partition"] for row in folds} == set(evaluation.partitions)


def test_markdown_tables_survive_awkward_names(make: Make, change: Make) -> None:
    table = make(clips=60, attributes=("a|b",))
    renamed = change(table, partitions=tuple(f"{name}|<x>\n" for name in table.partitions))
    text = to_markdown(evaluate_tables([renamed], replicates=5), "Title | <script>")
    assert "<script>" not in text
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 2 + 4 + 1
    for block in blocks:
        columns = {line.replace("\\|", "").count("|") for line in block}
        assert len(columns) == 1
