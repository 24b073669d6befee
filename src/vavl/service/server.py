"""Runs the application: address, certificate, Ctrl-C, log."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn

from vavl.errors import InputError, VavlError
from vavl.service.app import ServiceSettings, create_app
from vavl.service.live import LARGEST_MESSAGE_BYTES
from vavl.service.predictions import Predictions

_FINISH_S = 2
"""After Ctrl-C, clips have so long to finish."""
_MOST_CONNECTIONS = 1000


_LOGGERS = {
    "vavl": logging.INFO,
    "uvicorn": logging.CRITICAL,  # until it has started: what it cannot start with is our error
    "asyncio": logging.ERROR,  # that a client has gone is no news
}


class _JsonLines(logging.Formatter):
    """A line of JSON for each event; what a clip is called or says is in none."""

    _usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        about = {name: v for name, v in vars(record).items() if name not in self._usual}
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = {"time": when, "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({**line, **about}, default=str)


@contextmanager
def _logging_as_json() -> Iterator[None]:
    """Inside, the service logs to standard error; what was set before is set again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    loggers = {logging.getLogger(name): level for name, level in _LOGGERS.items()}
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger, level in loggers.items():
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


class _Server(uvicorn.Server):
    """Tells the clips about Ctrl-C before the connections are closed."""

    def __init__(
        self, config: uvicorn.Config, predictions: Predictions, on_start: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._predictions = predictions
        self._on_start = on_start
        self._winding_down: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._wind_down)

    def _wind_down(self) -> None:
        async def wait_and_end() -> None:
            self._predictions.stop()
            await asyncio.sleep(_FINISH_S)
            await self._predictions.end()

        self._winding_down = self._winding_down or asyncio.create_task(wait_and_end())


def serve(
    settings: ServiceSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: Path | None = None,
    key: Path | None = None,
    open_page: bool = False,
) -> None:
    """Serves until Ctrl-C.

    Args:
        settings: How the service works.
        host: Address to listen at.
        port: 0 takes one that is free.
        certificate: File of a certificate, for https.
        key: File of its key.
        open_page: Whether to open the page in a browser.

    Raises:
        InputError: The address or the certificate cannot be used.
        VavlError: The model cannot be loaded.
    """
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws_max_size=LARGEST_MESSAGE_BYTES,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_FINISH_S + 1,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise InputError(
            f"--host, --port: cannot listen at {host}:{port} ({error.strerror}); choose another"
        ) from None
    address = f"{'https' if certificate else 'http'}://{_name(host)}:{listener.getsockname()[1]}"

    def say() -> None:
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        secret = "" if settings.token is None else f"/?token={settings.token}"
        print(f"vavl serves at {address}{secret} (Ctrl-C ends it)", flush=True)
        if open_page:
            webbrowser.open(address + secret)

    server = _Server(config, app.state.predictions, say)
    # uvicorn raises Ctrl-C again when all is ended, and exits where it could not start.
    with _logging_as_json(), suppress(KeyboardInterrupt, SystemExit):
        server.run(sockets=[listener])
    if not server.started:
        raise VavlError(app.state.problem or "the service could not start")


def _name(host: str) -> str:
    """As it stands in an address."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
