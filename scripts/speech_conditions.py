"""What recordings do to speech: rooms, noise, microphones, telephones, codecs, levels.

    python scripts/speech_conditions.py SPEECH_FILE --out FOLDER    # each condition as a WAV file

Waveforms are ``(N,)`` float32 at 16 kHz, full scale [-1, 1]. All that is heard stays at its time,
but for :func:`faster`, which alone changes N. :data:`CONDITIONS` are for trials, each with one
change of fixed strength; :func:`augmented` draws changes at random, for training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import resample_poly

from vavl.media.audio import SAMPLING_RATE_HZ, read_audio
from vavl.media.writing import write_wav

Waveform = NDArray[np.float32]
Condition = Callable[[Waveform, Generator, Sequence[Waveform]], Waveform]
"""A waveform, where chance comes from, and speech of others, for babble."""

_RING = 2048
"""Samples by which a filter may spread what it gets."""
_SOUND_M_PER_S = 343.0


# --- level and bandwidth -----------------------------------------------------------------------


def louder(waveform: Waveform, decibels: float) -> Waveform:
    """Another level; what goes beyond full scale is clipped."""
    return np.clip(waveform * np.float32(10 ** (decibels / 20)), -1, 1)


def shaped(
    waveform: Waveform, gains: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Waveform:
    """Filters without any shift in time: ``gains`` maps frequencies in Hz to factors."""
    size = next_fast_len(len(waveform) + _RING, real=True)
    factors = gains(rfftfreq(size, 1 / SAMPLING_RATE_HZ)).astype(np.float32)
    filtered: Waveform = irfft(rfft(waveform, size) * factors, size)[: len(waveform)]
    return filtered


def telephone(waveform: Waveform) -> Waveform:
    """A fixed-line call: 300 to 3400 Hz at 8 kHz, 8 bits by the mu-law of ITU-T G.711."""
    band = shaped(waveform, lambda hz: np.interp(hz, [150, 300, 3400, 4000], [0, 1, 1, 0]))
    companded = np.sign(band[::2]) * np.log1p(255 * np.minimum(np.abs(band[::2]), 1)) / np.log(256)
    levels = np.round(companded * 127) / 127
    expanded = np.sign(levels) * np.expm1(np.abs(levels) * np.log(256)) / 255
    return resample_poly(expanded.astype(np.float32), 2, 1)[: len(waveform)]


def laptop(waveform: Waveform, rng: Generator) -> Waveform:
    """A small microphone in a case: 150 to 6500 Hz with four resonances of up to 8 dB."""
    centres = np.exp(rng.uniform(np.log(200), np.log(6000), 4))
    heights_db = rng.uniform(-8, 8, 4)
    widths = rng.uniform(0.05, 0.3, 4)

    def gains(hz: NDArray[np.float64]) -> NDArray[np.float64]:
        octaves = np.log(np.maximum(hz, 1) / centres[:, None])
        decibels = heights_db @ np.exp(-0.5 * (octaves / widths[:, None]) ** 2)
        return np.interp(hz, [80, 150, 6500, 7200], [0, 1, 1, 0]) * 10 ** (decibels / 20)

    return shaped(waveform, gains)


def equalised(waveform: Waveform, rng: Generator, deviation_db: float = 5.0) -> Waveform:
    """A smooth curve over log frequency, with six stations from 60 Hz to 8 kHz."""
    stations, decibels = np.linspace(np.log(60), np.log(8000), 6), rng.normal(0, deviation_db, 6)

    def gains(hz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 10 ** (
            np.interp(np.log(np.maximum(hz, 1)), stations, decibels - decibels.mean()) / 20
        )

    return shaped(waveform, gains)


def faster(waveform: Waveform, factor: float) -> Waveform:
    """Played at another speed, as a tape is: pitch and formants move too; ``(N / factor,)``."""
    ratio = Fraction(factor).limit_denominator(100)
    return resample_poly(waveform, ratio.denominator, ratio.numerator).astype(np.float32)


# --- codecs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Codec:
    """How FFmpeg encodes and decodes.

    Attributes:
        encoder: Its name.
        decoder: Its name.
        sample_format: What the encoder is given.
        delay: Samples that come out before the first; 0 where the decoder removes them.
        options: The fast way of each encoder.
    """

    encoder: str
    decoder: str
    sample_format: str
    delay: int = 0
    options: dict[str, str] = field(default_factory=dict)


_CODECS = {
    "opus": _Codec("libopus", "libopus", "flt", options={"compression_level": "0"}),
    "aac": _Codec("aac", "aac", "fltp", 1024, {"aac_coder": "fast"}),
    "mp3": _Codec("libmp3lame", "mp3float", "fltp", options={"compression_level": "9"}),
}


def encoded(waveform: Waveform, codec: str, kbit_per_s: float) -> Waveform:
    """Through a lossy codec at 16 kHz and back.

    Args:
        waveform: ``(N,)``.
        codec: ``"opus"``, ``"aac"`` or ``"mp3"``.
        kbit_per_s: Bit rate.
    """
    chosen = _CODECS[codec]
    encoder = av.CodecContext.create(chosen.encoder, "w")
    decoder = av.CodecContext.create(chosen.decoder, "r")
    assert isinstance(encoder, av.AudioCodecContext)
    assert isinstance(decoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout = SAMPLING_RATE_HZ, "mono"
    encoder.format, encoder.bit_rate = chosen.sample_format, round(1000 * kbit_per_s)
    encoder.options, encoder.time_base = chosen.options, Fraction(1, SAMPLING_RATE_HZ)
    encoder.open()
    samples = np.clip(waveform, -1, 1).astype(np.float32)
    packets = []
    for start in range(0, len(samples), encoder.frame_size):
        part = samples[start : start + encoder.frame_size][None]
        frame = av.AudioFrame.from_ndarray(part, format=chosen.sample_format, layout="mono")
        frame.sample_rate, frame.pts = SAMPLING_RATE_HZ, start
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder.extradata = encoder.extradata
    decoder.sample_rate, decoder.layout = SAMPLING_RATE_HZ, "mono"
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    if decoded.dtype == np.int16:
        decoded = decoded / np.float32(32768)
    decoded = resample_poly(decoded, 1, frames[0].sample_rate // SAMPLING_RATE_HZ)
    kept = decoded[chosen.delay :][: len(waveform)]
    return np.pad(kept, (0, len(waveform) - len(kept))).astype(np.float32)


def _power(waveform: Waveform) -> float:
    return float(np.mean(np.square(waveform)))


# --- noise -------------------------------------------------------------------------------------


def with_noise(waveform: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Adds noise ``(N,)`` so that the powers of both, over the whole clip, have this ratio.

    Pauses count: in RAVDESS, where half of a clip is pause, speech itself is 3 dB louder.
    """
    factor = np.sqrt(_power(waveform) / max(_power(noise), 1e-20) / 10 ** (snr_db / 10))
    return waveform + np.float32(factor) * noise


def hiss(length: int, rng: Generator) -> Waveform:
    """White noise of unit deviation."""
    return rng.standard_normal(length, dtype=np.float32)


def pink(length: int, rng: Generator) -> Waveform:
    """Noise whose power falls by 3 dB per octave above 20 Hz."""
    return shaped(hiss(length, rng), lambda hz: (np.maximum(hz, 20) / 20) ** -0.5)


def hum(length: int, rng: Generator) -> Waveform:
    """50 or 60 Hz with 20 harmonics of random strength and phase, falling by 6 dB per octave."""
    time_s = np.arange(length, dtype=np.float32) / SAMPLING_RATE_HZ
    turn = np.exp(2j * np.pi * rng.choice([50, 60]) * time_s).astype(np.complex64)
    weights = rng.uniform(0.2, 1, 20) / np.arange(1, 21) * np.exp(2j * np.pi * rng.random(20))
    harmonics = np.zeros(length, np.complex64)
    for weight in weights[::-1].astype(np.complex64):  # Horner's rule: no sine per harmonic
        harmonics = (harmonics + weight) * turn
    return harmonics.real.copy()


def babble(length: int, rng: Generator, voices: Sequence[Waveform], speakers: int = 5) -> Waveform:
    """Several clips at once, at one level, each from some place on and repeated.

    Args:
        length: N.
        rng: Where chance comes from.
        voices: ``(M,)`` each, speech of others.
        speakers: How many are heard.
    """
    total = np.zeros(length, np.float32)
    for index in rng.integers(len(voices), size=speakers):
        voice = voices[index]
        start = int(rng.integers(len(voice)))
        level = np.float32(np.sqrt(_power(voice)) + 1e-9)
        total += np.take(voice, np.arange(start, start + length), mode="wrap") / level
    return total


# --- rooms -------------------------------------------------------------------------------------


def in_room(waveform: Waveform, response: NDArray[np.float32]) -> Waveform:
    """Heard in a room, as loud as before; the direct sound keeps its time.

    Args:
        waveform: ``(N,)``.
        response: ``(M,)`` that begins with the direct sound, as :func:`room` makes it.
    """
    size = next_fast_len(len(waveform) + len(response), real=True)
    heard = irfft(rfft(waveform, size) * rfft(response, size), size)[: len(waveform)]
    level = np.sqrt(_power(waveform) / max(_power(heard), 1e-20))
    result: Waveform = heard * np.float32(level)
    return result


def room(
    sides_m: ArrayLike, rt60_s: float, distance_m: float, rng: Generator
) -> NDArray[np.float32]:
    """The response of a shoebox from the direct sound on, which has amplitude 1.

    The first 30 ms are reflections one by one (image method: Allen, Berkley, "Image method for
    efficiently simulating small-room acoustics", 1979), with the wall's reflection by Eyring's
    formula; later ones lie so close that they are Gaussian noise of the same mean power.

    Args:
        sides_m: Length, width and height.
        rt60_s: Time in which the power falls by 60 dB.
        distance_m: From mouth to microphone, less than half of the shortest side.
        rng: Where the two are, and the noise.
    """
    sides = np.asarray(sides_m, float)
    volume, surface = sides.prod(), 2 * (sides.prod() / sides).sum()
    reflection = np.exp(-0.161 * volume / (surface * rt60_s) / 2)  # of the amplitude
    turn = rng.normal(size=3)
    offset = distance_m * turn / np.linalg.norm(turn)
    mouth = rng.uniform(np.maximum(-offset, 0) + 0.2, sides - np.maximum(offset, 0) - 0.2)

    early_s = min(0.03, rt60_s)
    reach = distance_m + early_s * _SOUND_M_PER_S
    axes, walls = [], []
    for side, at, ear in zip(sides, mouth, mouth + offset, strict=True):
        number = np.arange(-int(reach / side) - 1, int(reach / side) + 2)
        # Behind an even number of walls the room is as it is, behind an odd number mirrored.
        image = number * side + np.where(number % 2 == 0, at, side - at)
        axes.append((image - ear) ** 2)
        walls.append(np.abs(number))
    distances = np.sqrt(np.add.outer(np.add.outer(axes[0], axes[1]), axes[2])).ravel()
    bounces = np.add.outer(np.add.outer(walls[0], walls[1]), walls[2]).ravel()
    delays = np.round((distances - distance_m) / _SOUND_M_PER_S * SAMPLING_RATE_HZ).astype(int)
    early = int(early_s * SAMPLING_RATE_HZ)
    response = np.zeros(max(early + 1, int(rt60_s * SAMPLING_RATE_HZ)))
    near = delays < early
    np.add.at(response, delays[near], (distance_m / distances * reflection**bounces)[near])
    late_s = np.arange(early, len(response)) / SAMPLING_RATE_HZ
    # In a second at t there are 4 pi c^3 t^2 / V images, each with (d / c t)^2 of the direct power.
    power = 4 * np.pi * _SOUND_M_PER_S * distance_m**2 / volume / SAMPLING_RATE_HZ
    decay = 10 ** (-3 * late_s / rt60_s)
    response[early:] = np.sqrt(power) * decay * rng.standard_normal(len(late_s))
    return response.astype(np.float32)


# --- put together ------------------------------------------------------------------------------


def _small_room(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    return in_room(waveform, room((3.5, 3.0, 2.5), 0.35, 1.0, rng))


def _large_room(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    return in_room(waveform, room((9.0, 7.0, 3.2), 0.8, 1.2, rng))


def _noisy(
    snr_db: float,
    noise: Callable[[int, Generator, Sequence[Waveform]], Waveform],
    waveform: Waveform,
    rng: Generator,
    voices: Sequence[Waveform],
) -> Waveform:
    return with_noise(waveform, noise(len(waveform), rng, voices), snr_db)


_NOISES: dict[str, Callable[[int, Generator, Sequence[Waveform]], Waveform]] = {
    "babble": babble,
    "hum": lambda length, rng, _: hum(length, rng),
    "hiss": lambda length, rng, _: hiss(length, rng),
}

CONDITIONS: dict[str, Condition] = {
    "clean": lambda x, *_: x,
    "gain -40 dB": lambda x, *_: louder(x, -40),
    "gain -20 dB": lambda x, *_: louder(x, -20),
    "gain +6 dB": lambda x, *_: louder(x, 6),
    "telephone": lambda x, *_: telephone(x),
    "laptop": lambda x, rng, _: laptop(x, rng),
    "opus 16 kbit/s": lambda x, *_: encoded(x, "opus", 16),
    "aac 32 kbit/s": lambda x, *_: encoded(x, "aac", 32),
    "mp3 32 kbit/s": lambda x, *_: encoded(x, "mp3", 32),
    "small room": _small_room,
    "large room": _large_room,
    **{
        f"{name} {snr_db} dB": partial(_noisy, snr_db, noise)
        for snr_db in (20, 10)
        for name, noise in _NOISES.items()
    },
}
"""By name: what a trial does to a clip."""


def _any_speed(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    return faster(waveform, rng.integers(90, 111) / 100)


def _any_room(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    sides = rng.uniform((2.5, 2.5, 2.3), (10.0, 8.0, 3.5))
    return in_room(waveform, room(sides, rng.uniform(0.2, 0.9), rng.uniform(0.3, 1.1), rng))


def _any_noise(waveform: Waveform, rng: Generator, voices: Sequence[Waveform]) -> Waveform:
    kinds: list[Callable[[int, Generator], Waveform]] = [hiss, pink, hum]
    if voices:
        kinds.append(partial(babble, voices=voices))
    kind = kinds[rng.integers(len(kinds))]
    return with_noise(waveform, kind(len(waveform), rng), rng.uniform(5, 30))


def _any_equaliser(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    return equalised(waveform, rng)


def _any_bandwidth(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    return telephone(waveform) if rng.random() < 0.5 else laptop(waveform, rng)


def _any_codec(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    codec = ("opus", "aac", "mp3")[rng.integers(3)]
    rates = {"opus": (12, 16, 24, 32), "aac": (24, 32, 48, 64), "mp3": (16, 24, 32, 64)}[codec]
    return encoded(waveform, codec, rates[rng.integers(4)])


def _any_level(waveform: Waveform, rng: Generator, _: Sequence[Waveform]) -> Waveform:
    return louder(waveform, rng.uniform(-40, 6))


_CHAIN: tuple[Condition, ...] = (
    _any_speed,
    _any_room,
    _any_noise,
    _any_equaliser,
    _any_bandwidth,
    _any_codec,
    _any_level,
)
"""In the order in which sound meets them, from the speaker to the player. The level comes last:
eight bits would lose what is 40 dB quieter, and no label fits silence."""

CLEAN = 0.25
"""Share of clips that stay as they are."""


def augmented(waveform: Waveform, rng: Generator, noises: Sequence[Waveform] = ()) -> Waveform:
    """One to three changes at random, in the order of a recording; a quarter of clips has none.

    Args:
        waveform: ``(N,)``.
        rng: Where chance comes from.
        noises: ``(M,)`` each, speech of others for babble; without any, there is no babble.

    Returns:
        ``(N,)``, or between ``(N / 1.1,)`` and ``(N / 0.9,)`` where the speed is changed.
    """
    if rng.random() < CLEAN:
        return waveform
    chosen = rng.choice(len(_CHAIN), size=int(rng.integers(1, 4)), replace=False)
    for index in sorted(chosen):
        waveform = _CHAIN[index](waveform, rng, noises)
    return waveform


def main() -> None:
    """Writes every condition of a file, to be listened to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("speech", type=Path, help="sound file of one speaker")
    parser.add_argument("--voices", type=Path, nargs="+", help="others, for babble")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    speech = read_audio(options.speech)
    voices = [read_audio(path) for path in options.voices or [options.speech]]
    options.out.mkdir(parents=True, exist_ok=True)
    for name, condition in CONDITIONS.items():
        changed = condition(speech, np.random.default_rng(options.seed), voices)
        path = options.out / f"{name.replace('/', ' per ')}.wav"
        write_wav(path, changed.astype(np.float64))


if __name__ == "__main__":
    main()
