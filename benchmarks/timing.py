"""What the benchmarks share: alternatives timed in turns, and what they were timed on."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vavl.training.run_folder import git_revision, package_versions


def seconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    calls: int = 1,
    warm_up: int = 0,
) -> dict[str, list[float]]:
    """Times alternatives in turns, so that whatever else runs slows all of them alike.

    Args:
        functions: The alternatives.
        repeats: Measurements of each.
        calls: Calls in a measurement, again in turns; the fastest counts, which other work on the
            machine has interrupted least.
        warm_up: Calls of each before.

    Returns:
        Seconds of each measurement.
    """
    for _ in range(warm_up):
        for function in functions.values():
            function()
    measured: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        turns = [{n: seconds(f) for n, f in functions.items()} for _ in range(calls)]
        for name, values in measured.items():
            values.append(min(turn[name] for turn in turns))
    return measured


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Ratio of two alternatives, measurement by measurement, and its spread."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def circumstances() -> dict[str, Any]:
    """Machine, versions and revision."""
    return {
        "machine": {"processor": platform.machine(), "system": platform.platform()},
        "versions": package_versions(),
        "git_revision": git_revision(Path.cwd()),
    }


def print_report(benchmark: str, settings: Mapping[str, Any], **content: Any) -> None:
    """Prints as JSON what was measured, with which settings and on what."""
    readable = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    report = {"benchmark": benchmark, "settings": readable, **content, **circumstances()}
    print(json.dumps(report, indent=2))
