"""The predictions that were asked for: those that wait, those in work, and their answers."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from vavl.service.metrics import Metrics
from vavl.service.problems import Problem
from vavl.service.tasks import Failed, Outcome, Progress, Task
from vavl.service.workers import Worker, WorkerDied, Workers

KEPT_S = 15 * 60.0
"""For so long an answer can be fetched."""
_MOST_KEPT_BYTES = 64 * 2**20
"""Of all answers together; the oldest are forgotten first."""
_RETRY_AFTER_S = 5
_STOPS = "the service stops"

Status = Literal["queued", "running", "done", "failed"]

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Work:
    """A task for a worker, and what has become of it.

    Attributes:
        task: What is done.
        files: Closed when they are not needed any more: deletes what was uploaded.
        status: ``queued``, ``running``, ``done`` or ``failed``.
        progress: How far it is.
        result: What the task gave, by format.
        problem: Why it failed.
        ended: Set when it is done or has failed.
    """

    task: Task
    files: ExitStack
    ticket: asyncio.Future[Worker]
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    status: Status = "queued"
    progress: Progress | None = None
    result: dict[str, bytes] = field(default_factory=dict)
    problem: Problem | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_s: float = 0.0
    runner: asyncio.Task[None] | None = None


class Predictions:
    """Hands tasks to workers, and keeps the answers for a while.

    Args:
        workers: Who does it.
        time_limit_s: For each task, from when a worker has it.
        metrics: Counts what becomes of them.
    """

    def __init__(self, workers: Workers, time_limit_s: float, metrics: Metrics) -> None:
        self._workers = workers
        self._time_limit_s = time_limit_s
        self._metrics = metrics
        self._works: dict[str, Work] = {}
        self._is_stopping = False

    def check_room(self) -> None:
        """Raises a problem where no more can wait: known before the body is read."""
        if self._is_stopping:
            raise Problem(503, _STOPS, retry_after_s=_RETRY_AFTER_S)
        if self._workers.is_full:
            self._metrics.refused.inc()
            raise Problem(
                503,
                f"{self._workers.waiting} clips wait already; ask again in a while",
                retry_after_s=_RETRY_AFTER_S,
            )

    def submit(self, task: Task, files: ExitStack) -> Work:
        """Begins a task, or puts it in line; ``files`` are closed when it has ended.

        Raises:
            Problem: The line is full, or the service stops.
        """
        self.check_room()
        work = Work(task, files, self._workers.ticket())
        self._works[work.id] = work
        work.runner = asyncio.create_task(self._run(work))
        return work

    def get(self, id: str) -> Work:
        """The work of an id.

        Raises:
            Problem: There is none, or it is forgotten.
        """
        self._forget_old()
        if id not in self._works:
            raise Problem(404, "no such prediction: it never was, was deleted, or is forgotten")
        return self._works[id]

    async def forget(self, work: Work) -> None:
        """Stops it where it has not ended, and forgets it."""
        self._works.pop(work.id, None)
        await asyncio.sleep(0)  # what has not begun could not clean up
        if work.runner is not None and not work.runner.done():
            work.runner.cancel()
            with suppress(asyncio.CancelledError):
                await work.runner

    def stop(self) -> None:
        """From now on nothing new is taken, and what waits is told so."""
        self._is_stopping = True
        for work in self._works.values():
            if not work.ticket.done():
                self._workers.give_up(work.ticket)

    async def end(self) -> None:
        """Ends all that has not ended, and the workers."""
        self.stop()
        self._workers.end()
        runners = [work.runner for work in self._works.values() if work.runner is not None]
        await asyncio.gather(*runners, return_exceptions=True)

    def state_text(self, work: Work) -> str:
        """How far it is, as JSON, and what it gave: the text that the worker made of it."""
        progress = work.progress
        waits = work.status == "queued"
        state = {
            "id": work.id,
            "status": work.status,
            "waiting": self._workers.place(work.ticket) if waits else 0,
            "done_s": None if progress is None else progress.done_s,
            "duration_s": None if progress is None else progress.duration_s,
            "problem": None if work.problem is None else work.problem.content,
        }
        answer = work.result.get("json", b"null").decode()
        return f'{json.dumps(state)[:-1]}, "prediction": {answer}}}'

    async def _run(self, work: Work) -> None:
        began_s = time.monotonic()
        try:
            with work.files:
                outcome = await self._done(work)
            if isinstance(outcome, Failed):
                raise Problem(500 if outcome.is_defect else 422, outcome.reason)
            work.result, work.status = outcome.result, "done"
        except Problem as problem:
            work.problem, work.status = problem, "failed"
        except asyncio.CancelledError:
            work.problem, work.status = Problem(503, _STOPS), "failed"
        work.ended_s = time.monotonic()
        work.ended.set()
        self._metrics.ended(work.status, work.ended_s - began_s)
        status = 200 if work.problem is None else work.problem.status
        _log.info(
            "task",
            extra={
                "kind": type(work.task).__name__,
                "status": status,
                "seconds": round(work.ended_s - began_s, 3),
            },
        )
        self._forget_old()

    async def _done(self, work: Work) -> Outcome:
        def note(message: Any) -> None:
            if isinstance(message, Progress):
                work.progress = message

        try:
            async with self._workers.use(work.ticket) as worker:
                work.status = "running"
                async with asyncio.timeout(self._time_limit_s):
                    return await worker.do(work.task, note)
        except TimeoutError:
            raise Problem(
                504, f"it took longer than the time limit of {self._time_limit_s:g} s"
            ) from None
        except WorkerDied:
            if self._is_stopping:
                raise Problem(503, _STOPS) from None
            raise Problem(
                500, "the process that worked on this clip ended: the clip may be damaged"
            ) from None

    def _forget_old(self) -> None:
        """Forgets answers that are old, or too many."""
        now_s, kept = time.monotonic(), 0
        for work in reversed(list(self._works.values())):
            if not work.ended.is_set():
                continue
            kept += sum(map(len, work.result.values()))
            if kept > _MOST_KEPT_BYTES or now_s - work.ended_s > KEPT_S:
                self._works.pop(work.id, None)
