"""Predictions that nobody made: of any length, for any categories and attributes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def fabricated(
    categories: Sequence[str],
    attributes: Sequence[str],
    *,
    duration_s: float = 20.0,
    people: int = 2,
    label: str | None = None,
) -> dict[str, Any]:
    """As the service answers: curves that wave, people who come and go, sentences with pauses."""

    def said(start_s: float, end_s: float, shift: float) -> dict[str, Any]:
        middle = (start_s + end_s) / 2
        weights = [
            math.exp(2 * math.sin(middle / (7 + 3 * n) + 1.7 * n + shift))
            for n in range(len(categories))
        ]
        probabilities = {c: w / sum(weights) for c, w in zip(categories, weights, strict=True)}
        return {
            "start_s": start_s,
            "end_s": end_s,
            "modality": "audiovisual",
            "label": max(probabilities, key=lambda c: probabilities[c], default=None),
            "confidence": max(probabilities.values(), default=None),
            "probabilities": probabilities,
            "attributes": {
                a: 0.5 + 0.4 * math.sin(middle / (9 + 4 * n) + shift)
                for n, a in enumerate(attributes)
            },
            "face_share": 1.0 if people else None,
        }

    def windows(start_s: float, end_s: float, shift: float) -> list[dict[str, Any]]:
        starts = range(int(2 * start_s), int(2 * end_s) - 3)
        return [said(start / 2, start / 2 + 2, shift) for start in starts]

    def person(number: int) -> dict[str, Any]:
        start_s, end_s = duration_s * 0.1 * number, duration_s * (1 - 0.05 * number)
        x = 0.1 + 0.3 * (number % 3)
        return {
            **said(start_s, end_s, number),
            "number": number + 1,
            "is_main": number == 0,
            "track": [
                [step / 5, [x, 0.2, x + 0.2, 0.6]]
                for step in range(int(5 * start_s), int(5 * end_s))
            ],
            "timeline": windows(start_s, end_s, number),
        }

    starts = [1 + 3.5 * number for number in range(math.ceil((duration_s - 1) / 3.5))]
    clip = said(0.0, duration_s, 0.0)
    return {
        "schema_version": 1,
        "name": "talk.mp4",
        **{name: value for name, value in clip.items() if name not in ("start_s", "end_s")},
        **({} if label is None else {"label": label}),
        "duration_s": duration_s,
        "warnings": [],
        "audio_track": None,
        "timeline": windows(0.0, duration_s, 0.0),
        "people": [person(number) for number in range(people)],
        "segments": [
            {**said(start, min(start + 2.5, duration_s), 5.0), "speaker": None, "text": None}
            for start in starts
        ],
        "speakers": {},
    }
