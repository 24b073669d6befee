"""What the command line shows: progress of training, and predictions as a table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from vavl.training.loop import EpochCallback
from vavl.training.run import FoldDirectory
from vavl.types import Prediction

Format = Literal["table", "json", "csv"]


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
    table = Table("clip", "emotion", "probability", "others", "attributes", "from", box=None)
    for prediction in predictions:
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        table.add_row(
            prediction.name,
            prediction.label or "",
            f"{ranked[0][1]:.3f}" if ranked else "",
            ", ".join(f"{name} {value:.2f}" for name, value in ranked[1:3]),
            ", ".join(f"{name} {value:.2f}" for name, value in prediction.attributes.items()),
            prediction.modality,
        )
    Console().print(table)


def _print_json(predictions: Sequence[Prediction]) -> None:
    print(json.dumps([asdict(prediction) for prediction in predictions], indent=2))


def _print_csv(predictions: Sequence[Prediction]) -> None:
    if not predictions:
        return
    first = predictions[0]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["name", "modality", "label", *first.probabilities, *first.attributes])
    for prediction in predictions:
        values = [*prediction.probabilities.values(), *prediction.attributes.values()]
        writer.writerow(
            [prediction.name, prediction.modality, prediction.label, *(f"{v:.6f}" for v in values)]
        )


_PRINTERS: dict[str, Callable[[Sequence[Prediction]], None]] = {
    "table": _print_table,
    "json": _print_json,
    "csv": _print_csv,
}
