from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vavl.errors import InputError
from vavl.metrics.attributes import SENTIMENT, Scale


@given(st.floats(-10, 10), st.floats(0.1, 10), st.booleans(), st.floats(0, 1))
def test_there_and_back(low: float, width: float, reverse: bool, unit: float) -> None:
    scale = Scale(low, low + width, reversed=reverse)
    value = scale.from_unit(unit)
    assert scale.to_unit(value) == pytest.approx(unit, abs=1e-9)
    assert scale.low - 1e-9 <= value <= scale.high + 1e-9


def test_ends() -> None:
    assert [SENTIMENT.to_unit(value) for value in (-3, 0, 3)] == [0.0, 0.5, 1.0]
    assert [Scale(1, 5, reversed=True).to_unit(value) for value in (1, 4, 5)] == [1.0, 0.25, 0.0]
    assert 3 in SENTIMENT
    assert 3.01 not in SENTIMENT
    assert float("nan") not in SENTIMENT


@pytest.mark.parametrize("ends", [(1, 1), (5, 1), (0, float("inf")), (float("nan"), 1)])
def test_scales_that_are_none(ends: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="expected low < high"):
        Scale(*ends)
