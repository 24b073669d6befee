"""Worker processes: order, failures, and stopping early."""

from __future__ import annotations

import time

from jobs import Sleeper

from vavl.system.processes import Failure, run_job


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
