"""Whose mouth moves with the voice, where several faces are seen."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vavl.features.face_features import MOST_EMBEDDED, FaceStep
from vavl.inference.windows import LONGEST_PART_S, ClipStreams, Window
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.media.speech import Heard

_LOWEST_HZ, _HIGHEST_HZ = 500, 2000
"""Where the voice grows with the opening of the mouth: the first formant of open vowels, and the
second. Below it lies the fundamental, which sounds behind closed lips as well."""
_HOP, _FRAME = SAMPLING_RATE_HZ // 100, SAMPLING_RATE_HZ // 50
"""Samples from one level of the voice to the next, 10 ms, and of the frame it is taken from."""
_AROUND = 3
"""Levels before and after a picture that belong to it: 60 ms in all."""
_LEAST_S = 3.0
"""A shorter window is judged together with what came before it."""
_STILL = 0.03
"""Deviation of the opening of a mouth that does not move; one that moves by less is not heard."""
_CORRELATED, _AHEAD = 0.15, 0.02
"""The correlation that a mouth must reach, and by how much it must exceed that of any other."""
_KEPT_S = 2 * LONGEST_PART_S


class SpeakerFinder:
    """Compares how wide each mouth is open with how loud the voice is, step by step.

    The voice is the level between 500 and 2000 Hz, over 60 ms around the time of each picture.
    Whose opening correlates with it most is the one who speaks. Sound and picture must belong
    together within 40 ms, as they do where nobody has shifted them. Of people who all speak at once
    it finds the one who is heard; a voice whose speaker is out of sight is mostly given to nobody.
    Of more than three it is not told.

    Source: Cutler and Davis, "Look who's talking: speaker detection using video and audio
    correlation", 2000, for the idea; opening and band are ours, see docs/results/people.md.

    Args:
        step_s: From one picture to the next.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._levels: deque[float] = deque(maxlen=round(_KEPT_S * SAMPLING_RATE_HZ / _HOP))
        self._heard = 0  # levels that have come in
        self._start_s = 0.0  # of the sound
        self._rest = np.zeros(0, np.float32)
        self._steps: deque[FaceStep] = deque(maxlen=max(1, round(_KEPT_S / max(step_s, 1e-3))))

    def watch(self, clip: ClipStreams) -> ClipStreams:
        """The same clip; what is read of it is remembered for a while."""
        if clip.audio is None or clip.steps is None:
            return clip
        self._start_s = clip.start_s
        return replace(clip, audio=map(self._hear, clip.audio), steps=map(self._see, clip.steps))

    def _hear(self, heard: Heard) -> Heard:
        samples = np.concatenate([self._rest, heard.samples])
        count = max(0, (len(samples) - _FRAME) // _HOP + 1)
        if count:
            frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
            spectrum = np.fft.rfft(frames * _WINDOW, axis=1)[:, _BAND]
            self._levels.extend(np.square(np.abs(spectrum)).sum(axis=1).tolist())
            self._heard += count
        self._rest = samples[count * _HOP :]
        return heard

    def _see(self, step: FaceStep) -> FaceStep:
        self._steps.append(step)
        return step

    def speaker(self, window: Window) -> int | None:
        """The number of the person who speaks in a window, or None where that cannot be told."""
        present = window.people
        if len(present) < 2:
            return None
        start_s = min(window.start_s, window.end_s - _LEAST_S)
        steps = [step for step in self._steps if start_s <= step.time_s < window.end_s]
        if sum(step.faces_seen > MOST_EMBEDDED for step in steps) > len(steps) / 2:
            return None  # the others take turns, and are looked at too rarely
        mouths: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for step in steps:
            level = self._level(step.time_s)
            for face in step.everybody:
                if face.person is not None and math.isfinite(face.mouth + level):
                    mouths[face.person].append((face.mouth, level))
        scores = {
            person: _correlation(np.array(pairs))
            for person, pairs in mouths.items()
            if person in present and len(pairs) * self._step_s >= _LEAST_S / 3
        }
        if not scores:
            return None
        best, *others = sorted(scores, key=lambda person: -scores[person])
        second = max((scores[person] for person in others), default=0.0)
        if scores[best] < max(_CORRELATED, second + _AHEAD):
            return None
        return best

    def _level(self, time_s: float) -> float:
        """Root mean square of the voice around a time; NaN before and after the sound."""
        first = self._heard - len(self._levels)
        centre = (time_s - self._start_s) * SAMPLING_RATE_HZ / _HOP - 1  # a frame is two hops long
        low, high = centre - first - _AROUND, centre - first + _AROUND
        span = range(max(0, round(low)), min(len(self._levels), round(high)))
        return math.sqrt(sum(self._levels[k] for k in span) / len(span)) if span else math.nan


def _correlation(pairs: NDArray[np.float64]) -> float:
    """Correlation of the opening of a mouth with the level of the voice, ``(N, 2)``."""
    opening, level = (pairs - pairs.mean(axis=0)).T
    power = (np.square(opening).mean() + _STILL**2) * np.square(level).mean()
    return float((opening * level).mean() / math.sqrt(power)) if power > 0 else 0.0


_WINDOW = np.hanning(_FRAME).astype(np.float32)
_BAND = slice(_LOWEST_HZ * _FRAME // SAMPLING_RATE_HZ, _HIGHEST_HZ * _FRAME // SAMPLING_RATE_HZ + 1)
