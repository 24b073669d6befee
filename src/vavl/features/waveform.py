"""The base of acoustic extractors: conditioning of the waveform, then features."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vavl.errors import InputError, MediaError, all_problems
from vavl.media.audio import SAMPLING_RATE_HZ, SILENCE_DBFS, level_dbfs, read_audio, resample
from vavl.media.speech import DETECTOR, only_speech
from vavl.system.device import Precision
from vavl.types import FeatureSpec

NormalizationName = Literal["utterance", "none", "corpus"]


class WaveformStatistics(NamedTuple):
    """Mean and standard deviation of the samples of a corpus."""

    mean: float
    std: float


def corpus_statistics(blocks: Iterable[NDArray[np.floating]]) -> WaveformStatistics:
    """Mean and standard deviation over all samples of a corpus, in blocks ``(n,)``, n >= 1.

    Give clips of the training side only, and the result to an extractor with
    ``normalization="corpus"``.

    Raises:
        InputError: There are no samples, or all of them are equal.

    Example:
        >>> corpus_statistics([np.array([0.0, 0.5]), np.array([0.5, 0.0])])
        WaveformStatistics(mean=0.25, std=0.25)

    Source: Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983 (pairwise
    update of mean and squared deviations).
    """
    count, mean, squares = 0, 0.0, 0.0
    for block in blocks:
        samples = block.astype(np.float64)
        size, difference = len(samples), float(samples.mean()) - mean
        squares += float(np.square(samples - samples.mean()).sum())
        squares += difference**2 * count * size / (count + size)
        mean += difference * size / (count + size)
        count += size
    if count == 0:
        raise InputError("blocks: expected at least one clip to take statistics from, got none")
    if squares == 0:
        raise InputError("blocks: every clip is silent; there is no deviation to normalise by")
    return WaveformStatistics(mean, math.sqrt(squares / count))


class ConditioningOptions(TypedDict, total=False):
    """The attributes of :class:`Conditioning`, as options of every extractor of sound."""

    normalization: NormalizationName
    corpus_mean: float | None
    corpus_std: float | None
    max_duration_s: float | None
    speed: float
    silence_db: float | None
    speech_only: bool


@dataclass(frozen=True)
class Conditioning:
    """Cap, cut, change of speed, normalisation, silence. All values enter the key of the store.

    Attributes:
        normalization: ``"utterance"`` (zero mean and unit variance per clip: the features of a clip
            do not depend on the fold, nor on the gain of the recording), ``"none"``, or
            ``"corpus"`` (as in the paper: with statistics of the training set).
        corpus_mean: For ``"corpus"``: mean of all samples, see :func:`corpus_statistics`.
        corpus_std: For ``"corpus"``: standard deviation of all samples.
        max_duration_s: The clip is cut after this many seconds; None keeps everything.
        speed: Factor by which the sound is played faster, with its pitch and formants, as a tape
            would: another voice saying the same, for augmentation in training. Source: Ko et al.
            2015, "Audio augmentation for speech recognition".
        silence_db: Steps that are quieter than the loudest one of the clip by more than this
            become rows of NaN, which keep their place in time and are masked wherever features
            are used. None keeps every step.

    Raises:
        InputError: Naming every value that does not fit.
    """

    normalization: NormalizationName = "utterance"
    corpus_mean: float | None = None
    corpus_std: float | None = None
    max_duration_s: float | None = None
    speed: float = 1.0
    silence_db: float | None = None
    speech_only: bool = False

    def __post_init__(self) -> None:
        problems = []
        known = get_args(NormalizationName)
        if self.normalization not in known:
            problems.append(f"normalization: expected one of {known}, got {self.normalization!r}")
        if self.normalization == "corpus":
            if not _is_number(self.corpus_mean):
                problems.append(
                    f"corpus_mean: expected a number for normalization='corpus', "
                    f"got {self.corpus_mean!r}; corpus_statistics() computes it"
                )
            if not _is_number(self.corpus_std, above=0):
                problems.append(
                    f"corpus_std: expected a positive number for normalization='corpus', "
                    f"got {self.corpus_std!r}; corpus_statistics() computes it"
                )
        elif self.corpus_mean is not None or self.corpus_std is not None:
            problems.append(
                "corpus_mean, corpus_std: only used by normalization='corpus', "
                f"got normalization={self.normalization!r}"
            )
        if self.max_duration_s is not None and not _is_number(self.max_duration_s, above=0):
            problems.append(f"max_duration_s: expected seconds > 0, got {self.max_duration_s!r}")
        if not _is_number(self.speed, above=0) or not 0.5 <= self.speed <= 2:
            problems.append(f"speed: expected a factor from 0.5 to 2, got {self.speed!r}")
        if self.silence_db is not None and not _is_number(self.silence_db, above=0):
            problems.append(f"silence_db: expected decibels > 0, got {self.silence_db!r}")
        if not isinstance(self.speech_only, bool):
            problems.append(f"speech_only: expected True or False, got {self.speech_only!r}")
        if problems:
            raise InputError(all_problems("waveform conditioning", problems))

    def parameters(self) -> dict[str, Any]:
        """For :attr:`vavl.types.FeatureSpec.parameters`."""
        parameters = {
            name: float(value) if _is_number(value) else value
            for name, value in asdict(self).items()
        }
        # So that older stores keep their keys.
        for name in ("silence_db", "speech_only"):
            if not parameters[name]:
                del parameters[name]
        if self.speech_only:
            parameters["speech_detector"] = DETECTOR
        return parameters

    def apply(
        self, waveform: NDArray[np.float32], *, is_speech: bool = False
    ) -> NDArray[np.float32]:
        """Caps, cuts, speeds up or down and normalises ``(N,)`` samples at 16 kHz.

        A clip of one constant value has no variance to divide by: it becomes zeros.

        Args:
            waveform: The samples.
            is_speech: Whether they are known to be speech alone, so that none is looked for.

        Raises:
            MediaError: Speech is asked for, and there is none.
        """
        if self.max_duration_s is not None:
            waveform = waveform[: max(1, round(self.max_duration_s * SAMPLING_RATE_HZ))]
        if self.speech_only and not is_speech:
            waveform = _speech(waveform)
        if self.speed != 1:
            waveform = resample(waveform, round(SAMPLING_RATE_HZ * self.speed))
        if self.normalization == "none":
            return waveform
        # Not float32: the sum over a long clip would lose digits.
        samples = waveform.astype(np.float64)
        if self.normalization == "corpus":
            assert self.corpus_mean is not None  # __post_init__ has checked both
            assert self.corpus_std is not None
            return ((samples - self.corpus_mean) / self.corpus_std).astype(np.float32)
        samples -= samples.mean()
        deviation = float(samples.std())
        # Rounding leaves a constant clip a deviation far below one step of 24-bit sound (1e-7).
        return (samples / deviation if deviation > 1e-10 else samples * 0.0).astype(np.float32)

    def is_silence(self, waveform: NDArray[np.float32], steps: int, hop: int) -> NDArray[np.bool_]:
        """Which steps are quieter than :attr:`silence_db` allows; the loudest one never is.

        Args:
            waveform: ``(N,)`` samples, as :meth:`apply` returns them.
            steps: How many steps (T) there are; the first begins with the first sample.
            hop: Samples of a step.

        Returns:
            ``(T,)``, True in silence.
        """
        assert self.silence_db is not None
        samples = waveform[: steps * hop].astype(np.float64)
        samples = np.pad(samples, (0, steps * hop - len(samples))).reshape(steps, hop)
        power = np.square(samples).mean(axis=1)
        quiet: NDArray[np.bool_] = power < power.max() * 10 ** (-self.silence_db / 10)
        return quiet


def _speech(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    speech = only_speech(waveform)
    if not len(speech):
        silent = level_dbfs(waveform) < SILENCE_DBFS
        reason = "the sound is silence" if silent else "no speech in the sound"
        raise MediaError(f"{reason}: nothing is left of it with speech_only")
    return speech


def _is_number(value: object, above: float = -math.inf) -> bool:
    # A number from a configuration file may come as a string.
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and above < value < math.inf
    )


class WaveformExtractor(ABC):
    """Base of the acoustic extractors that read sound.

    A subclass has a ``name``, which enters the key of the store. It sets ``spec`` and the
    ``conditioning`` of the waveform when it is made, and computes the features in ``_features``.
    One with a network has a ``device``, by name, which is sought in the process that computes.

    Attributes:
        device: Where the features are computed.
    """

    name: ClassVar[str]
    source_field: ClassVar[Literal["audio_path"]] = "audio_path"
    spec: FeatureSpec
    conditioning: Conditioning
    device: str = "cpu"

    def extract_file(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,
        end_s: float | None = None,
        *,
        track: int | None = None,
    ) -> NDArray[np.float32]:
        """Features ``(T, D)`` of a sound or video file, or of a part of it.

        Arguments are those of :func:`vavl.media.audio.read_audio`.
        """
        return self.features_of([self.read_file(path, start_s, end_s, track=track)])[0]

    def read_file(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,
        end_s: float | None = None,
        *,
        track: int | None = None,
    ) -> NDArray[np.float32]:
        """What the features of a file are computed from: ``(N,)`` conditioned samples at 16 kHz.

        It uses neither weights nor the device, so that other processes can read ahead.
        """
        cap_s = self.conditioning.max_duration_s
        if cap_s is not None:
            capped_s = (start_s or 0.0) + cap_s
            end_s = capped_s if end_s is None else min(end_s, capped_s)
        return self._conditioned(read_audio(path, start_s=start_s, end_s=end_s, track=track))

    def features_of(self, read: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Features ``(T, D)`` of each of the files that :meth:`read_file` has read.

        They are those of each file by itself, up to rounding.
        """
        features = self._features_of_many(read)
        return [self._checked(*pair) for pair in zip(features, read, strict=True)]

    def extract(
        self,
        waveform: ArrayLike,
        sampling_rate_hz: int = SAMPLING_RATE_HZ,
        *,
        is_speech: bool = False,
    ) -> NDArray[np.float32]:
        """Features of a waveform.

        Args:
            waveform: ``(N,)`` samples, full scale [-1, 1].
            sampling_rate_hz: Rate of the waveform; resampled to 16 kHz where it differs.
            is_speech: Whether it is known to be speech alone: ``speech_only`` then cuts nothing.

        Returns:
            ``(T, D)``; a step of silence is a row of NaN where ``silence_db`` asks for it.

        Raises:
            InputError: The waveform is not one-dimensional, empty, or not finite.
            MediaError: The features are not finite, or there is no speech where ``speech_only``
                asks for it.
        """
        conditioned = self._conditioned(waveform, sampling_rate_hz, is_speech)
        return self._checked(self._features(conditioned), conditioned)

    def _conditioned(
        self,
        waveform: ArrayLike,
        sampling_rate_hz: int = SAMPLING_RATE_HZ,
        is_speech: bool = False,
    ) -> NDArray[np.float32]:
        """Checks a waveform and prepares it: ``(N,)`` samples at 16 kHz for :meth:`_features`."""
        samples = np.asarray(waveform)
        if samples.ndim != 1 or not len(samples):
            raise InputError(
                f"waveform: expected (N,) mono samples with N >= 1, got {samples.shape}"
            )
        if not np.issubdtype(samples.dtype, np.floating):
            raise InputError(
                f"waveform: expected floating point samples in [-1, 1], got {samples.dtype}; "
                "divide integers by their full scale, e.g. 32768 for int16"
            )
        if not np.isfinite(samples).all():
            raise InputError("waveform: expected finite samples, got NaN or infinite ones")
        samples = resample(samples.astype(np.float32, copy=False), sampling_rate_hz)
        return self.conditioning.apply(samples, is_speech=is_speech)

    def _checked(
        self, features: NDArray[np.float32], conditioned: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Refuses features ``(T, D)`` that are not finite, and leaves out silence."""
        if not np.isfinite(features).all():
            raise MediaError(
                f"{self.spec.extractor}: the features of this clip are not finite; "
                "does it contain absurdly large samples?"
            )
        if self.conditioning.silence_db is not None:
            assert self.spec.frame_rate_hz is not None
            hop = round(SAMPLING_RATE_HZ / self.spec.frame_rate_hz)
            features[self.conditioning.is_silence(conditioned, len(features), hop)] = np.nan
        return features

    @abstractmethod
    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(N,)`` conditioned samples at 16 kHz to ``(T, D)``; pads clips that are too short."""

    def _features_of_many(
        self, waveforms: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """The same of several clips, for an encoder that takes them in one pass."""
        return [self._features(waveform) for waveform in waveforms]


def precision_parameter(precision: Precision) -> dict[str, Any]:
    """For :attr:`vavl.types.FeatureSpec.parameters`: the precision that an encoder computes in.

    Raises:
        InputError: There is no such precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision: expected one of {get_args(Precision)}, got {precision!r}")
    # Only where it is asked for, so that older stores keep their keys.
    return {} if precision == "float32" else {"precision": precision}


def padded(waveform: NDArray[np.float32], least: int) -> NDArray[np.float32]:
    """Appends zeros to clips shorter than one frame, so that they give one."""
    return np.pad(waveform, (0, max(0, least - len(waveform))))
