"""Against scipy, and against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vavl.errors import InputError
from vavl.studies.statistics import (
    bootstrap_p,
    corrected_resampled_t,
    holm,
    standardised_difference,
)

DIFFERENCES = [0.021, -0.004, 0.013, 0.030, 0.008]


def test_without_overlap_the_t_test_is_the_ordinary_one() -> None:
    expected = stats.ttest_1samp(DIFFERENCES, 0.0)
    found = corrected_resampled_t(DIFFERENCES, test_share=0.0)
    assert found.t == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.degrees == expected.df


def test_the_correction_by_hand() -> None:
    # Nadeau and Bengio 2003: the variance of the mean is (1/K + n_test/n_train) s^2, here with
    # mean 0.0136, s^2 = 0.0001663 (n - 1) and 1/5 + 1/4 = 0.45.
    found = corrected_resampled_t(DIFFERENCES, test_share=0.25)
    t = 0.0136 / math.sqrt(0.45 * 0.0001663)
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 4))
    ordinary = corrected_resampled_t(DIFFERENCES, test_share=0.0)
    assert found.t == pytest.approx(ordinary.t * math.sqrt(0.2 / 0.45))
    assert found.p > ordinary.p


def test_the_t_test_of_what_does_not_vary() -> None:
    assert corrected_resampled_t([0.0, 0.0, 0.0], 0.25).p == 1.0
    same = corrected_resampled_t([0.5, 0.5, 0.5], 0.25)
    assert (same.t, same.p) == (math.inf, 0.0)
    assert math.isnan(corrected_resampled_t([0.1], 0.25).p)
    with pytest.raises(InputError, match="differences"):
        corrected_resampled_t([0.1, math.nan], 0.25)
    with pytest.raises(InputError, match="test_share"):
        corrected_resampled_t([0.1, 0.2], -1.0)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with_gap = holm([0.02, math.nan, 0.03])
    assert with_gap[0] == pytest.approx(0.04)
    assert math.isnan(with_gap[1])


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        p = rng.uniform(0, 0.1, 6)
        order = np.argsort(p)
        rejected = np.zeros(6, bool)
        for rank, index in enumerate(order):  # Holm 1979: stop at the first that is not rejected
            if p[index] > 0.05 / (6 - rank):
                break
            rejected[index] = True
        assert np.array_equal(np.array(holm(p.tolist())) <= 0.05, rejected)


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


def test_standardised_difference_is_t_over_the_root_of_the_count() -> None:
    values = np.array([0.1, 0.0, -0.05, 0.2, 0.15, math.nan])
    t = stats.ttest_1samp(values[:5], 0.0).statistic
    assert standardised_difference(values) == pytest.approx(t / math.sqrt(5))
    assert standardised_difference(np.zeros(4)) == 0.0
    assert math.isnan(standardised_difference(np.array([0.1])))
