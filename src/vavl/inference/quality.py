"""What may be wrong with a clip, for whoever reads the prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vavl.features.face_features import FaceStep
from vavl.inference.windows import ClipStreams
from vavl.media.audio import SILENCE_DBFS, decibels

_DARK = 0.12
"""Mean of red, green and blue, in [0, 1], of a face too dark to show an expression."""
_RARE = 0.5
"""Share of the steps with a face below which a warning is given."""
_CROWD = 0.2
"""Share of the steps with several faces above which a warning is given."""


class Quality:
    """Counts, while a clip is read, what may be wrong with it."""

    def __init__(self) -> None:
        self._has_audio = False
        self._samples = 0
        self._sum_of_squares = 0.0
        self._steps = self._faces = self._crowded = 0
        self._brightness = 0.0

    def watch(self, clip: ClipStreams) -> ClipStreams:
        """The same clip; all that is read of it is counted."""
        self._has_audio = clip.audio is not None
        return ClipStreams(
            None if clip.audio is None else map(self._count_samples, clip.audio),
            None if clip.steps is None else map(self._count_step, clip.steps),
            clip.step_s,
        )

    def _count_samples(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self._samples += len(samples)
        self._sum_of_squares += _energy(samples)
        return samples

    def _count_step(self, step: FaceStep) -> FaceStep:
        self._steps += 1
        self._faces += step.face is not None
        self._crowded += step.faces_seen > 1
        self._brightness += step.brightness
        return step

    @property
    def face_share(self) -> float | None:
        """Share of the steps with a face, or None without a picture."""
        return self._faces / self._steps if self._steps else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may be wrong, one short sentence each."""
        found = []
        if not self._has_audio:
            found.append("no sound")
        elif decibels(self._sum_of_squares / max(self._samples, 1)) < SILENCE_DBFS:
            found.append("the sound is silence")
        if self._steps:
            if not self._faces:
                found.append("no face was found")
            elif self._faces < _RARE * self._steps:
                found.append(f"a face in only {self._faces / self._steps:.0%} of the picture")
            if self._crowded > _CROWD * self._steps:
                found.append("several people: the most prominent one is taken")
            if self._brightness < _DARK * self._steps:
                found.append("the picture is very dark")
        return tuple(found)


def _energy(samples: NDArray[np.float32]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())
