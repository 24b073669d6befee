"""The service against the library: throughput, latency, memory; prints JSON.

python benchmarks/service.py clip.mp4 --uploads 200 --clients 20 --memory 1000

Three questions, each on a service of its own:

- throughput: many uploads of one clip by several clients at once, who come back where they are
  refused, against ``predict_many`` over as many copies with as many workers;
- latency: one upload after another, in turns with ``recognizer.predict`` in a process that has the
  same number of threads;
- memory: of the service and its workers after 100 and after all requests of a short sound.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from timing import circumstances, interleaved, ratios, spread

import vavl
from vavl.inference import find_files, group_files, predict_many
from vavl.media.writing import write_wav

CLIPS = "/v1/predictions"


@contextmanager
def service(workers: int) -> Iterator[tuple[str, int]]:
    """Address and process id of a service that runs."""
    command = [sys.executable, "-m", "vavl", "serve", "--port", "0", "--workers", str(workers)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        while f"vavl_workers {workers}.0" not in httpx.get(f"{found[0]}/metrics").text:
            time.sleep(0.2)
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait()


def throughput(clip: Path, *, uploads: int, clients: int, workers: int) -> dict[str, Any]:
    """Clips a second by the service and by ``predict_many``, and whether all were answered."""
    data, answers, statuses = clip.read_bytes(), [], Counter[int]()
    patient = {"Prefer": "wait=60"}
    left = iter(range(uploads))
    lock = threading.Lock()

    def client(address: str) -> None:
        with httpx.Client(base_url=address, timeout=300) as session:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                while True:
                    files = {"file": (clip.name, data)}
                    answer = session.post(CLIPS, files=files, headers=patient)
                    with lock:
                        statuses[answer.status_code] += 1
                    if answer.status_code != 503:
                        break
                    time.sleep(0.5)
                with lock:
                    answers.append(answer.json())

    with service(workers) as (address, _):
        threads = [threading.Thread(target=client, args=(address,)) for _ in range(clients)]
        began_s = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        served_s = time.perf_counter() - began_s
    with tempfile.TemporaryDirectory() as folder:
        for number in range(uploads):
            shutil.copy(clip, Path(folder) / f"{number:04}{clip.suffix}")
        copies = group_files(find_files([Path(folder)]))

        def many(clips: int, out: str) -> float:
            began_s = time.perf_counter()
            predict_many(copies[:clips], Path(folder) / out, workers=workers, progress=False)
            return time.perf_counter() - began_s

        start_s = many(workers, "few")  # a clip for each worker, and the time until they are ready
        many_s = (many(uploads, "out") - start_s) * uploads / (uploads - workers)
        lines = (Path(folder) / "out" / "predictions.jsonl").read_text().splitlines()[1:]
        rows = [json.loads(line)["prediction"]["probabilities"] for line in lines]
    furthest = max(
        abs(value - row[name])
        for answer, row in zip(answers, rows, strict=True)
        for name, value in answer["probabilities"].items()
    )
    return {
        "uploads": uploads,
        "clients": clients,
        "workers": workers,
        "answers": {str(status): count for status, count in sorted(statuses.items())},
        "largest_difference_of_probabilities": furthest,
        "clips_a_second": uploads / served_s,
        "clips_a_second_predict_many": uploads / many_s,
        "ratio": many_s / served_s,
    }


def latency(clip: Path, repeats: int) -> dict[str, Any]:
    """Of one upload, and of ``recognizer.predict``, in turns."""
    data = clip.read_bytes()
    recognizer = vavl.load()
    torch.set_num_threads(1)
    with service(2) as (address, _), httpx.Client(base_url=address, timeout=60) as client:
        measured = interleaved(
            {
                "service": lambda: client.post(CLIPS, files={"file": (clip.name, data)}),
                "predict": lambda: recognizer.predict(clip),
            },
            repeats=repeats,
            warm_up=2,
        )
    return {
        **{name: spread(values) for name, values in measured.items()},
        "ratio": ratios(measured["service"], measured["predict"]),
        "ratio_of_medians": statistics.median(measured["service"])
        / statistics.median(measured["predict"]),
    }


def memory(requests: int) -> dict[str, Any]:
    """MB of the service with its workers, after 100 requests and after all."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "noise.wav"
        write_wav(clip, np.random.default_rng(0).normal(0, 0.1, 16_000))
        data = clip.read_bytes()
    found = {}
    with service(2) as (address, pid), httpx.Client(base_url=address, timeout=60) as client:
        for number in range(1, requests + 1):
            client.post(CLIPS, content=data, headers={"Content-Type": "audio/wav"})
            if number in (100, requests):
                found[f"mb_after_{number}"] = _resident_mb(pid)
    return found


def _resident_mb(pid: int) -> float:
    """Of a process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = sum(_resident_mb(int(child)) for child in children)
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return total + int(kilobytes) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--memory", type=int, default=1000)
    arguments = parser.parse_args()
    print(
        json.dumps(
            {
                "throughput": throughput(
                    arguments.clip,
                    uploads=arguments.uploads,
                    clients=arguments.clients,
                    workers=arguments.workers,
                ),
                "latency": latency(arguments.clip, arguments.repeats),
                "memory": memory(arguments.memory),
                **circumstances(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
