"""An evaluation as tables and notes: on the console, in Markdown and in CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.quantities import CATEGORY
from vavl.evaluation.scores import Evaluation, Score
from vavl.evaluation.views import View
from vavl.evaluation.wording import (
    cell_text,
    counted,
    csv_table,
    difference_sentence,
    limits,
    markdown_table,
    measure_name,
    number,
    speakers_notes,
    with_limits,
    with_spread,
)
from vavl.metrics.sentiment import SENTIMENT_MEASURES
from vavl.types import Modality

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = 4
_TABLES = ("Categories", "Attributes (CCC)", "Sentiment (-3 to 3)")
_CSV_COLUMNS = (
    *("kind", "quantity", "view", "baseline", "measure", "scope", "partition", "missing", "share"),
    *("estimate", "low", "high", "std", "clips"),
)


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one kind of quantity, with views as rows.

    Attributes:
        title: What is scored.
        measures: Names of the columns' measures.
        views: Views that are scored.
        scores: ``(view, measure)`` to the score; a view need not have all measures.
    """

    title: str
    measures: tuple[str, ...]
    views: tuple[View, ...]
    scores: dict[tuple[View, str], Score]

    def of_view(self, view: View) -> list[Score | None]:
        """A row: one score per measure, None where the view has none."""
        return [self.scores.get((view, measure)) for measure in self.measures]

    def of_measure(self, measure: str) -> list[Score]:
        """A column: the scores of all views that have one."""
        return [self.scores[v, measure] for v in self.views if (v, measure) in self.scores]


def score_tables(evaluation: Evaluation) -> tuple[ScoreTable, ...]:
    """The scores as up to three tables: categories, attributes, and sentiment."""
    tables = []
    for title in _TABLES:
        mine = [score for score in evaluation.scores if _table_of(score) == title]
        if mine:
            tables.append(
                ScoreTable(
                    title,
                    tuple(dict.fromkeys(score.measure for score in mine)),
                    tuple(view for view in View if any(score.view is view for score in mine)),
                    {(score.view, score.measure): score for score in mine},
                )
            )
    return tuple(tables)


def _table_of(score: Score) -> str:
    if score.quantity == CATEGORY:
        return _TABLES[0]
    return _TABLES[2] if score.measure in SENTIMENT_MEASURES else _TABLES[1]


def notes(evaluation: Evaluation) -> tuple[str, ...]:
    """What a reader has to know before trusting the numbers."""
    found = [
        f"{counted(evaluation.clips, 'clip')} of {counted(evaluation.speakers, 'speaker')} in "
        f"{counted(len(evaluation.partitions), 'partition')}."
    ]
    if len(evaluation.seeds) > 1:
        found.append(
            f"Scores are means over {len(evaluation.seeds)} seeds ({', '.join(evaluation.seeds)}), "
            "averaged within each resample."
        )
    for modality, lack in ((Modality.ACOUSTIC, "no sound"), (Modality.VISUAL, "no face")):
        count = evaluation.without.get(modality, 0)
        if count == evaluation.clips:
            found.append(f"There is {lack} prediction for any clip.")
        elif count:
            verb = "has" if count == 1 else "have"
            found.append(
                f"{counted(count, 'clip')} {verb} {lack}: for them the fused views use the other "
                "modality alone."
            )
    return (*found, *speakers_notes(evaluation.speakers), *evaluation.remarks)


def print_scores(evaluation: Evaluation, console: Console) -> None:
    """Prints score tables, folds and paired differences.

    Args:
        evaluation: What :func:`vavl.evaluation.scores.evaluate_tables` returned.
        console: Where to print.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    folds = len(evaluation.partitions) > 1
    for scores in score_tables(evaluation):
        # As many columns as fit a terminal of 80 characters, and another table for the rest.
        for start in range(0, len(scores.measures), _COLUMNS):
            measures = scores.measures[start : start + _COLUMNS]
            table = Table(
                title=f"{scores.title}, pooled",
                title_justify="left",
                title_style="bold",
                box=SIMPLE_HEAD,
                pad_edge=False,
                collapse_padding=True,
            )
            table.add_column("view")
            for measure in measures:
                table.add_column(Text(measure_name(measure)), justify="right")
            if folds:
                table.add_column(Text(f"{measure_name(measures[0])}\nover folds"), justify="right")
            for view in scores.views:
                found = [scores.scores.get((view, measure)) for measure in measures]
                cells = [_cell(score.pooled) if score else "" for score in found]
                if folds:
                    cells.append(_spread(found[0]) if found[0] else "")
                table.add_row(str(view), *(Text(cell) for cell in cells))
            console.print(table)
    interval = f"{evaluation.confidence * 100:g} % intervals by speaker below each score. "
    console.print(Text(interval + " ".join(notes(evaluation))))
    console.print()
    for difference in evaluation.differences:
        console.print(Text(difference_sentence(difference, evaluation.confidence)))


def _cell(interval: Interval) -> str:
    shown = limits(interval).replace(" to ", "-")
    return f"{number(interval.estimate)}\n{shown}" if shown else number(interval.estimate)


def _spread(score: Score) -> str:
    return f"{number(score.fold_mean)}\n± {number(score.fold_std)}"


def to_markdown(evaluation: Evaluation, title: str) -> str:
    """Score tables, folds and paired differences as Markdown."""
    folds = evaluation.partitions
    lines = [f"# {cell_text(title)}", "", " ".join(map(cell_text, notes(evaluation)))]
    for table in score_tables(evaluation):
        rows = [
            [
                str(view),
                *(with_limits(score.pooled) if score else "" for score in table.of_view(view)),
            ]
            for view in table.views
        ]
        lines += ["", f"## {table.title}, pooled", ""]
        lines += markdown_table(["view", *map(measure_name, table.measures)], rows)
        if len(folds) < 2:
            continue
        lines += ["", f"## {table.title}, by fold"]
        for measure in table.measures:
            names = [measure_name(measure), *folds, "mean ± SD"]
            lines += ["", *markdown_table(names, _fold_rows(table.of_measure(measure), folds))]
    if evaluation.differences:
        lines += ["", "## Paired differences", ""]
        lines += [
            f"- {cell_text(difference_sentence(difference, evaluation.confidence))}"
            for difference in evaluation.differences
        ]
    return "\n".join(lines) + "\n"


def _fold_rows(scores: Iterable[Score], folds: Sequence[str]) -> Iterator[list[str]]:
    for score in scores:
        cells = [number(score.folds[f].estimate) if f in score.folds else "" for f in folds]
        yield [str(score.view), *cells, with_spread(score.fold_mean, score.fold_std)]


def to_csv(evaluation: Evaluation) -> str:
    """Every number of the evaluation in one long table.

    Columns: ``kind`` (score, difference, missing), ``quantity``, ``view``, ``baseline``,
    ``measure``, ``scope`` (pooled, fold, fold_mean), ``partition``, ``missing``, ``share``,
    ``estimate``, ``low``, ``high``, ``std``, ``clips``. Empty where a column does not apply.
    """
    return csv_table(_CSV_COLUMNS, _rows(evaluation))


def _rows(evaluation: Evaluation) -> Iterator[dict[str, object]]:
    for score in evaluation.scores:
        same = {
            "kind": "score",
            "quantity": score.quantity,
            "view": score.view,
            "measure": score.measure,
        }
        std = score.seed_std
        yield same | {"scope": "pooled", "std": std, "clips": score.clips} | vars(score.pooled)
        for partition, interval in score.folds.items():
            yield same | {"scope": "fold", "partition": partition} | vars(interval)
        mean = {"scope": "fold_mean", "estimate": score.fold_mean, "std": score.fold_std}
        yield same | mean
    for difference in evaluation.differences:
        yield {
            "kind": "difference",
            "quantity": difference.quantity,
            "view": difference.variant,
            "baseline": difference.against,
            "measure": difference.measure,
            "scope": "pooled",
            "clips": difference.clips,
            **vars(difference.difference),
        }
    for curve in evaluation.missing_curves:
        for share, value in zip(curve.shares, curve.values, strict=True):
            yield {
                "kind": "missing",
                "quantity": curve.quantity,
                "view": curve.view,
                "measure": curve.measure,
                "scope": "pooled",
                "missing": curve.missing,
                "share": share,
                "estimate": value,
                "clips": curve.clips,
            }
