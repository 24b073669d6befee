"""Opens what is given of a clip, and makes features of it as those of the model were made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from vavl.errors import EmptySpanError, InputError, MediaError
from vavl.features.arrays import read_array
from vavl.features.face_features import FaceFeatures, FaceSource, People
from vavl.features.registry import Extractor, rebuild_extractor
from vavl.features.waveform import WaveformExtractor
from vavl.inference.arguments import check_given
from vavl.inference.windows import (
    LEAST_SPEECH_S,
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
from vavl.media.container import checked_span, media_info
from vavl.media.frames import array_frames
from vavl.media.speech import AllSound, Heard, SpeechDetector
from vavl.media.tracks import check_asked, choose_audio_track, choose_channels
from vavl.models.pretrained import FEATURES_FILE
from vavl.types import FeatureSpec, Modality

_Item = TypeVar("_Item")

FeatureArrays = dict[Modality, NDArray[np.floating]]
"""``(T, D)`` of each modality that there is; a row of NaN is a step without any."""


class Reading(TypedDict, total=False):
    """How a clip is read; see :meth:`vavl.Recognizer.predict`."""

    start_s: float | None
    end_s: float | None
    audio_track: int | str | None
    face: FaceSource
    people: People


FRAME_RATE_HZ = 25.0
"""Of pictures in an array, unless another rate is given."""

_SHORTEST_SOUND_S = 0.1
"""Sound shorter than this says nothing, where speech is not looked for."""
_SAMPLES_PER_BLOCK = SAMPLING_RATE_HZ
"""Sound is handed on in pieces of a second, of arrays as of files: voice activity takes three times
as long for the blocks of a few hundredths in which files are decoded."""


class Reader:
    """What stands between a clip and the model: files, arrays, and the extractors of features.

    Args:
        specs: How the features of each modality were made that the model was trained on. A modality
            that is missing, or whose features were precomputed, can only be given as features.
        device: Where the networks of the extractors run.
        local_files_only: Fetch no weights from a hub that ``specs`` name.
    """

    def __init__(
        self,
        specs: Mapping[Modality, FeatureSpec],
        *,
        device: str = "cpu",
        local_files_only: bool = True,
    ) -> None:
        self.specs = dict(specs)
        self.device = device
        self.local_files_only = local_files_only

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

    @property
    def shortest_s(self) -> float:
        """Sound, or speech where that alone counts, says nothing below so many seconds."""
        return LEAST_SPEECH_S if self.speech_only else _SHORTEST_SOUND_S

    def listener(self, *, voice: bool = False) -> SpeechDetector | AllSound:
        """Tells which samples of a sound are speech, as it comes in.

        Args:
            voice: Whether somebody asks for it where all sound counts.
        """
        if self.speech_only:
            return SpeechDetector()
        return SpeechDetector(as_it_came=True) if voice else AllSound()

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
        extractor = self._extractor(Modality.ACOUSTIC)
        assert isinstance(extractor, WaveformExtractor)
        return extractor

    @cached_property
    def visual_extractor(self) -> FaceFeatures:
        """Makes features of the face in pictures; InputError where no pictures are accepted."""
        self.require(Modality.VISUAL)
        extractor = self._extractor(Modality.VISUAL)
        assert isinstance(extractor, FaceFeatures)
        return extractor

    def _extractor(self, modality: Modality) -> Extractor:
        return rebuild_extractor(
            self.specs[modality], device=self.device, local_files_only=self.local_files_only
        )

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
        start_s: float | None = None,
        end_s: float | None = None,
        audio_track: int | str | None = None,
        face: FaceSource = "found",
        people: People = "main",
        voice: bool = False,
    ) -> ClipStreams | FeatureArrays:
        """Opens what is given of one clip, as features where features are given.

        Arguments and errors are those of :meth:`vavl.Recognizer.predict`; with ``voice``, speech is
        told from other sound also where all sound counts. By default the main face alone is seen.
        """
        check_given(
            {
                "path": path,
                "audio": audio,
                "sampling_rate_hz": sampling_rate_hz,
                "frames": frames,
                "frame_rate_hz": frame_rate_hz,
                "acoustic": acoustic,
                "visual": visual,
                "audio_track": audio_track,
                "face": face,
                "people": people,
                "start_s": start_s,
                "end_s": end_s,
            }
        )
        start, end = checked_span(start_s, end_s)
        audio_track = check_asked(audio_track)
        if audio_track is not None and path is None:
            raise InputError(
                f"audio_track: expected a file with it, got track {audio_track!r} and no file"
            )
        if acoustic is not None or visual is not None:
            if start or end < math.inf:
                raise InputError(
                    "start_s, end_s: expected sound or pictures, got features, which have no times"
                )
            if audio is not None or frames is not None:
                raise InputError(
                    "acoustic, visual: expected features alone or with a sound file, got also "
                    "audio or frames"
                )
            return self._open_features(path, acoustic, visual, audio_track)
        if path is not None:
            if audio is not None or frames is not None:
                raise InputError("path, audio, frames: expected a file or arrays, got both")
            return self._open_media(Path(path), start, end, audio_track, face, people, voice=voice)
        if audio is None and frames is None:
            raise InputError(
                "path, audio, frames, acoustic, visual: expected at least one of them, got none"
            )
        blocks = None
        if audio is not None:
            self.require(Modality.ACOUSTIC)
            samples = np.asarray(audio).astype(np.float32, copy=False)
            blocks = self._heard(_blocks(samples, sampling_rate_hz, start, end), voice)
        if frames is None:
            return ClipStreams(blocks, start_s=start)
        faces = self.visual_extractor
        pictures = array_frames(
            frames, frame_rate_hz, frame_rate_hz=faces.rate_hz, start_s=start, end_s=end
        )
        steps = faces.steps(pictures, face=face, people=people)
        return _either(ClipStreams(blocks, steps, 1 / faces.rate_hz, start_s=start))

    def _open_media(
        self,
        path: Path,
        start_s: float,
        end_s: float,
        audio_track: int | str | None,
        face: FaceSource,
        people: People,
        *,
        voice: bool,
    ) -> ClipStreams:
        """A sound file, a video file, or a folder of frames."""
        if not self.accepts_video or audio_track is not None:
            self.require(Modality.ACOUSTIC)
        info = None if path.is_dir() else media_info(path)
        has_sound = info is not None and info.has_audio
        has_picture = info is None or info.has_video
        span = {"start_s": start_s, "end_s": None if end_s == math.inf else end_s}
        tracks = () if info is None else info.audio_tracks
        clip = ClipStreams(None, start_s=start_s)
        if self.accepts_audio and (has_sound or audio_track is not None):
            number, track_note = choose_audio_track(path, tracks, audio_track)
            channels, channels_note = choose_channels(path, tracks[number - 1])
            blocks = audio_blocks(path, track=number, channels=channels, **span)
            clip = replace(
                clip,
                audio=self._heard(blocks, voice),
                audio_track=number if len(tracks) > 1 else None,
                notes=tuple(note for note in (track_note, channels_note) if note is not None),
            )
        if has_picture and self.accepts_video:
            faces = self.visual_extractor
            steps = faces.steps(faces.frames(path, **span), face=face, people=people)
            return _either(replace(clip, steps=steps, step_s=1 / faces.rate_hz))
        if clip.audio is None:
            found = [
                name for name, there in (("sound", has_sound), ("a picture", has_picture)) if there
            ]
            raise MediaError(
                f"{path}: there is {' and '.join(found) or 'neither sound nor a picture'}, and "
                "nothing that this model can use"
            )
        return clip

    def _heard(self, blocks: Iterator[NDArray[np.float32]], voice: bool) -> Iterator[Heard]:
        listener = self.listener(voice=voice)
        for block in _gathered(blocks):
            yield listener.add(block)
        yield listener.finish()

    def _open_features(
        self,
        path: Path | str | None,
        acoustic: NDArray[np.floating] | Path | str | None,
        visual: NDArray[np.floating] | Path | str | None,
        audio_track: int | str | None,
    ) -> FeatureArrays:
        if path is not None and acoustic is not None:
            raise InputError("path, acoustic: expected one source of sound, got both")
        found: FeatureArrays = {}
        if path is not None:
            extractor = self.acoustic_extractor
            path = Path(path)
            track = choose_audio_track(path, media_info(path).audio_tracks, audio_track).number
            found[Modality.ACOUSTIC] = extractor.extract_file(path, track=track)
        elif acoustic is not None:
            found[Modality.ACOUSTIC] = _array(acoustic)
        if visual is not None:
            found[Modality.VISUAL] = _array(visual)
        return found

    def extract(self, window: Window) -> FeatureArrays:
        """Features of a window: of its sound if that says anything, of its face where one is."""
        found: FeatureArrays = {}
        sound = window.speech if self.speech_only else window.waveform
        # Speech may be as quiet as it likes.
        loud_enough = self.speech_only or level_dbfs(sound) >= SILENCE_DBFS
        if len(sound) >= self.shortest_s * SAMPLING_RATE_HZ and loud_enough:
            found[Modality.ACOUSTIC] = self.acoustic_extractor.extract(sound, is_speech=True)
        if window.is_embedded:
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


def _either(clip: ClipStreams) -> ClipStreams:
    """The same clip, in which one of sound and picture may have nothing in the span asked for."""
    if clip.audio is None or clip.steps is None:
        return clip
    return replace(clip, audio=_if_any(clip.audio), steps=_if_any(clip.steps))


def _if_any(items: Iterator[_Item]) -> Iterator[_Item]:
    with suppress(EmptySpanError):
        yield from items


def _gathered(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same samples in blocks of a second at least, but for the last one."""
    waiting: list[NDArray[np.float32]] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= _SAMPLES_PER_BLOCK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _blocks(
    samples: NDArray[np.float32], sampling_rate_hz: int, start_s: float, end_s: float
) -> Iterator[NDArray[np.float32]]:
    length_s = len(samples) / sampling_rate_hz
    first, stop = (round(min(s, length_s) * sampling_rate_hz) for s in (start_s, end_s))
    if first == stop:
        raise EmptySpanError(
            f"audio: nothing lies between start_s={start_s:g} and end_s={end_s:g}; the sound is "
            f"{length_s:.3f} s long"
        )
    resampled = resample(samples[first:stop], sampling_rate_hz)
    for start in range(0, len(resampled), _SAMPLES_PER_BLOCK):
        yield resampled[start : start + _SAMPLES_PER_BLOCK]
