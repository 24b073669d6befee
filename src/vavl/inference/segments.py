"""Predictions of windows, put together by sentence or turn, and by speaker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

from vavl.inference.averaging import mean
from vavl.inference.turns import Turn
from vavl.types import Segment, TimedPrediction

Part = tuple[TimedPrediction, float]
"""A prediction and what it weighs."""


class SegmentParts:
    """Collects predictions of windows, while a clip is read.

    Args:
        turns: Given segments in the order of time; None where sentences are found.
        start_s: Where the clip begins.
    """

    def __init__(self, turns: Sequence[Turn] | None, start_s: float) -> None:
        self._turns = turns
        self._start_s = start_s
        self._parts: dict[int, list[Part]] = defaultdict(list)

    def add(self, span: int, prediction: TimedPrediction, weight: float) -> None:
        """Takes the next window of a sentence, or of a turn, by its number."""
        self._parts[span].append((prediction, weight))

    def _turn(self, span: int) -> Turn:
        parts = self._parts[span]
        if self._turns is None:
            return Turn(parts[0][0].start_s, parts[-1][0].end_s)
        return self._turns[span]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """In the order of time, when the clip is read."""
        return tuple(self._segment(span) for span in sorted(self._parts))

    def _segment(self, span: int) -> Segment:
        turn, parts = self._turn(span), self._parts[span]
        made = _made(parts)
        whole = mean(made) if made else TimedPrediction(0.0, 0.0, None, None, {}, {})
        return Segment(
            start_s=max(turn.start_s, self._start_s),
            end_s=min(turn.end_s, parts[-1][0].end_s),
            modality=whole.modality,
            label=whole.label,
            probabilities=whole.probabilities,
            attributes=whole.attributes,
            face_share=_face_share(part for part, _ in parts),
            speaker=turn.speaker,
            text=turn.text,
        )

    @property
    def speakers(self) -> dict[str, TimedPrediction]:
        """The mean over the segments of each speaker of whom there is a prediction."""
        parts: dict[str, list[Part]] = defaultdict(list)
        for span in sorted(self._parts):
            speaker = self._turn(span).speaker
            if speaker is not None and (made := _made(self._parts[span])):
                parts[speaker] += made
        return {speaker: mean(of_speaker) for speaker, of_speaker in parts.items()}

    def length_s(self, speaker: str) -> float:
        """Seconds of the segments of a speaker."""
        return sum(s.end_s - s.start_s for s in self.segments if s.speaker == speaker)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is missing."""
        if self._turns is None:
            return () if self.segments else ("no segments: there is no speech",)
        left_out = len(self._turns) - len(self.segments)
        if not left_out:
            return ()
        return (f"{left_out} of {len(self._turns)} segments lie outside the clip",)


def _made(parts: Iterable[Part]) -> list[Part]:
    """Those that were predicted from something."""
    return [part for part in parts if part[0].modality is not None]


def _face_share(windows: Iterable[TimedPrediction]) -> float | None:
    """Of consecutive windows."""
    seen = [(w.face_share, w.end_s - w.start_s) for w in windows if w.face_share is not None]
    length_s = sum(length for _, length in seen)
    return sum(share * length for share, length in seen) / length_s if length_s else None
