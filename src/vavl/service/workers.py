"""The worker processes: one task each at a time, and another process for one that dies."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from typing import Any

from vavl.errors import VavlError
from vavl.service.tasks import Done, Failed, ModelSettings, Outcome, Ready, Stop, Task, run_worker
from vavl.system.processes import threads_each

_STOPS_WITHIN_S = 2.0
"""A worker that is told to stop and does not answer within this time is ended."""
_LONGEST_PAUSE_S = 30.0
"""Between two attempts to start a worker."""

_log = logging.getLogger(__name__)


class QueueFull(Exception):
    """So many wait already that no more may."""


class WorkerDied(VavlError):
    """The process ended in the middle of a task, or before it was ready."""

    def __init__(self) -> None:
        super().__init__("a worker process ended, perhaps for want of memory")


class Worker:
    """A process with a model in it, seen from here.

    Args:
        settings: What it loads.
        threads: Of its libraries.
        on_end: Called when the process has ended, for whatever reason.
    """

    def __init__(
        self, settings: ModelSettings, threads: int, on_end: Callable[[Worker], None]
    ) -> None:
        context = get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=run_worker, args=(child, settings), daemon=True)
        with threads_each(threads):
            self._process.start()
        child.close()  # or the end of the process would not end the pipe
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self._sending = threading.Lock()
        self._in_task = False
        self.is_alive = True
        arguments = (asyncio.get_running_loop(), on_end)
        threading.Thread(target=self._read, args=arguments, daemon=True).start()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    async def started(self) -> dict[str, Any]:
        """Waits until the model is loaded; returns what it is.

        Raises:
            VavlError: It cannot be loaded.
            WorkerDied: The process died of it.
        """
        message = await self.receive()
        if isinstance(message, Failed):
            raise VavlError(message.reason)
        assert isinstance(message, Ready)
        return message.about

    async def do(self, task: Task, on_message: Callable[[Any], None]) -> Outcome:
        """Has a task done, and hands on what the worker says on the way.

        Raises:
            WorkerDied: The process ended.
        """
        await self.begin(task)
        while True:
            message = await self.receive()
            if isinstance(message, Done | Failed):
                return message
            on_message(message)

    async def begin(self, task: Task) -> None:
        """Gives it a task."""
        self._in_task = True
        await self.send(task)

    async def send(self, message: Any) -> None:
        """Sends a message; waits while the worker has no room for it."""
        await asyncio.to_thread(self._send, message)

    async def receive(self) -> Any:
        """The next message; the last one of a task is its outcome."""
        message = await self._messages.get()
        if message is None:
            self.is_alive = False
            raise WorkerDied
        if isinstance(message, Done | Failed):
            self._in_task = False
        return message

    async def settle(self) -> None:
        """Stops what it does: afterwards it is ready for a task, or has ended."""
        if self._in_task and self.is_alive:
            with suppress(TimeoutError, WorkerDied):
                async with asyncio.timeout(_STOPS_WITHIN_S):
                    await self.send(Stop())
                    while self._in_task:
                        await self.receive()
        if self._in_task:
            self.end()

    def end(self) -> None:
        """Ends the process at once."""
        self.is_alive = False
        self._process.kill()

    def _send(self, message: Any) -> None:
        with self._sending, suppress(OSError):  # of one that died: `receive` says so
            self._pipe.send(message)

    def _read(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[Worker], None]) -> None:
        """Runs in a thread: a pipe that can be waited for is not to be had on every platform."""
        with suppress(RuntimeError):  # the loop is closed
            while True:
                try:
                    message = self._pipe.recv()
                except (EOFError, OSError):
                    break
                loop.call_soon_threadsafe(self._messages.put_nowait, message)
            loop.call_soon_threadsafe(self._messages.put_nowait, None)
            loop.call_soon_threadsafe(on_end, self)
        self._process.join()


class Workers:
    """All workers, and the line of those who wait for one.

    Args:
        settings: What each of them loads.
        number: How many there are.
        threads: Of each.
        most_waiting: How many may wait in line.

    Attributes:
        deaths: How many ended and were replaced.
        model: What the model is; empty until the first worker is ready.
    """

    def __init__(
        self, settings: ModelSettings, number: int, threads: int, most_waiting: int
    ) -> None:
        self.number = number
        self.deaths = 0
        self.model: dict[str, Any] = {}
        self._settings = settings
        self._threads = threads
        self._most_waiting = most_waiting
        self._is_ending = False
        self._all: set[Worker] = set()
        self._free: deque[Worker] = deque()
        self._line: deque[asyncio.Future[Worker]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Starts all of them; returns when the first is ready.

        Raises:
            VavlError: The model cannot be loaded.
        """
        worker = await self._new()
        self._give(worker)
        for _ in range(self.number - 1):
            self._start_another()

    def end(self) -> None:
        """Ends all of them at once."""
        self._is_ending = True
        for task in self._tasks:
            task.cancel()
        for worker in self._all:
            worker.end()

    @property
    def waiting(self) -> int:
        """How many wait for a worker."""
        return len(self._line)

    @property
    def busy(self) -> int:
        """How many workers have a task."""
        return len(self._all) - len(self._free)

    @property
    def ready(self) -> int:
        """How many workers can take a task, or have one."""
        return len(self._all)

    @property
    def is_full(self) -> bool:
        """Whether nobody may wait any more."""
        return not self._free and len(self._line) >= self._most_waiting

    def place(self, ticket: asyncio.Future[Worker]) -> int:
        """How many are before this one in the line."""
        return self._line.index(ticket) if ticket in self._line else 0

    def ticket(self) -> asyncio.Future[Worker]:
        """A place in the line: becomes a worker, for :meth:`use`.

        Raises:
            QueueFull: The line is as long as it may be.
        """
        if self.is_full:
            raise QueueFull
        ticket = asyncio.get_running_loop().create_future()
        if self._free:
            ticket.set_result(self._free.popleft())
        else:
            self._line.append(ticket)
        return ticket

    @asynccontextmanager
    async def use(self, ticket: asyncio.Future[Worker]) -> AsyncIterator[Worker]:
        """Waits for a worker, lends it, and takes it back."""
        try:
            worker = await ticket
        except asyncio.CancelledError:
            self.give_up(ticket)
            raise
        try:
            yield worker
        finally:
            # Whoever used it may have been cancelled: this must be done all the same.
            await asyncio.shield(self._in_background(self._take_back(worker)))

    def give_up(self, ticket: asyncio.Future[Worker]) -> None:
        """Leaves the line; a worker that was given meanwhile goes to the next one."""
        if ticket in self._line:
            self._line.remove(ticket)
        elif ticket.done() and not ticket.cancelled():
            self._give(ticket.result())
        ticket.cancel()

    async def _take_back(self, worker: Worker) -> None:
        await worker.settle()
        if worker.is_alive:
            self._give(worker)
        else:
            self._replace(worker)

    def _give(self, worker: Worker) -> None:
        while self._line:
            ticket = self._line.popleft()
            if not ticket.done():
                ticket.set_result(worker)
                return
        self._free.append(worker)

    async def _new(self) -> Worker:
        worker = Worker(self._settings, self._threads, self._ended)
        try:
            self.model = await worker.started()
        except BaseException:
            worker.end()
            raise
        self._all.add(worker)
        return worker

    def _ended(self, worker: Worker) -> None:
        worker.is_alive = False
        if worker in self._free:  # otherwise whoever uses it will find out
            self._free.remove(worker)
            self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        self._all.discard(worker)
        if self._is_ending:
            return
        self.deaths += 1
        _log.warning("worker_ended", extra={"pid": worker.pid})
        self._start_another()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself would forget it
        task.add_done_callback(self._tasks.discard)
        return task

    def _start_another(self) -> None:
        self._in_background(self._restart())

    async def _restart(self) -> None:
        pause_s = 1.0
        while True:
            try:
                self._give(await self._new())
                return
            except (VavlError, OSError) as error:
                _log.error("worker_not_started", extra={"reason": str(error)})
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
