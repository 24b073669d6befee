"""Whose mouth moves with the voice: of made voices and mouths."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from vavl.faces.alignment import Face
from vavl.features.face_features import FaceStep
from vavl.inference.speaker import SpeakerFinder
from vavl.inference.windows import ClipStreams, Window
from vavl.media.speech import AllSound, Heard

STEP_S = 0.08
FACE = Face((0, 0, 8, 8), 0.9, np.zeros((5, 2), np.float32))


def wave(rate_hz: float, phase: float, seconds: float = 6.0) -> np.ndarray:
    """Between 0 and 1, at every step."""
    times = np.arange(round(seconds / STEP_S)) * STEP_S
    return 0.5 + 0.5 * np.sin(2 * math.pi * rate_hz * times + phase)


def moment(time_s: float, mouths: dict[int, float]) -> FaceStep:
    """Everybody with an open or closed mouth."""
    first, *others = (
        FaceStep(time_s, np.zeros(2, np.float32), FACE, len(mouths), 0.5, person=n, mouth=value)
        for n, value in mouths.items()
    )
    return FaceStep(**{**first.__dict__, "others": tuple(others)})


def voice(levels: np.ndarray, carrier_hz: float = 1000.0) -> Iterator[Heard]:
    """A tone as loud as the levels around each step, in blocks of uneven length."""
    times = np.arange(round(len(levels) * STEP_S * 16_000)) / 16_000
    loud = np.interp(times, np.arange(len(levels)) * STEP_S, levels)
    samples = (0.1 * loud * np.sin(2 * math.pi * carrier_hz * times)).astype(np.float32)
    for start in range(0, len(samples), 700):
        yield AllSound().add(samples[start : start + 700])


def found(
    sound: Iterator[Heard], mouths: list[dict[int, float]], start_s: float = 0.0
) -> int | None:
    """Who speaks, from a time on until the end."""
    finder = SpeakerFinder(STEP_S)
    steps = tuple(moment(k * STEP_S, at) for k, at in enumerate(mouths))
    clip = finder.watch(ClipStreams(sound, iter(steps), STEP_S))
    assert clip.audio is not None
    assert clip.steps is not None
    assert sum(len(heard.samples) for heard in clip.audio) > 0
    assert len(list(clip.steps)) == len(steps)
    chosen = tuple(step for step in steps if step.time_s >= start_s)
    end_s = len(steps) * STEP_S
    return finder.speaker(Window(start_s, end_s, np.zeros(0, np.float32), chosen))


TALK, OTHER = wave(2.0, 0.0), wave(1.3, 2.0)


@pytest.mark.parametrize("talker", [4, 7])
def test_the_one_whose_mouth_opens_with_the_voice_speaks(talker: int) -> None:
    other = 11 - talker
    mouths = [{talker: t, other: o} for t, o in zip(TALK, OTHER, strict=True)]
    assert found(voice(TALK), mouths) == talker


def test_a_still_mouth_does_not_speak() -> None:
    noise = np.random.default_rng(0).normal(0.1, 0.005, len(TALK))
    mouths = [{0: float(n), 1: 0.3 * t} for n, t in zip(noise + 0.004 * TALK, TALK, strict=True)]
    assert found(voice(TALK), mouths) == 1


def test_nobody_speaks_where_no_mouth_moves_with_the_voice() -> None:
    mouths = [{0: o, 1: 1 - o} for o in wave(1.3, 0.5)]
    assert found(voice(TALK), mouths) is None
    alike = [{0: t, 1: t} for t in TALK]
    assert found(voice(TALK), alike) is None, "both move with it"


def test_one_alone_is_not_asked_for() -> None:
    assert found(voice(TALK), [{3: t} for t in TALK]) is None


def test_what_lies_outside_the_band_does_not_count() -> None:
    """A hum below the band that swells with another mouth does not make it the speaker."""
    mouths = [{0: t, 1: o} for t, o in zip(TALK, OTHER, strict=True)]
    hum = [heard.samples for heard in voice(10 * OTHER, carrier_hz=120.0)]
    both = (AllSound().add(h + v.samples) for h, v in zip(hum, voice(TALK), strict=True))
    assert found(both, mouths) == 0


def test_a_short_window_is_judged_with_what_came_before() -> None:
    mouths = [{0: t, 1: o} for t, o in zip(TALK, OTHER, strict=True)]
    assert found(voice(TALK), mouths, start_s=5.5) == 0


def test_mouths_that_cannot_be_seen_leave_the_question_open() -> None:
    mouths = [{0: math.nan, 1: math.nan} for _ in TALK]
    assert found(voice(TALK), mouths) is None
    silence = (AllSound().add(np.zeros(1600, np.float32)) for _ in range(60))
    assert found(silence, [{0: t, 1: o} for t, o in zip(TALK, OTHER, strict=True)]) is None


def test_of_more_than_three_it_is_not_told() -> None:
    three = [{0: t, 1: o, 2: 0.3} for t, o in zip(TALK, OTHER, strict=True)]
    assert found(voice(TALK), three) == 0
    assert found(voice(TALK), [{**at, 3: 0.3} for at in three]) is None
