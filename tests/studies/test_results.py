"""The verdict on a claim."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.compare import Comparison, TTest
from vavl.studies.config import HypothesisConfig
from vavl.studies.results import Verdict, verdict


def comparison(estimate: float, p: float, *, same: bool = False) -> Comparison:
    interval = Interval(estimate, estimate - 0.01, estimate + 0.01)
    return Comparison(
        *("category", "a", "b", "uar"),
        interval,
        clips=90,
        p=p,
        p_adjusted=p,
        test=TTest(1.0, 4, 0.4),
        test_adjusted=0.4,
        effect=0.5,
        ahead=0.6,
        same=same,
    )


@pytest.mark.parametrize(
    ("expect", "estimate", "p", "p_folds", "expected"),
    [
        ("> 0", 0.03, 0.01, 0.04, Verdict.CONFIRMED),
        ("> 0", 0.03, 0.01, 0.06, Verdict.LIKELY),
        ("> 0", 0.03, 0.01, math.nan, Verdict.LIKELY),  # a single fold
        ("> 0", -0.03, 0.01, 0.04, Verdict.REFUTED),
        ("> 0", -0.03, 0.01, 0.06, Verdict.UNLIKELY),
        ("> 0", 0.03, 0.2, 0.01, Verdict.OPEN),
        ("< 0", -0.03, 0.01, 0.04, Verdict.CONFIRMED),
        ("> -0.02", -0.01, 0.01, 0.04, Verdict.CONFIRMED),
        ("> -0.02", -0.03, 0.01, 0.04, Verdict.REFUTED),
        ("> 0", 0.03, math.nan, 0.04, Verdict.OPEN),  # no clip with a target: nothing is known
    ],
)
def test_verdicts(
    expect: str, estimate: float, p: float, p_folds: float, expected: Verdict
) -> None:
    claim = HypothesisConfig(claim="c", variant="a", expect=expect)
    decided = replace(comparison(estimate, p), test_adjusted=p_folds)
    assert verdict(claim, decided) is expected
    assert verdict(claim, None) is Verdict.NOT_RUN


def test_the_same_predictions_confirm_nothing() -> None:
    claim = HypothesisConfig(claim="Not worse.", variant="a", expect="> -0.02")
    assert verdict(claim, comparison(0.0, 0.001, same=True)) is Verdict.SAME
