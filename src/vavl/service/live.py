"""Live input over a WebSocket; docs/serve.md describes it message by message."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from vavl.service.metrics import Metrics
from vavl.service.problems import Problem
from vavl.service.tasks import Done, Failed, FollowStream, LiveWindow, Ready, message_problem
from vavl.service.workers import QueueFull, Worker, WorkerDied, Workers

LARGEST_MESSAGE_BYTES = 2**20

_LONGEST_PAUSE_S = 30.0
"""Between two messages of a client; one that has gone silent frees its worker."""
_POLICY_VIOLATION, _TRY_AGAIN_LATER, _INTERNAL_ERROR = 1008, 1013, 1011


class Start(BaseModel):
    """The first message: what will come."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: str = Field(pattern="^start$")
    audio: bool
    video: bool
    sampling_rate_hz: int = 16_000


class LiveStreams:
    """All live streams.

    Args:
        workers: Each stream has one for itself.
        metrics: Shows how many there are.
    """

    def __init__(self, workers: Workers, metrics: Metrics) -> None:
        self._workers = workers
        self._metrics = metrics
        self._most = max(1, workers.number - 1)
        self._open = 0

    async def follow(self, socket: WebSocket) -> None:
        """Serves a stream until it ends."""
        await socket.accept()
        try:
            await self._follow(socket)
        except Problem as problem:
            codes = {503: _TRY_AGAIN_LATER, 500: _INTERNAL_ERROR}
            with suppress(WebSocketDisconnect, RuntimeError):  # it may have gone
                await socket.send_json({"type": "problem", **problem.content})
                await socket.close(codes.get(problem.status, _POLICY_VIOLATION))
        except WebSocketDisconnect:
            return

    async def _follow(self, socket: WebSocket) -> None:
        start = await _started(socket)
        if self._open >= self._most:
            raise Problem(503, f"as many live streams as there may be: {self._most}; ask later")
        self._open += 1
        self._metrics.streams.set(self._open)
        try:
            ticket = self._workers.ticket()
            async with self._workers.use(ticket) as worker:
                await worker.begin(FollowStream(start.audio, start.video, start.sampling_rate_hz))
                await _carry(socket, worker)
        except QueueFull:
            raise Problem(503, "all workers are busy; ask again in a while") from None
        except WorkerDied:
            raise Problem(500, "the process that followed the stream ended") from None
        finally:
            self._open -= 1
            self._metrics.streams.set(self._open)


async def _started(socket: WebSocket) -> Start:
    try:
        async with asyncio.timeout(_LONGEST_PAUSE_S):
            return Start.model_validate_json(await socket.receive_text())
    except TimeoutError:
        raise Problem(408, f"nothing came for {_LONGEST_PAUSE_S:g} s") from None
    except (ValidationError, KeyError) as error:
        raise Problem(422, f'expected {{"type": "start", "audio": ...}} first: {error}') from None


async def _carry(socket: WebSocket, worker: Worker) -> None:
    """Carries messages both ways until one side ends."""
    listening = asyncio.create_task(_to_worker(socket, worker))
    try:
        telling = asyncio.create_task(_to_client(socket, worker))
        try:
            await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()  # raises what ended it early
            await telling
        finally:
            telling.cancel()
    finally:
        listening.cancel()
        await asyncio.gather(listening, telling, return_exceptions=True)


async def _to_worker(socket: WebSocket, worker: Worker) -> None:
    while True:
        try:
            async with asyncio.timeout(_LONGEST_PAUSE_S):
                message = await socket.receive()
        except TimeoutError:
            raise Problem(408, f"nothing came for {_LONGEST_PAUSE_S:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        if (data := message.get("bytes")) is not None:
            if problem := message_problem(data):
                raise Problem(422, f"stream: {problem}")
            await worker.send(data)
            continue
        source = _ended(message["text"])
        await worker.send(source)
        if source is None:
            return


def _ended(text: str) -> str | None:
    """Which source ends; None for the whole stream."""
    with suppress(ValueError, AttributeError):
        content = json.loads(text)
        source = content.get("source")
        if content.get("type") == "end" and source in ("audio", "video", None):
            return source
    raise Problem(422, 'stream: expected {"type": "end"}, perhaps with "source"')


async def _to_client(socket: WebSocket, worker: Worker) -> None:
    while True:
        message: Any = await worker.receive()
        if isinstance(message, Ready):
            await socket.send_json({"type": "ready"})
        elif isinstance(message, LiveWindow):
            await socket.send_json({"type": "window", **message.content})
        elif isinstance(message, Failed):
            raise Problem(500 if message.is_defect else 422, message.reason)
        elif isinstance(message, Done):
            await socket.send_json({"type": "end"})
            await socket.close()
            return
