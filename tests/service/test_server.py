"""The command: it says where it is, and Ctrl-C ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from vavl import cli
from vavl.media.writing import write_wav


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-m", "vavl", "serve", "--port", "0", "--workers", "1", "--token", "new"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    yield process
    process.kill()
    process.wait()


def test_ctrl_c_ends_it_and_running_clips_are_told(
    process: subprocess.Popen, tmp_path: Path
) -> None:
    assert process.stdout is not None
    said = process.stdout.readline()
    address, token = said.split("vavl serves at ")[1].split(" ")[0].split("/?token=")
    clip = tmp_path / "hour.wav"
    write_wav(clip, np.random.default_rng(0).normal(0, 0.1, 16_000 * 3600))
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(
            httpx.post(
                f"{address}/v1/predictions",
                content=clip.read_bytes(),
                headers={
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "audio/wav",
                    "Prefer": "wait=60",
                },
                timeout=60,
            )
        )

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    figures = ""
    until = time.monotonic() + 60
    while "vavl_workers_busy 1.0" not in figures or "vavl_waiting 1.0" not in figures:
        assert time.monotonic() < until
        time.sleep(0.1)
        headers = {"Authorization": f"Bearer {token}"}
        figures = httpx.get(f"{address}/metrics", headers=headers).text
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert time.monotonic() - began_s < 5
    for thread in asking:
        thread.join()
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("the service stops" in answer.json()["detail"] for answer in answers)
    [scratch] = tmp_path.glob("vavl-serve-*")
    assert scratch.stat().st_mode & 0o777 == 0o700
    assert not list(scratch.iterdir())
    assert process.stderr is not None
    lines = [json.loads(line) for line in process.stderr.read().splitlines() if line[:1] == "{"]
    ended = [line for line in lines if line["event"] == "task"]
    assert [line["status"] for line in ended] == [503, 503]
    assert "hour" not in json.dumps(lines)


def test_a_folder_that_others_laid_there_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    laid = tmp_path / f"vavl-serve-{os.getuid()}"
    laid.mkdir()
    laid.chmod(0o777)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.run(["serve", "--port", "0"]) == 2
    assert "to be this user's alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "0.0.0.0"], "--host: others can reach 0.0.0.0: expected --token"),
        (["--port", "1", "--host", "192.0.2.1", "--insecure"], "cannot listen at 192.0.2.1:1"),
        (["--certificate", "a.pem"], "--certificate, --key: expected both, got one"),
        (["--workers", "0"], "--workers: expected more than 0, got 0"),
        (["--model", "no/such/folder", "--port", "0"], "no/such/folder"),
    ],
)
def test_what_it_cannot_start_with(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["serve", *arguments]) == 2
    assert reason in capsys.readouterr().err
