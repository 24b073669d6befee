"""Runs a job over items, in this process or in others; an item that fails harms no other."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from typing import Any, Protocol, TypeVar

from vavl.errors import VavlError

_AHEAD = 4
"""Items per worker that are handed out before the first of them is back."""
_LONGEST_REASON = 500
THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What the libraries of numpy and torch take their number of threads from, when they start."""


Item = TypeVar("Item")
Result = TypeVar("Result")
ItemIn = TypeVar("ItemIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


class Job(Protocol[ItemIn, ResultOut]):
    """What is done with each item; picklable, to be run in other processes."""

    def load(self) -> None:
        """Called once in each process before the first item; what it raises stops the job."""

    def __call__(self, item: ItemIn, /) -> ResultOut:
        """Does one item; what it raises concerns this item alone."""


class Failure(str):
    """In one line, why there is no result for an item."""

    __slots__ = ()


def run_here(
    items: Sequence[Item], job: Job[Item, Result]
) -> Generator[Result | Failure, None, None]:
    """Results in the order of the items, computed in this process.

    Raises:
        VavlError: Whatever the job's ``load`` raises; it concerns every item.
    """
    if items:
        job.load()
    for item in items:
        yield run_one(job, item)


def run_in_processes(
    items: Sequence[Item], job: Job[Item, Result], workers: int, *, abandon: bool = False
) -> Generator[Result | Failure, None, None]:
    """Results in the order of the items; only a few items are ever handed out ahead.

    Args:
        items: All of them.
        job: What is done with each.
        workers: How many processes.
        abandon: Whether a caller who stops early (Ctrl-C) leaves items half done, for long ones
            that can go on later; otherwise those that were begun are finished first.

    Raises:
        VavlError: A worker died, or whatever the job's ``load`` raises.
    """
    waiting = iter(items)
    pending: deque[Future[Result | Failure]] = deque()
    context = get_context("spawn")  # the same on every platform; safe beside threads
    stop = context.Event()
    with (
        _one_thread_each(),
        ProcessPoolExecutor(
            min(workers, max(len(items), 1)),
            mp_context=context,
            initializer=_start_worker,
            initargs=(job, stop),
        ) as pool,
    ):
        try:
            while True:
                while len(pending) < _AHEAD * workers and (item := next(waiting, None)):
                    pending.append(pool.submit(_work, item))
                if not pending:
                    return
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise VavlError(
                "a worker process died, perhaps for want of memory. What is done is kept: run the "
                "same command again, with fewer workers."
            ) from error
        finally:
            if abandon and pending:
                stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def shown(
    items: Sequence[Item],
    results: Iterable[Result | Failure],
    *,
    what: str,
    progress: bool = True,
) -> Iterator[tuple[Item, Result | Failure]]:
    """Pairs items with their results, behind a progress bar on standard error.

    Args:
        items: All of them.
        results: One for each, in their order.
        what: What is going on, in front of the bar.
        progress: Whether to show the bar.
    """
    pairs = zip(items, results, strict=True)
    return shown_pairs(pairs, len(items), what=what, progress=progress)


def shown_pairs(
    pairs: Iterable[tuple[Item, Result]], total: int, *, what: str, progress: bool = True
) -> Iterator[tuple[Item, Result]]:
    """Items with their results, in whatever order they come; otherwise as :func:`shown`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[failures]}"))
    failures = 0
    with Progress(*columns, *times, console=Console(stderr=True), disable=not progress) as bar:
        row = bar.add_task(what, total=total, failures="")
        for item, result in pairs:
            yield item, result
            failures += isinstance(result, Failure)
            bar.update(row, advance=1, failures=f"{failures} failed" if failures else "")


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside compute with one thread: more would only get in each other's way."""
    before = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_job: Job[Any, Any]
_startup_error: Exception | None = None


def _start_worker(job: Job[Any, Any], stop: Event) -> None:
    global _job, _startup_error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops us
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    threading.Thread(target=_exit_when_told, args=(stop,), daemon=True).start()
    _job = job
    try:
        _job.load()
    except Exception as error:
        # Raised here, it would reach the user as "a process died", without the reason.
        _startup_error = error


def _exit_with_parent() -> None:
    """A worker whose parent was killed would otherwise wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _exit_when_told(stop: Event) -> None:
    """What is half done is abandoned; files are whole or not there, so nothing is harmed."""
    stop.wait()
    os._exit(1)


def _work(item: Any) -> Any:
    if _startup_error is not None:
        raise _startup_error
    return run_one(_job, item)


def run_one(job: Job[Item, Result], item: Item) -> Result | Failure:
    """Does one item of a job that is loaded."""
    try:
        return job(item)
    except Exception as error:  # whatever it is, the other items must not suffer
        return one_line(error)


def one_line(error: Exception) -> Failure:
    """What goes into the list of failures, e.g. ``MediaError: a.wav: the file is empty``."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "...")
