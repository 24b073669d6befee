"""Who may ask: hosts, origins, tokens; and what a browser may do with the answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from vavl.service.guard import COOKIE, Guard

Client = Callable[..., TestClient]


@pytest.fixture
def client() -> Client:
    async def say(_: object) -> PlainTextResponse:
        return PlainTextResponse("in")

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("in")

    app = Starlette(
        routes=[
            *(Route(path, say, methods=["GET", "POST"]) for path in ("/", "/v1/model", "/healthz")),
            WebSocketRoute("/v1/stream", stream),
        ]
    )

    def make(base: str = "http://127.0.0.1:8000", token: str | None = None, **given) -> TestClient:
        guard = Guard(app, token=token, **{"hosts": ("lab",), "origins": (), **given})
        return TestClient(guard, base_url=base, follow_redirects=False)

    return make


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7", 200),
        ("lab:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_names_of_other_machines_are_refused(client: Client, host: str, status: int) -> None:
    """A page that lets its name resolve to this machine would else be let in."""
    answer = client().get("/v1/model", headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["status"] == status


def test_pages_of_other_origins_are_refused(client: Client) -> None:
    other = {"Origin": "https://evil.example"}
    assert client().post("/v1/model", headers=other).status_code == 403
    assert client().get("/v1/model", headers=other).status_code == 200  # it cannot read that
    assert client().post("/v1/model", headers={"Origin": "null"}).status_code == 403
    own = {"Origin": "http://127.0.0.1:8000"}
    assert client().post("/v1/model", headers=own).status_code == 200
    asked = client(origins=("https://evil.example",))
    assert asked.post("/v1/model", headers=other).status_code == 200
    with (
        pytest.raises(WebSocketDisconnect),
        client().websocket_connect("ws://127.0.0.1:8000/v1/stream", headers=other),
    ):
        pass
    with client().websocket_connect("ws://127.0.0.1:8000/v1/stream", headers=own) as socket:
        assert socket.receive_text() == "in"


def test_a_token_is_needed_for_all_that_works(client: Client) -> None:
    guarded = client(token="right")
    assert [guarded.get(path).status_code for path in ("/", "/healthz")] == [200, 200]
    assert guarded.get("/v1/model").status_code == 401
    for wrong in ("Bearer wrong", "Bearer ", "right", "Basic right", "Bearer rïght"):
        headers = {"Authorization": wrong.encode("latin-1")}
        assert guarded.get("/v1/model", headers=headers).status_code == 401
    right = {"Authorization": "Bearer right"}
    assert guarded.get("/v1/model", headers=right).status_code == 200
    with (
        pytest.raises(WebSocketDisconnect),
        guarded.websocket_connect("ws://127.0.0.1:8000/v1/stream"),
    ):
        pass
    with guarded.websocket_connect("ws://127.0.0.1:8000/v1/stream", headers=right) as socket:
        assert socket.receive_text() == "in"


def test_the_address_with_the_token_opens_the_page(client: Client) -> None:
    guarded = client(token="right")
    assert guarded.get("/?token=wrong").status_code == 200
    assert COOKIE not in guarded.cookies
    opened = guarded.get("/?token=right")
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert guarded.get("/v1/model").status_code == 200
    over_tls = client("https://127.0.0.1:8000", token="right").get("/?token=right")
    assert "secure" in over_tls.headers["set-cookie"].lower()


def test_nothing_is_fetched_from_elsewhere(client: Client) -> None:
    headers = client().get("/").headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not any("http" in sources or "unsafe" in sources for sources in policy.values())
    assert headers["x-content-type-options"] == "nosniff"
