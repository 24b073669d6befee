"""Sound and picture of a clip as two streams, from a file or from arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.features.face_features import FaceFeatures, FaceStep
from vavl.media.audio import SAMPLING_RATE_HZ, audio_blocks, resample
from vavl.media.container import media_info
from vavl.media.frames import array_frames

_SAMPLES_PER_BLOCK = SAMPLING_RATE_HZ
"""Arrays are handed on in pieces of a second, as files are."""

FRAME_RATE_HZ = 25.0
"""Of pictures in an array, unless another rate is given."""


@dataclass
class ClipStreams:
    """Sound and picture of a clip, as far as they are there and asked for.

    Attributes:
        audio: Blocks of samples at 16 kHz, or None.
        steps: What is seen, or None.
        step_s: From one step to the next.
    """

    audio: Iterator[NDArray[np.float32]] | None
    steps: Iterator[FaceStep] | None
    step_s: float


def streams_of_file(path: Path, *, sound: bool, faces: FaceFeatures | None) -> ClipStreams:
    """Sound and picture of a sound file, a video file, or a folder of frames.

    Args:
        path: The file or folder.
        sound: Whether sound is wanted.
        faces: What looks at the picture; None if it is not wanted.

    Raises:
        MediaError: The file cannot be read, or has neither of what is wanted.
    """
    info = None if path.is_dir() else media_info(path)
    audio = audio_blocks(path) if sound and info is not None and info.has_audio else None
    if faces is not None and (info is None or info.has_video):
        return ClipStreams(audio, faces.steps(faces.frames(path)), 1 / faces.rate_hz)
    if audio is None:
        has = [
            name
            for name, there in (
                ("sound", info is not None and info.has_audio),
                ("a picture", info is None or info.has_video),
            )
            if there
        ]
        raise MediaError(
            f"{path}: there is {' and '.join(has) or 'neither sound nor a picture'}, and nothing "
            "that this model can use"
        )
    return ClipStreams(audio, None, 0.0)


def streams_of_arrays(
    audio: NDArray[np.floating] | None,
    sampling_rate_hz: int,
    frames: NDArray[np.uint8] | None,
    frame_rate_hz: float,
    faces: FaceFeatures | None,
) -> ClipStreams:
    """Sound and picture in memory.

    Args:
        audio: ``(N,)`` samples, full scale [-1, 1], or None.
        sampling_rate_hz: Of ``audio``.
        frames: ``(N, H, W, 3)`` RGB, uint8, or None.
        frame_rate_hz: Of ``frames``.
        faces: What looks at the picture; only needed with ``frames``.

    Raises:
        InputError: Arrays of another kind.
    """
    blocks = None if audio is None else _in_blocks(_checked_samples(audio), sampling_rate_hz)
    if frames is None or faces is None:
        return ClipStreams(blocks, None, 0.0)
    pictures = array_frames(frames, frame_rate_hz, frame_rate_hz=faces.rate_hz)
    return ClipStreams(blocks, faces.steps(pictures), 1 / faces.rate_hz)


def _checked_samples(audio: NDArray[np.floating]) -> NDArray[np.float32]:
    samples = np.asarray(audio)
    if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
        raise InputError(
            "audio: expected (N,) mono samples as floating point numbers in [-1, 1], N >= 1, got "
            f"{samples.dtype} of shape {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise InputError("audio: expected finite samples, got NaN or infinite ones")
    return samples.astype(np.float32, copy=False)


def _in_blocks(
    samples: NDArray[np.float32], sampling_rate_hz: int
) -> Iterator[NDArray[np.float32]]:
    resampled = resample(samples, sampling_rate_hz)
    for start in range(0, len(resampled), _SAMPLES_PER_BLOCK):
        yield resampled[start : start + _SAMPLES_PER_BLOCK]
