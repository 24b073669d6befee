"""Voice activity: which samples of a sound are speech, block by block or of the whole.

The network is Silero VAD (:mod:`vavl.media.silero`), loaded with the first sound. It is made for
the level of a telephone, so it hears the sound at the level of its loudest moment, however quiet
the recording is. It says roughly where speech is; what is loud there is what a model hears
(:func:`spoken`), to the sample the same wherever the speech stands in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from vavl.media.audio import SAMPLING_RATE_HZ

DETECTOR = "silero-vad 6, at two speeds and phases, what is within 20 dB"
"""Names network and rules: part of the key of features that are made of speech alone."""
FRAME = 512
"""Samples that are judged together: 32 ms, as the network takes them."""
ON, OFF = 0.5, 0.15
"""Probability from which on a frame is speech, and below which speech ends."""
SHORTEST = 4
"""Frames: what is shorter than these 0.13 s is no speech."""
PAUSE = 8
"""Frames: pauses of up to 0.26 s inside speech belong to it."""
MARGIN = 4
"""Frames: 0.13 s before and after speech belong to it, for onsets and trailing sounds."""

STEP = 320
"""Samples: 20 ms, the step of the encoders of speech, on whose grid :func:`spoken` cuts."""
_LOUD = 10 ** (-20 / 10)
"""Power of the quietest step that begins or ends speech, by that of the loudest one."""
_NEAR = 4
"""Steps: what is quiet up to 0.08 s before or after what is loud belongs to it."""

_AROUND = SHORTEST - 1 + PAUSE // 2 + PAUSE // 2 - MARGIN
"""Frames whose verdicts must be known after one before it is settled, and as many before."""

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
"""The network forgets all after so many frames if the last has not at least this probability. After
a minute of noise it would otherwise take a second to notice that somebody speaks."""


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

    The network hears the sound as it is and slowed, for shrill voices, each in two sequences of
    frames that lie half a frame apart, for what begins at the end of a frame; the largest
    probability counts. Speech begins with a frame of 32 ms that has at least 0.5 and ends with one
    below 0.15. What is shorter than 0.13 s is dropped, pauses of up to 0.26 s are kept, and so are
    0.13 s before and after. A sample is settled at most 0.26 s after it came in. How the sound is
    cut into blocks makes no difference.

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

    latency_s = (_AROUND + 1) * FRAME / SAMPLING_RATE_HZ

    def __init__(self, *, as_it_came: bool = False) -> None:
        self._as_it_came = as_it_came
        self._listeners: Sequence[Any] = ()  # come with the first frame
        self._rest = np.zeros(0, np.float32)  # less than a frame
        self._half = np.zeros(FRAME // 2, np.float32)  # the last of what the network has heard
        self._last: tuple[float, float] | None = None  # sample before, and what became of it
        self._loudest = 0.0
        self._speaking = False
        self._since = 0  # frames that the network remembers
        self._frames: list[NDArray[np.float32]] = []  # not settled yet: as they came in,
        self._passed: list[NDArray[np.float32]] = []  # and high-passed
        # Before the first frame there is no speech.
        self._verdicts = [False] * _AROUND

    def add(self, samples: NDArray[np.float32]) -> Heard:
        """Takes the next ``(n,)`` samples at 16 kHz; returns what is settled now."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // FRAME * FRAME
        self._rest = samples[whole:]
        self._judge(samples[:whole].reshape(-1, FRAME))
        return self._settled()

    def finish(self) -> Heard:
        """The sound ends; returns the rest."""
        pending = len(self._frames) * FRAME + len(self._rest)
        if len(self._rest):
            # The last value is held: a step down to zero would sound like a click.
            self._judge(np.pad(self._rest, (0, FRAME - len(self._rest)), mode="edge")[None])
        self._rest = self._rest[:0]
        self._verdicts += [False] * _AROUND
        return self._settled().between(0, pending)

    def _judge(self, frames: NDArray[np.float32]) -> None:
        """Whether frames are speech by themselves and by those before them."""
        while len(frames):
            part, frames = np.split(frames, [_MEMORY - self._since])
            passed = [self._high_passed(frame) for frame in part]
            self._frames += list(part)
            self._passed += passed
            for probability in self._probabilities(np.stack([*map(self._levelled, passed)])):
                self._speaking = bool(probability >= (OFF if self._speaking else ON))
                self._verdicts.append(self._speaking)

    def _levelled(self, passed: NDArray[np.float32]) -> NDArray[np.float32]:
        power = float(np.square(passed, dtype=np.float64).mean())
        self._loudest = max(self._loudest * _FADE, power**0.5, _FLOOR)
        return passed * np.float32(_LEVEL / self._loudest)

    def _probabilities(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of ``(n, 512)`` samples, up to where the network may forget."""
        from vavl.media.silero import Listener, SlowedListener

        if not self._listeners:
            self._listeners = [kind() for kind in (Listener, SlowedListener) for _ in range(2)]
        sound = np.concatenate([self._half, frames.ravel()])
        self._half = sound[frames.size :]
        earlier = sound[: frames.size].reshape(-1, FRAME)  # by half a frame
        heard = zip(self._listeners, (frames, earlier) * 2, strict=True)
        found: NDArray[np.float32] = np.max([listener(part) for listener, part in heard], axis=0)
        self._since = (self._since + len(frames)) % _MEMORY
        if not self._since and found[-1] < _QUIET:
            for listener in self._listeners:
                listener.forget()
        return found

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
        ready = len(self._verdicts) - 2 * _AROUND
        if ready <= 0:
            return _NOTHING
        verdicts = _tidied(np.array(self._verdicts))
        frames = self._frames if self._as_it_came else self._passed
        samples, is_clipped = np.concatenate(frames[:ready]), _is_clipped(self._frames[:ready])
        del self._passed[:ready], self._frames[:ready], self._verdicts[:ready]
        return Heard(samples, np.repeat(verdicts, FRAME), is_clipped.ravel())


def _tidied(verdicts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drops bursts, keeps pauses and margins: ``(T + 2 * _AROUND,)`` to ``(T,)``."""
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
    """What is spoken in ``(N,)`` samples at 16 kHz: ``(M,)``, M = 0 where there is no speech.

    What is loud (:func:`spoken`) in what :func:`speech_spans` finds, without a constant or drifting
    voltage.
    """
    heard = _heard(waveform)
    return spoken(heard.samples, heard.is_speech)


def spoken(samples: NDArray[np.float32], is_speech: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What is loud in speech, joined: ``(M,)`` of ``(N,)`` samples, see :func:`is_spoken`."""
    return samples[is_spoken(samples, is_speech)]


def is_spoken(samples: NDArray[np.float32], is_speech: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is loud in speech: steps of 20 ms on a grid through the loudest sample.

    Where voice activity begins and ends depends on noise, and on where its frames fall; which
    samples an encoder sees in one step depends on where the sound begins. Both would move what is
    heard, and others who talk would fill the pauses. So the grid is laid through the loudest sample
    of the speech, and steps that are more than 20 dB quieter than the loudest step are left out,
    but for 0.08 s around louder ones.

    Args:
        samples: ``(N,)`` at 16 kHz.
        is_speech: ``(N,)``, roughly where speech is.

    Returns:
        ``(N,)``, True in whole steps; nowhere if no step is speech alone.

    Example:
        >>> sound = np.concatenate([np.zeros(1000), np.ones(700), np.zeros(1000)])
        >>> np.flatnonzero(np.diff(is_spoken(sound.astype(np.float32), np.ones(2700, bool))))
        array([  39, 2599])
    """
    found = np.zeros(len(samples), np.bool_)
    first = int(np.argmax(np.abs(samples) * is_speech)) % STEP if len(samples) else 0
    count = max(0, len(samples) - first) // STEP
    if not count:
        return found
    grid = slice(first, first + count * STEP)
    steps = samples[grid].reshape(-1, STEP)
    covered = is_speech[grid].reshape(-1, STEP).all(axis=1)
    power = np.square(steps, dtype=np.float64).mean(axis=1) * covered
    loud = covered & (power >= _LOUD * power.max(initial=0.0))
    near = sliding_window_view(np.pad(loud, _NEAR), 2 * _NEAR + 1).any(axis=1)
    found[grid] = np.repeat(near & covered, STEP)
    return found


def _heard(waveform: NDArray[np.float32]) -> Heard:
    detector = SpeechDetector()
    return Heard.joined([detector.add(waveform), detector.finish()])


_DECAY = float(np.exp(-2 * np.pi * _LOWEST_HZ / SAMPLING_RATE_HZ))
_POWERS = _DECAY ** np.arange(FRAME)
"""What is left of a step after so many samples; 1/55 at the end of a frame, so dividing is safe."""
