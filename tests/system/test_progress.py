"""How far a job has come, where nobody watches a bar."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from vavl.system.processes import Failure
from vavl.system.progress import with_progress


class Clock:
    """A clock that goes on by some seconds with each item."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    def items(self, count: int, seconds: float) -> Iterator[tuple[int, object]]:
        for number in range(count):
            self.now_s += seconds
            yield number, Failure("bad") if number == 1 else number


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def test_a_line_for_each_tenth_with_rate_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(with_progress(clock.items(200, 0.5), 200, what="extracting"))
    assert [item for item, _ in found] == list(range(200))
    shown = lines(capsys)
    assert len(shown) == 10
    assert shown[0] == "extracting: 20 of 200, 2.0 a second, 2 min left, 1 failed"
    assert shown[-1] == "extracting: 200 of 200, 2.0 a second, 1 failed"


def test_a_line_for_each_minute_where_items_take_long(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    list(with_progress(clock.items(400, 30), 400, what="training"))
    shown = lines(capsys)
    assert len(shown) == 200
    assert shown[0] == "training: 2 of 400, 2.0 a minute, 3.3 h left, 1 failed"


def test_lines_come_while_the_job_runs(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    job = with_progress(clock.items(10, 5), 10, what="predicting")
    next(job)
    next(job)
    assert lines(capsys) == ["predicting: 1 of 10, 12.0 a minute, 45 s left"]
    job.close()


@pytest.mark.parametrize(
    ("total", "seconds", "options"), [(5, 0.1, {}), (0, 1.0, {}), (9, 9.0, {"progress": False})]
)
def test_short_jobs_and_quiet_ones_say_nothing(
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
    total: int,
    seconds: float,
    options: dict[str, bool],
) -> None:
    assert (
        len(list(with_progress(clock.items(total, seconds), total, what="x", **options))) == total
    )
    assert lines(capsys) == []
