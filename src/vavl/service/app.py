"""The application: which request is answered by what."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket

from vavl import __version__
from vavl.errors import InputError, VavlError
from vavl.service import openapi
from vavl.service.guard import Guard
from vavl.service.live import LiveStreams
from vavl.service.metrics import Metrics
from vavl.service.predictions import Predictions, Work
from vavl.service.problems import Problem
from vavl.service.tasks import GetToKnow, ModelSettings, PredictClip
from vavl.service.uploads import Part, pass_over, receive
from vavl.service.workers import Workers
from vavl.system.atomic import remove_leftovers, scratch_folder

Format = Literal["json", "csv", "srt", "vtt", "rttm"]

WAIT_S = 20.0
"""So long a request waits for its prediction, unless it prefers otherwise."""
_LONGEST_WAIT_S = 60.0
_EVERY_S = 0.2
"""How often the state of a prediction is looked at for its events."""
_KEEP_ALIVE = 50
"""After so many looks without news a comment is sent, so that nobody in between hangs up."""
_LONGEST_NAME = 255

_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "rttm": "text/plain",
}

PAGE = Path(str(resources.files("vavl.service") / "page"))


@dataclass(frozen=True)
class ServiceSettings:
    """How the service works.

    Attributes:
        model: Which model the workers load.
        workers: How many processes predict.
        threads: Of each.
        most_waiting: Clips that may wait for a worker.
        most_upload_bytes: Of a request's body.
        time_limit_s: For each clip.
        token: What clients must know, or None.
        hosts: Names of this machine.
        origins: Pages of other origins that may ask.
        scratch: Where uploads lie while they are worked on; default: the system's folder for that.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    workers: int = 2
    threads: int = 1
    most_waiting: int = 32
    most_upload_bytes: int = 512 * 2**20
    time_limit_s: float = 600.0
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    scratch: Path | None = None


class Options(BaseModel):
    """How a clip is predicted; see :meth:`vavl.Recognizer.predict`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    timeline: bool = False
    """Predict over time as well, in windows of 2 s every 0.5 s."""
    people: Literal["all", "main"] = "all"
    """Follow and predict everybody in the picture, or the most prominent person alone."""
    segments: bool = False
    """Predict sentence by sentence as well."""
    start_s: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None
    """Second of the file where to begin."""
    end_s: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None
    """Second of the file before which to stop."""
    audio_track: str | None = None
    """Which of several tracks of sound is heard: its number, from 1, or its language."""
    face: Literal["found", "upright", "given"] = "found"
    """Whether faces are looked for, the right way up alone, or each picture is a face already."""
    format: Format = "json"
    """Captions (srt, vtt, rttm) are made of segments."""
    name: str | None = None
    """What the clip is called; default: the name of the file that was sent."""

    def task(self, files: dict[str, Part]) -> PredictClip:
        """What a worker has to do."""
        clip, profile = files["file"], files.get("profile")
        assert clip.path is not None
        track = self.audio_track
        return PredictClip(
            clip.path,
            _printable(self.name or clip.name or "clip"),
            profile=None if profile is None else profile.path,
            timeline=self.timeline,
            segments=self.segments or self.format in ("srt", "vtt", "rttm"),
            reading={
                "start_s": self.start_s,
                "end_s": self.end_s,
                "audio_track": int(track) if track is not None and track.isdecimal() else track,
                "face": self.face,
                "people": self.people,
            },
        )


def create_app(settings: ServiceSettings) -> FastAPI:
    """The application, with its workers in ``app.state``; its lifespan starts and ends them."""
    workers = Workers(settings.model, settings.workers, settings.threads, settings.most_waiting)
    metrics = Metrics(workers)
    predictions = Predictions(workers, settings.time_limit_s, metrics)
    streams = LiveStreams(workers, metrics)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    parent = Path(settings.scratch or tempfile.gettempdir()) / f"vavl-serve-{user}"

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            _make_private(parent)
            remove_leftovers(parent)
            await workers.start()
            app.state.problem = None
            yield
        except VavlError as error:
            app.state.problem = str(error)
            raise
        finally:
            await predictions.end()

    app = FastAPI(
        title="vavl",
        version=__version__,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.predictions = predictions
    app.state.workers = workers
    openapi.describe(app)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Prefer"],
        )
    app.add_middleware(Guard, token=settings.token, hosts=settings.hosts, origins=settings.origins)

    @app.exception_handler(Problem)
    async def say(_: Request, problem: Problem) -> JSONResponse:
        return _problem_answer(problem)

    @app.exception_handler(HTTPException)
    async def say_http(_: Request, error: HTTPException) -> JSONResponse:
        return _problem_answer(Problem(error.status_code, str(error.detail)), error.headers)

    @app.exception_handler(RequestValidationError)
    async def say_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        reasons = (f"{e['loc'][-1]}: {e['msg']}, got {e.get('input')!r}" for e in error.errors())
        return _problem_answer(Problem(422, "; ".join(reasons)))

    async def check_room(request: Request) -> None:
        """Refuses a clip that could not wait, before it is written anywhere."""
        try:
            predictions.check_room()
        except Problem:
            await pass_over(request)
            raise

    async def received(request: Request, files: ExitStack) -> list[Part]:
        """The parts of a body, in a folder that goes with ``files``."""
        try:
            folder = files.enter_context(scratch_folder(parent))
        except OSError as error:
            raise Problem(507, f"nowhere to put the clip ({error.strerror})") from None
        return await receive(request, folder, settings.most_upload_bytes)

    async def ended(work: Work, request: Request, wait_s: float) -> bool:
        """Waits until it has ended, or the time is over; a client that goes stops it."""
        waits = [asyncio.create_task(work.ended.wait()), asyncio.create_task(_gone(request))]
        try:
            await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if waits[1].done() and not waits[1].cancelled() and not work.ended.is_set():
            await predictions.forget(work)
            raise Problem(400, "the client has gone")
        return work.ended.is_set()

    def state(work: Work) -> Response:
        return Response(predictions.state_text(work), media_type="application/json")

    @app.post("/v1/predictions", **openapi.PREDICT)
    async def predict(
        request: Request,
        options: Annotated[Options, Query()],
        prefer: Annotated[str, Header()] = "",
    ) -> Response:
        await check_room(request)
        with ExitStack() as stack:
            parts = await received(request, stack)
            task = options.task(_files(parts, ("file", "profile")))
            work = predictions.submit(task, stack.pop_all())
        if not await ended(work, request, _wait_s(prefer)):
            answer = state(work)
            answer.status_code = 202
            answer.headers["Location"] = f"/v1/predictions/{work.id}"
            return answer
        await predictions.forget(work)
        return _result(work, options.format)

    @app.get("/v1/predictions/{id}", **openapi.STATE)
    async def look(id: str, format: Format | None = None) -> Response:
        work = predictions.get(id)
        if format is None:
            return state(work)
        if work.status in ("queued", "running"):
            raise Problem(409, "not ready: ask without format how far it is")
        answer = _result(work, format)
        stem = Path(work.task.name).stem if isinstance(work.task, PredictClip) else "prediction"
        name = quote(f"{stem}.{format}", safe="")
        answer.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
        return answer

    @app.get("/v1/predictions/{id}/events", **openapi.EVENTS)
    async def events(id: str) -> StreamingResponse:
        work = predictions.get(id)
        return StreamingResponse(_events(predictions, work), media_type="text/event-stream")

    @app.delete("/v1/predictions/{id}", status_code=204, **openapi.DELETE)
    async def delete(id: str) -> None:
        await predictions.forget(predictions.get(id))

    @app.post("/v1/profiles", **openapi.PROFILE)
    async def get_to_know(request: Request, speaker: str = "speaker") -> Response:
        await check_room(request)
        with ExitStack() as stack:
            parts = await received(request, stack)
            clips = [part for part in parts if part.path is not None]
            if not clips:
                raise Problem(400, "file: expected at least one clip of the person, got none")
            names = {str(part.path): _printable(part.name or "clip") for part in clips}
            folder = next(part.path.parent for part in clips if part.path is not None)
            task = GetToKnow(names, _printable(speaker), folder)
            work = predictions.submit(task, stack.pop_all())
        try:
            await ended(work, request, settings.time_limit_s + 1)
        finally:
            await predictions.forget(work)
        return _result(work, "safetensors")

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await streams.follow(socket)

    @app.get("/v1/model", **openapi.MODEL)
    async def model() -> dict[str, Any]:
        about = {name: value for name, value in workers.model.items() if name != "card"}
        return {**about, "version": __version__}

    @app.get("/v1/model/card", response_class=HTMLResponse, **openapi.CARD)
    async def card() -> str:
        from markdown_it import MarkdownIt

        if workers.model.get("card") is None:
            raise Problem(404, "this model comes without a card")
        # No HTML of the card's own: it may be of a model from anywhere.
        return (
            MarkdownIt("commonmark", {"html": False}).enable("table").render(workers.model["card"])
        )

    @app.get("/healthz", response_class=PlainTextResponse, tags=["state"])
    async def alive() -> str:
        """Whether the service answers."""
        return "ok"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["state"])
    async def ready() -> str:
        """Whether a clip that is sent now would be taken."""
        predictions.check_room()
        if not workers.ready:
            raise Problem(503, "no worker is ready", retry_after_s=1)
        return "ok"

    @app.get("/metrics", response_class=PlainTextResponse, tags=["state"])
    async def figures() -> bytes:
        """Figures of the service, for Prometheus."""
        return metrics.text()

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse((PAGE / "index.html").read_bytes())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse((PAGE / "docs.html").read_bytes())

    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def _make_private(folder: Path) -> None:
    """Makes a folder that others cannot read, or have not laid here."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise InputError(
            f"TMPDIR: expected {folder} to be this user's alone, got owner {status.st_uid}, mode "
            f"{status.st_mode & 0o777:o}; remove it, or set TMPDIR to another folder"
        )


def _files(parts: list[Part], fields: tuple[str, ...]) -> dict[str, Part]:
    """The files of a form by field: the first of these must be there, and each once at most."""
    files: dict[str, Part] = {}
    for part in parts:
        if part.field not in fields or part.path is None or part.field in files:
            raise Problem(
                400,
                f"form: expected the file {' and perhaps '.join(fields)}, each once, got also "
                f"{_printable(part.field)!r}",
            )
        files[part.field] = part
    if fields[0] not in files:
        raise Problem(400, f"{fields[0]}: expected a file, got none")
    return files


def _printable(text: str) -> str:
    """A name that a client has given, on one line and not too long."""
    return "".join(c if c.isprintable() else " " for c in Path(text).name)[-_LONGEST_NAME:]


def _wait_s(prefer: str) -> float:
    """How long a client wants to wait.

    Source: RFC 7240, ``Prefer: respond-async, wait=10``.

    Example:
        >>> _wait_s("respond-async"), _wait_s("wait=5"), _wait_s("")
        (0.0, 5.0, 20.0)
    """
    if "respond-async" in prefer.lower():
        return 0.0
    asked = re.search(r"\bwait=(\d{1,6})", prefer.lower())
    return min(float(asked[1]), _LONGEST_WAIT_S) if asked else WAIT_S


async def _gone(request: Request) -> None:
    """Returns when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _result(work: Work, form: str) -> Response:
    """What was asked for, or why there is none."""
    if work.problem is not None:
        raise work.problem
    if form not in work.result:
        raise Problem(422, f"format: expected segments=true for {form}, got none")
    return Response(work.result[form], media_type=_TYPES.get(form, "application/octet-stream"))


async def _events(predictions: Predictions, work: Work) -> AsyncIterator[str]:
    """Server-sent events: the state, whenever it has changed."""
    before, quiet = "", 0
    while True:
        has_ended = work.ended.is_set()  # asked first: the state below is then the last one
        text = predictions.state_text(work)
        quiet = 0 if text != before else quiet + 1
        if text != before:
            yield f"event: state\ndata: {text}\n\n"
        elif quiet % _KEEP_ALIVE == 0:
            yield ": waiting\n\n"
        if has_ended:
            return
        before = text
        await asyncio.sleep(_EVERY_S)


def _problem_answer(problem: Problem, headers: Any = None) -> JSONResponse:
    return JSONResponse(
        problem.content,
        problem.status,
        headers={**(headers or {}), **problem.headers},
        media_type="application/problem+json",
    )
