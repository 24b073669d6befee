"""The results of the study of enrolment as Markdown, CSV and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vavl.evaluation.plots import MARKERS, save
from vavl.evaluation.views import View
from vavl.evaluation.wording import (
    markdown_table,
    measure_name,
    signed,
    with_limits,
    write_texts,
)
from vavl.studies.enrolment import NOTHING, ConditionResult
from vavl.system.plotting import COLOURS, INK, SETTINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READING = """\
Each test clip is normalised by statistics of so many *other* unlabelled clips of its speaker,
shrunk to the training statistics; it is never among them itself, and all clips are scored in each
row. Clips are drawn from all others of the speaker (*mixed*), or from those of one category. In
brackets: 95 % interval of a bootstrap over speakers; *difference*: against nothing known, from the
same resamples. All rows but the first have seen unlabelled clips of the test speakers, never
labels."""


def write_enrolment(results: Sequence[ConditionResult], folder: Path, remarks: str) -> Path:
    """Writes ``results.md``, ``results.csv`` and a curve per measure.

    Args:
        results: What the study found.
        folder: Where they go; made where missing.
        remarks: What else a reader has to know, in sentences.

    Returns:
        The path of ``results.md``.
    """
    import matplotlib as mpl

    views = list(dict.fromkeys(view for view, _ in results[0].scores))
    measures = list(dict.fromkeys(measure for _, measure in results[0].scores))
    lines = ["# Enrolment: knowing the person from unlabelled clips", "", remarks, "", READING]
    for measure in measures:
        lines += ["", f"## {measure_name(measure)}", "", *_rows(results, views, measure)]
        lines += ["", f"![{measure_name(measure)}](curve-{measure}.svg)"]
        with mpl.rc_context(SETTINGS):
            save(_curves(results, views, measure), folder / f"curve-{measure}")
    write_texts(folder, {"results.md": "\n".join(lines) + "\n", "results.csv": _csv(results)})
    return folder / "results.md"


def _rows(results: Sequence[ConditionResult], views: Sequence[View], measure: str) -> Iterator[str]:
    """Scores of all views, and the difference of each."""
    rows = []
    for result in results:
        cells = []
        for view in views:
            pooled = result.scores[view, measure].pooled
            found = result.differences.get((view, measure))
            change = f", difference {signed(found.difference)}" if found else ""
            cells.append(with_limits(pooled) + change)
        rows.append([result.condition.name, *cells])
    yield from markdown_table(["known of the speaker", *map(str, views)], rows)


def _curves(results: Sequence[ConditionResult], views: Sequence[View], measure: str) -> Figure:
    """Score against the number of clips: a colour for each view, a line style for each pool."""
    from matplotlib.figure import Figure

    amounts = sorted({r.condition.clips or 0 for r in results if r.condition.clips is not None})
    ticks = [*map(str, amounts), "all"]
    pools = list(dict.fromkeys(r.condition.pool for r in results))
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for view, colour, marker in zip(views, COLOURS, MARKERS, strict=False):
        for pool, style in zip(pools, ("-", "--", ":", "-."), strict=False):
            points = [
                (ticks.index(r.condition.amount), r.scores[view, measure].pooled)
                for r in results
                if r.condition.pool == pool or r.condition == NOTHING
            ]
            places = [place for place, _ in points]
            axes.plot(
                places,
                [pooled.estimate for _, pooled in points],
                f"{marker}{style}",
                color=colour,
                label=f"{view}, {pool}",
            )
            if pool == NOTHING.pool:
                lows, highs = [p.low for _, p in points], [p.high for _, p in points]
                axes.fill_between(places, lows, highs, color=colour, alpha=0.1, linewidth=0)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel("unlabelled clips of the speaker")
    axes.set_ylabel(measure_name(measure), color=INK)
    figure.legend(loc="outside lower center", fontsize="small", ncols=len(views))
    return figure


def _csv(results: Sequence[ConditionResult]) -> str:
    """One row per condition, view and measure."""
    text = io.StringIO()
    names = ["pool", "clips", "view", "metric", "pooled", "low", "high", "fold_mean", "fold_std"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "difference", "difference_low", "difference_high", "p", "scored"])
    for result in results:
        for (view, measure), score in result.scores.items():
            found = result.differences.get((view, measure))
            values = [
                *(score.pooled.estimate, score.pooled.low, score.pooled.high),
                *(score.fold_mean, score.fold_std),
            ]
            values += (
                [found.difference.estimate, found.difference.low, found.difference.high, found.p]
                if found
                else [math.nan] * 4
            )
            shown = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
            condition = result.condition
            start = [condition.pool, condition.amount, str(view), measure]
            writer.writerow([*start, *shown, score.clips])
    return text.getvalue()
