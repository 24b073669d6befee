"""What a clip may be given as: kinds and ranges of all arguments, checked in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError, did_you_mean
from vavl.features.face_features import FaceSource, People
from vavl.media.audio import check_sampling_rate
from vavl.media.container import checked_span
from vavl.media.frames import check_frame_rate, check_frames
from vavl.media.tracks import check_asked


def check_given(given: Mapping[str, Any]) -> None:
    """Checks what is given of a clip, by the names of :meth:`vavl.Recognizer.predict`.

    Whether the values go together, and what the files hold, is for those who open them.

    Raises:
        InputError: A name that is none, or a value of another kind or beyond its range.

    Example:
        >>> check_given({"sampling_rate_hz": 48_000, "face": "found", "path": "a.wav"})
        >>> check_given({"start_s": "1:00"})
        Traceback (most recent call last):
            ...
        vavl.errors.InputError: start_s: expected seconds >= 0, got '1:00'
    """
    for name, value in given.items():
        if name not in _CHECKS:
            raise InputError(
                f"{name}: expected one of {', '.join(_CHECKS)}{did_you_mean(name, _CHECKS)}"
            )
        _CHECKS[name](name, value)
    checked_span(given.get("start_s"), given.get("end_s"))


def check_path(name: str, value: object) -> None:
    """Checks that a value can be the path of a file."""
    if not isinstance(value, (str, Path)):
        raise InputError(f"{name}: expected the path of a file, got {_shown(value)}")
    text = str(value)
    if not text or "\0" in text:
        raise InputError(f"{name}: expected the path of a file, got {_shown(text)}")
    try:
        Path(value).exists()
    except (OSError, ValueError) as error:  # too long for the system, or not for us to see
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{name}: expected the path of a file, got {_shown(text)} ({reason})"
        ) from error


def check_name(name: str, value: object) -> None:
    """Checks that a value can be a name: text that is not empty."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}: expected a name, got {_shown(value)}")


def check_samples(name: str, value: object) -> None:
    """Checks that a value can be a waveform: ``(N,)`` finite floating point numbers."""
    if not isinstance(value, np.ndarray):
        raise InputError(f"{name}: expected an array (N,) of samples, got {_shown(value)}")
    if value.ndim != 1 or not np.issubdtype(value.dtype, np.floating):
        raise InputError(
            f"{name}: expected (N,) mono samples as floating point numbers in [-1, 1], got "
            f"{value.dtype} of shape {value.shape}"
        )
    with np.errstate(over="ignore"):
        if not np.isfinite(value.astype(np.float32, copy=False)).all():
            raise InputError(f"{name}: expected finite samples, got NaN or infinite ones")


def _check_clip_samples(name: str, value: object) -> None:
    check_samples(name, value)
    if not len(value):  # type: ignore[arg-type]
        raise InputError(f"{name}: expected at least one sample, got none")


def _check_clips(name: str, value: object) -> None:
    """One file, or several clips, which are checked one by one."""
    if isinstance(value, (str, Path)):
        check_path(name, value)
    elif isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise InputError(
            f"{name}: expected a file, or a list of files, clips or mappings, got {_shown(value)}"
        )


def _check_features(name: str, value: object) -> None:
    if isinstance(value, (str, Path)):
        check_path(name, value)
        return
    try:
        array: NDArray[Any] = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{name}: expected features (T, D), got {_shown(value)}") from error
    if array.dtype.kind not in "biuf" or array.ndim != 2 or not array.size:
        raise InputError(
            f"{name}: expected features (T, D) with T >= 1 as real numbers, or a .npy file of "
            f"them, got {array.dtype} of shape {array.shape}"
        )


def _check_speaker(name: str, value: object) -> None:
    if not isinstance(value, SpeakerProfile):
        check_name(name, value)


def _check_segments(name: str, value: object) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, (str, Path)):
        check_path(name, value)
    elif isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise InputError(
            f"{name}: expected True, False, turns (start_s, end_s[, speaker[, text]]) or a file of "
            f"them, got {_shown(value)}"
        )


def _check_frame_rate(name: str, value: Any) -> None:
    if value is None:
        raise InputError(f"{name}: expected frames per second, got None")
    check_frame_rate(name, value)


def _check_truth(name: str, value: object) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: expected True or False, got {_shown(value)}")


def _check_callable(name: str, value: object) -> None:
    if not callable(value):
        raise InputError(f"{name}: expected a function, got {_shown(value)}")


def _check_clip_name(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InputError(f"{name}: expected a name, got {_shown(value)}")


def _one_of(kind: object) -> Callable[[str, object], None]:
    known = get_args(kind)

    def check(name: str, value: object) -> None:
        if not isinstance(value, str) or value not in known:
            raise InputError(f"{name}: expected one of {known}, got {_shown(value)}")

    return check


def _may_be_none(check: Callable[[str, Any], object]) -> Callable[[str, Any], None]:
    def checked(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return checked


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_CHECKS: dict[str, Callable[[str, Any], object]] = {
    "path": _may_be_none(_check_clips),
    "audio": _may_be_none(_check_clip_samples),
    "sampling_rate_hz": lambda _, value: check_sampling_rate(value),
    "frames": _may_be_none(lambda _, value: check_frames(value)),
    "frame_rate_hz": _check_frame_rate,
    "acoustic": _may_be_none(_check_features),
    "visual": _may_be_none(_check_features),
    "audio_track": lambda _, value: check_asked(value),
    "face": _one_of(FaceSource),
    "people": _one_of(People),
    "start_s": lambda *_: None,  # both together, see check_given
    "end_s": lambda *_: None,
    "name": _may_be_none(_check_clip_name),
    "speaker": _may_be_none(_check_speaker),
    "timeline": _check_truth,
    "segments": _check_segments,
    "progress": _may_be_none(_check_callable),
    "voice": _check_truth,
}
