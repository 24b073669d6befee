"""Agreement of raters, on votes that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from crema_d_ceiling import agreement, chosen, one_rater


def votes(*counts: float) -> np.ndarray:
    return np.array([*counts, *[0.0] * (6 - len(counts))])


def test_a_tie_counts_in_equal_parts() -> None:
    assert chosen(votes(4, 1)) == pytest.approx([1, 0, 0, 0, 0, 0])
    assert chosen(votes(2, 2, 1)) == pytest.approx([0.5, 0.5, 0, 0, 0, 0])


def test_one_rater_is_compared_with_the_others_alone() -> None:
    assert one_rater(votes(5)) == 1
    assert one_rater(votes(1, 1)) == 0  # each is alone with the choice
    # Two of three agree: each of them meets a tie of the other two, the third meets both.
    assert one_rater(votes(2, 1)) == pytest.approx((2 * 0.5 + 0) / 3)


def test_agreement_with_the_label() -> None:
    of_channel = {"voice": {"a": votes(1, 3), "b": votes(4)}, "audiovisual": {"a": votes(4)}}
    found = agreement(of_channel, {"a": chosen(votes(4)), "b": chosen(votes(2, 2))})
    assert found["voice"]["clips"] == 2
    assert found["voice"]["one_rater"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["voice"]["most_raters"] == pytest.approx((0 + 0.5) / 2)
    assert found["audiovisual"]["clips"] == 1
