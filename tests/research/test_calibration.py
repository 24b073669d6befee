"""Calibration: against an independent count, and on data of known temperature."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import expected_calibration_error, fit_temperature
from scipy.special import softmax

from vavl.errors import InputError


def test_error_equals_a_plain_count() -> None:
    rng = np.random.default_rng(0)
    probabilities = softmax(rng.normal(size=(400, 5)) * 2, axis=1)
    labels = rng.integers(5, size=400)
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (probabilities.max(1) >= low) & (probabilities.max(1) < low + 1 / 15)
        if inside.any():
            right = (probabilities.argmax(1) == labels)[inside].mean()
            total += inside.mean() * abs(right - probabilities.max(1)[inside].mean())
    assert expected_calibration_error(labels, probabilities) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 4)) * 3
    chances = softmax(logits / temperature, axis=1).cumsum(1)
    labels = (rng.random(20_000)[:, None] > chances).sum(1).clip(max=3)
    assert fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        ([], np.zeros((0, 2)), "N >= 1"),
        ([0], np.zeros((2, 2)), r"\(N,\) and \(N, C\)"),
        ([2], np.zeros((1, 2)), "indices from 0 to 1"),
        ([0], [[np.nan, 1]], "finite"),
    ],
)
def test_bad_input(labels: list[int], values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_temperature(labels, values)  # type: ignore[arg-type]
