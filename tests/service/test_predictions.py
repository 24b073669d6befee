"""Clips over HTTP: the same answers, whatever happens on the way."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from running_service import Service
from safetensors.numpy import save
from starlette.requests import Request
from voices import babble

import vavl
from vavl.media.writing import write_mp4, write_wav
from vavl.service.problems import Problem
from vavl.service.schema import prediction_schema
from vavl.service.uploads import receive

CLIPS = "/v1/predictions"


@pytest.fixture(scope="module")
def recognizer() -> vavl.Recognizer:
    return vavl.load()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sentences of nobody, in a grey picture."""
    path = tmp_path_factory.mktemp("clips") / "talk é.mp4"
    said = [babble(1.5), np.zeros(16_000), babble(1.5, pitch_hz=210.0, seed=1)]
    write_mp4(path, np.full((50, 48, 64, 3), 90, np.uint8), np.concatenate(said), 12.5)
    return path


def sent(path: Path) -> dict:
    return {"files": {"file": (path.name, path.read_bytes())}}


def test_the_answer_is_that_of_predict(
    service: Service, recognizer: vavl.Recognizer, clip: Path
) -> None:
    asked = {"timeline": "true", "segments": "true"}
    answer = service.client.post(CLIPS, **sent(clip), params=asked)
    assert answer.status_code == 200
    found = answer.json()
    same = recognizer.predict(clip, timeline=True, segments=True).to_dict()
    assert found == approximately(json.loads(json.dumps(same)))
    assert len(found["segments"]) == 2
    validator = Draft202012Validator(prediction_schema())
    validator.validate(found)
    assert not validator.is_valid({name: v for name, v in found.items() if name != "confidence"})
    raw = service.client.post(
        CLIPS,
        content=clip.read_bytes(),
        headers={"Content-Type": "video/mp4"},
        params={**asked, "name": clip.name},
    )
    assert raw.json() == found
    service.idle()


def approximately(value):
    """Numbers may differ by rounding: the workers have one thread."""
    if isinstance(value, dict):
        return {name: approximately(part) for name, part in value.items()}
    if isinstance(value, list):
        return [approximately(part) for part in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


def test_the_schema_is_written_down() -> None:
    path = Path(__file__).parents[2] / "docs" / "prediction.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == prediction_schema()


def test_formats(service: Service, clip: Path) -> None:
    def answer(**asked: str) -> httpx.Response:
        return service.client.post(CLIPS, **sent(clip), params=asked)

    [row] = csv.DictReader(io.StringIO(answer(format="csv").text))
    assert row["name"] == clip.name
    captions = answer(format="vtt")
    assert captions.text.startswith("WEBVTT")
    assert captions.text.count("-->") == 2
    assert captions.headers["content-type"].startswith("text/vtt")
    assert answer(format="srt").text.startswith("1\n00:00:0")
    assert answer(format="rttm").text.startswith("SPEAKER")
    assert answer(format="xml").status_code == 422


def test_a_span_and_a_name(service: Service, clip: Path) -> None:
    asked = {"start_s": "0.5", "end_s": "1.5", "name": "../../a\n" + "b" * 300}
    found = service.client.post(CLIPS, **sent(clip), params=asked).json()
    assert found["duration_s"] == pytest.approx(1.0, abs=0.05)
    assert found["name"] == "b" * 255
    wrong = service.client.post(CLIPS, **sent(clip), params={"audio_track": "2"})
    assert wrong.status_code == 422
    assert wrong.json()["detail"].startswith(clip.name)
    assert str(service.scratch) not in wrong.text


def test_a_person_is_got_to_know(service: Service, clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    write_wav(other, babble(2.0, seed=3))
    files = [("file", (path.name, path.read_bytes())) for path in (clip, other)]
    profile = service.client.post("/v1/profiles", files=files, params={"speaker": "ann"})
    assert profile.status_code == 200
    known = {**sent(clip)["files"], "profile": ("ann", profile.content)}
    with_it = service.client.post(CLIPS, files=known).json()
    without = service.client.post(CLIPS, **sent(clip)).json()
    assert with_it["probabilities"] != without["probabilities"]
    nonsense = {**sent(clip)["files"], "profile": ("ann", save({"a": np.zeros(2)}))}
    refused = service.client.post(CLIPS, files=nonsense)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("profile")


def test_a_long_clip_is_followed_and_forgotten(pretending: Service) -> None:
    client = pretending.client
    begun = client.post(CLIPS, files={"file": b"sleep 1"}, headers={"Prefer": "respond-async"})
    assert begun.status_code == 202
    place = begun.headers["location"]
    assert begun.json()["status"] in ("queued", "running")
    assert client.get(place, params={"format": "csv"}).status_code == 409
    states = []
    with client.stream("GET", f"{place}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        for line in events.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line.removeprefix("data: ")))
    reached = [state["done_s"] for state in states if state["status"] == "running"]
    assert len({second for second in reached if second is not None}) > 1
    assert states[-1]["status"] == "done"
    assert states[-1]["prediction"] == client.get(place, params={"format": "json"}).json()
    download = client.get(place, params={"format": "csv"})
    assert download.text == "name\n"
    assert "filename*=UTF-8''upload.csv" in download.headers["content-disposition"]
    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == 404


def test_answers_are_kept_for_a_while_and_not_too_many(
    pretending: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def done() -> str:
        later = {"Prefer": "respond-async"}
        begun = pretending.client.post(CLIPS, files={"file": b"sleep 0"}, headers=later)
        pretending.idle()
        return begun.headers["location"]

    first = done()
    answer = pretending.client.get(first).json()["prediction"]
    assert answer == {"name": "pretend"}
    room = 2 * (len(json.dumps(answer)) + len("name\n"))
    monkeypatch.setattr("vavl.service.predictions._MOST_KEPT_BYTES", room)
    second, third = done(), done()
    kept = [pretending.client.get(place).status_code for place in (first, second, third)]
    assert kept == [404, 200, 200]
    monkeypatch.setattr("vavl.service.predictions.KEPT_S", 0.0)
    assert pretending.client.get(third).status_code == 404


def test_how_long_is_waited(pretending: Service) -> None:
    def post(prefer: str) -> httpx.Response:
        return pretending.client.post(CLIPS, files={"file": b"sleep 2"}, headers={"Prefer": prefer})

    began_s = time.monotonic()
    waited = post("wait=1")
    assert waited.status_code == 202
    assert 0.9 < time.monotonic() - began_s < 2.0
    assert post("wait=10").status_code == 200
    pretending.client.delete(waited.headers["location"])


def test_what_cannot_be_read(service: Service, tmp_path: Path) -> None:
    def problem(**request) -> tuple[int, str]:
        answer = service.client.post(CLIPS, **request)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        return answer.status_code, answer.json()["detail"]

    assert problem(data={"a": "1"})[0] == 415
    assert problem(json={})[0] == 415
    assert problem(content=b"", headers={"Content-Type": "video/mp4"})[0] == 400
    assert problem(files={"other": b"1"})[0] == 400
    assert problem(files=[("file", b"1"), ("file", b"2")])[0] == 400
    assert problem(data={"file": "text"}, files={"profile": b""})[0] == 400
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        assert problem(content=b"what?", headers={"Content-Type": kind})[0] == 400
    whole = httpx.Request("POST", service.address, files={"file": b"1" * 9999})
    cut = whole.read()[:-100]
    assert problem(content=cut, headers={"Content-Type": whole.headers["content-type"]})[0] == 400
    status, detail = problem(files={"file": ("no.mp4", b"not media")})
    assert status == 422
    assert detail.startswith("no.mp4: not a media file")
    playlist = b"#EXTM3U\n#EXTINF:1.0,\n/etc/hostname\n#EXT-X-ENDLIST\n"
    assert problem(files={"file": ("list.m3u8", playlist)})[0] == 422
    assert problem(files={"file": b"1"}, params={"start_s": "-1"})[0] == 422
    assert problem(files={"file": b"1"}, params={"nonsense": "1"})[0] == 422
    for path in ("/v1/predictions/no", "/v1/predictions/no/events", "/nothing"):
        assert service.client.get(path).status_code == 404
    service.idle()


def test_damaged_clips_are_refused_and_harm_nobody(service: Service, clip: Path) -> None:
    whole = clip.read_bytes()
    generator = np.random.default_rng(0)

    def damaged(number: int) -> bytes:
        data = bytearray(whole if number % 2 else whole[: generator.integers(len(whole))])
        for place in generator.integers(len(data), size=2 ** (number % 8)) if data else ():
            data[place] = generator.integers(256)
        return bytes(data)

    clips = [damaged(number) for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda data: service.client.post(CLIPS, files={"file": ("a.mp4", data)}), clips
            )
        )
    assert {answer.status_code for answer in answers} <= {200, 400, 422}
    assert any(answer.status_code == 422 for answer in answers)
    assert service.client.post(CLIPS, **sent(clip)).status_code == 200
    service.idle()


def test_a_worker_that_dies_costs_one_request(pretending: Service) -> None:
    workers = pretending.app.state.workers
    before = workers.deaths
    answer = pretending.client.post(CLIPS, files={"file": b"die"})
    assert answer.status_code == 500
    assert "the process that worked on this clip ended" in answer.json()["detail"]
    assert pretending.client.post(CLIPS, files={"file": b"sleep 0.1"}).status_code == 200
    assert workers.deaths == before + 1
    until = time.monotonic() + 30
    while workers.ready < workers.number:
        assert time.monotonic() < until, "no other worker came"
        time.sleep(0.1)
    defect = pretending.client.post(CLIPS, files={"file": b"raise"})
    assert (defect.status_code, defect.json()["detail"]) == (500, "RuntimeError: a defect")
    assert workers.deaths == before + 1


def test_the_time_limit(pretending: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretending.app.state.predictions, "_time_limit_s", 0.5)
    for clip in (b"sleep 9", b"hang"):
        began_s = time.monotonic()
        answer = pretending.client.post(CLIPS, files={"file": clip})
        assert answer.status_code == 504
        assert time.monotonic() - began_s < 5
    pretending.idle()


def test_a_full_queue_asks_to_come_back(
    pretending: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretending.app.state.workers, "_most_waiting", 1)
    client = pretending.client
    later = {"Prefer": "respond-async"}
    until = time.monotonic() + 30
    while pretending.app.state.workers.ready < 2:  # one may have died in a test before
        assert time.monotonic() < until
        time.sleep(0.1)
    begun = [client.post(CLIPS, files={"file": b"sleep 9"}, headers=later) for _ in range(4)]
    assert [answer.status_code for answer in begun] == [202, 202, 202, 503]
    assert int(begun[3].headers["retry-after"]) > 0
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert client.get(begun[2].headers["location"]).json()["status"] == "queued"
    for answer in begun[2::-1]:
        assert client.delete(answer.headers["location"]).status_code == 204
    pretending.idle()
    assert client.get("/readyz").status_code == 200


def test_a_client_that_goes_frees_its_place(pretending: Service) -> None:
    with suppress(httpx.ReadTimeout):
        httpx.post(
            pretending.address + CLIPS,
            files={"file": b"sleep 50"},
            timeout=httpx.Timeout(5, read=1),
        )
    pretending.idle()


def connection(service: Service, head: str) -> socket.socket:
    host, port = service.address.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    lines = f"POST {CLIPS} HTTP/1.1\r\nHost: {host}\r\nContent-Type: video/mp4\r\n{head}\r\n\r\n"
    client.sendall(lines.encode())
    return client


def test_uploads_that_lie_stop_or_break_off(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection(service, "Content-Length: 3000000000") as client:
        client.sendall(b"0123456789")
        assert client.recv(4096).startswith(b"HTTP/1.1 413")
    with connection(service, "Content-Length: 1000") as client:
        client.sendall(b"0123456789")  # and goes
    monkeypatch.setattr("vavl.service.uploads._LONGEST_PAUSE_S", 0.3)
    with connection(service, "Content-Length: 1000") as client:
        client.sendall(b"0123456789")
        assert client.recv(4096).startswith(b"HTTP/1.1 408")
    monkeypatch.setattr("vavl.service.uploads._LONGEST_PAUSE_S", 10)
    service.idle()


def test_a_body_that_grows_is_cut_off(tmp_path: Path) -> None:
    """Without a length in its head; nobody reads it to its end."""
    pieces = 0

    async def endless() -> dict:
        nonlocal pieces
        pieces += 1
        return {"type": "http.request", "body": bytes(1000), "more_body": True}

    for kind in (b"video/mp4", b"multipart/form-data; boundary=x"):
        head = {"type": "http", "headers": [(b"content-type", kind)], "query_string": b""}
        folder = tmp_path / kind.decode()[:5]
        folder.mkdir()
        pieces = 0
        with pytest.raises(Problem) as raised:
            asyncio.run(receive(Request(head, endless), folder, most_bytes=400_000))
        assert raised.value.status in (413, 400)
        assert pieces <= 401


def test_a_full_disk(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vavl.service.uploads._writing",
        lambda part: Path("/dev/full").open("wb", buffering=0),  # noqa: SIM115 - it is closed
    )
    for request in (
        {"files": {"file": b"1" * 9999}},
        {"content": b"1" * 9999, "headers": {"Content-Type": "video/mp4"}},
    ):
        answer = service.client.post(CLIPS, **request)
        assert answer.status_code == 507
        assert "no space is left" in answer.json()["detail"]
    service.idle()


def test_many_at_once_are_all_answered(service: Service, clip: Path) -> None:
    """More than may wait: whoever is refused comes back."""
    answers: list[dict] = []

    def client() -> None:
        for _ in range(2):
            while True:
                answer = httpx.post(
                    service.address + CLIPS,
                    **sent(clip),
                    headers={"Prefer": "wait=60"},
                    timeout=120,
                )
                if answer.status_code != 503:
                    break
                time.sleep(0.2)
            answers.append(answer.json())

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    assert all(answer == answers[0] for answer in answers)
    service.idle()


def test_figures_for_prometheus(service: Service) -> None:
    text = service.client.get("/metrics").text
    assert 'vavl_tasks_total{status="done"}' in text
    assert "vavl_workers " in text
    assert service.client.get("/v1/model").json()["name"] == "compact"
    card = service.client.get("/v1/model/card").text
    assert "<table>" in card
    assert "Not for decisions about people" in card
