"""The verdict on a claim, and how tables show what came out."""

from __future__ import annotations

import math

import pytest

from vavl.evaluation.bootstrap import Interval
from vavl.studies.comparison import Comparison
from vavl.studies.config import HypothesisConfig
from vavl.studies.report import p_value
from vavl.studies.results import Verdict, verdict
from vavl.studies.statistics import TTest


def comparison(estimate: float, p: float) -> Comparison:
    interval = Interval(estimate, estimate - 0.01, estimate + 0.01)
    test = TTest(1.0, 4, 0.4)
    return Comparison("a", "b", "uar", interval, p, p, test, 0.4, 0.5, 0.6, speakers=9, clips=90)


@pytest.mark.parametrize(
    ("expect", "estimate", "p", "expected"),
    [
        ("> 0", 0.03, 0.01, Verdict.CONFIRMED),
        ("> 0", -0.03, 0.01, Verdict.REFUTED),
        ("> 0", 0.03, 0.2, Verdict.OPEN),
        ("< 0", -0.03, 0.01, Verdict.CONFIRMED),
        ("> -0.02", -0.01, 0.01, Verdict.CONFIRMED),
        ("> -0.02", -0.03, 0.01, Verdict.REFUTED),
        ("> 0", 0.03, math.nan, Verdict.OPEN),  # one speaker: nothing is known about others
    ],
)
def test_verdicts(expect: str, estimate: float, p: float, expected: Verdict) -> None:
    claim = HypothesisConfig(claim="c", variant="a", expect=expect)
    assert verdict(claim, comparison(estimate, p)) is expected
    assert verdict(claim, None) is Verdict.NOT_RUN


def test_small_p_values_are_never_zero() -> None:
    assert [p_value(p) for p in (0.0, 0.0004, 0.0494, math.nan)] == [
        "<0.001",
        "<0.001",
        "0.049",
        "n/a",
    ]
