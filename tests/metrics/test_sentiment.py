"""The scores of sentiment equal scipy's and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn import metrics as reference

from vavl.metrics.sentiment import SENTIMENT_MEASURES, measures_of_items, sentiment_items


@st.composite
def clips(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Ratings as three raters give them, and predictions that leave the scale at times."""
    size = draw(st.integers(2, 40))
    targets = draw(arrays(np.int64, size, elements=st.integers(-9, 9))) / 3
    return targets, draw(arrays(np.int64, size, elements=st.integers(-4000, 4000))) / 1000


def measured(targets: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
    return measures_of_items(sentiment_items(targets, predictions).sum(axis=0))


@given(clips())
def test_scores_equal_those_of_other_libraries(pair: tuple[np.ndarray, np.ndarray]) -> None:
    targets, predictions = pair
    found = measured(targets, predictions)
    assert tuple(found) == SENTIMENT_MEASURES
    assert found["sentiment_mae"] == pytest.approx(
        reference.mean_absolute_error(targets, predictions)
    )
    if np.ptp(targets) > 0 and np.ptp(predictions) > 0:
        expected = stats.pearsonr(targets, predictions).statistic
        assert found["sentiment_correlation"] == pytest.approx(expected, abs=1e-6)
    else:
        assert found["sentiment_correlation"] == 0
    classes = [np.round(np.clip(values, -3, 3)).astype(int) for values in pair]
    assert found["sentiment_accuracy_7"] == pytest.approx(reference.accuracy_score(*classes))
    told = targets != 0
    for suffix, target, prediction in (
        ("", targets[told] > 0, predictions[told] > 0),
        ("_with_neutral", targets >= 0, predictions >= 0),
    ):
        accuracy, f1 = found[f"sentiment_accuracy_2{suffix}"], found[f"sentiment_f1_2{suffix}"]
        if target.size:
            assert accuracy == pytest.approx(reference.accuracy_score(target, prediction))
            expected = reference.f1_score(target, prediction, average="weighted", zero_division=0)
            assert f1 == pytest.approx(expected)
        else:
            assert np.isnan([accuracy, f1]).all()


@given(clips())
def test_sums_of_parts_are_the_sums_of_the_whole(pair: tuple[np.ndarray, np.ndarray]) -> None:
    items = sentiment_items(*pair)
    together = measures_of_items(items[:1].sum(axis=0) + items[1:].sum(axis=0))
    for name, value in measured(*pair).items():
        assert together[name] == pytest.approx(value, nan_ok=True)
    stacked = measures_of_items(np.stack([items.sum(axis=0), 2 * items.sum(axis=0)]))
    for name, values in stacked.items():
        assert values.shape == (2,), name
        assert values[0] == pytest.approx(values[1], nan_ok=True)


def test_without_clips_nothing_is_measured() -> None:
    assert np.isnan(list(measured(np.empty(0), np.empty(0)).values())).all()
