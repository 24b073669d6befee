"""What a recogniser reads of a clip: streams of sound and picture, or features as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.features.arrays import read_array
from vavl.inference.clip import FRAME_RATE_HZ, ClipStreams, streams_of_arrays, streams_of_file
from vavl.inference.quality import SILENCE_DBFS, level_dbfs
from vavl.inference.windows import Window
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.types import Modality

if TYPE_CHECKING:
    from vavl.inference.recognizer import Recognizer

FeatureArrays = dict[Modality, NDArray[np.floating]]
"""``(T, D)`` of each modality that there is."""

_SHORTEST_SOUND_S = 0.1
"""Sound shorter than this says nothing."""


def read_clip(
    recognizer: Recognizer,
    path: Path | str | None = None,
    *,
    audio: NDArray[np.floating] | None = None,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    frames: NDArray[np.uint8] | None = None,
    frame_rate_hz: float = FRAME_RATE_HZ,
    acoustic: NDArray[np.floating] | Path | str | None = None,
    visual: NDArray[np.floating] | Path | str | None = None,
) -> ClipStreams | FeatureArrays:
    """Opens what is given of one clip; arguments as for :meth:`vavl.Recognizer.predict`.

    Returns:
        Sound and picture as streams, or features where features are given.

    Raises:
        InputError: Nothing is given, two sources for one modality, or what the model cannot take.
        MediaError: A file is missing or cannot be read.
    """
    if acoustic is not None or visual is not None:
        if audio is not None or frames is not None:
            raise InputError(
                "acoustic, visual: expected features alone or with a sound file, got also audio or "
                "frames"
            )
        return _features(recognizer, path, acoustic, visual)
    if path is not None and (audio is not None or frames is not None):
        raise InputError("path, audio, frames: expected a file or arrays, got both")
    if path is not None:
        if not recognizer.hears and not recognizer.sees:
            _ = recognizer.acoustic_extractor  # its error says why this model reads no media
        faces = recognizer.visual_extractor if recognizer.sees else None
        return streams_of_file(Path(path), sound=recognizer.hears, faces=faces)
    if audio is None and frames is None:
        raise InputError(
            "path, audio, frames, acoustic, visual: expected at least one of them, got none"
        )
    if audio is not None:
        _ = recognizer.acoustic_extractor  # or an error that says why there is none
    faces = None if frames is None else recognizer.visual_extractor
    return streams_of_arrays(audio, sampling_rate_hz, frames, frame_rate_hz, faces)


def window_features(recognizer: Recognizer, window: Window) -> FeatureArrays:
    """Features of a span of a clip: of its sound unless it is silence, of its face where one is."""
    found: FeatureArrays = {}
    long_enough = len(window.waveform) >= _SHORTEST_SOUND_S * SAMPLING_RATE_HZ
    if long_enough and level_dbfs(window.waveform) >= SILENCE_DBFS:
        found[Modality.ACOUSTIC] = recognizer.acoustic_extractor.extract(window.waveform)
    if any(step.face is not None for step in window.steps):
        found[Modality.VISUAL] = np.stack([step.features for step in window.steps])
    return found


def _features(
    recognizer: Recognizer,
    path: Path | str | None,
    acoustic: NDArray[np.floating] | Path | str | None,
    visual: NDArray[np.floating] | Path | str | None,
) -> FeatureArrays:
    if path is not None and acoustic is not None:
        raise InputError("path, acoustic: expected one source of sound, got both")
    found: FeatureArrays = {}
    if path is not None:
        found[Modality.ACOUSTIC] = recognizer.acoustic_extractor.extract_file(path)
    elif acoustic is not None:
        found[Modality.ACOUSTIC] = _as_array(acoustic)
    if visual is not None:
        found[Modality.VISUAL] = _as_array(visual)
    return found


def _as_array(sequence: NDArray[np.floating] | Path | str) -> NDArray[np.floating]:
    return read_array(sequence) if isinstance(sequence, (str, Path)) else np.asarray(sequence)
