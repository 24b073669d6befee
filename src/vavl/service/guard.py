"""Who may ask, and what a browser may do with the answers."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vavl.service.problems import Problem

COOKIE = "vavl_token"

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may fetch nothing from anywhere else, and nobody may put it into a frame."""

_OPEN = ("/", "/healthz", "/readyz", "/favicon.ico")
"""What may be seen without the token: it tells nothing about clips, and works no model."""
_OPEN_FOLDERS = ("/page/", "/docs")
_READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Stands before the application: checks host, origin and token, and adds headers.

    Args:
        app: What is guarded.
        token: What a client must know, or None.
        hosts: Names of this machine, beside its addresses and ``localhost``.
        origins: Pages of other origins that may ask.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: Iterable[str], origins: Iterable[str]
    ) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts) | {"localhost"}
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope, Headers(scope=scope))
        except Problem as problem:
            if scope["type"] == "websocket":  # not accepted: the client sees status 403
                await send({"type": "websocket.close", "code": 1008, "reason": problem.detail})
                return
            answer = JSONResponse(
                problem.content, problem.status, media_type="application/problem+json"
            )
            await answer(scope, receive, send_with_headers)
            return
        if scope["type"] == "http" and scope["path"] == "/" and (given := self._in_address(scope)):
            redirect = RedirectResponse("/", 303)
            redirect.set_cookie(
                COOKIE, given, httponly=True, samesite="strict", secure=scope["scheme"] == "https"
            )
            await redirect(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        # A page of another name that resolves to this machine would else be this page's origin.
        if not self._is_ours(host):
            raise Problem(421, f"Host: expected this machine, got {host[:100]!r}; see --allow-host")
        origin = headers.get("origin")
        if (
            (scope["type"] == "websocket" or scope["method"] not in _READING)
            and origin is not None
            and origin not in self._origins
            and urlsplit(origin).netloc != host
        ):
            raise Problem(403, f"Origin: expected this page's own, got {origin[:100]!r}")
        path = scope["path"]
        if self._token is None or path in _OPEN or path.startswith(_OPEN_FOLDERS):
            return
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return  # a browser asks what it may do, and sends no token
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
            given = "" if cookie is None else cookie.value
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            raise Problem(
                401,
                "expected the token: open the address that `vavl serve` printed, or send "
                "Authorization: Bearer TOKEN",
            )

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            ipaddress.ip_address(name)
        except ValueError:
            return urlsplit(f"//{host}").hostname in self._hosts if "[" not in host else False
        return True

    def _in_address(self, scope: Scope) -> str | None:
        """The token of ``/?token=...``, where it is the right one."""
        [given] = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[:1]
        if self._token is None or not secrets.compare_digest(given.encode(), self._token.encode()):
            return None
        return given
