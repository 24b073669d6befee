"""Runs a job over items, in this process or in others; an item that fails harms no other.

Python's own pool does the work. What it lacks stands here: a job that is loaded once per process,
reasons instead of tracebacks, an orderly Ctrl-C, and workers that end with their parent.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event, Lock
from typing import Any, Protocol, TypeVar

from vavl.errors import VavlError, is_disk_full
from vavl.system.notices import go_on, said

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


def run_job(
    items: Sequence[Item], job: Job[Item, Result], workers: int = 0, *, abandon: bool = False
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Does a job over items; yields each item with its result, in their order.

    Args:
        items: All of them; only a few are handed out ahead.
        job: What is done with each.
        workers: How many processes, each with one thread; 0 works in this process.
        abandon: Whether a caller who stops early (Ctrl-C) leaves items half done, for long ones
            that can go on later; otherwise those that were begun are finished first.

    Raises:
        VavlError: A worker died, or whatever the job's ``load`` raises; it concerns every item.
    """
    if workers:
        yield from _run_in_processes(items, job, workers, abandon)
        return
    if items:
        job.load()
    for item in items:
        yield item, run_one(job, item)


def _run_in_processes(
    items: Sequence[Item], job: Job[Item, Result], workers: int, abandon: bool
) -> Generator[tuple[Item, Result | Failure], None, None]:
    waiting = iter(items)
    pending: deque[tuple[Item, Future[Result | Failure]]] = deque()
    context = get_context("spawn")  # the same on every platform; safe beside threads
    stop, first = context.Event(), context.Lock()
    with (
        threads_each(1),
        ProcessPoolExecutor(
            min(workers, max(len(items), 1)),
            mp_context=context,
            initializer=_start_worker,
            initargs=(job, stop, first, said()),
        ) as pool,
    ):
        try:
            while True:
                for item in islice(waiting, _AHEAD * workers - len(pending)):
                    pending.append((item, pool.submit(_work, item)))
                if not pending:
                    return
                item, future = pending.popleft()
                yield item, future.result()
        except BrokenProcessPool as error:
            raise VavlError(
                "a worker process died, perhaps for want of memory. What is done is kept: run the "
                "same command again, with fewer workers."
            ) from error
        finally:
            if abandon and pending:
                stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def threads_each(number: int) -> Iterator[None]:
    """Processes started inside compute with so many threads each."""
    before = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(number)))
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


def _start_worker(job: Job[Any, Any], stop: Event, first: Lock, notices: frozenset[str]) -> None:
    global _job, _startup_error
    go_on(notices, quiet=not first.acquire(block=False))  # all would say the same
    obey_parent()
    threading.Thread(target=_exit_when_told, args=(stop,), daemon=True).start()
    _job = job
    try:
        _job.load()
    except Exception as error:
        # Raised here, it would reach the user as "a process died", without the reason.
        _startup_error = error


def obey_parent() -> None:
    """Called in a process that this one has started: it ends when its parent does, or says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops us
    threading.Thread(target=_exit_with_parent, daemon=True).start()


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
    """Does one item of a job that is loaded; a full disk is no fault of the item, and raised."""
    try:
        return job(item)
    except Exception as error:  # whatever it is, the other items must not suffer
        if is_disk_full(error):
            raise
        return one_line(error)


def one_line(error: Exception) -> Failure:
    """What goes into the list of failures: the message, and of a defect its type before it.

    Example:
        >>> one_line(VavlError("a.wav: the file is empty")), one_line(ValueError("no"))
        ('a.wav: the file is empty', 'ValueError: no')
    """
    kind = "" if isinstance(error, VavlError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return Failure(text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "...")
