"""The signals of the synthetic corpus: a voice, and facial action units that move with it.

Source: the source-filter model of G. Fant, "Acoustic Theory of Speech Production", 1960; the
glottal pulse is that of A. E. Rosenberg, "Effect of glottal pulse shape on the quality of natural
vowels", JASA 49, 1971. Formants of the vowels: G. E. Peterson and H. L. Barney, "Control methods
used in a study of the vowels", JASA 24, 1952 (men). What action units are: P. Ekman and W. V.
Friesen, "Facial Action Coding System", 1978; their names and the range 0 to 5, OpenFace
(T. Baltrusaitis et al., FG 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vavl.media.audio import SAMPLING_RATE_HZ

_SHORTEST_S, _LONGEST_S = 1.5, 3.0

Array = NDArray[np.float64]

_HOP = 128
"""Samples between two shapes of the mouth (8 ms)."""
_WINDOW = 512
_LEAD_S, _TAIL_S = 0.10, 0.15
_VOWEL_FORMANTS_HZ = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]],
    dtype=np.float64,
)
_FOURTH_FORMANT_HZ = 3500.0
_BANDWIDTHS_HZ = np.array([80.0, 100.0, 140.0, 220.0])
_FULL_SCALE = 0.9


class VoiceStyle(NamedTuple):
    """How a voice departs from the speaker's neutral one. All zeros is neutral."""

    pitch_semitones: float  # shift of the mean pitch
    pitch_range: float  # standard deviation from syllable to syllable, semitones
    effort: float  # shift of the corner frequency, octaves: above 0 pressed and bright, below dull
    breath: float  # aspiration noise and open quotient, above 0 breathy
    roughness: float  # jitter and shimmer, above 0 harsh
    tempo: float  # syllable rate, natural logarithm
    smile: float  # shortening of the vocal tract by spread lips, in per cent
    accent: float  # depth of the loudness contrast between syllables
    pitch_slope: float  # rise of pitch from the first to the last syllable, semitones
    loudness_slope: float  # rise of loudness from the first to the last syllable, dB
    effort_slope: float  # rise of effort from the first to the last syllable, octaves


ORDER_FIELDS = ("pitch_slope", "loudness_slope", "effort_slope")
"""What only the order in time tells: the mean and the spread over a clip do not show their sign."""


@dataclass(frozen=True)
class Voice:
    """One speaker's voice."""

    pitch_hz: float  # mean pitch
    tract: float  # formant frequencies relative to an average man's
    rate: float  # syllables per second
    corner_hz: float  # corner frequency of the source spectrum
    breath: float  # share of aspiration noise
    jitter: float  # relative disturbance of the period
    level_db: float  # loudness at the microphone
    noise_db: float  # background noise relative to full scale
    brightness_db: float  # treble of the recording, dB at 8 kHz


@dataclass(frozen=True)
class Syllables:
    """When the mouth opens: what the face shares with the voice."""

    edges_s: Array  # ``(n + 1,)`` borders of the syllables in seconds
    strength: Array  # ``(n,)`` relative loudness
    duration_s: float  # length of the clip

    def opening(self, times_s: Array) -> Array:
        """How far the mouth is open, 0 to about 1, at each time."""
        index = np.searchsorted(self.edges_s, times_s, side="right") - 1
        inside = (index >= 0) & (index < len(self.strength))
        index = np.clip(index, 0, len(self.strength) - 1)
        start, end = self.edges_s[index], self.edges_s[index + 1]
        progress = np.clip((times_s - start) / (end - start), 0.0, 1.0)
        return np.where(inside, np.sin(np.pi * progress) ** 0.7 * self.strength[index], 0.0)


def draw_voice(rng: np.random.Generator, *, female: bool) -> Voice:
    """A speaker's voice."""
    return Voice(
        pitch_hz=(205.0 if female else 115.0) * 2.0 ** rng.normal(0.0, 0.14),
        tract=(1.16 if female else 1.0) * np.exp(rng.normal(0.0, 0.03)),
        rate=4.6 * np.exp(rng.normal(0.0, 0.09)),
        corner_hz=1000.0 * 2.0 ** rng.normal(0.0, 0.2),
        breath=0.05 * np.exp(rng.normal(0.0, 0.25)),
        jitter=0.008 * np.exp(rng.normal(0.0, 0.3)),
        level_db=rng.normal(-23.0, 2.0),
        noise_db=rng.normal(-66.0, 2.0),
        brightness_db=rng.normal(0.0, 1.0),
    )


def draw_syllables(rng: np.random.Generator, voice: Voice, style: VoiceStyle) -> Syllables:
    """The rhythm of one sentence."""
    count = int(rng.integers(6, 11))
    weights = np.exp(rng.normal(0.0, 0.18, count))
    weights[-1] *= 1.3  # the last syllable of a phrase is drawn out
    speech_s = count / (voice.rate * np.exp(style.tempo))
    duration_s = float(np.clip(speech_s + _LEAD_S + _TAIL_S, _SHORTEST_S, _LONGEST_S))
    edges_s = _LEAD_S + np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum() * (
        duration_s - _LEAD_S - _TAIL_S
    )
    depth = 0.22 * np.exp(style.accent)
    return Syllables(edges_s, np.exp(rng.normal(0.0, depth, count)), duration_s)


def synthesize(
    rng: np.random.Generator, voice: Voice, style: VoiceStyle, syllables: Syllables
) -> Array:
    """One sentence without meaning: ``(N,)`` samples at 16 kHz, at most 0.9 in size."""
    samples = round(syllables.duration_s * SAMPLING_RATE_HZ)
    times_s = np.arange(0, samples + _HOP, _HOP) / SAMPLING_RATE_HZ  # of the control points
    at = np.arange(samples) / SAMPLING_RATE_HZ
    centres_s = (syllables.edges_s[:-1] + syllables.edges_s[1:]) / 2
    position = np.linspace(-0.5, 0.5, len(centres_s))  # in the sentence

    melody = style.pitch_semitones + style.pitch_slope * position
    melody = melody + rng.normal(0.0, 1.1 * np.exp(style.pitch_range / 2), len(centres_s))
    semitones = np.interp(at, centres_s, melody)
    pulses, openness = _glottis(rng, voice, style, voice.pitch_hz * 2.0 ** (semitones / 12))

    loudness_db = np.interp(at, centres_s, style.loudness_slope * position)
    voiced = np.interp(at, times_s, syllables.opening(times_s)) * 10 ** (loudness_db / 20)
    breath = voice.breath * np.exp(style.breath)
    aspiration = rng.standard_normal(samples) * (0.3 + 0.7 * openness)
    source = (pulses + breath * aspiration) * voiced

    # Every vowel occurs, as in any sentence of some length.
    vowels = rng.permutation(np.arange(len(centres_s)) % len(_VOWEL_FORMANTS_HZ))
    formants = np.column_stack(
        [np.interp(times_s, centres_s, track) for track in _VOWEL_FORMANTS_HZ[vowels].T]
        + [np.full(len(times_s), _FOURTH_FORMANT_HZ)]
    )  # (frames, 4)
    formants *= voice.tract * (1 + style.smile / 100)
    corner_hz = voice.corner_hz * 2.0 ** (
        style.effort + np.interp(times_s, centres_s, style.effort_slope * position)
    )
    sound = _filtered(source, formants, corner_hz, voice.brightness_db)
    sound *= 10 ** (voice.level_db / 20) / max(float(np.sqrt(np.mean(sound**2))), 1e-9)
    sound += _consonants(rng, syllables, samples) * 10 ** ((voice.level_db - 8.0) / 20)
    sound += rng.standard_normal(samples) * 10 ** (voice.noise_db / 20)
    peak = float(np.abs(sound).max())
    return sound * min(1.0, _FULL_SCALE / peak)


def _glottis(
    rng: np.random.Generator, voice: Voice, style: VoiceStyle, pitch_hz: Array
) -> tuple[Array, Array]:
    """Derivative of the glottal flow, and the flow (0 = closed, 1 = wide open)."""
    # Each period has its own disturbance, so periods are counted before they are disturbed.
    period = np.cumsum(pitch_hz / SAMPLING_RATE_HZ).astype(np.int64)
    disturbance = rng.standard_normal((2, int(period[-1]) + 1))
    jitter = voice.jitter * np.exp(style.roughness)
    phase = np.cumsum(pitch_hz * np.exp(jitter * disturbance[0, period]) / SAMPLING_RATE_HZ) % 1.0
    opening = min(0.40 * np.exp(0.15 * style.breath), 0.6)
    closing = min(0.18 * np.exp(0.30 * style.breath), 0.35)
    flow = np.where(
        phase < opening,
        0.5 - 0.5 * np.cos(np.pi * phase / opening),
        np.cos(0.5 * np.pi * np.clip((phase - opening) / closing, 0.0, 1.0)),
    )
    shimmer = np.exp(4 * jitter * disturbance[1, period])
    return np.diff(flow, prepend=flow[:1]) * shimmer * 8.0, flow


def _filtered(source: Array, formants: Array, corner_hz: Array, brightness_db: float) -> Array:
    """Shapes the spectrum frame by frame: short-time Fourier transform, gain, overlap-add."""
    frames = len(formants)
    padded = np.zeros((frames - 1) * _HOP + _WINDOW)
    padded[_WINDOW // 2 : _WINDOW // 2 + len(source)] = source
    window = np.sqrt(np.hanning(_WINDOW + 1)[:-1])  # twice, they add up to 2 at a quarter overlap
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * window
    frequency = np.fft.rfftfreq(_WINDOW, 1 / SAMPLING_RATE_HZ)  # (257,)
    squared = frequency**2
    gain = 1 / (1 + squared / corner_hz[:, None] ** 2)
    for formant, bandwidth in zip(formants.T, _BANDWIDTHS_HZ, strict=True):
        centre = formant[:, None] ** 2
        gain *= centre**2 / ((centre - squared) ** 2 + squared * bandwidth**2)
    gain = np.sqrt(gain) * 10 ** (brightness_db / 20 * frequency / frequency[-1])
    shaped = np.fft.irfft(np.fft.rfft(pieces) * gain) * window
    result = np.zeros_like(padded)
    quarters = shaped.reshape(frames, 4, _HOP)
    for quarter in range(4):
        start = quarter * _HOP
        result[start : start + frames * _HOP] += quarters[:, quarter].ravel()
    return result[_WINDOW // 2 : _WINDOW // 2 + len(source)]


def _consonants(rng: np.random.Generator, syllables: Syllables, samples: int) -> Array:
    """``(N,)`` hissing at the beginning of some syllables, of about unit loudness."""
    envelope = np.zeros(samples)
    for start_s in syllables.edges_s[:-1]:
        length = int(rng.uniform(0.03, 0.08) * SAMPLING_RATE_HZ)
        strength = rng.uniform(0.3, 0.8)
        start = int(start_s * SAMPLING_RATE_HZ) - length // 2
        envelope[start : start + length] += strength * np.hanning(length)
    # A difference of white noise has its energy at high frequencies, as s and f have.
    return np.diff(rng.standard_normal(samples + 1)) * envelope


FRAME_RATE_HZ = 25.0
ACTION_UNITS = tuple(
    f"AU{number:02d}_r" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
)
"""Columns of the trajectories, named as OpenFace names its intensities."""
UNIT_COLUMNS = {name.removesuffix("_r"): column for column, name in enumerate(ACTION_UNITS)}
"""Column by short name, e.g. ``"AU12"``."""
_LARGEST_INTENSITY = 5.0
_MEASUREMENT_NOISE = 0.18
_FIDGETING = 0.30
_FIDGETING_MEMORY_S = 0.35


@dataclass(frozen=True)
class Face:
    """One speaker's face."""

    neutral: Array  # ``(17,)`` intensities at rest
    gain: Array  # ``(17,)`` how strongly each unit answers
    blinks_hz: float  # blinks per second
    mouth: float  # how far the mouth moves in speech


@dataclass(frozen=True)
class FaceStyle:
    """An expression and its course."""

    units: Array  # ``(17,)`` intensities above the neutral face at the apex
    apex: float  # where in the clip the expression is strongest, 0 = beginning, 1 = end
    spread: float  # how long it lasts, as a share of the clip (standard deviation)


def unit_vector(intensities: Mapping[str, float]) -> Array:
    """``(17,)`` from intensities by short name, e.g. ``{"AU12": 2.0}``."""
    vector = np.zeros(len(ACTION_UNITS))
    for name, value in intensities.items():
        vector[UNIT_COLUMNS[name]] = value
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
    """Action units of one clip: ``(T, 17)`` intensities in 0 to 5 at :data:`FRAME_RATE_HZ`."""
    frames = max(2, round(syllables.duration_s * FRAME_RATE_HZ))
    times_s = np.arange(frames) / FRAME_RATE_HZ
    progress = times_s / syllables.duration_s
    course = np.exp(-0.5 * ((progress - style.apex) / style.spread) ** 2)
    # Scaled to the same mean, so that only the order of events tells where the apex lies.
    course *= 0.6 / course.mean()
    units = face.neutral + course[:, None] * (face.gain * style.units)  # (T, 17)

    opening = syllables.opening(times_s) * face.mouth
    units[:, UNIT_COLUMNS["AU25"]] += 1.6 * opening
    units[:, UNIT_COLUMNS["AU26"]] += 1.1 * opening
    for blink_s in np.cumsum(rng.exponential(1 / face.blinks_hz, 8)):
        units[:, UNIT_COLUMNS["AU45"]] += 3.0 * np.exp(-0.5 * ((times_s - blink_s) / 0.06) ** 2)

    memory = np.exp(-1 / (FRAME_RATE_HZ * _FIDGETING_MEMORY_S))
    fidgeting = rng.standard_normal((frames, len(ACTION_UNITS)))
    fidgeting[1:] *= np.sqrt(1 - memory**2)
    for frame in range(1, frames):
        fidgeting[frame] += memory * fidgeting[frame - 1]
    noise = _MEASUREMENT_NOISE * rng.standard_normal(units.shape)
    units += _FIDGETING * fidgeting + noise
    return np.clip(units, 0.0, _LARGEST_INTENSITY).astype(np.float32)
