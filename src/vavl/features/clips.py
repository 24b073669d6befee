"""Runs an extractor over clips, in this process or in others; a clip that fails harms no other."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vavl.errors import VavlError
from vavl.features.registry import Extractor

_AHEAD = 4
"""Clips per worker that are handed out before the first of them is back."""
_LONGEST_REASON = 500
_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class ClipTask(NamedTuple):
    """What to read for one utterance."""

    utterance_id: str
    path: Path
    start_s: float | None
    end_s: float | None


Outcome = NDArray[np.float32] | str
"""The features of a clip, or in one line why there are none."""


def run_here(tasks: Sequence[ClipTask], extractor: Extractor) -> Generator[Outcome, None, None]:
    """Outcomes in the order of the tasks, computed in this process.

    Raises:
        VavlError: Whatever the extractor's ``load`` raises; it concerns every clip.
    """
    if tasks:
        _load(extractor)
    for task in tasks:
        yield _run(extractor, task)


def run_in_processes(
    tasks: Sequence[ClipTask], extractor: Extractor, workers: int
) -> Generator[Outcome, None, None]:
    """Outcomes in the order of the tasks; only a few tasks are ever handed out ahead.

    Raises:
        VavlError: A worker died, or whatever the extractor's ``load`` raises.
    """
    waiting = iter(tasks)
    pending: deque[Future[Outcome]] = deque()
    with (
        _one_thread_each(),
        ProcessPoolExecutor(
            min(workers, max(len(tasks), 1)),
            mp_context=get_context("spawn"),  # the same on every platform; safe beside threads
            initializer=_start_worker,
            initargs=(extractor,),
        ) as pool,
    ):
        try:
            while True:
                while len(pending) < _AHEAD * workers and (task := next(waiting, None)):
                    pending.append(pool.submit(_work, task))
                if not pending:
                    return
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise VavlError(
                "a worker process died, perhaps for want of memory. What was extracted is kept: "
                "run the same command again, with fewer workers."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside compute with one thread: more would only get in each other's way."""
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_extractor: Extractor
_startup_error: Exception | None = None


def _start_worker(extractor: Extractor) -> None:
    global _extractor, _startup_error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops us
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _extractor = extractor
    try:
        _load(extractor)
    except Exception as error:
        # Raised here, it would reach the user as "a process died", without the reason.
        _startup_error = error


def _exit_with_parent() -> None:
    """A worker whose parent was killed would otherwise wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: ClipTask) -> Outcome:
    if _startup_error is not None:
        raise _startup_error
    return _run(_extractor, task)


def _load(extractor: Extractor) -> None:
    load = getattr(extractor, "load", None)
    if load is not None:
        load()


def _run(extractor: Extractor, task: ClipTask) -> Outcome:
    try:
        return extractor.extract_file(task.path, task.start_s, task.end_s)
    except Exception as error:  # whatever it is, the other clips must not suffer
        return one_line(error)


def one_line(error: Exception) -> str:
    """What goes into the list of failures, e.g. ``MediaError: a.wav: the file is empty``."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
