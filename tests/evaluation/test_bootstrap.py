"""p-values of resamples; intervals are tested with the scores that they belong to."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from vavl.evaluation.bootstrap import (
    CONFIDENCE,
    FEWEST_SPEAKERS,
    bootstrap_p,
    percentile_interval,
    smallest_p,
)


def test_bootstrap_p_agrees_with_the_interval() -> None:
    drawn = np.random.default_rng(1).normal(0.02, 0.01, 4999)
    for margin in np.linspace(-0.02, 0.06, 81):
        low, high = np.percentile(drawn, [2.5, 97.5])
        if abs(margin - low) > 5e-4 and abs(margin - high) > 5e-4:
            assert (bootstrap_p(drawn, margin) < 0.05) == (not low <= margin <= high)


def test_bootstrap_p_approaches_the_normal_p_value() -> None:
    drawn = np.random.default_rng(2).normal(0.02, 0.01, 200_000)
    assert bootstrap_p(drawn) == pytest.approx(2 * stats.norm.sf(2.0), abs=2e-3)
    assert bootstrap_p(np.zeros(99)) == 1.0
    assert bootstrap_p(np.full(99, 0.1)) == pytest.approx(0.02)  # never 0
    assert math.isnan(bootstrap_p(np.full(5, math.nan)))


def test_a_few_speakers_give_no_interval_and_no_small_p() -> None:
    """As sure as an exact test that flips the signs of the speakers' differences, at most."""
    assert smallest_p(5) > 1 - CONFIDENCE >= smallest_p(FEWEST_SPEAKERS)
    for speakers in (2, 4, 7):
        differences = np.ones(speakers)
        flips = np.array(list(itertools.product((-1, 1), repeat=speakers))) @ differences
        exact = (np.abs(flips) >= abs(differences.sum())).mean()
        assert smallest_p(speakers) == pytest.approx(exact)
    drawn = np.random.default_rng(0).normal(1, 0.1, 500)
    assert math.isnan(percentile_interval(1.0, drawn, FEWEST_SPEAKERS - 1).low)
    assert percentile_interval(1.0, drawn, FEWEST_SPEAKERS).low > 0.7
