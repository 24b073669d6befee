"""The command that serves a page and an API."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

from vavl.cli.commands import arg
from vavl.errors import EXIT_OK, InputError


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    model: Annotated[str, arg(aliases=["-m"])] = "compact",
    workers: Annotated[int | None, arg(metavar="N")] = None,
    device: str = "cpu",
    unsure_below: Annotated[float | None, arg(metavar="P")] = None,
    open: bool = False,
    token: Annotated[str | None, arg(metavar="TEXT")] = None,
    insecure: bool = False,
    certificate: Annotated[Path | None, arg(metavar="FILE")] = None,
    key: Annotated[Path | None, arg(metavar="FILE")] = None,
    max_upload: Annotated[int, arg(metavar="MB")] = 512,
    max_waiting: Annotated[int, arg(metavar="N")] = 32,
    time_limit: Annotated[float, arg(metavar="S")] = 600.0,
    allow_host: Annotated[tuple[str, ...], arg(metavar="NAME", repeated=True)] = (),
    allow_origin: Annotated[tuple[str, ...], arg(metavar="URL", repeated=True)] = (),
) -> int:
    """Serve a page and an API: drop a clip, look into the camera, or send a request.

    Everything runs on this machine, and nothing is kept: clips are deleted when they have been
    predicted. The page explains itself; /docs describes the API. Ctrl-C ends the service.

    Without --host, nobody but this machine can reach it. For others, give --host 0.0.0.0 and a
    token, and a certificate: browsers give camera and microphone to pages over https alone.

    Args:
        host: Address to listen at.
        port: 0 takes one that is free.
        model: As for `vavl predict`.
        workers: Processes that predict, each with the model in its memory (about 400 MB). A live
            stream has one for itself. Default: one for each core, and at least two.
        device: Where all networks run: auto, cpu, cuda, cuda:1, mps.
        unsure_below: As for `vavl predict`.
        open: Open the page in a browser.
        token: What clients must know; "new" makes one up and prints it with the address. Default:
            that of the environment variable VAVL_TOKEN, which other users do not see.
        insecure: Listen at an address that others can reach, without a token.
        certificate: For https: file of the certificate (PEM).
        key: For https: file of its key (PEM).
        max_upload: Largest body of a request, in MB.
        max_waiting: Clips that may wait for a worker; others are asked to come back.
        time_limit: Seconds that a clip may take.
        allow_host: A name of this machine that clients use, e.g. lab.example.org; may be repeated.
        allow_origin: A page of another origin that may ask, e.g. https://lab.example.org; may be
            repeated.
    """
    import ipaddress

    from vavl.system.extras import extra_module
    from vavl.system.processes import usable_cores

    for module in ("fastapi", "uvicorn", "websockets", "python_multipart", "fastapi_offline"):
        extra_module(module, "serve", "vavl serve")
    from vavl.service.app import ServiceSettings
    from vavl.service.server import serve as run
    from vavl.service.tasks import ModelSettings

    for name, value in (
        *(("--workers", workers), ("--max-upload", max_upload), ("--max-waiting", max_waiting)),
        ("--time-limit", time_limit),
    ):
        if value is not None and not value > 0:
            raise InputError(f"{name}: expected more than 0, got {value}")
    if (certificate is None) != (key is None):
        raise InputError("--certificate, --key: expected both, got one")
    try:
        is_private = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_private = host == "localhost"
    token = token or os.environ.get("VAVL_TOKEN") or None
    if not is_private and token is None and not insecure:
        raise InputError(
            f"--host: others can reach {host}: expected --token with it (--token new makes one "
            "up), or --insecure to let everybody in"
        )
    cores = usable_cores()
    workers = workers or max(2, cores)
    settings = ServiceSettings(
        ModelSettings(model, device, unsure_below),
        workers=workers,
        threads=max(1, cores // workers),
        most_waiting=max_waiting,
        most_upload_bytes=max_upload * 2**20,
        time_limit_s=time_limit,
        token=secrets.token_urlsafe(24) if token == "new" else token,
        hosts=(host, *allow_host),
        origins=allow_origin,
    )
    run(settings, host=host, port=port, certificate=certificate, key=key, open_page=open)
    return EXIT_OK
