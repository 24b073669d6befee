"""Worker processes: order, failures, and stopping early."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from jobs import Mortal, Sleeper

from vavl.errors import VavlError
from vavl.system.processes import Failure, Lost, run_job


def test_results_come_in_the_order_of_the_items() -> None:
    items = [0.3, 0.01, 0.02]
    assert list(run_job(items, Sleeper(), 2)) == [(item, item) for item in items]


def test_an_item_that_fails_harms_no_other() -> None:
    items = [0.01, -1.0, 0.02]
    for workers in (2, 0):
        first, (item, failed), last = run_job(items, Sleeper(), workers)
        assert (first, item, last) == ((0.01, 0.01), -1.0, (0.02, 0.02))
        assert isinstance(failed, Failure)
        assert failed.startswith("ValueError")


def test_what_can_be_resumed_is_abandoned_at_once() -> None:
    results = run_job([0.01, 300.0, 300.0], Sleeper(), 2, abandon=True)
    assert next(results) == (0.01, 0.01)
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 60


def test_a_death_costs_the_item_that_it_happened_at(tmp_path: Path) -> None:
    items = [1, 2, -1, 3, -2, -3, 4, *range(10, 30), -1, 30]
    done = list(run_job(items, Mortal(tmp_path), 2))
    assert [item for item, _ in done] == items
    lost = [isinstance(result, Lost) for _, result in done]
    assert lost == [item == -1 for item in items]
    assert "died" in str(done[2][1])
    assert all(result == item for item, result in done if item not in (-1, -3))


def test_workers_that_never_get_ready_concern_every_item(tmp_path: Path) -> None:
    with pytest.raises(VavlError, match="before they are ready"):
        list(run_job([1, 2, 3], Mortal(tmp_path, at_start=True), 2))
