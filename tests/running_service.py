"""A service that runs in a thread, with real workers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from vavl.service.app import ServiceSettings, create_app
from vavl.service.live import LARGEST_MESSAGE_BYTES


@dataclass
class Service:
    """A service that runs, and a client for it."""

    app: FastAPI
    address: str
    scratch: Path
    loop: asyncio.AbstractEventLoop
    client: httpx.Client
    server: uvicorn.Server

    def idle(self) -> None:
        """Waits until nobody works; then no upload is left, and nothing that was asked is open."""
        until = time.monotonic() + 20
        while self.app.state.workers.busy or self.app.state.workers.waiting:
            assert time.monotonic() < until, "workers are still busy"
            time.sleep(0.05)
        while list(self.scratch.rglob("*.part*/*")):
            assert time.monotonic() < until, "uploads are left"
            time.sleep(0.05)
        while self.server.server_state.tasks:
            assert time.monotonic() < until, self.server.server_state.tasks
            time.sleep(0.05)


def run_service(scratch: Path, **settings: Any) -> Iterator[Service]:
    app = create_app(ServiceSettings(scratch=scratch, **settings))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            log_config=None,
            access_log=False,
            ws_max_size=LARGEST_MESSAGE_BYTES,
            timeout_graceful_shutdown=3,
        )
    )
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    # A client that keeps a connection as long as the server does would ask on one that just ends.
    limits = httpx.Limits(keepalive_expiry=server.config.timeout_keep_alive / 2)
    with httpx.Client(base_url=address, timeout=60, limits=limits) as client:
        yield Service(app, address, scratch, loops[0], client, server)
    server.should_exit = True
    thread.join(timeout=60)
    assert not thread.is_alive()
