"""How far a training has come: a bar for each fold in a terminal, elsewhere a line an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from vavl.system.progress import duration

if TYPE_CHECKING:  # training takes seconds to import
    from vavl.training.loop import EpochCallback
    from vavl.training.run_folder import FoldDirectory

_FEW = 2
"""Up to so many measures are named; of more the number is."""


class TrainingDisplay:
    """Shows every fold, with its latest scores."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def begin(self, fold: FoldDirectory, finished: bool) -> EpochCallback | None:
        """Starts to show a fold."""
        if finished:
            self._line(f"{fold.path}: finished before, left as it is")
            return None
        name, spent_s = fold.path.name, [0.0, 0.0]
        task = self.bars.add_task(name, total=None, status="loading")

        def after_epoch(record: dict[str, Any], epochs: int) -> None:
            done = record["epoch"]
            self.bars.update(task, total=epochs, completed=done, status=epoch_scores(record))
            if not self.console.is_terminal:
                spent_s[:] = spent_s[0] + 1, spent_s[1] + record["seconds"]
                left_s = (epochs - done) * spent_s[1] / spent_s[0]
                left = f", {duration(left_s)} left for this fold" if done < epochs else ""
                self._line(
                    f"{name}: epoch {done} of {epochs}, {epoch_scores(record)}, "
                    f"{record['seconds']:.1f} s{left}"
                )

        if not self.console.is_terminal:
            self._line(f"{name}: loading")
        return after_epoch

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def epoch_scores(record: Mapping[str, Any]) -> str:
    """The loss of an epoch and its development score, by name.

    Example:
        >>> scores = {"loss": 1.1, "score": 0.5, "accuracy": 0.8, "uar": 0.6, "arousal_ccc": 0.4}
        >>> epoch_scores({"train": {"loss": 1.25}, "development": scores})
        'loss 1.250, development UAR and arousal CCC, their mean 0.500'
    """
    text = f"loss {record['train']['loss']:.3f}"
    development = record["development"]
    if not development:
        return text
    from vavl.evaluation.wording import measure_name

    measures = [name for name in development if name == "uar" or name.endswith("_ccc")]
    names = [measure_name(name) for name in measures]
    if len(names) > _FEW:
        others = len(names) - ("uar" in measures)
        names = [*(["UAR"] if "uar" in measures else []), f"{others} CCCs"]
    mean = ", their mean" if len(measures) > 1 else ""
    return f"{text}, development {' and '.join(names)}{mean} {development['score']:.3f}"
