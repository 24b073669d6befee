"""Voice activity: which samples of a sound are speech, block by block or of the whole.

The network is Silero VAD, whose weights come with its library; it is loaded with the first sound.
It is made for the level of a telephone, so it hears the sound at the level of its loudest recent
moment, however quiet the recording is.

Source: Silero Team, "Silero VAD", 2024, https://github.com/snakers4/silero-vad (MIT).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from vavl.media.audio import SAMPLING_RATE_HZ

DETECTOR = "silero-vad 6, at two speeds"
"""Names network and rules: part of the key of features that are made of speech alone."""
FRAME = 512
"""Samples that are judged together: 32 ms, as the network takes them."""
ON, OFF = 0.5, 0.35
"""Probability from which on a frame is speech, and below which speech ends."""
SHORTEST = 4
"""Frames: what is shorter than these 0.13 s is no speech."""
PAUSE = 8
"""Frames: pauses of up to 0.26 s inside speech belong to it."""
MARGIN = 2
"""Frames: 0.06 s before and after speech belong to it, for onsets and trailing sounds."""

_AHEAD = SHORTEST - 1 + PAUSE // 2 + PAUSE // 2 - MARGIN
"""Frames that must have come in after one before it is settled."""

_FULL_SCALE = 0.999
"""The largest value of 16 bits is 0.99997, and converters may stop a little before it."""
_LOWEST_HZ = 20.0
"""Edge of the high-pass: below it lie a constant voltage and its drift, but no voice."""
_LEVEL, _FLOOR = 10 ** (-25 / 20), 10 ** (-100 / 20)
"""Root mean square of the loudest recent frame as the network hears it, and the least that it is
taken to have, so that digital silence stays silence."""
_FADE = 10 ** (-3 / 20 * FRAME / SAMPLING_RATE_HZ)
"""How much quieter the loudest recent frame counts from frame to frame: 3 dB a second."""

_MEMORY, _QUIET = 16, 0.1
"""Frames of which the network forgets all where there is none of at least this probability. After a
minute of noise it would otherwise take a second to notice that somebody speaks."""


class Heard(NamedTuple):
    """Samples that are settled.

    Attributes:
        samples: ``(n,)`` at 16 kHz; from a detector, unless told otherwise, without a constant or
            drifting voltage.
        is_speech: ``(n,)``, True where they are speech.
        is_clipped: ``(n,)``, True where the sound came in at full scale.
    """

    samples: NDArray[np.float32]
    is_speech: NDArray[np.bool_]
    is_clipped: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Iterable[Heard]) -> Heard:
        """One after the other; nothing for no parts."""
        parts = [_NOTHING, *parts]
        return cls(
            np.concatenate([part.samples for part in parts]),
            np.concatenate([part.is_speech for part in parts]),
            np.concatenate([part.is_clipped for part in parts]),
        )

    def between(self, first: int, stop: int) -> Heard:
        """The samples from one to the one before another, as far as they are there."""
        span = slice(max(first, 0), max(stop, 0))
        return Heard(self.samples[span], self.is_speech[span], self.is_clipped[span])


_NOTHING = Heard(np.zeros(0, np.float32), np.zeros(0, np.bool_), np.zeros(0, np.bool_))


class AllSound:
    """Takes all sound for speech, and as it is, where nobody asks for the difference."""

    latency_s = 0.0

    def add(self, samples: NDArray[np.float32]) -> Heard:
        """Takes the next ``(n,)`` samples at 16 kHz; returns them."""
        return Heard(samples, np.ones(len(samples), np.bool_), _is_clipped(samples))

    def finish(self) -> Heard:
        """The sound ends; there is nothing left."""
        return _NOTHING


class SpeechDetector:
    """Tells speech from all else in sound that comes in.

    The network hears the sound as it is and slowed, for shrill voices, and the larger probability
    counts. Speech begins with a frame of 32 ms that has at least 0.5 and ends with one below 0.35.
    What is shorter than 0.13 s is dropped, pauses of up to 0.26 s are kept, and so are 0.06 s
    before and after. A sample is settled at most 0.32 s after it came in. How the sound is cut into
    blocks makes no difference, to the bit.

    Args:
        as_it_came: Whether samples are handed on as they came in, with their constant or drifting
            voltage.

    Example:
        >>> detector = SpeechDetector()
        >>> first = detector.add(np.zeros(16_000, np.float32))
        >>> rest = detector.finish()
        >>> len(first.samples) + len(rest.samples), bool(rest.is_speech.any())
        (16000, False)
    """

    latency_s = (_AHEAD + 1) * FRAME / SAMPLING_RATE_HZ

    def __init__(self, *, as_it_came: bool = False) -> None:
        self._as_it_came = as_it_came
        self._listeners = (_Network(), _SlowedNetwork())
        self._rest = np.zeros(0, np.float32)  # less than a frame
        self._last: tuple[float, float] | None = None  # sample before, and what became of it
        self._loudest = 0.0
        self._speaking = False
        self._since = 0  # frames that the network remembers
        self._frames: list[NDArray[np.float32]] = []  # not settled yet: as they came in,
        self._passed: list[NDArray[np.float32]] = []  # and high-passed
        # Before the first frame there is no speech.
        self._verdicts = [False] * _AHEAD

    def add(self, samples: NDArray[np.float32]) -> Heard:
        """Takes the next ``(n,)`` samples at 16 kHz; returns what is settled now."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // FRAME * FRAME
        self._rest = samples[whole:]
        for frame in samples[:whole].reshape(-1, FRAME):
            self._judge(frame)
        return self._settled()

    def finish(self) -> Heard:
        """The sound ends; returns the rest."""
        pending = len(self._frames) * FRAME + len(self._rest)
        if len(self._rest):
            # The last value is held: a step down to zero would sound like a click.
            self._judge(np.pad(self._rest, (0, FRAME - len(self._rest)), mode="edge"))
        self._rest = self._rest[:0]
        self._verdicts += [False] * _AHEAD
        for listener in self._listeners:
            listener.give_back()
        return self._settled().between(0, pending)

    def _judge(self, frame: NDArray[np.float32]) -> None:
        """Whether a frame is speech by itself and by those before it."""
        passed = self._high_passed(frame)
        power = float(np.square(passed, dtype=np.float64).mean())
        self._loudest = max(self._loudest * _FADE, power**0.5, _FLOOR)
        level = np.float32(_LEVEL / self._loudest)
        probability = max(listener(passed * level) for listener in self._listeners)
        self._speaking = probability >= (OFF if self._speaking else ON)
        self._since += 1
        if probability < _QUIET and self._since >= _MEMORY:
            for listener in self._listeners:
                listener.forget()
            self._since = 0
        self._frames.append(frame)
        self._passed.append(passed)
        self._verdicts.append(self._speaking)

    def _high_passed(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """y(n) = x(n) - x(n - 1) + a y(n - 1), which goes on from frame to frame."""
        x = frame.astype(np.float64)
        # The first sample ever has a sample like it before, so that a constant becomes zeros.
        x_before, y_before = self._last or (x[0], 0.0)
        steps = np.diff(x, prepend=x_before)
        y: NDArray[np.float64] = _POWERS * (_DECAY * y_before + np.cumsum(steps / _POWERS))
        self._last = float(x[-1]), float(y[-1])
        return y.astype(np.float32)

    def _settled(self) -> Heard:
        ready = len(self._verdicts) - 2 * _AHEAD
        if ready <= 0:
            return _NOTHING
        verdicts = _tidied(np.array(self._verdicts))
        frames = self._frames if self._as_it_came else self._passed
        samples, is_clipped = np.concatenate(frames[:ready]), _is_clipped(self._frames[:ready])
        del self._passed[:ready], self._frames[:ready], self._verdicts[:ready]
        return Heard(samples, np.repeat(verdicts, FRAME), is_clipped.ravel())


def _tidied(verdicts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drops bursts, keeps pauses and margins: ``(T + 2 * _AHEAD,)`` to ``(T,)``."""
    bursts = np.all(sliding_window_view(verdicts, SHORTEST), axis=1)
    speech = np.any(sliding_window_view(bursts, SHORTEST), axis=1)
    # Widened until the pauses that are kept close; what is too much for a margin is taken back.
    much, too_much = PAUSE // 2, PAUSE // 2 - MARGIN
    wide = np.any(sliding_window_view(speech, 2 * much + 1), axis=1)
    tidied: NDArray[np.bool_] = np.all(sliding_window_view(wide, 2 * too_much + 1), axis=1)
    return tidied


def _is_clipped(samples: ArrayLike) -> NDArray[np.bool_]:
    is_clipped: NDArray[np.bool_] = np.abs(samples) >= _FULL_SCALE
    return is_clipped


def speech_spans(waveform: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Where there is speech in ``(N,)`` samples at 16 kHz: the first sample and the one after.

    Example:
        >>> speech_spans(np.zeros(16_000, np.float32))
        []
    """
    edges = np.flatnonzero(np.diff(_heard(waveform).is_speech, prepend=False, append=False))
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


def only_speech(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """The speech in ``(N,)`` samples at 16 kHz, joined: ``(M,)``, M = 0 where there is none.

    What :func:`speech_spans` finds, without a constant or drifting voltage.
    """
    heard = _heard(waveform)
    return heard.samples[heard.is_speech]


def _heard(waveform: NDArray[np.float32]) -> Heard:
    detector = SpeechDetector()
    return Heard.joined([detector.add(waveform), detector.finish()])


_DECAY = float(np.exp(-2 * np.pi * _LOWEST_HZ / SAMPLING_RATE_HZ))
_POWERS = _DECAY ** np.arange(FRAME)
"""What is left of a step after so many samples; 1/55 at the end of a frame, so dividing is safe."""


class _Network:
    """Silero VAD with a memory of its own: frame after frame of one sound to probabilities."""

    _idle: list[Any] = []  # noqa: RUF012  shared on purpose: each takes 50 ms to load

    def __init__(self) -> None:
        self._model: Any = None

    def __call__(self, frame: NDArray[np.float32]) -> float:
        """The probability that ``(512,)`` samples are speech, given all before."""
        import torch

        if self._model is None:
            self._model = self._idle.pop() if self._idle else _load()
            self._model.reset_states()
        with torch.inference_mode():
            return float(self._model(torch.from_numpy(frame), SAMPLING_RATE_HZ))

    def forget(self) -> None:
        """What comes next is judged as if the sound began there."""
        self._model.reset_states()

    def give_back(self) -> None:
        """The sound is over: another may have the model."""
        if self._model is not None:
            self._idle.append(self._model)
            self._model = None


def _load() -> Any:
    import torch

    threads = torch.get_num_threads()
    import silero_vad

    torch.set_num_threads(threads)  # the import sets one thread for everybody
    return silero_vad.load_silero_vad()


class _SlowedNetwork(_Network):
    """The same, of the sound played at two thirds of its speed.

    The network misses shrill voices: screams and whimpers lie in the range it knows when slowed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = np.float32(0)  # the sample before the frame
        self._rest = np.zeros(0, np.float32)  # of the slowed sound, less than a frame

    def __call__(self, frame: NDArray[np.float32]) -> float:
        """The largest probability of the one or two frames that ``(512,)`` samples complete."""
        around = np.concatenate([[self._before], frame])
        self._before = frame[-1]
        slowed = np.interp(_BETWEEN, np.arange(len(around)), around).astype(np.float32)
        sound = np.concatenate([self._rest, slowed])
        whole = len(sound) // FRAME * FRAME
        self._rest = sound[whole:]
        return max(
            super(_SlowedNetwork, self).__call__(part) for part in sound[:whole].reshape(-1, FRAME)
        )


_BETWEEN = np.arange(1, FRAME * 3 // 2 + 1) * 2 / 3
"""Where the samples of slowed sound lie between those of a frame and the one before it."""
