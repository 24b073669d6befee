"""Runs a job over items, in this process or in others; an item that fails harms no other.

Python's own pool does the work. What it lacks stands here: a job that is loaded once per process,
reasons instead of tracebacks, an orderly Ctrl-C, workers that end with their parent, and a worker's
death that costs no more than the item it died at.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event, Lock
from typing import Any, Protocol, TypeVar

from vavl.errors import InputError, SetupError, VavlError, is_disk_full
from vavl.system.notices import go_on, said

_AHEAD = 4
"""Items per worker that are handed out before the first of them is back."""
MOST_WORKERS = 256
_LONGEST_REASON = 500
_DIED = (
    "the process that worked on it died, and died again with nothing beside it: the file is "
    "damaged in a way that its decoder does not survive, or memory is short"
)
_MOST_DEATHS = 2
"""How often a process may die at an item that is done alone before it is left out."""
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


class Lost(Failure):
    """Why there is no result for an item that may well have one another time, or elsewhere."""

    __slots__ = ()


def run_job(
    items: Sequence[Item], job: Job[Item, Result], workers: int = 0, *, abandon: bool = False
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Does a job over items; yields each item with its result, in their order.

    When a worker dies, what was begun and not finished is done again, one item at a time. An item
    at which a worker dies twice alone is :class:`Lost`, and the others go on.

    Args:
        items: All of them; only a few are handed out ahead.
        job: What is done with each.
        workers: How many processes, each with one thread; 0 works in this process.
        abandon: Whether a caller who stops early (Ctrl-C) leaves items half done, for long ones
            that can go on later; otherwise those that were begun are finished first.

    Raises:
        VavlError: Workers die before they are ready, or whatever the job's ``load`` raises; it
            concerns every item.
    """
    if workers > MOST_WORKERS:
        raise InputError(f"workers: expected at most {MOST_WORKERS}, got {workers}")
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
    pool: _Pool | None = None
    handed_out: dict[int, Future[Result | Failure]] = {}  # by the item's place
    suspects = 0  # places before this one were handed out when a worker died
    place = deaths = 0
    with threads_each(1):
        try:
            while place < len(items):
                pool = pool or _Pool(job, min(workers, len(items)), check=place < suspects)
                ahead = 1 if place < suspects else _AHEAD * workers
                result: Result | Failure
                try:
                    for other in range(place, min(place + ahead, len(items))):
                        if other not in handed_out:
                            handed_out[other] = pool.submit(_work, items[other])
                    result = handed_out[place].result()
                except BrokenProcessPool:
                    pool.end()
                    pool = None
                    was_alone = place < suspects and place in handed_out
                    suspects = max([suspects, place + 1, *(other + 1 for other in handed_out)])
                    handed_out = {other: f for other, f in handed_out.items() if _has_result(f)}
                    deaths += was_alone
                    if deaths < _MOST_DEATHS:
                        continue
                    result = Lost(_DIED)
                yield items[place], result
                handed_out.pop(place, None)
                place, deaths = place + 1, 0
        finally:
            if pool is not None:
                pool.end(abandon=abandon and bool(handed_out))


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


class _Pool:
    """Processes that have a job.

    Args:
        job: What they do with an item.
        workers: How many there are at most; one is started when no other is free.
        check: Whether to wait until one is ready, or else to raise VavlError.
    """

    def __init__(self, job: Job[Any, Any], workers: int, *, check: bool) -> None:
        context = get_context("spawn")  # the same on every platform; safe beside threads
        self._stop = context.Event()
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_start_worker,
            initargs=(job, self._stop, context.Lock(), said()),
        )
        self.submit = self._pool.submit
        if check:
            try:
                self.submit(int).result()
            except BrokenProcessPool as error:
                self.end()
                raise VavlError(
                    "worker processes die before they are ready, perhaps for want of memory. What "
                    "is done is kept: run the same command again, with fewer workers."
                ) from error

    def end(self, *, abandon: bool = False) -> None:
        """Ends them: once they have finished what they are at, or at once."""
        if abandon:
            self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


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
    """Does one item of a job that is loaded.

    What is no fault of the item is raised: a full disk, and weights that are not to be had.
    """
    try:
        return job(item)
    except Exception as error:  # whatever it is, the other items must not suffer
        if is_disk_full(error) or isinstance(error, SetupError):
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
