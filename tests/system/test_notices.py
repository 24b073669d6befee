"""What is said once: in a process, and in those that it starts."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from vavl.system.notices import go_on, said, say_once

LOG = logging.getLogger("test")


def test_a_notice_comes_once_and_stands_for_those_that_say_less(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        say_once(LOG, "a", instead_of=["b"])
    say_once(LOG, "b")
    say_once(LOG, "c")
    assert caplog.messages == ["a", "c"]
    assert said() == {"a", "b", "c"}


def test_another_process_goes_on_or_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    go_on(["a"], quiet=False)
    for text in ("a", "b"):
        say_once(LOG, text)
    go_on([], quiet=True)
    say_once(LOG, "c")
    go_on([], quiet=False)
    assert caplog.messages == ["b"]


def test_of_several_workers_one_speaks() -> None:
    code = (
        "from jobs import Speaker\n"
        "from vavl.system.processes import run_job\n"
        "if __name__ == '__main__': print(list(run_job([1, 2, 3, 4], Speaker(), 2)))"
    )
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path, "PATH": ""},
    )
    assert done.stderr.split() == ["spoken"]
