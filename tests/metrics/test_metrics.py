from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn import metrics as reference

from vavl import metrics
from vavl.errors import InputError

CLASSES = 5
MEASURES = {
    "accuracy": metrics.accuracy,
    "uar": metrics.uar,
    "f1_macro": metrics.f1_macro,
    "f1_micro": metrics.f1_micro,
}


@st.composite
def labels(draw: st.DrawFn, known: bool = True) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(1, 60))
    lowest = 0 if known else -1
    targets = draw(arrays(np.int64, size, elements=st.integers(lowest, CLASSES - 1)))
    predictions = draw(arrays(np.int64, size, elements=st.integers(0, CLASSES - 1)))
    return targets, predictions


@st.composite
def values(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(2, 60))
    offset = draw(st.sampled_from([0.0, 0.5, -3.0, 100.0]))
    element = st.integers(-1000, 1000).map(lambda n: n / 1000)
    return (
        offset + draw(arrays(np.float64, size, elements=element)),
        offset + draw(arrays(np.float64, size, elements=element)),
    )


@given(labels())
def test_category_scores_equal_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    targets, predictions = pair
    occurring = np.unique(targets)
    options = {"labels": occurring, "zero_division": 0}
    assert metrics.accuracy(*pair) == pytest.approx(reference.accuracy_score(*pair))
    assert metrics.war(*pair) == metrics.accuracy(*pair)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predictions that never occur
        expected = reference.balanced_accuracy_score(*pair)
    assert metrics.uar(*pair) == pytest.approx(expected)
    for average, measure in (("macro", metrics.f1_macro), ("micro", metrics.f1_micro)):
        expected = reference.f1_score(targets, predictions, average=average, **options)
        assert measure(*pair) == pytest.approx(expected)


@given(labels())
def test_confusion_matrix_equals_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    counted = metrics.confusion_matrix(*pair, classes=CLASSES)
    assert counted.dtype == np.int64
    expected = reference.confusion_matrix(*pair, labels=range(CLASSES))
    np.testing.assert_array_equal(counted, expected)


@given(labels(known=False))
def test_unknown_category_targets_are_left_out(pair: tuple[np.ndarray, np.ndarray]) -> None:
    targets, predictions = pair
    known = targets >= 0
    for measure in MEASURES.values():
        whole, part = measure(targets, predictions), measure(targets[known], predictions[known])
        assert whole == part or (np.isnan(whole) and not known.any())
    total = metrics.confusion_matrix(targets, predictions, classes=CLASSES).sum()
    assert total == known.sum()


@given(st.lists(labels(), min_size=1, max_size=4))
def test_many_confusion_matrices_at_once_score_as_each_alone(
    pairs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    stacked = np.stack([metrics.confusion_matrix(*pair, classes=CLASSES) for pair in pairs])
    together = metrics.category_measures(stacked)
    assert tuple(together) == metrics.CATEGORY_MEASURES
    for name, measure in MEASURES.items():
        np.testing.assert_allclose(together[name], [measure(*pair) for pair in pairs])


def test_f1_micro_is_accuracy_unless_a_class_that_never_occurs_is_predicted() -> None:
    assert metrics.f1_micro([0, 0, 1, 1], [0, 1, 1, 1]) == metrics.accuracy(
        [0, 0, 1, 1], [0, 1, 1, 1]
    )
    assert metrics.accuracy([0, 0, 1, 1], [0, 2, 1, 1]) == 0.75
    assert metrics.f1_micro([0, 0, 1, 1], [0, 2, 1, 1]) == pytest.approx(6 / 7)


def test_class_recalls_are_the_diagonal_shares() -> None:
    recalls = metrics.class_recalls(np.array([[3, 1, 0], [0, 0, 0], [1, 1, 2]]))
    np.testing.assert_allclose(recalls, [0.75, np.nan, 0.5])


@pytest.mark.parametrize("measure", MEASURES.values())
def test_nothing_known_is_not_a_number(measure: object) -> None:
    assert np.isnan(measure([], []))  # type: ignore[operator]
    assert np.isnan(measure([-1, -1], [0, 1]))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("targets", "predictions", "said"),
    [
        ([0, 1], [0], "one prediction per target"),
        ([[0], [1]], [[0], [1]], "vector"),
        ([0, 1], [0.2, 0.8], "argmax"),
        ([0, -2], [0, 1], "targets: expected indices >= -1"),
        ([0, 1], [0, -1], "predictions: expected indices >= 0"),
        ([True, False], [True, False], "integer class indices"),
    ],
)
def test_bad_labels_are_named(targets: list[int], predictions: list[int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        metrics.accuracy(targets, predictions)


def test_all_problems_of_labels_are_reported_at_once() -> None:
    with pytest.raises(InputError, match=r"2 problems(.|\n)*targets(.|\n)*predictions"):
        metrics.uar([0, -5], [0.5, 1.0])
    with pytest.raises(InputError, match=r"2 problems(.|\n)*targets(.|\n)*predictions"):
        metrics.confusion_matrix([3], [4], classes=3)
    with pytest.raises(InputError, match="at least 1"):
        metrics.confusion_matrix([0], [0], classes=0)


def ccc_by_correlation(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Lin's second form: correlation times a bias correction. Only where both vary."""
    correlation = stats.pearsonr(targets, predictions).statistic
    sx, sy = targets.std(), predictions.std()
    location = (targets.mean() - predictions.mean()) ** 2 / (sx * sy)
    return float(correlation * 2 / (sx / sy + sy / sx + location))


@given(values())
def test_ccc_and_pearson_equal_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    targets, predictions = pair
    if np.ptp(targets) == 0 or np.ptp(predictions) == 0:
        assert metrics.ccc(*pair) == 0
        assert metrics.pearson(*pair) == 0
        return
    expected = stats.pearsonr(targets, predictions).statistic
    assert metrics.pearson(*pair) == pytest.approx(expected, abs=1e-9)
    assert metrics.ccc(*pair) == pytest.approx(ccc_by_correlation(*pair), abs=1e-9)


@given(values())
def test_ccc_is_symmetric_bounded_by_the_correlation_and_perfect_with_itself(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    targets, predictions = pair
    agreement = metrics.ccc(targets, predictions)
    assert agreement == pytest.approx(metrics.ccc(predictions, targets), abs=1e-12)
    assert abs(agreement) <= abs(metrics.pearson(targets, predictions)) + 1e-9
    if np.ptp(targets) > 0:
        assert metrics.ccc(targets, targets) == pytest.approx(1)
        assert metrics.ccc(targets, targets + 0.1) < 0.999


@given(values(), st.integers(0, 2**32 - 1))
def test_scores_from_sums_equal_those_of_the_items(
    pair: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    targets, predictions = pair
    shift = targets.mean()
    items = metrics.moments(targets - shift, predictions - shift)
    assert items.shape == (targets.size, 6)
    weights = np.random.default_rng(seed).integers(0, 3, (4, targets.size))
    for of_moments, score in (
        (metrics.ccc_of_moments, metrics.ccc),
        (metrics.pearson_of_moments, metrics.pearson),
    ):
        for weight, value in zip(weights, of_moments(weights @ items), strict=True):
            drawn = np.repeat(np.arange(targets.size), weight)
            if drawn.size:
                assert value == pytest.approx(score(targets[drawn], predictions[drawn]), abs=1e-7)
            else:
                assert np.isnan(value)


def test_unknown_attribute_targets_are_left_out() -> None:
    targets = np.array([0.1, np.nan, 0.9, 0.4])
    predictions = np.array([0.2, np.nan, 0.7, 0.4])
    known = [0, 2, 3]
    assert metrics.ccc(targets, predictions) == metrics.ccc(targets[known], predictions[known])
    assert metrics.pearson(targets, predictions) == metrics.pearson(
        targets[known], predictions[known]
    )
    assert np.isnan(metrics.ccc([np.nan], [0.5]))
    assert np.isnan(metrics.pearson([], []))


@pytest.mark.parametrize(
    ("targets", "predictions"),
    [([0.1, 0.1], [0.1, 0.1]), ([0.1, 0.9], [0.3, 0.3]), ([0.3, 0.3], [0.1, 0.9]), ([0.5], [0.5])],
)
def test_where_nothing_varies_ccc_is_zero(targets: list[float], predictions: list[float]) -> None:
    assert metrics.ccc(targets, predictions) == 0
    assert metrics.pearson(targets, predictions) == 0
    sums = metrics.moments(np.array(targets), np.array(predictions)).sum(0)
    assert metrics.ccc_of_moments(sums) == 0
    assert metrics.pearson_of_moments(sums) == 0


@pytest.mark.parametrize(
    ("targets", "predictions", "said"),
    [
        ([0.1, np.inf], [0.1, 0.2], "targets: expected finite"),
        ([0.1, 0.2], [0.1, np.nan], "predictions: expected finite values, got 1"),
        ([0.1, 0.2], [0.1], "one prediction per target"),
        ([["a"]], [0.1], "vector"),
        (["a"], ["b"], "real numbers"),
    ],
)
def test_bad_values_are_named(targets: list[float], predictions: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        metrics.ccc(targets, predictions)
