"""How far a long job has come: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vavl.system.processes import Failure

Item = TypeVar("Item")
Result = TypeVar("Result")

_Show = Callable[[int, int], None]
"""Takes the numbers of items that are done, and of those among them that failed."""

LEAST_S, MOST_S = 2.0, 60.0
"""Between two lines: no sooner than this, and no later, as long as items get done."""


def with_progress(
    pairs: Iterable[tuple[Item, Result]], total: int, *, what: str, progress: bool = True
) -> Iterator[tuple[Item, Result]]:
    """Passes items and their results on, and shows on standard error how many there were.

    In a terminal that is a bar. In a file or a pipe it is a line for each tenth of the items and
    for each minute, with the rate and the time that is left; a job of two seconds has none.

    Args:
        pairs: Items and results; the number of :class:`Failure` among these is shown, too.
        total: How many there will be.
        what: What is being done, e.g. ``"extracting"``.
        progress: Whether to show anything.
    """
    # FORCE_COLOR asks for colours, not for bars: a notebook would show each of their states.
    console = Console(stderr=True, force_terminal=sys.stderr.isatty())
    if not progress or not total:
        shown = _nothing()
    elif console.is_terminal:
        shown = _bar(console, total, what)
    else:
        shown = _lines(console, total, what)
    with shown as show:
        failures = 0
        for done, (item, result) in enumerate(pairs, start=1):
            yield item, result
            failures += isinstance(result, Failure)
            show(done, failures)


@contextmanager
def _nothing() -> Iterator[_Show]:
    yield lambda _done, _failures: None


@contextmanager
def _bar(console: Console, total: int, what: str) -> Iterator[_Show]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[failures]}"))
    with Progress(*columns, *times, console=console) as bar:
        row = bar.add_task(what, total=total, failures="")
        yield lambda done, failures: bar.update(row, completed=done, failures=_failed(failures))


@contextmanager
def _lines(console: Console, total: int, what: str) -> Iterator[_Show]:
    started = last_s = time.monotonic()
    shown_tenth = 0

    def show(done: int, failures: int) -> None:
        nonlocal last_s, shown_tenth
        now_s, tenth = time.monotonic(), 10 * done // total
        waited_s = now_s - last_s
        if waited_s < LEAST_S or (tenth == shown_tenth and waited_s < MOST_S):
            return
        last_s, shown_tenth = now_s, tenth
        spent_s = now_s - started
        parts = [
            f"{done} of {total}",
            rate(done, spent_s),
            f"{duration(spent_s / done * (total - done))} left" if done < total else "",
            _failed(failures),
        ]
        print(f"{what}: {', '.join(filter(None, parts))}", file=console.file, flush=True)

    yield show


def _failed(failures: int) -> str:
    return f"{failures} failed" if failures else ""


def rate(count: int, spent_s: float) -> str:
    """How often something is done, by the second or by the minute.

    Example:
        >>> rate(90, 60), rate(90, 6000)
        ('1.5 a second', '0.9 a minute')
    """
    by_second = count / max(spent_s, 1e-9)
    return f"{by_second:.1f} a second" if by_second >= 1 else f"{60 * by_second:.1f} a minute"


def duration(seconds: float) -> str:
    """A time in words, as exact as one needs to know it.

    Example:
        >>> duration(0.4), duration(3.4), duration(100), duration(10_000)
        ('less than 1 s', '3 s', '2 min', '2.8 h')
    """
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
