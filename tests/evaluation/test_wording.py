from __future__ import annotations

import doctest
import math

import pytest

from vavl.evaluation import wording
from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.scores import Difference
from vavl.evaluation.views import View
from vavl.evaluation.wording import csv_table, difference_sentence, markdown_table, number, p_value


def difference(estimate: float, low: float, high: float) -> Difference:
    interval = Interval(estimate, low, high)
    return Difference("category", View.AUDIOVISUAL, View.AVERAGE, "accuracy", interval, 100)


def test_examples_in_the_documentation_run() -> None:
    failed, run = doctest.testmod(wording)
    assert run > 0
    assert failed == 0


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            difference(0.012, -0.003, 0.027),
            "Accuracy: the learned fusion is 0.012 above the average of the two "
            "(95 % interval -0.003 to 0.027): not distinguishable.",
        ),
        (
            difference(0.02, 0.01, 0.03),
            "Accuracy: the learned fusion is 0.020 above the average of the two "
            "(95 % interval 0.010 to 0.030): distinguishably better.",
        ),
        (
            difference(-0.02, -0.03, -0.01),
            "Accuracy: the learned fusion is 0.020 below the average of the two "
            "(95 % interval of the difference -0.030 to -0.010): distinguishably worse.",
        ),
        (
            difference(0.0001, -0.01, 0.01),
            "Accuracy: the learned fusion is level with the average of the two "
            "(95 % interval -0.010 to 0.010): not distinguishable.",
        ),
        (
            difference(0.1, math.nan, math.nan),
            "Accuracy: the learned fusion is 0.100 above the average of the two "
            "(no interval: it takes at least 6 speakers).",
        ),
    ],
)
def test_sentences_say_what_the_interval_says(found: Difference, sentence: str) -> None:
    assert difference_sentence(found, 0.95) == sentence


def test_numbers_have_three_decimals_and_no_negative_zero() -> None:
    assert [number(v) for v in (0.8125, -0.0304, -0.0001, math.nan)] == [
        "0.812", "-0.030", "0.000", "n/a",
    ]  # fmt: skip


def test_small_p_values_are_never_zero() -> None:
    assert [p_value(p) for p in (0.0, 0.0004, 0.0494, math.nan)] == [
        "<0.001",
        "<0.001",
        "0.049",
        "n/a",
    ]


def test_a_variant_of_a_study_is_called_by_its_name() -> None:
    found = Difference("category", "small", "large", "uar", Interval(-0.2, -0.3, -0.1), 100)
    assert difference_sentence(found, 0.95) == (
        "UAR: small is 0.200 below large (95 % interval of the difference -0.300 to -0.100): "
        "distinguishably worse."
    )


def test_tables_are_aligned_and_escaped() -> None:
    lines = list(markdown_table(["name", "score", "verdict"], [["a|b", "0.5", "<i>"]], (0, 2)))
    assert lines == [
        "| name | score | verdict |",
        "|---|---:|---|",
        "| a\\|b | 0.5 | &lt;i> |",
    ]


def test_what_is_not_a_number_is_empty_in_csv() -> None:
    assert csv_table(["a", "b"], [{"a": 1, "b": math.nan}, {"a": 2}]) == "a,b\n1,\n2,\n"
    assert csv_table(["a", "b"], []) == "a,b\n"
