"""The section of learning curves: what every run logged while it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vavl.evaluation import plots
from vavl.evaluation.sections import TRAINED_VIEWS

_RUNS_SHOWN = 20
"""Beyond this many runs their single learning curves would make the page unwieldy."""


def learning_section(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """All runs together, and each by itself; None where no run logged anything.

    Args:
        histories: Name of a run to the lines of its ``metrics.jsonl``.
    """
    runs = {name: series for name, lines in histories.items() if (series := _run(lines))}
    if not runs:
        return None
    several, few = len(runs) > 1, len(runs) <= _RUNS_SHOWN

    def pictures(chosen: Sequence[Mapping[str, Any]]) -> list[Any]:
        scores = dict.fromkeys(score for run in chosen for score in run)
        return [
            Markup(plots.learning_curves([run[s] for run in chosen if s in run], s)) for s in scores
        ]

    return {
        "count": len(runs),
        "overview": pictures(list(runs.values())) if several else [],
        "runs": [{"name": n, "pictures": pictures([run])} for n, run in runs.items()]
        if few
        else [],
        "left_out": not few,
    }


def _run(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The series of one run by the score that they are drawn with."""

    def series(*keys: str) -> NDArray[np.float64]:
        return np.array([_value(line, keys) for line in lines])

    def mean_ccc(view: str) -> NDArray[np.float64]:
        """Mean over attributes of each epoch."""
        return np.array(
            [
                float(np.mean(found)) if (found := _cccs(line, view)) else float("nan")
                for line in lines
            ]
        )

    if not lines:
        return {}
    losses = {
        "epoch": series("epoch"),
        "train": series("train", "loss"),
        "development": series("development", "loss"),
    }
    views = [str(view) for view in TRAINED_VIEWS]
    accuracy = {view: series("development", view, "accuracy") for view in views}
    concordance = {view: mean_ccc(view) for view in views}
    found = {
        name: losses | scores
        for name, scores in (("accuracy", accuracy), ("mean CCC", concordance))
        if any(np.isfinite(values).any() for values in scores.values())
    }
    return found or {"score": losses}


def _value(line: Mapping[str, Any], keys: Sequence[str]) -> float:
    """A number deep in a line of ``metrics.jsonl``; NaN where anything on the way is missing."""
    found: Any = line
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else float("nan")


def _cccs(line: Mapping[str, Any], view: str) -> list[float]:
    development = line.get("development") or {}
    scores = development.get(view) or {}
    values = [_value(scores, [name]) for name in scores if name.endswith("_ccc")]
    return [value for value in values if np.isfinite(value)]
