"""Attributes on the scale that raters used, instead of 0 to 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from vavl.metrics.attributes import Scale
from vavl.types import Person, Prediction, Segment, TimedPrediction

_Whole = TypeVar("_Whole", bound=Prediction)
_Part = TypeVar("_Part", TimedPrediction, Person, Segment)


def on_scale(prediction: _Whole, scale: Scale) -> _Whole:
    """The same prediction, to be read: attributes everywhere in it are values of a scale.

    Example:
        >>> from vavl.types import Modality
        >>> calm = Prediction("a.wav", Modality.ACOUSTIC, None, {}, {"arousal": 0.25})
        >>> on_scale(calm, Scale(1, 5)).attributes
        {'arousal': 2.0}
    """
    people = (
        replace(person, timeline=_parts(person.timeline, scale)) for person in prediction.people
    )
    return replace(
        prediction,
        attributes=_values(prediction.attributes, scale),
        timeline=_parts(prediction.timeline, scale),
        people=_parts(people, scale),
        segments=_parts(prediction.segments, scale),
        speakers={name: on_scale(whole, scale) for name, whole in prediction.speakers.items()},
    )


def _parts(parts: Iterable[_Part], scale: Scale) -> tuple[_Part, ...]:
    return tuple(replace(part, attributes=_values(part.attributes, scale)) for part in parts)


def _values(attributes: dict[str, float], scale: Scale) -> dict[str, float]:
    return {name: scale.from_unit(value) for name, value in attributes.items()}
