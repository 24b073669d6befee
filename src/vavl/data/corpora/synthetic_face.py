"""The face of the synthetic corpus: intensities of facial action units over time.

Source: what the units are, P. Ekman and W. V. Friesen, "Facial Action Coding System", 1978; their
names and the range 0 to 5, OpenFace (T. Baltrusaitis et al., FG 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.synthetic_voice import Syllables

FRAME_RATE_HZ = 25.0
ACTION_UNITS = (
    "AU01_r",
    "AU02_r",
    "AU04_r",
    "AU05_r",
    "AU06_r",
    "AU07_r",
    "AU09_r",
    "AU10_r",
    "AU12_r",
    "AU14_r",
    "AU15_r",
    "AU17_r",
    "AU20_r",
    "AU23_r",
    "AU25_r",
    "AU26_r",
    "AU45_r",
)
"""Columns of the trajectories, named as OpenFace names its intensities."""
LARGEST_INTENSITY = 5.0

Array = NDArray[np.float64]

_INDEX = {name: column for column, name in enumerate(ACTION_UNITS)}
_BLINK, _LIPS_PART, _JAW_DROP = _INDEX["AU45_r"], _INDEX["AU25_r"], _INDEX["AU26_r"]
_MEASUREMENT_NOISE = 0.18
_FIDGETING = 0.30
_FIDGETING_MEMORY_S = 0.35


@dataclass(frozen=True)
class Face:
    """One speaker's face.

    Attributes:
        neutral: ``(17,)`` intensities at rest.
        gain: ``(17,)`` how strongly each unit answers.
        blinks_hz: Blinks per second.
        mouth: How far the mouth moves in speech.
    """

    neutral: Array
    gain: Array
    blinks_hz: float
    mouth: float


@dataclass(frozen=True)
class FaceStyle:
    """An expression and its course.

    Attributes:
        units: ``(17,)`` intensities above the neutral face at the apex.
        apex: Where in the clip the expression is strongest, 0 = beginning, 1 = end.
        spread: How long it lasts, as a share of the clip (standard deviation).
    """

    units: Array
    apex: float
    spread: float


def unit_vector(intensities: Mapping[str, float]) -> Array:
    """``(17,)`` from intensities by short name, e.g. ``{"AU12": 2.0}``."""
    vector = np.zeros(len(ACTION_UNITS))
    for name, value in intensities.items():
        vector[_INDEX[f"{name}_r"]] = value
    return vector


def draw_face(rng: np.random.Generator) -> Face:
    """A speaker's face: nobody's rests at zero, and some show more than others."""
    units = len(ACTION_UNITS)
    expressivity = np.exp(rng.normal(0.0, 0.25))
    return Face(
        neutral=rng.gamma(1.2, 0.3, units),
        gain=expressivity * np.exp(rng.normal(0.0, 0.2, units)),
        blinks_hz=float(rng.uniform(0.15, 0.5)),
        mouth=float(rng.uniform(0.6, 1.3)),
    )


def animate(
    rng: np.random.Generator, face: Face, style: FaceStyle, syllables: Syllables
) -> NDArray[np.float32]:
    """Action units of one clip.

    Args:
        rng: Draws blinks, fidgeting and the noise of measurement.
        face: Whose face.
        style: What it expresses, and when.
        syllables: What the mouth says.

    Returns:
        ``(T, 17)`` intensities in 0 to 5 at :data:`FRAME_RATE_HZ`.
    """
    frames = max(2, round(syllables.duration_s * FRAME_RATE_HZ))
    times_s = np.arange(frames) / FRAME_RATE_HZ
    progress = times_s / syllables.duration_s
    course = np.exp(-0.5 * ((progress - style.apex) / style.spread) ** 2)
    # Scaled to the same mean, so that only the order of events tells where the apex lies.
    course *= 0.6 / course.mean()
    units = face.neutral + course[:, None] * (face.gain * style.units)  # (T, 17)

    opening = syllables.opening(times_s) * face.mouth
    units[:, _LIPS_PART] += 1.6 * opening
    units[:, _JAW_DROP] += 1.1 * opening
    for blink_s in np.cumsum(rng.exponential(1 / face.blinks_hz, 8)):
        units[:, _BLINK] += 3.0 * np.exp(-0.5 * ((times_s - blink_s) / 0.06) ** 2)

    memory = np.exp(-1 / (FRAME_RATE_HZ * _FIDGETING_MEMORY_S))
    steps = rng.standard_normal((frames, len(ACTION_UNITS)))
    fidgeting = np.empty_like(steps)
    fidgeting[0] = steps[0]
    for frame in range(1, frames):
        fidgeting[frame] = memory * fidgeting[frame - 1] + np.sqrt(1 - memory**2) * steps[frame]
    noise = _MEASUREMENT_NOISE * rng.standard_normal(units.shape)
    units += _FIDGETING * fidgeting + noise
    return np.clip(units, 0.0, LARGEST_INTENSITY).astype(np.float32)
