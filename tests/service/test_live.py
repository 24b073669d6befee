"""Sound and pictures over a WebSocket: the windows of a live stream."""

from __future__ import annotations

import io
import json
import struct
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running_service import Service
from voices import babble
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import vavl
from vavl.inference.live import LiveRecognizer
from vavl.media.frames import VideoFrame

START = {"type": "start", "audio": True, "video": True, "sampling_rate_hz": 16_000}


def opened(service: Service, **start: Any) -> ClientConnection:
    socket = connect(service.address.replace("http", "ws") + "/v1/stream")
    socket.send(json.dumps({**START, **start}))
    return socket


def sound(samples: np.ndarray) -> bytes:
    return b"\x01" + np.round(samples * 32767).astype("<i2").tobytes()


def picture(time_s: float, level: int, size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(file, "JPEG", quality=95)
    return b"\x02" + struct.pack("<d", time_s) + file.getvalue()


def rest(socket: ClientConnection) -> list[dict[str, Any]]:
    """All messages until the service closes."""
    messages = []
    try:
        while True:
            messages.append(json.loads(socket.recv(timeout=30)))
    except ConnectionClosed:
        return messages


def test_windows_are_those_of_a_live_stream(service: Service) -> None:
    said = np.round(babble(5.0) * 32767).astype(np.int16)
    live = LiveRecognizer(vavl.load(), audio=True, video=True)
    expected = []
    with opened(service) as socket:
        assert json.loads(socket.recv(timeout=30)) == {"type": "ready"}
        for step in range(50):
            block = said[1600 * step : 1600 * (step + 1)]
            socket.send(b"\x01" + block.astype("<i2").tobytes())
            socket.send(picture(step / 10, 100))
            expected += live.add_audio(block.astype(np.float32) / 32768)
            expected += live.add_frame(VideoFrame(step / 10, np.full((48, 64, 3), 100, np.uint8)))
        socket.send('{"type": "end"}')
        messages = rest(socket)
    expected += live.finish()
    assert messages.pop() == {"type": "end"}
    assert {message["type"] for message in messages} == {"window"}
    # Pictures that are late are left out; the last one is then shown for longer.
    assert len(messages) >= len(expected) - 1
    for message, window in zip(messages[:6], expected[:6], strict=True):
        found = message["prediction"]
        assert (found["start_s"], found["end_s"]) == (window.start_s, window.end_s)
        assert found["modality"] == "acoustic" == window.modality
        assert found["probabilities"] == pytest.approx(window.probabilities, abs=1e-3)
        assert message["box"] is None
        assert message["latency_s"] >= 0
    service.idle()


def test_one_side_ends_and_the_other_goes_on(service: Service) -> None:
    with opened(service, sampling_rate_hz=48_000) as socket:
        assert json.loads(socket.recv(timeout=30)) == {"type": "ready"}
        socket.send(picture(0.0, 100))
        socket.send('{"type": "end", "source": "video"}')
        for block in np.split(babble(3.0).repeat(3), 30):
            socket.send(sound(block))
        first = json.loads(socket.recv(timeout=30))
        assert first["prediction"]["modality"] == "acoustic"
        socket.send('{"type": "end"}')
        assert rest(socket)[-1] == {"type": "end"}


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        ("nonsense", None, "expected"),
        ('{"type": "start"}', None, "audio"),
        (json.dumps({**START, "sampling_rate_hz": 1}), None, "sampling_rate_hz: expected 8000"),
        (json.dumps({**START, "audio": False, "video": False}), None, "got neither"),
        (json.dumps(START), b"\x03abc", "begins with byte 1 or 2"),
        (json.dumps(START), b"\x01abc", "whole 16-bit samples"),
        (json.dumps(START), b"\x02abc", "a time as a 64-bit float"),
        (json.dumps(START), b"\x02" + struct.pack("<d", np.nan) + b"jpeg", "a time"),
        (json.dumps(START), b"\x02" + struct.pack("<d", 0.0) + b"no jpeg", "expected a JPEG"),
        (json.dumps(START), picture(0, 9) + b"", "not later"),
        (json.dumps(START), '{"type": "stop"}', 'expected {"type": "end"}'),
    ],
)
def test_what_makes_no_sense_ends_the_stream(
    service: Service, first: str, then: bytes | str | None, reason: str
) -> None:
    with connect(service.address.replace("http", "ws") + "/v1/stream") as socket:
        socket.send(first)
        if then is not None:
            for _ in range(2 if reason == "not later" else 1):
                socket.send(then)
        problem = rest(socket)[-1]
    assert problem["type"] == "problem"
    expected = "expected a time after" if reason == "not later" else reason
    assert expected in problem["detail"]
    assert problem["status"] == 422
    service.idle()


def test_pictures_of_two_sizes(service: Service) -> None:
    with opened(service, audio=False) as socket:
        socket.send(picture(0.0, 90))
        socket.send(picture(0.1, 90, (48, 64)))
        assert "all of one size, 64 x 48, got 48 x 64" in rest(socket)[-1]["detail"]


def test_a_stream_leaves_a_worker_for_clips(service: Service) -> None:
    until = time.monotonic() + 30
    while service.app.state.workers.ready < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    with opened(service, video=False) as first:
        assert json.loads(first.recv(timeout=30)) == {"type": "ready"}
        with opened(service) as second:
            problem = rest(second)[-1]
        assert (problem["status"], problem["type"]) == (503, "problem")
        clip = service.client.post(
            "/v1/predictions", content=b"no clip", headers={"Content-Type": "video/mp4"}
        )
        assert clip.status_code == 422
    service.idle()  # the client has gone without a word


def test_a_silent_client_frees_its_worker(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vavl.service.live._LONGEST_PAUSE_S", 0.5)
    with opened(service) as socket:
        problem = rest(socket)[-1]
    assert (problem["status"], problem["type"]) == (408, "problem")
    service.idle()
