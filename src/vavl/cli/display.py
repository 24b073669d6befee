"""What the command line shows: progress of training, and predictions as a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from vavl.types import Prediction, TimedPrediction

if TYPE_CHECKING:  # training takes seconds to import, and printing a prediction needs none of it
    from vavl.studies.results import StudyResults
    from vavl.studies.run import Estimate
    from vavl.training.loop import EpochCallback
    from vavl.training.run_folder import FoldDirectory

Format = Literal["table", "json", "csv"]

_UNBROKEN = 10_000
"""Columns of a console that never breaks a line of ours."""


def output() -> Console:
    """The standard output: as wide as the terminal is, and in a file or a pipe a row is a line."""
    console = Console()
    return console if console.is_terminal else Console(width=_UNBROKEN)


class TrainingDisplay:
    """A progress bar per fold, with the latest scores."""

    def __init__(self, console: Console) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def begin(self, fold: FoldDirectory, finished: bool) -> EpochCallback | None:
        """Starts the bar of a fold."""
        if finished:
            self.bars.console.print(f"{fold.path}: finished before, left as it is")
            return None
        task = self.bars.add_task(fold.path.name, total=None, status="loading")

        def after_epoch(record: dict[str, Any], epochs: int) -> None:
            status = f"loss {record['train']['loss']:.3f}"
            if record["development"]:
                status += f", development {record['development']['score']:.3f}"
            self.bars.update(task, total=epochs, completed=record["epoch"], status=status)

        return after_epoch


def print_predictions(predictions: Sequence[Prediction], form: Format) -> None:
    """Prints predictions to the standard output."""
    _PRINTERS[form](predictions)


def _print_table(predictions: Sequence[Prediction]) -> None:
    rows = []
    for prediction in predictions:
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        rows.append(
            {
                "clip": prediction.name,
                "emotion": prediction.label or "",
                "probability": f"{ranked[0][1]:.2f}" if ranked else "",
                "others": ", ".join(f"{name} {value:.2f}" for name, value in ranked[1:3]),
                "attributes": ", ".join(f"{n} {v:.2f}" for n, v in prediction.attributes.items()),
                "from": prediction.modality,
                "notes": "; ".join(prediction.warnings),
            }
        )
    table = Table(box=None)
    # What no clip has is no column: terminals are narrow.
    columns = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    for name in columns:
        table.add_column(name, no_wrap=name in ("emotion", "probability", "from"))
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    output().print(table)


def print_timelines(predictions: Sequence[Prediction]) -> None:
    """Prints what was predicted over time, a line per window."""
    for prediction in predictions:
        table = Table(
            "from", "to", "emotion", "probability", "attributes", "from", "face", box=None
        )
        for window in prediction.timeline:
            top = max(window.probabilities.values(), default=None)
            table.add_row(
                f"{window.start_s:.1f} s",
                f"{window.end_s:.1f} s",
                window.label or "",
                "" if top is None else f"{top:.3f}",
                ", ".join(f"{name} {value:.2f}" for name, value in window.attributes.items()),
                window.modality or "nothing to go by",
                "" if window.face_share is None else f"{window.face_share:.0%}",
            )
        output().print(prediction.name, table, sep="\n")


def _print_json(predictions: Sequence[Prediction]) -> None:
    print(json.dumps([asdict(prediction) for prediction in predictions], indent=2))


def _print_csv(predictions: Sequence[Prediction]) -> None:
    if not predictions:
        return
    first = predictions[0]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    named = [*first.probabilities, *first.attributes]
    writer.writerow(["name", "modality", "label", *named, "duration_s", "face_share", "warnings"])
    for prediction in predictions:
        values = [*prediction.probabilities.values(), *prediction.attributes.values()]
        writer.writerow(
            [
                *(prediction.name, prediction.modality, prediction.label),
                *(f"{value:.6f}" for value in values),
                *(prediction.duration_s, prediction.face_share, "; ".join(prediction.warnings)),
            ]
        )


_PRINTERS: dict[str, Callable[[Sequence[Prediction]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}


def window_printer(form: Literal["table", "json"]) -> Callable[[TimedPrediction, float], None]:
    """What prints a window of a live stream on a line of its own, at once."""
    if form == "table":
        print(f"{'from':>8} {'to':>8}  {'emotion':<12} {'prob.':>6}  {'by':<16} {'latency':>8}")

    def show(window: TimedPrediction, latency_s: float) -> None:
        top = None if window.label is None else window.probabilities[window.label]
        if form == "json":
            line = json.dumps({**asdict(window), "probability": top, "latency_s": latency_s})
        else:
            attributes = ", ".join(f"{name} {v:.2f}" for name, v in window.attributes.items())
            line = (
                f"{window.start_s:>7.1f}s {window.end_s:>7.1f}s  {window.label or '':<12} "
                f"{'' if top is None else f'{top:.3f}':>6}  "
                f"{window.modality or 'nothing to go by':<16} {latency_s:>7.2f}s  {attributes}"
            ).rstrip()
        print(line, flush=True)

    return show


def print_estimates(estimates: Iterable[Estimate], workers: int | None) -> None:
    """Prints what a study has to train, a line as soon as it is known, and how long it may take."""
    from vavl.studies.run import usable_cores

    console = output()
    total_s, known = 0.0, True
    for estimate in estimates:
        names = ", ".join(estimate.variants)
        line = f"{estimate.left} of {estimate.tasks} models left: {names}"
        if estimate.problem:
            line += f"; cannot be trained: {estimate.problem}"
        elif estimate.left:
            source = "as those before" if estimate.measured else "from a few batches"
            line += f"; {estimate.seconds:.0f} s each ({source})"
            total_s += estimate.left * estimate.seconds
        known &= not estimate.problem
        console.print(line, markup=False, highlight=False)
    at_a_time = max(1, usable_cores() if workers is None else workers)
    rest = "" if known else " for those that can be trained"
    console.print(f"About {total_s / at_a_time / 60:.0f} minutes, {at_a_time} at a time{rest}.")


def print_study(results: StudyResults) -> None:
    """Prints the first metric of a study, and what became of its hypotheses."""
    from rich.text import Text

    from vavl.evaluation.wording import measure_name, p_value, signed, with_spread
    from vavl.studies.tables import verdict_sentence

    console = output()
    measure = results.study.metrics[0]
    table = Table(box=None)
    table.add_column("variant")
    columns = (f"{measure_name(measure)}\nmean ± SD over folds", "minus reference", "p (Holm)")
    for name in columns:
        table.add_column(Text(name), justify="right")
    for variant in results.variants:
        score, comparison = variant.scores[measure], variant.comparisons.get(measure)
        cells = [with_spread(score.fold_mean, score.fold_std)]
        if comparison is not None:
            cells += [signed(comparison.difference), p_value(comparison.p_adjusted)]
        table.add_row(Text(variant.name), *map(Text, cells))
    console.print(table)
    for name, why in results.incomplete.items():
        console.print(Text(f"not complete: {name}: {why}"))
    for result in results.hypotheses:
        console.print(Text(verdict_sentence(result, results.study.reference)))
