"""Opens what is given of a clip, and makes features of it as those of the model were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.features.arrays import read_array
from vavl.features.face_features import FaceFeatures
from vavl.features.registry import rebuild_extractor
from vavl.features.waveform import WaveformExtractor
from vavl.inference.windows import (
    LONGEST_S,
    ClipStreams,
    Cutter,
    PartCutter,
    Window,
    WindowCutter,
)
from vavl.media.audio import (
    SAMPLING_RATE_HZ,
    SILENCE_DBFS,
    audio_blocks,
    level_dbfs,
    resample,
)
from vavl.media.container import media_info
from vavl.media.frames import array_frames
from vavl.media.speech import AllSound, Heard, SpeechDetector
from vavl.models.pretrained import FEATURES_FILE
from vavl.types import FeatureSpec, Modality

FeatureArrays = dict[Modality, NDArray[np.floating]]
"""``(T, D)`` of each modality that there is; a row of NaN is a step without any."""

FRAME_RATE_HZ = 25.0
"""Of pictures in an array, unless another rate is given."""

LEAST_SPEECH_S = 0.5
"""Less speech says nothing."""
_SHORTEST_SOUND_S = 0.1
"""Nor does sound shorter than this, where speech is not looked for."""
_SAMPLES_PER_BLOCK = SAMPLING_RATE_HZ
"""Arrays are handed on in pieces of a second, as files are."""


class Reader:
    """What stands between a clip and the model: files, arrays, and the extractors of features.

    Args:
        specs: How the features of each modality were made that the model was trained on. A modality
            that is missing, or whose features were precomputed, can only be given as features.
        device: Where the networks of the extractors run.
    """

    def __init__(self, specs: Mapping[Modality, FeatureSpec], *, device: str = "cpu") -> None:
        self.specs = dict(specs)
        self.device = device

    @property
    def accepts_audio(self) -> bool:
        """Whether sound can be given, and not features of it alone."""
        return self._accepts(Modality.ACOUSTIC)

    @property
    def accepts_video(self) -> bool:
        """Whether pictures can be given, and not features of them alone."""
        return self._accepts(Modality.VISUAL)

    @property
    def speech_only(self) -> bool:
        """Whether nothing but speech counts of the sound, as the model was trained."""
        spec = self.specs.get(Modality.ACOUSTIC)
        return spec is not None and bool(spec.parameters.get("speech_only"))

    def listener(self) -> SpeechDetector | AllSound:
        """Tells which samples of a sound count, as it comes in."""
        return SpeechDetector() if self.speech_only else AllSound()

    def part_cutter(self, clip: ClipStreams) -> Cutter:
        """Cuts a clip into parts that are predicted as clips of their own."""
        if self.speech_only:
            return PartCutter(**clip.sides)
        return WindowCutter(LONGEST_S, LONGEST_S, **clip.sides)

    def _accepts(self, modality: Modality) -> bool:
        spec = self.specs.get(modality)
        return spec is not None and spec.extractor != "arrays"

    def require(self, modality: Modality) -> None:
        """Raises InputError unless sound or pictures are accepted."""
        if self._accepts(modality):
            return
        what, instead = {
            Modality.ACOUSTIC: ("sound", "give it a face"),
            Modality.VISUAL: ("pictures", "give it sound"),
        }[modality]
        if not self.specs:
            raise InputError(
                f"{what}: the model's folder has no {FEATURES_FILE}, which says how its features "
                "were made, so that it takes arrays of features alone: give acoustic=, visual=, or "
                "NAME.acoustic.npy, NAME.visual.npy"
            )
        if modality not in self.specs:
            raise InputError(
                f"{what}: this model was trained without {modality} features; {instead}"
            )
        raise InputError(
            f"{what}: this model was trained on precomputed {modality} features, so that it cannot "
            f"read {what} itself; give {modality}=, or a NAME.{modality}.npy file"
        )

    @cached_property
    def acoustic_extractor(self) -> WaveformExtractor:
        """Makes features of sound; InputError where no sound is accepted."""
        self.require(Modality.ACOUSTIC)
        extractor = rebuild_extractor(self.specs[Modality.ACOUSTIC], device=self.device)
        assert isinstance(extractor, WaveformExtractor)
        return extractor

    @cached_property
    def visual_extractor(self) -> FaceFeatures:
        """Makes features of the face in pictures; InputError where no pictures are accepted."""
        self.require(Modality.VISUAL)
        extractor = rebuild_extractor(self.specs[Modality.VISUAL], device=self.device)
        assert isinstance(extractor, FaceFeatures)
        return extractor

    def open(
        self,
        path: Path | str | None = None,
        *,
        audio: NDArray[np.floating] | None = None,
        sampling_rate_hz: int = SAMPLING_RATE_HZ,
        frames: NDArray[np.uint8] | None = None,
        frame_rate_hz: float = FRAME_RATE_HZ,
        acoustic: NDArray[np.floating] | Path | str | None = None,
        visual: NDArray[np.floating] | Path | str | None = None,
    ) -> ClipStreams | FeatureArrays:
        """Opens what is given of one clip, as features where features are given.

        Arguments and errors are those of :meth:`vavl.Recognizer.predict`.
        """
        if acoustic is not None or visual is not None:
            if audio is not None or frames is not None:
                raise InputError(
                    "acoustic, visual: expected features alone or with a sound file, got also "
                    "audio or frames"
                )
            return self._open_features(path, acoustic, visual)
        if path is not None:
            if audio is not None or frames is not None:
                raise InputError("path, audio, frames: expected a file or arrays, got both")
            return self._open_media(Path(path))
        if audio is None and frames is None:
            raise InputError(
                "path, audio, frames, acoustic, visual: expected at least one of them, got none"
            )
        blocks = None
        if audio is not None:
            self.require(Modality.ACOUSTIC)
            blocks = self._heard(_blocks(_checked_samples(audio), sampling_rate_hz))
        if frames is None:
            return ClipStreams(blocks)
        faces = self.visual_extractor
        pictures = array_frames(frames, frame_rate_hz, frame_rate_hz=faces.rate_hz)
        return ClipStreams(blocks, faces.steps(pictures), 1 / faces.rate_hz)

    def _open_media(self, path: Path) -> ClipStreams:
        """A sound file, a video file, or a folder of frames."""
        if not self.accepts_video:
            self.require(Modality.ACOUSTIC)
        info = None if path.is_dir() else media_info(path)
        has_sound = info is not None and info.has_audio
        has_picture = info is None or info.has_video
        audio = self._heard(audio_blocks(path)) if has_sound and self.accepts_audio else None
        if has_picture and self.accepts_video:
            faces = self.visual_extractor
            return ClipStreams(audio, faces.steps(faces.frames(path)), 1 / faces.rate_hz)
        if audio is None:
            found = [
                name for name, there in (("sound", has_sound), ("a picture", has_picture)) if there
            ]
            raise MediaError(
                f"{path}: there is {' and '.join(found) or 'neither sound nor a picture'}, and "
                "nothing that this model can use"
            )
        return ClipStreams(audio)

    def _heard(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[Heard]:
        listener = self.listener()
        for block in blocks:
            yield listener.add(block)
        yield listener.finish()

    def _open_features(
        self,
        path: Path | str | None,
        acoustic: NDArray[np.floating] | Path | str | None,
        visual: NDArray[np.floating] | Path | str | None,
    ) -> FeatureArrays:
        if path is not None and acoustic is not None:
            raise InputError("path, acoustic: expected one source of sound, got both")
        found: FeatureArrays = {}
        if path is not None:
            found[Modality.ACOUSTIC] = self.acoustic_extractor.extract_file(path)
        elif acoustic is not None:
            found[Modality.ACOUSTIC] = _array(acoustic)
        if visual is not None:
            found[Modality.VISUAL] = _array(visual)
        return found

    def extract(self, window: Window) -> FeatureArrays:
        """Features of a window: of its sound if that says anything, of its face where one is."""
        found: FeatureArrays = {}
        sound = window.speech
        least_s = LEAST_SPEECH_S if self.speech_only else _SHORTEST_SOUND_S
        # Speech may be as quiet as it likes.
        loud_enough = self.speech_only or level_dbfs(sound) >= SILENCE_DBFS
        if len(sound) >= least_s * SAMPLING_RATE_HZ and loud_enough:
            found[Modality.ACOUSTIC] = self.acoustic_extractor.extract(sound, is_speech=True)
        if window.face_share:
            found[Modality.VISUAL] = np.stack([step.features for step in window.steps])
        return found

    def duration_s(self, features: FeatureArrays) -> float | None:
        """Length of a clip by its longest features of known frame rate; None without any."""
        durations = [
            len(x) / rate
            for modality, x in features.items()
            if modality in self.specs and (rate := self.specs[modality].frame_rate_hz)
        ]
        return max(durations, default=None)


def _array(features: NDArray[np.floating] | Path | str) -> NDArray[np.floating]:
    return read_array(features) if isinstance(features, (str, Path)) else np.asarray(features)


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


def _blocks(samples: NDArray[np.float32], sampling_rate_hz: int) -> Iterator[NDArray[np.float32]]:
    resampled = resample(samples, sampling_rate_hz)
    for start in range(0, len(resampled), _SAMPLES_PER_BLOCK):
        yield resampled[start : start + _SAMPLES_PER_BLOCK]
