"""Getting to know a person from clips of them, without labels, and predicting with that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vavl.data.speakers import SpeakerProfile, towards_training
from vavl.errors import InputError, MediaError
from vavl.inference.clip import ClipStreams
from vavl.inference.files import ClipFiles
from vavl.inference.reading import FeatureArrays, read_clip, window_features
from vavl.inference.windows import WindowCutter, cut_clip
from vavl.models.base import NormalisingModel, model_moments
from vavl.system.memory import release_memory
from vavl.types import Modality

if TYPE_CHECKING:
    from vavl.inference.recognizer import Recognizer

Clip = Path | str | ClipFiles | Mapping[str, Any]
"""A file or folder of frames, the files of a clip, or what ``predict`` takes, by its names."""


def enrolled(
    recognizer: Recognizer, clips: Iterable[Clip], profile: SpeakerProfile, longest_s: float
) -> SpeakerProfile:
    """The profile with some more clips; arguments as for :meth:`vavl.Recognizer.adapt`.

    Args:
        recognizer: Whose extractors are used.
        clips: Unlabelled clips of the person.
        profile: What is known of the person so far.
        longest_s: Longer clips are cut into parts of this length, each of which counts as a clip.

    Raises:
        InputError: As :meth:`vavl.Recognizer.predict`, or no clip.
        MediaError: As :meth:`vavl.Recognizer.predict`.
    """
    number = 0
    for number, clip in enumerate(clips, start=1):
        before = profile
        for part in _parts(recognizer, _opened(recognizer, clip), longest_s):
            if part:
                profile = profile.with_clip(part, recognizer.features)
            release_memory()  # a file may go on for hours
        if profile is before:
            raise MediaError(
                f"clip {number} of {profile.speaker!r}: nothing to go by: neither sound nor a face "
                "that the model takes; leave it out"
            )
    if not number:
        raise InputError("clips: expected at least one clip of the speaker, got none")
    return profile


def normalised(
    model: NormalisingModel,
    modality: Modality,
    sequence: NDArray[np.floating],
    profile: SpeakerProfile,
) -> NDArray[np.floating]:
    """``(T, D)`` of a person, moved to where the training speakers' features lie.

    It stays as it is where none of the person's clips had the modality.
    """
    known = profile.moments.get(modality)
    # Of what does not fit the model, the model itself says what is wrong.
    if known is None or sequence.shape[1] != len(known.mean) or modality not in model.config.inputs:
        return sequence
    return towards_training(sequence, known, model_moments(model, modality))


def _opened(recognizer: Recognizer, clip: Clip) -> ClipStreams | FeatureArrays:
    if isinstance(clip, ClipFiles):
        clip = {"path": clip.media, "acoustic": clip.acoustic, "visual": clip.visual}
    if isinstance(clip, Mapping):
        return read_clip(recognizer, **clip)
    return read_clip(recognizer, clip)


def _parts(
    recognizer: Recognizer, clip: ClipStreams | FeatureArrays, longest_s: float
) -> Iterator[FeatureArrays]:
    if not isinstance(clip, ClipStreams):
        # What the model does not take is of no use, and would only make the profile larger.
        yield {m: x for m, x in clip.items() if m in recognizer.model.config.inputs}
        return
    sides = {"audio": clip.audio is not None, "video": clip.steps is not None}
    cutter = WindowCutter(longest_s, longest_s, **sides)
    for _, window in cut_clip([cutter], clip.audio, clip.steps, clip.step_s):
        yield window_features(recognizer, window)
