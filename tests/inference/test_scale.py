"""Attributes on the raters' scale, wherever they stand in a prediction."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vavl.inference.scale import on_scale
from vavl.metrics.attributes import Scale
from vavl.types import Modality, Person, Prediction, Segment, TimedPrediction

FOUND: tuple[Any, ...] = (Modality.ACOUSTIC, "sad", {"sad": 1.0}, {"valence": 0.25})


def test_every_attribute_is_on_the_scale_and_nothing_else() -> None:
    window = TimedPrediction(0.0, 2.0, *FOUND)
    before = Prediction(
        "a.wav",
        *FOUND,
        timeline=(window, TimedPrediction(0.5, 2.5, None, None, {}, {})),
        people=(Person(0.0, 2.0, *FOUND, number=1, timeline=(window,)),),
        segments=(Segment(0.0, 2.0, *FOUND),),
        speakers={"ann": Prediction("ann", *FOUND)},
    )
    after = on_scale(before, Scale(1, 5))
    text = str(asdict(before))
    assert text.count("'valence': 0.25") == 6
    assert str(asdict(after)) == text.replace("'valence': 0.25", "'valence': 2.0")
