"""Test clips that lose a modality, as a table and not as a curve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vavl.errors import InputError
from vavl.evaluation.missing import take_away
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import evaluate_tables
from vavl.evaluation.views import View
from vavl.types import Modality

Make = Callable[..., PredictionTable]


def test_take_away_draws_within_speakers_and_nests(make: Make) -> None:
    table = make()
    speakers = np.array(table.speakers)
    before = np.zeros(len(table), bool)
    for share in (0.0, 0.3, 0.5, 1.0):
        lost = ~take_away(table, acoustic=share, visual=0.0).present(Modality.ACOUSTIC)
        assert not (before & ~lost).any()
        for speaker in set(table.speakers):
            assert lost[speakers == speaker].mean() == pytest.approx(share)
        before = lost


def test_take_away_leaves_what_the_model_says_about_the_rest(make: Make) -> None:
    table = make(attributes=("arousal",))
    left = take_away(table, acoustic=0.3, visual=0.4)
    sound, face = (left.present(modality) for modality in (Modality.ACOUSTIC, Modality.VISUAL))
    assert (sound | face).all()
    assert np.array_equal(left.present(Modality.AUDIOVISUAL), sound & face)
    for modality in Modality:
        kept = left.present(modality)
        assert np.array_equal(left.logits[modality][kept], table.logits[modality][kept])
    with pytest.raises(InputError, match="at most 1"):
        take_away(table, acoustic=0.7, visual=0.7)


def test_take_away_gives_the_curve_of_missing_modalities(make: Make) -> None:
    table = make(clips=1200)
    evaluation = evaluate_tables([table], replicates=2)
    curve = next(
        c
        for c in evaluation.missing_curves
        if (c.view, c.missing, c.measure) == (View.AUDIOVISUAL, Modality.ACOUSTIC, "accuracy")
    )
    for share, mean in zip(curve.shares, curve.values, strict=True):
        one = evaluate_tables([take_away(table, acoustic=share, visual=0.0)], replicates=2)
        view = View.VISUAL if share == 1 else View.AUDIOVISUAL
        # One draw against the mean of twenty.
        assert one.score(view, "accuracy").pooled.estimate == pytest.approx(mean, abs=0.02)
