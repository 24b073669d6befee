"""Risk against coverage: by hand, by a plain count, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from vavl.errors import InputError
from vavl.metrics import risk_coverage

# confidence   0.9    0.8    0.8    0.7    0.5
# right        yes    no     yes    yes    no
LABELS = [0, 0, 1, 1, 1]
PROBABILITIES = [[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5]]


def test_a_curve_by_hand() -> None:
    """Two of equal confidence are accepted together; the area counts their risk twice."""
    found = risk_coverage(LABELS, PROBABILITIES)
    assert found.thresholds.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert found.coverage.tolist() == pytest.approx([1 / 5, 3 / 5, 4 / 5, 1])
    assert found.risk.tolist() == pytest.approx([0, 1 / 3, 1 / 4, 2 / 5])
    assert found.aurc == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 4 + 2 / 5) / 5)


def test_order_and_unknown_labels_change_nothing() -> None:
    expected = risk_coverage(LABELS, PROBABILITIES)
    order = [2, 4, 0, 3, 1]
    labels = [-1, *(LABELS[n] for n in order)]
    found = risk_coverage(labels, [[1.0, 0.0], *(PROBABILITIES[n] for n in order)])
    assert found.risk.tolist() == expected.risk.tolist()
    assert found.aurc == expected.aurc


def test_each_point_is_what_a_threshold_gives() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(4), 300).round(1)  # many of equal confidence
    labels = rng.integers(4, size=300)
    found = risk_coverage(labels, rows)
    areas = []
    for threshold, coverage, risk in zip(found.thresholds, found.coverage, found.risk, strict=True):
        accepted = rows.max(1) >= threshold
        assert coverage == pytest.approx(accepted.mean())
        assert risk == pytest.approx((rows.argmax(1) != labels)[accepted].mean())
        areas += [risk] * int((rows.max(1) == threshold).sum())
    assert found.aurc == pytest.approx(np.mean(areas))
    assert found.coverage[-1] == 1


def test_the_surest_wrong_is_worse_than_the_least_sure_wrong() -> None:
    rows = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
    assert risk_coverage([0, 0, 1], rows).aurc < risk_coverage([1, 0, 0], rows).aurc
    assert risk_coverage([0, 0, 0], rows).aurc == 0
    assert risk_coverage([1, 1, 1], rows).aurc == 1


def test_without_any_known_label_nothing_was_measured() -> None:
    for labels, rows in (([], np.empty((0, 2))), ([-1], [[0.5, 0.5]])):
        found = risk_coverage(labels, rows)
        assert np.isnan(found.aurc)
        assert not len(found.risk)


@pytest.mark.parametrize(
    ("labels", "rows", "message"),
    [
        ([0], [[0.5, 0.5]] * 2, r"expected \(N,\) and \(N, C\)"),
        ([0], [[]], "C >= 1"),
        ([2], [[0.5, 0.5]], "indices from 0 to 1"),
        ([-2], [[0.5, 0.5]], "indices from 0 to 1"),
        ([0.0], [[0.5, 0.5]], "whole numbers"),
        ([0.5], [[3.0, -1.0]], "(?s)2 problems.*whole numbers.*logits"),
        ([0], [[np.nan, 0.5]], "NaN"),
    ],
)
def test_bad_input(labels: list[float], rows: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        risk_coverage(labels, rows)  # type: ignore[arg-type]
