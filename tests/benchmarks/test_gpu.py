"""The benchmark for GPUs runs, at a size that says nothing of speed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.usefixtures("one_thread")
def test_every_part_runs_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny"])
    gpu.main()
    report = json.loads(capsys.readouterr().out)
    assert report["device"].startswith("cpu")
    sound, faces, step = (report["results"][part] for part in ("sound", "faces", "step"))
    assert (sound["asked"], faces["asked"]) == (500, 20)
    for part in (sound["float32"], sound["bfloat16"], faces):
        assert part["failed"] == {}
        assert part["times_real_time"] > 0
        assert part["against_cpu"]["steps_seen_by_one_alone"] == 0
    # Half precision of the store, and of the encoder.
    assert sound["float32"]["against_cpu"]["largest_difference"] < 1e-3
    assert 1e-3 < sound["bfloat16"]["against_cpu"]["largest_difference"] < 0.2
    assert sound["float32"]["against_cpu"]["steps"] == 2 * 25
    assert faces["against_cpu"]["steps"] == 5
    assert faces["against_cpu"]["largest_difference"] < 1e-3
    assert set(step["seconds"]) == {"float32", "bfloat16"}
    assert step["against_cpu"]["float32"] < 1e-5 < step["against_cpu"]["bfloat16"]

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--budget-s", "-1"])
    gpu.main()
    late = json.loads(capsys.readouterr().out)["results"]
    assert set(late.values()) == {"left out: no time was left"}
