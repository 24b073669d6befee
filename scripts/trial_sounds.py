"""Sixty sounds without speech, of 23 kinds, made by formulas and chance.

    python scripts/trial_sounds.py --voices SPEECH_FILE ... --out FOLDER    # to be listened to

Waveforms are ``(N,)`` float32 at 16 kHz, full scale [-1, 1], four seconds each. The same seed and
voices give the same sounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from speech_conditions import Waveform, babble, hiss, pink, shaped

from vavl.media.audio import SAMPLING_RATE_HZ, read_audio
from vavl.media.writing import write_wav

DURATION_S = 4.0
_SIZE = int(DURATION_S * SAMPLING_RATE_HZ)
_TIME_S: NDArray[np.float64] = np.arange(_SIZE) / SAMPLING_RATE_HZ

Sound = Callable[[Generator], NDArray[np.floating]]
"""Makes the shape of a sound, of any level."""

Notes = Sequence[tuple[float, float, float]]
"""Start and duration in seconds, and frequency in Hz, of each note."""


def at_level(sound: NDArray[np.floating], level_dbfs: float) -> Waveform:
    """With this root mean square in dB of full scale, clipped at full scale."""
    level = np.sqrt(np.mean(np.square(sound, dtype=np.float64)))
    return np.clip(sound / level * 10 ** (level_dbfs / 20), -1, 1).astype(np.float32)


# --- the shapes ----------------------------------------------------------------------------------


def _hum(base_hz: float, rng: Generator) -> NDArray[np.floating]:
    """With harmonics up to the 30th, each weaker by chance."""
    number = np.arange(1, 31)[:, None]
    strength = rng.uniform(0.2, 1, number.shape) / number
    phase = rng.uniform(0, 2 * np.pi, number.shape)
    return (strength * np.sin(2 * np.pi * base_hz * number * _TIME_S + phase)).sum(0)


def _noise(band_hz: tuple[float, float], source: Waveform) -> Waveform:
    """What a source has within a band."""
    low, high = band_hz
    corners = [low / 2, low, high, high * 1.5]
    return shaped(source, lambda hz: np.interp(hz, corners, [0, 1, 1, 0]))


def _slow(rng: Generator, changes_per_s: float) -> NDArray[np.float64]:
    """A smooth random curve in [0, 1]."""
    stations = rng.random(int(DURATION_S * changes_per_s) + 2)
    return np.interp(_TIME_S * changes_per_s, np.arange(len(stations)), stations)


def _struck(
    rng: Generator, per_s: float, event: NDArray[np.floating], *, regular: bool = False
) -> NDArray[np.floating]:
    """One event again and again, each of another strength; at random times unless regular."""
    count = max(1, round(per_s * DURATION_S))
    times = (np.arange(count) + 0.5) / per_s if regular else rng.uniform(0, DURATION_S, count)
    train = np.zeros(_SIZE)
    strength = np.ones(count) if regular else rng.uniform(0.2, 1, count)
    np.add.at(train, (times * SAMPLING_RATE_HZ).astype(int), strength)
    return fftconvolve(train, event)[:_SIZE]


def _decaying(
    frequency_hz: float, half_life_s: float, duration_s: float = 0.5
) -> NDArray[np.float64]:
    time_s = np.arange(int(duration_s * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
    return np.sin(2 * np.pi * frequency_hz * time_s) * 0.5 ** (time_s / half_life_s)


def _knock(rng: Generator, half_life_s: float) -> NDArray[np.float64]:
    """A burst of noise that dies away."""
    time_s = np.arange(int(0.3 * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
    return rng.standard_normal(len(time_s)) * 0.5 ** (time_s / half_life_s)


def _constant(_: Generator) -> NDArray[np.floating]:
    return np.ones(_SIZE)


def _silence_with_click(rng: Generator) -> NDArray[np.floating]:
    sound = np.zeros(_SIZE)
    sound[rng.integers(_SIZE)] = 1
    return sound


def _tone(frequency_hz: float, _: Generator) -> NDArray[np.floating]:
    return np.sin(2 * np.pi * frequency_hz * _TIME_S)


def _chord(frequencies_hz: Sequence[float], rng: Generator) -> NDArray[np.floating]:
    return _synthesised([(0, DURATION_S, hz) for hz in frequencies_hz], rng)


def _sweep(first_hz: float, last_hz: float, period_s: float, _: Generator) -> NDArray[np.floating]:
    """Exponential from one frequency to the other, again each period."""
    hz = first_hz * (last_hz / first_hz) ** (_TIME_S % period_s / period_s)
    return np.sin(2 * np.pi * np.cumsum(hz) / SAMPLING_RATE_HZ)


def _wind(rng: Generator) -> NDArray[np.floating]:
    """Low noise in gusts, and whistling that rises and falls with them."""
    gusts = 0.1 + _slow(rng, 1.5) ** 2
    whistle = _noise((400, 900), hiss(_SIZE, rng))
    return gusts * _noise((20, 300), hiss(_SIZE, rng)) + 0.2 * gusts**2 * whistle


def _traffic(rng: Generator) -> NDArray[np.floating]:
    """Rumble, and cars that come by."""
    sound = _noise((30, 250), pink(_SIZE, rng)).astype(np.float64)
    for _ in range(3):
        near = np.exp(-((_TIME_S - rng.uniform(0, DURATION_S)) ** 2) / rng.uniform(0.1, 0.6))
        sound += rng.uniform(1, 3) * near * _noise((150, 2500), pink(_SIZE, rng))
    return sound


def _breathing(rng: Generator) -> NDArray[np.floating]:
    """In and out, three to four seconds each time, through another throat each way."""
    cycle = np.sin(2 * np.pi * _TIME_S / rng.uniform(2.5, 4) + rng.uniform(0, 6))
    inwards = _noise((500, 2500), hiss(_SIZE, rng)) * np.maximum(cycle, 0) ** 2
    return inwards + 0.7 * _noise((300, 1500), hiss(_SIZE, rng)) * np.maximum(-cycle, 0) ** 2


def _rain(rng: Generator, drops_per_s: float) -> NDArray[np.floating]:
    drops = _struck(rng, drops_per_s, _decaying(3500, 0.002, 0.02))
    return drops + 0.05 * _noise((1000, 7000), hiss(_SIZE, rng))


def _water(rng: Generator) -> NDArray[np.floating]:
    """A brook: bubbles, each a short tone that rises."""
    sound = 0.02 * _noise((300, 3000), hiss(_SIZE, rng)).astype(np.float64)
    time_s = np.arange(int(0.06 * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
    for _ in range(120):
        hz = rng.uniform(400, 1800) * (1 + 4 * time_s)
        bubble = np.sin(2 * np.pi * np.cumsum(hz) / SAMPLING_RATE_HZ) * 0.5 ** (time_s / 0.012)
        start = rng.integers(_SIZE - len(bubble))
        sound[start : start + len(bubble)] += rng.uniform(0.1, 1) * bubble
    return sound


def _engine(turns_per_s: float, rng: Generator) -> NDArray[np.floating]:
    """Pulses whose rate wavers, and the exhaust's noise with them."""
    rate = turns_per_s * (1 + 0.1 * _slow(rng, 2))
    phase = np.cumsum(rate) / SAMPLING_RATE_HZ
    pulse = (1 - phase % 1) ** 6
    return pulse - pulse.mean() + 0.3 * pulse * _noise((100, 1500), hiss(_SIZE, rng))


def _bell(base_hz: float, rng: Generator) -> NDArray[np.floating]:
    """Partials of a church bell, struck every two seconds."""
    partials = ((0.5, 1.0), (1.0, 0.7), (1.2, 0.5), (1.5, 0.4), (2.0, 0.4), (2.7, 0.2), (3.8, 0.1))
    stroke = sum(h * _decaying(base_hz * f, 0.4 / f, 2.0) for f, h in partials)
    return _struck(rng, 0.5, np.asarray(stroke), regular=True)


def _beeps(
    frequencies_hz: Sequence[float], on_s: float, period_s: float, _: Generator
) -> NDArray[np.floating]:
    """Tones of square waves, one after the other, on and off."""
    number = (_TIME_S // period_s).astype(int) % len(frequencies_hz)
    hz = np.asarray(frequencies_hz)[number]
    on = _TIME_S % period_s < on_s
    return on * np.tanh(3 * np.sin(2 * np.pi * np.cumsum(hz) / SAMPLING_RATE_HZ))


def _reversed_babble(voices: Sequence[Waveform], speakers: int, rng: Generator) -> Waveform:
    return babble(_SIZE, rng, [voice[::-1] for voice in voices], speakers)


def _synthesised(notes: Notes, rng: Generator) -> NDArray[np.float64]:
    """A small synthesiser: eight harmonics, attack and decay."""
    sound = np.zeros(_SIZE)
    strength = rng.uniform(0.3, 1, 8) / np.arange(1, 9)
    for start_s, duration_s, hz in notes:
        first = int(start_s * SAMPLING_RATE_HZ)
        time_s = _TIME_S[: min(int(duration_s * SAMPLING_RATE_HZ), _SIZE - first)]
        tone = strength @ np.sin(2 * np.pi * hz * np.arange(1, 9)[:, None] * time_s)
        envelope = np.minimum(time_s / 0.02, 1) * np.exp(-1.5 * time_s / duration_s)
        sound[first : first + len(tone)] += tone * envelope
    return sound


def _music(beats_per_minute: float, rng: Generator) -> NDArray[np.floating]:
    """Chords of a key, a melody of its scale, a bass drum and a hi-hat."""
    beat_s = 60 / beats_per_minute
    scale = 220 * 2 ** (rng.integers(12) / 12 + np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    starts = np.arange(0, DURATION_S - beat_s / 2, beat_s)
    melody = [(start, beat_s, 2 * rng.choice(scale)) for start in starts]
    roots = rng.choice([0, 3, 4], len(starts[::4]))
    chords = [
        (start, 4 * beat_s, scale[(root + third) % 7])
        for start, root in zip(starts[::4], roots, strict=True)
        for third in (0, 2, 4)
    ]
    drum = _struck(rng, 1 / beat_s, _decaying(60, 0.05), regular=True)
    hat = _struck(rng, 2 / beat_s, _knock(rng, 0.01), regular=True)
    return _synthesised(melody, rng) + 0.5 * _synthesised(chords, rng) + drum + 0.05 * hat


# --- all of them ---------------------------------------------------------------------------------

_OTHERS: tuple[tuple[str, str, Sound, float], ...] = (
    *(("hum", f"{hz} Hz", partial(_hum, hz), level) for hz in (50, 60) for level in (-15, -35)),
    *(("hiss", "white", partial(hiss, _SIZE), level) for level in (-20, -30, -40, -50, -60)),
    ("pink noise", "pink", partial(pink, _SIZE), -30),
    *(("constant voltage", "DC", _constant, level) for level in (-6, -20)),
    *(
        ("clicks", f"{rate} a second", partial(_struck, per_s=rate, event=np.ones(4)), -35)
        for rate in (1, 8, 40)
    ),
    *(("tone", f"{hz} Hz", partial(_tone, hz), -20) for hz in (110, 440, 1000, 3000)),
    ("chord", "major", partial(_chord, (262, 330, 392)), -20),
    ("chord", "minor", partial(_chord, (220, 262, 330)), -20),
    ("chord", "cluster", partial(_chord, (110, 117, 131, 185)), -20),
    ("sweep", "up", partial(_sweep, 100, 6000, 4), -20),
    ("sweep", "down", partial(_sweep, 4000, 80, 2), -20),
    ("sweep", "siren", partial(_sweep, 500, 1200, 0.5), -20),
    *(("wind", f"wind {n}", _wind, level) for n, level in enumerate((-15, -25, -40))),
    *(("traffic", f"traffic {n}", _traffic, level) for n, level in enumerate((-20, -30, -40))),
    *(("music", f"{bpm} beats", partial(_music, bpm), -20) for bpm in (70, 100, 120, 150)),
    *(("breathing", f"breaths {n}", _breathing, level) for n, level in enumerate((-25, -35, -45))),
    *(("silence with one click", f"click {n}", _silence_with_click, -50) for n in range(2)),
    ("rain", "light", partial(_rain, drops_per_s=30), -35),
    ("rain", "heavy", partial(_rain, drops_per_s=800), -25),
    *(("engine", f"{rate} a second", partial(_engine, rate), -20) for rate in (28, 75)),
    *(("bell", f"{hz} Hz", partial(_bell, hz), -20) for hz in (320, 880)),
    ("beeps", "alarm", partial(_beeps, (2000,), 0.1, 0.25), -25),
    ("beeps", "ringtone", partial(_beeps, (440, 480, 440, 480, 440, 330), 0.12, 0.15), -25),
    ("beeps", "dialling", partial(_beeps, (425,), 0.5, 1.0), -25),
    *(("water", f"brook {n}", _water, -30) for n in range(2)),
    ("knocks", "steps", lambda rng: _struck(rng, 2, _knock(rng, 0.02), regular=True), -30),
    ("knocks", "at a door", lambda rng: _struck(rng, 4, _knock(rng, 0.04)), -25),
    ("applause", "applause", lambda rng: _struck(rng, 150, _knock(rng, 0.006)), -25),
    ("typing", "keyboard", lambda rng: _struck(rng, 7, _knock(rng, 0.003)), -40),
)


def sounds(seed: int, voices: Sequence[Waveform] = ()) -> Iterator[tuple[str, str, Waveform]]:
    """Kind, name and waveform of each sound.

    Args:
        seed: Of all that is left to chance.
        voices: ``(M,)`` each, speech for babble, which is played backwards. Without any, the four
            sounds of babble are left out.
    """
    table = list(_OTHERS)
    if voices:
        table += [
            ("reversed babble", f"{n} speakers", partial(_reversed_babble, voices, n), -25)
            for n in (2, 3, 5, 8)
        ]
    yield "silence", "digital silence", np.zeros(_SIZE, np.float32)
    for number, (kind, name, shape, level_dbfs) in enumerate(table):
        rng = np.random.default_rng([seed, number])
        yield kind, f"{name}, {level_dbfs} dBFS", at_level(shape(rng), level_dbfs)


def main() -> None:
    """Writes all sounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voices", type=Path, nargs="*", default=[], help="speech, for babble")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    voices = [read_audio(path) for path in options.voices]
    if not voices:
        print("no --voices: reversed babble is left out")
    for number, (kind, name, waveform) in enumerate(sounds(options.seed, voices)):
        path = options.out / f"{number:02} {kind}, {name}.wav"
        write_wav(path, waveform.astype(np.float64))


if __name__ == "__main__":
    main()
