"""An evaluation as words and tables: sentences, console, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.quantities import CATEGORY
from vavl.evaluation.results import Difference, Evaluation, Score
from vavl.evaluation.views import View
from vavl.metrics.sentiment import SENTIMENT_MEASURES
from vavl.types import Modality

if TYPE_CHECKING:
    from rich.console import Console

FEW_SPEAKERS = 20
"""Below this many speakers a percentile interval is a rough guide."""

_COLUMNS = 4
_VIEW_PHRASES = {
    View.ACOUSTIC: "the acoustic prediction",
    View.VISUAL: "the visual prediction",
    View.AUDIOVISUAL: "the learned fusion",
    View.AVERAGE: "the average of the two",
    View.PRODUCT: "the product of the two",
}
_MEASURE_NAMES = {
    "accuracy": "accuracy",
    "uar": "UAR",
    "f1_macro": "F1-macro",
    "f1_micro": "F1-micro",
    "sentiment_mae": "MAE",
    "sentiment_correlation": "correlation",
    "sentiment_accuracy_7": "7-class accuracy",
    "sentiment_accuracy_2": "2-class accuracy",
    "sentiment_f1_2": "2-class F1",
    "sentiment_accuracy_2_with_neutral": "2-class accuracy with neutral",
    "sentiment_f1_2_with_neutral": "2-class F1 with neutral",
}
_TABLES = ("Categories", "Attributes (CCC)", "Sentiment (-3 to 3)")


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


def number(value: float) -> str:
    """Three decimals, never ``-0.000``; ``n/a`` for what is not a number."""
    if not math.isfinite(value):
        return "n/a"
    text = f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text


def percent(share: float) -> str:
    """``53 %``."""
    return f"{100 * share:.0f} %"


def with_limits(interval: Interval) -> str:
    """``0.816 (0.780 to 0.852)``, or the estimate alone where there is no interval."""
    ends = limits(interval)
    return number(interval.estimate) + (f" ({ends})" if ends else "")


def limits(interval: Interval) -> str:
    """``0.780 to 0.852``, or an empty text where there is no interval."""
    if not math.isfinite(interval.low):
        return ""
    return f"{number(interval.low)} to {number(interval.high)}"


def measure_name(measure: str) -> str:
    """What a measure is called in tables."""
    return _MEASURE_NAMES.get(measure) or f"{measure.removesuffix('_ccc')} CCC"


def difference_sentence(difference: Difference, confidence: float) -> str:
    """Says in plain words how two views compare, and whether the clips can tell them apart.

    Example:
        >>> difference_sentence(
        ...     Difference("category", View.AUDIOVISUAL, View.AVERAGE, "uar",
        ...                Interval(0.012, -0.003, 0.027), clips=100), 0.95)
        'UAR: the learned fusion is 0.012 above the average of the two (95 % interval -0.003 to \
0.027): not distinguishable.'
    """
    found = difference.pooled
    name = measure_name(difference.measure)
    subject, other = _VIEW_PHRASES[difference.view], _VIEW_PHRASES[difference.baseline]
    size = number(abs(found.estimate))
    if float(size) == 0:
        relation = f"level with {other}"
    else:
        relation = f"{size} {'above' if found.estimate > 0 else 'below'} {other}"
    # Not str.capitalize, which would make "Uar" of "UAR".
    start = f"{name[0].upper()}{name[1:]}: {subject} is {relation}"
    if not limits(found):
        return f"{start} (no interval: it takes at least two speakers)."
    verdict = "not distinguishable"
    if difference.distinguishable:
        verdict = "distinguishably better" if found.low > 0 else "distinguishably worse"
    of = "" if found.estimate >= 0 else " of the difference"
    return f"{start} ({confidence * 100:g} % interval{of} {limits(found)}): {verdict}."


def notes(evaluation: Evaluation) -> tuple[str, ...]:
    """What a reader has to know before trusting the numbers."""
    clips = "clip" if evaluation.clips == 1 else "clips"
    found = [
        f"{evaluation.clips:,} {clips} of {counted(evaluation.speakers, 'speaker')} in "
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
    if evaluation.speakers < 2:
        found.append("One speaker says nothing about others: there are no intervals.")
    elif evaluation.speakers < FEW_SPEAKERS:
        found.append(few_speakers(evaluation.speakers))
    return (*found, *evaluation.remarks)


def few_speakers(speakers: int) -> str:
    """What to say about intervals over so few speakers."""
    return f"With only {speakers} speakers percentile intervals tend to be too narrow."


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


def to_markdown(evaluation: Evaluation, title: str) -> str:
    """Score tables, folds and paired differences as Markdown."""
    lines = [f"# {cell_text(title)}", "", " ".join(map(cell_text, notes(evaluation)))]
    for scores in score_tables(evaluation):
        names = [measure_name(measure) for measure in scores.measures]
        lines += ["", f"## {scores.title}, pooled", ""]
        lines += markdown_row(["view", *names])
        lines += ["|---|" + "---:|" * len(names)]
        for view in scores.views:
            cells = []
            for measure in scores.measures:
                score = scores.scores.get((view, measure))
                shown = f" ({limits(score.pooled)})" if score and limits(score.pooled) else ""
                cells.append(f"{number(score.pooled.estimate)}{shown}" if score else "")
            lines += markdown_row([str(view), *cells])
        if len(evaluation.partitions) > 1:
            lines += ["", f"## {scores.title}, by fold"]
            for measure in scores.measures:
                lines += ["", *_fold_rows(evaluation, scores, measure)]
    if evaluation.differences:
        lines += ["", "## Paired differences", ""]
        lines += [
            f"- {cell_text(difference_sentence(difference, evaluation.confidence))}"
            for difference in evaluation.differences
        ]
    return "\n".join(lines) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """Every number of the evaluation in one long table.

    Columns: ``kind`` (score, difference, missing), ``quantity``, ``view``, ``baseline``,
    ``measure``, ``scope`` (pooled, fold, fold_mean), ``partition``, ``missing``, ``share``,
    ``estimate``, ``low``, ``high``, ``std``, ``clips``. Empty where a column does not apply.
    """
    text = io.StringIO()
    names = "kind quantity view baseline measure scope partition missing share estimate low high"
    writer = csv.DictWriter(text, [*names.split(), "std", "clips"], lineterminator="\n")
    writer.writeheader()
    for row in _rows(evaluation):
        writer.writerow(
            {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        )
    return text.getvalue()


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
            "view": difference.view,
            "baseline": difference.baseline,
            "measure": difference.measure,
            "scope": "pooled",
            "clips": difference.clips,
            **vars(difference.pooled),
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


def _fold_rows(evaluation: Evaluation, scores: ScoreTable, measure: str) -> list[str]:
    folds = evaluation.partitions
    lines = markdown_row([measure_name(measure), *folds, "mean ± SD"])
    lines += ["|---|" + "---:|" * (len(folds) + 1)]
    for view in scores.views:
        score = scores.scores.get((view, measure))
        if score:
            cells = [number(score.folds[f].estimate) if f in score.folds else "" for f in folds]
            lines += markdown_row([str(view), *cells, _spread(score).replace("\n", " ")])
    return lines


def markdown_row(cells: Sequence[str]) -> list[str]:
    """A row of a Markdown table, as a list of one line."""
    return ["| " + " | ".join(cell_text(cell) for cell in cells) + " |"]


def cell_text(text: str) -> str:
    """Text that cannot end a table cell or a line, nor start markup."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def _cell(interval: Interval) -> str:
    shown = limits(interval).replace(" to ", "-")
    return f"{number(interval.estimate)}\n{shown}" if shown else number(interval.estimate)


def _spread(score: Score) -> str:
    return f"{number(score.fold_mean)}\n± {number(score.fold_std)}"


def counted(number: int, noun: str) -> str:
    """``1 clip``, ``1,439 clips``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
