"""What may be wrong with a clip, said to whoever reads the prediction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vavl.features.face_features import FaceStep

SILENCE_DBFS = -65.0
"""Sound whose root mean square lies below counts as silence: no speech is to be heard in it."""

_DARK = 0.12
"""Mean of red, green and blue, in [0, 1], of a face too dark to show an expression."""
_RARE = 0.5
"""Share of the steps with a face below which a warning is given."""
_CROWD = 0.2
"""Share of the steps with several faces above which a warning is given."""


def level_dbfs(waveform: NDArray[np.float32]) -> float:
    """Root mean square of samples in dB, 0 being full scale; minus infinity without any sound."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return 10 * math.log10(power) if power else -math.inf


class Quality:
    """Watches a clip go by and tells what may be wrong with it.

    Args:
        audio: Whether the clip has sound.
        video: Whether it has a picture.
    """

    def __init__(self, *, audio: bool, video: bool) -> None:
        self._audio = audio
        self._video = video
        self._samples = 0
        self._power = 0.0
        self._steps = self._faces = self._crowded = 0
        self._brightness = 0.0

    def hear(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes note of samples; returns them."""
        self._samples += len(samples)
        self._power += float(np.square(samples, dtype=np.float64).sum())
        return samples

    def see(self, step: FaceStep) -> FaceStep:
        """Takes note of what is seen; returns it."""
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
    def silent(self) -> bool:
        """Whether nothing is to be heard, of sound that there is."""
        power = self._power / max(self._samples, 1)
        return self._audio and (power == 0 or 10 * math.log10(power) < SILENCE_DBFS)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may be wrong, one short sentence each."""
        found = []
        if not self._audio:
            found.append("no sound")
        elif self.silent:
            found.append("the sound is silence")
        if self._video and self._steps:
            if not self._faces:
                found.append("no face was found")
            elif self._faces < _RARE * self._steps:
                found.append(f"a face in only {self._faces / self._steps:.0%} of the picture")
            if self._crowded > _CROWD * self._steps:
                found.append("several people: the most prominent one is taken")
            if self._brightness < _DARK * self._steps:
                found.append("the picture is very dark")
        return tuple(found)
