"""Worker processes: order, failures, and stopping early."""

from __future__ import annotations

import time

from jobs import Sleeper

from vavl.system.processes import Failure, run_here, run_in_processes


def test_results_come_in_the_order_of_the_items() -> None:
    items = [0.3, 0.01, 0.02]
    assert list(run_in_processes(items, Sleeper(), 2)) == items


def test_an_item_that_fails_harms_no_other() -> None:
    items = [0.01, -1.0, 0.02]
    for results in (run_in_processes(items, Sleeper(), 2), run_here(items, Sleeper())):
        first, failed, last = results
        assert (first, last) == (0.01, 0.02)
        assert isinstance(failed, Failure)
        assert failed.startswith("ValueError")


def test_what_can_be_resumed_is_abandoned_at_once() -> None:
    results = run_in_processes([0.01, 300.0, 300.0], Sleeper(), 2, abandon=True)
    assert next(results) == 0.01
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 60
