"""From a clip to a prediction: opened by the reader, cut into windows, features, model, prediction.

Each step is called by the one above it, and none calls back::

    Recognizer.predict
      Reader.open                   a file, arrays or features -> streams of sound and picture
      cut_clip                      streams -> windows: parts, of the timeline, sentences
      Recognizer.predict_window
        Reader.extract              window -> features
        Recognizer._predict_features    features -> model -> prediction of the window
      mean                          predictions of windows -> prediction of clip, segment, speaker
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vavl.data.speakers import SpeakerProfile, towards_training
from vavl.errors import InputError, MediaError
from vavl.features.face_features import FaceSource, People
from vavl.inference.arguments import check_given, check_name
from vavl.inference.averaging import mean, most_probable
from vavl.inference.clip_prediction import ClipPrediction
from vavl.inference.ensemble import Ensemble
from vavl.inference.exported import ExportedModel
from vavl.inference.files import ClipFiles, turns_file
from vavl.inference.people import Crowd
from vavl.inference.quality import Quality
from vavl.inference.reader import FRAME_RATE_HZ, FeatureArrays, Reader, Reading
from vavl.inference.segments import SegmentParts
from vavl.inference.sentences import SentenceCutter, SpanCutter
from vavl.inference.speaker import SpeakerFinder
from vavl.inference.turns import Turn, check_turns, read_turns
from vavl.inference.windows import (
    HOP_S,
    WINDOW_S,
    ClipStreams,
    Cutter,
    Window,
    WindowCutter,
    cut_clip,
)
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.models.base import EmotionModel, ModelOutput
from vavl.models.pretrained import Calibration
from vavl.system.device import usable_device
from vavl.system.memory import release_memory
from vavl.types import (
    UNSURE,
    FeatureSpec,
    Modality,
    Person,
    Segment,
    TimedPrediction,
    what_it_takes,
)

Clip = Path | str | ClipFiles | Mapping[str, Any]
"""A file or folder of frames, the files of a clip, or what ``predict`` takes, by its names."""

Segments = bool | Path | str | Sequence[Turn | tuple[Any, ...]]
"""Whether to predict by sentence, or the spans to predict, or a file of them."""

MOST_STEPS = 3000
"""Longer features that are given are predicted in parts: a minute at 50 steps a second."""

_Clip = TypeVar("_Clip", bound=Clip)
_Predicted = TypeVar("_Predicted", ClipPrediction, TimedPrediction, Person, Segment)


class Wanted(Reading, total=False):
    """What is predicted of clips, and how they are read; see :meth:`Recognizer.predict`."""

    speaker: str | SpeakerProfile | None
    timeline: bool
    segments: Segments
    progress: Callable[[float], None] | None


class Given(Wanted, total=False):
    """What may be given of one clip instead of a file, or with it."""

    audio: NDArray[np.floating] | None
    sampling_rate_hz: int
    frames: NDArray[np.uint8] | None
    frame_rate_hz: float
    acoustic: NDArray[np.floating] | Path | str | None
    visual: NDArray[np.floating] | Path | str | None
    name: str | None


class Recognizer:
    """A model together with the extractors of its features.

    Args:
        model: Trained model, several as one, or an exported one, which onnxruntime runs.
        features: How the features of each modality were made; without it, only arrays of features
            can be given.
        temperatures: What the logits of each prediction are divided by, so that probabilities mean
            what they say; 1 where it is not given.
        unsure_below: In [0, 1): with a confidence below it, the label is ``"unsure"``
            (:data:`vavl.UNSURE`), while the probabilities stay; with 0, it never is.
        device: Where the model and the networks of its features run: ``"auto"``, ``"cpu"``,
            ``"cuda"``, ``"cuda:N"`` or ``"mps"``; with an exported model, all on the CPU.
        local_files_only: Fetch no weights from a hub that ``features`` name.

    Attributes:
        reader: Opens clips, and makes features of them.
        calibration: Temperatures and threshold.
        speakers: Profiles of the people it was adapted to, by name; loaded ones may be put there.

    Raises:
        InputError: The device cannot be used here, or is not the CPU for an exported model; or a
            temperature or the threshold makes no sense.
    """

    def __init__(
        self,
        model: EmotionModel | Ensemble | ExportedModel,
        features: Mapping[Modality, FeatureSpec] | None = None,
        temperatures: Mapping[Modality, float] | None = None,
        *,
        unsure_below: float = 0.0,
        device: str = "cpu",
        local_files_only: bool = True,
    ) -> None:
        if not isinstance(model, ExportedModel):
            self.device = usable_device(device)
            model = model.to(self.device).eval()
        elif device in ("cpu", "auto"):
            self.device = torch.device("cpu")
        else:
            raise InputError(f"device: expected cpu for an exported model, got {device!r}")
        self.model = model
        self.reader = Reader(
            features or {}, device=str(self.device), local_files_only=local_files_only
        )
        self.calibration = Calibration(temperatures or {}, unsure_below)
        if unsure_below and UNSURE in self.categories:
            raise InputError(
                f"unsure_below: expected 0, since the model has a category {UNSURE!r}, got "
                f"{unsure_below}"
            )
        self.speakers: dict[str, SpeakerProfile] = {}

    def __repr__(self) -> str:
        outputs = ", ".join((*self.categories, *self.attributes))
        takes = what_it_takes(self.model.config.predictions)
        return f"<Recognizer {self.model.config.name}: {outputs}; from {takes}; {self.device}>"

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that the model tells apart."""
        return self.model.config.categories

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes that the model estimates, in [0, 1]."""
        return self.model.config.attributes

    @property
    def features(self) -> dict[Modality, FeatureSpec]:
        """How the features of each modality were made, as far as it is known."""
        return self.reader.specs

    @overload
    def predict(self, path: Path | str | None = None, **given: Unpack[Given]) -> ClipPrediction: ...

    @overload
    def predict(
        self, path: list[_Clip] | tuple[_Clip, ...], **wanted: Unpack[Wanted]
    ) -> list[ClipPrediction]: ...

    @overload
    def predict(
        self, path: Iterator[_Clip], **wanted: Unpack[Wanted]
    ) -> Iterator[ClipPrediction]: ...

    def predict(
        self,
        path: Path | str | Iterable[Clip] | None = None,
        *,
        audio: NDArray[np.floating] | None = None,
        sampling_rate_hz: int = SAMPLING_RATE_HZ,
        frames: NDArray[np.uint8] | None = None,
        frame_rate_hz: float = FRAME_RATE_HZ,
        acoustic: NDArray[np.floating] | Path | str | None = None,
        visual: NDArray[np.floating] | Path | str | None = None,
        audio_track: int | str | None = None,
        face: FaceSource = "found",
        name: str | None = None,
        speaker: str | SpeakerProfile | None = None,
        timeline: bool = False,
        people: People = "all",
        segments: Segments = False,
        start_s: float | None = None,
        end_s: float | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> ClipPrediction | list[ClipPrediction] | Iterator[ClipPrediction]:
        """Predicts from whatever is given of one clip; or from each of several clips.

        A clip of up to 10 s is predicted as a whole. A longer one, beyond what models are usually
        trained on, is predicted in consecutive parts of 10 s whose probabilities and attributes
        are averaged. The timeline has windows of 2 s, one every 0.5 s, each of them predicted as a
        clip of its own. Memory does not grow with the length of the clip.

        Features of more than 3,000 steps are predicted in equal parts of at most so many.

        Sound below -65 dBFS counts as none, and so does a picture without a face. For a model
        whose acoustic features are those of speech alone (``speech_only``), nothing but speech
        counts, at any level: parts are 10 s of speech or end in a pause, and weigh as much as
        there is speech and face in them; less than 0.5 s of speech counts as none.

        Of several people, sound and face are put together for the one whose mouth moves with the
        voice, part by part and window by window; where that cannot be told, for the most prominent
        one. What the face of each says is in ``people`` of the prediction.
        Segments are sentences: they begin and end with speech, a pause of about half a second ends
        one, and they last at most 10 s. Given ones may overlap and last as long as they like. Each
        is predicted as a clip of its own; where there is neither face nor speech enough, its
        modality is None. Given ones outside the clip are left out, and a warning counts them; what
        goes beyond the clip is cut off.

        Args:
            path: A sound file, a video file, or a folder of frames. A list of them gives a list of
                predictions; an iterator gives an iterator, which reads a clip when it is asked for
                the next one. Items may also be clips of :func:`vavl.inference.group_files`, or
                mappings of what this method takes, e.g. ``{"audio": samples, "name": "a"}``. There
                is no size of a batch: clips are read as streams, one at a time, and are no faster
                together; :func:`vavl.inference.predict_many` has workers.
            audio: Instead of a file: ``(N,)`` samples, full scale [-1, 1].
            sampling_rate_hz: Of ``audio``.
            frames: Instead of a file: ``(N, H, W, 3)`` RGB, uint8.
            frame_rate_hz: Of ``frames``, in pictures per second.
            acoustic: ``(T, acoustic_dim)`` acoustic features, or a ``.npy`` file of them.
            visual: ``(T, visual_dim)`` visual features, or a ``.npy`` file of them; a row of NaN is
                a step without a face.
            audio_track: Which of several tracks of sound in a file is heard: its number, from 1, or
                its language (``"eng"``, ``"en"``). Default: the one with speech, see
                :func:`vavl.media.tracks.choose_audio_track`.
            face: ``"found"``: faces are looked for, in pictures on their side or upside down too;
                ``"upright"``: in those the right way up alone; ``"given"``: each picture is a face
                already, cropped closely or loosely.
            name: What the prediction is called; by default the file's name.
            speaker: Who is heard and seen: a name that was given to :meth:`adapt`, or a profile.
            timeline: Whether to predict over time as well; not for features.
            people: ``"all"``, or ``"main"`` to follow and predict the most prominent person alone.
            segments: Whether to predict sentence by sentence as well; not for features. Or which
                spans: turns ``(start_s, end_s[, speaker[, text]])`` in seconds, e.g.
                :class:`vavl.inference.turns.Turn`, or a file of them that another tool has written,
                see :func:`vavl.inference.turns.read_turns`.
            start_s: Second of the file where to begin; nothing before it counts. All times, given
                and returned, are those of the whole file.
            end_s: Second of the file before which to stop. Default: the end.
            progress: Called again and again with the second of the file up to which it is
                predicted; what it raises ends the prediction. Not for features.

        Returns:
            Label, confidence, probabilities, attributes in [0, 1], and the modality they come from;
            for several clips one for each, in their order.

        Raises:
            InputError: Nothing is given, two sources for one modality, wrong shapes, times that
                make no sense, or a speaker who is not known or whose profile was made with other
                extractors.
            MediaError: A file is missing or cannot be read, or there is neither sound nor a face.
        """
        check_given(
            {
                "path": path,
                "name": name,
                "speaker": speaker,
                "timeline": timeline,
                "segments": segments,
                "progress": progress,
            }
        )
        if path is not None and not isinstance(path, (str, Path)):
            arrays = (audio, frames, acoustic, visual, name)
            if any(value is not None for value in arrays):
                raise InputError(
                    "path: expected one clip beside audio, frames, acoustic, visual or name, got "
                    "several; give each as a mapping, e.g. {'audio': samples, 'name': 'a'}"
                )
            wanted = Wanted(
                speaker=speaker,
                timeline=timeline,
                segments=segments,
                progress=progress,
                start_s=start_s,
                end_s=end_s,
                audio_track=audio_track,
                face=face,
                people=people,
            )
            each = (self._predict_clip(clip, wanted) for clip in path)
            return each if isinstance(path, Iterator) else list(each)
        given = next((str(p) for p in (path, acoustic, visual) if isinstance(p, (str, Path))), "")
        name, file = name or Path(given).name, None if path is None else Path(path)
        profile = None if speaker is None else self.profile_of(speaker)
        turns = self._turns(segments, recording=Path(given or name).stem)
        clip = self.reader.open(
            path,
            audio=audio,
            sampling_rate_hz=sampling_rate_hz,
            frames=frames,
            frame_rate_hz=frame_rate_hz,
            acoustic=acoustic,
            visual=visual,
            start_s=start_s,
            end_s=end_s,
            audio_track=audio_track,
            face=face,
            people=people,
            voice=segments is True,
        )
        if isinstance(clip, ClipStreams):
            cutters: dict[str, Cutter] = {"parts": self.reader.part_cutter(clip)}
            if timeline:
                cutters["timeline"] = WindowCutter(WINDOW_S, HOP_S, **clip.sides)
            if turns is not None:
                spans_s = [(t.start_s - clip.start_s, t.end_s - clip.start_s) for t in turns]
                cutters["segments"] = SpanCutter(spans_s, **clip.sides)
            elif segments:
                cutters["segments"] = SentenceCutter(**clip.sides)
            found = self._predict_streams(clip, name, profile, cutters, turns, progress)
            return self._labelled(replace(found, path=file))
        if timeline or segments:
            raise InputError("timeline, segments: expected sound or pictures, got features alone")
        duration_s = self.reader.duration_s(clip)
        found_in = (
            self._predict_features(part, 0.0, duration_s or 0.0, profile)
            for part in _in_parts(clip)
        )
        parts = [part for part in found_in if part.modality is not None]
        if not parts:
            raise InputError(
                f"acoustic, visual: expected {self._needs}, which this model takes, got "
                f"{' and '.join(clip)} features alone"
            )
        whole = mean([(part, 1.0) for part in parts]) if len(parts) > 1 else parts[0]
        return self._labelled(replace(_of_clip(whole, name, duration_s), path=file))

    def _predict_clip(self, clip: Clip, wanted: Wanted) -> ClipPrediction:
        if isinstance(clip, ClipFiles):
            return self.predict_files(clip, **wanted)
        if isinstance(clip, (str, Path)):
            return self.predict(clip, **wanted)
        if isinstance(clip, Mapping):
            check_given(clip)
            return self.predict(**{**wanted, **clip})
        raise InputError(f"path: expected files, ClipFiles or mappings, got {type(clip).__name__}")

    def adapt(
        self, clips: Iterable[Clip], *, speaker: str, **reading: Unpack[Reading]
    ) -> SpeakerProfile:
        """Gets to know a person from clips of them, without labels.

        Running statistics of the person's features are kept in :attr:`speakers`; clips of a further
        call are added. With ``predict(..., speaker=...)`` the person's features are moved to where
        those of the training speakers lie. Clips of all moods are best; see docs/enrolment.md.

        Args:
            clips: Paths of sound or video files or folders of frames; clips of
                :func:`vavl.inference.group_files`; or mappings of what :meth:`predict` takes, e.g.
                ``{"audio": samples, "sampling_rate_hz": 48_000}``. One of more than 10 s counts
                as several.
            speaker: Name of the person.
            reading: ``start_s``, ``end_s``, ``audio_track``, ``face`` and ``people`` of all clips,
                as in :meth:`predict`; of several people the one who speaks is got to know.

        Returns:
            The profile, also to be saved: ``SpeakerProfile.save`` and ``SpeakerProfile.load``.

        Raises:
            InputError: As :meth:`predict`, or no clip.
            MediaError: As :meth:`predict`. The profile then stays as it was.

        Example:
            >>> import vavl
            >>> recognizer = vavl.load()
            >>> clips = [{"acoustic": np.full((50, 1536), level)} for level in (0.0, 1.0)]
            >>> profile = recognizer.adapt(clips, speaker="ann")
            >>> recognizer.predict(**clips[0], speaker="ann").modality
            <Modality.ACOUSTIC: 'acoustic'>
        """
        if not isinstance(self.model, ExportedModel) and self.model.fronts:
            raise InputError(
                "speaker: expected a model of features that are given, got one with a tuned "
                "encoder of its own, which cannot be adapted to a person"
            )
        check_name("speaker", speaker)
        profile = self.speakers.get(speaker, SpeakerProfile(speaker))
        if isinstance(clips, (str, bytes, Mapping)) or not isinstance(clips, Iterable):
            raise InputError(f"clips: expected a list of clips, got {type(clips).__name__}")
        number = 0
        for number, clip in enumerate(clips, start=1):
            before = profile
            for features in self._features_of(clip, reading):
                if features:
                    profile = profile.with_clip(features, self.features)
                release_memory()  # a file may go on for hours
            if profile is before:
                raise MediaError(
                    f"clip {number} of {speaker!r}: nothing to go by: neither sound nor a face "
                    "that the model takes; leave it out"
                )
        if not number:
            raise InputError("clips: expected at least one clip of the speaker, got none")
        self.speakers[speaker] = profile
        return profile

    def profile_of(self, speaker: str | SpeakerProfile) -> SpeakerProfile:
        """The profile of a speaker, by name or as it is, if it is one for this model.

        Raises:
            InputError: An unknown name, or a profile of other features.
        """
        if isinstance(speaker, str):
            if speaker not in self.speakers:
                raise InputError(
                    f"speaker: expected one of {sorted(self.speakers)}, got {speaker!r}; adapt to "
                    "the speaker first, or give a profile"
                )
            speaker = self.speakers[speaker]
        config = self.model.config
        keys = {m: spec.key for m, spec in self.features.items()}
        speaker.check(keys, {m: config.dim(m) for m in config.inputs})
        return speaker

    def predict_files(
        self,
        clip: ClipFiles,
        *,
        timeline: bool = False,
        segments: Segments = False,
        speaker: str | SpeakerProfile | None = None,
        progress: Callable[[float], None] | None = None,
        **reading: Unpack[Reading],
    ) -> ClipPrediction:
        """Predicts from the files of one clip, as :func:`vavl.inference.group_files` made it.

        Arguments are those of :meth:`predict`; ``segments`` may also be a folder, in which the file
        of the clip bears its name.
        """
        if isinstance(segments, (str, Path)):
            segments = turns_file(Path(segments), clip)
        return self.predict(
            clip.media,
            acoustic=clip.acoustic,
            visual=clip.visual,
            name=clip.name,
            timeline=timeline,
            segments=segments,
            speaker=speaker,
            progress=progress,
            **reading,
        )

    def predict_window(
        self,
        window: Window,
        profile: SpeakerProfile | None = None,
        features: FeatureArrays | None = None,
    ) -> TimedPrediction:
        """Predicts from a span of a clip, as from a clip of its own.

        Args:
            window: Sound and picture of the span.
            profile: What is known of the person.
            features: Of the window, where they have been extracted already.
        """
        features = self.reader.extract(window) if features is None else features
        found = self._predict_features(features, window.start_s, window.end_s, profile)
        release_memory()  # a file or a stream may go on for hours
        return replace(found, face_share=window.face_share)

    def _turns(self, segments: Segments, recording: str) -> list[Turn] | None:
        """Given segments in the order of time; None where none are given."""
        if isinstance(segments, bool):
            if segments and not self.reader.accepts_audio:
                raise InputError(
                    "segments: expected a model that hears, so that sentences can be found, got "
                    "one that does not; give the segments"
                )
            return None
        if isinstance(segments, (str, Path)):
            turns = read_turns(segments, recording)
        else:
            turns = check_turns(segments)
        return sorted(turns, key=lambda turn: (turn.start_s, turn.end_s))

    def _predict_streams(
        self,
        clip: ClipStreams,
        name: str,
        profile: SpeakerProfile | None,
        cutters: Mapping[str, Cutter],
        turns: Sequence[Turn] | None,
        progress: Callable[[float], None] | None,
    ) -> ClipPrediction:
        """Predicts from sound and picture as they come in."""
        quality, crowd = Quality(speech_only=self.reader.speech_only), Crowd(clip.step_s)
        spoken = SegmentParts(turns, clip.start_s)
        clip = crowd.watch(quality.watch(clip))
        ways = list(cutters)
        timeline: list[TimedPrediction] = []
        parts: list[tuple[TimedPrediction, float]] = []
        covered_s = 0.0
        for number, window, main in _cut(clip, list(cutters.values())):
            found = self.predict_window(main, profile)
            evidence_s = main.evidence_s(clip.step_s)
            if ways[number] == "segments":
                spoken.add(window.span, found, evidence_s)
            elif ways[number] == "timeline":
                timeline.append(found)
                crowd.add_window(self._predict_faces(window, main, profile))
            else:
                quality.retake(window.steps, main.steps)
                crowd.add_part(window, main, self._predict_faces(window, main, profile))
                if found.modality is not None:
                    # All sound counts alike, unless it is speech alone.
                    parts.append((found, evidence_s if self.reader.speech_only else 1.0))
            if progress is not None:
                covered_s = max(covered_s, window.end_s)  # windows of several kinds overlap
                progress(covered_s)
        length_s = cutters["parts"].end_s
        if not parts:
            why = ", ".join(quality.warnings) or "the clip has less than the model takes"
            why = why if length_s else "the clip has nothing between start_s and end_s"
            raise MediaError(
                f"{name or 'the clip'}: nothing to go by: {why}; expected {self._needs}"
            )
        missing = spoken.warnings if "segments" in cutters else ()
        return replace(
            _of_clip(mean(parts), name, length_s),
            face_share=quality.face_share,
            warnings=(*quality.warnings, *crowd.warnings, *missing),
            audio_track=clip.audio_track,
            timeline=tuple(timeline),
            people=tuple(self._labelled(person) for person in crowd.people),
            segments=tuple(self._labelled(segment) for segment in spoken.segments),
            speakers={
                speaker: self._labelled(_of_clip(whole, speaker, spoken.length_s(speaker)))
                for speaker, whole in spoken.speakers.items()
            },
        )

    def _predict_faces(
        self, window: Window, main: Window, profile: SpeakerProfile | None
    ) -> dict[int, TimedPrediction]:
        """What the face of each person in a window says, by the number of the person.

        A profile is that of the main person.
        """
        seen = {person: view for person in window.people if (view := window.of(person)).is_embedded}
        if not seen:
            return {}
        features = []
        for person, view in seen.items():
            sequence: NDArray[np.floating] = np.stack([step.features for step in view.steps])
            if profile is not None and main.people == (person,):
                sequence = self._adapted(Modality.VISUAL, sequence, profile)
            features.append(sequence.astype(np.float32))
        batch = torch.from_numpy(np.stack(features)).to(self.device)
        with torch.inference_mode():
            out = self.model(visual=batch, visual_mask=~batch.isnan().all(-1))
        return {
            person: replace(
                self._read(out, row, window.start_s, window.end_s), face_share=view.face_share
            )
            for row, (person, view) in enumerate(seen.items())
        }

    def _predict_features(
        self,
        features: FeatureArrays,
        start_s: float,
        end_s: float,
        profile: SpeakerProfile | None,
    ) -> TimedPrediction:
        """Predicts from the features of a span; of no modality where the model lacks something."""
        if not features:
            return TimedPrediction(start_s, end_s, None, None, {}, {})
        inputs = self._inputs(features, profile)
        with torch.inference_mode():
            out = self.model(**inputs)
        return self._read(out, 0, start_s, end_s)

    def _read(self, out: ModelOutput, row: int, start_s: float, end_s: float) -> TimedPrediction:
        """What the model says of a clip of its batch; of no modality where it says nothing."""
        source = out.modality[row]
        if source is None:
            return TimedPrediction(start_s, end_s, None, None, {}, {})
        values = out.prediction[row].float().cpu()
        if not values.isfinite().all():
            raise MediaError(
                "the model's answer is NaN or infinite: expected features as its extractors make "
                "them, or its weights are damaged"
            )
        split = len(self.categories)
        logits = values[:split] / self.calibration.temperatures.get(source, 1.0)
        probabilities = dict(zip(self.categories, logits.softmax(0).tolist(), strict=True))
        attributes = values[split:].clamp(0, 1).tolist()
        found = TimedPrediction(
            start_s,
            end_s,
            modality=source,
            label=most_probable(probabilities),
            probabilities=probabilities,
            attributes=dict(zip(self.attributes, attributes, strict=True)),
        )
        return self._labelled(found)

    def _labelled(self, prediction: _Predicted) -> _Predicted:
        """The same prediction, unsure where its confidence is below the threshold."""
        confidence = prediction.confidence
        if confidence is None or confidence >= self.calibration.unsure_below:
            return prediction
        return replace(prediction, label=UNSURE)

    def _inputs(self, features: FeatureArrays, profile: SpeakerProfile | None) -> dict[str, Tensor]:
        """Features as a batch of one clip."""
        inputs: dict[str, Tensor] = {}
        for modality, sequence in features.items():
            if sequence.ndim != 2 or not len(sequence):
                raise InputError(
                    f"{modality}: expected features (T, D) with T >= 1, got {sequence.shape}"
                )
            if profile is not None:
                sequence = self._adapted(modality, sequence, profile)
            with np.errstate(over="ignore"):  # the model refuses what is infinite
                sequence = np.asarray(sequence, dtype=np.float32)
            x = torch.as_tensor(sequence, device=self.device)[None]
            mask = ~x.isnan().all(-1)
            if not mask.any():
                raise InputError(f"{modality}: expected finite features, got NaN or infinity alone")
            inputs[modality.value] = x
            inputs[f"{modality}_mask"] = mask
        return inputs

    def _adapted(
        self, modality: Modality, sequence: NDArray[np.floating], profile: SpeakerProfile
    ) -> NDArray[np.floating]:
        """``(T, D)`` of a person, moved to where the training speakers' features lie."""
        known, taken = profile.moments.get(modality), self.model.config.inputs
        # Features that do not fit the model stay as they are: the model's own check names them.
        if known is None or modality not in taken or sequence.shape[1] != len(known.mean):
            return sequence
        return towards_training(sequence, known, self.model.normalisation(modality).moments())

    def _features_of(self, clip: Clip, reading: Reading) -> Iterator[FeatureArrays]:
        """Features of each part of a clip that counts as a clip by itself."""
        if isinstance(clip, ClipFiles):
            clip = {"path": clip.media, "acoustic": clip.acoustic, "visual": clip.visual}
        given = clip if isinstance(clip, Mapping) else {"path": clip}
        check_given(given)
        opened = self.reader.open(**{"people": "all", **reading, **given})
        if isinstance(opened, ClipStreams):
            for _, _, main in _cut(opened, [self.reader.part_cutter(opened)]):
                yield self.reader.extract(main)
        else:
            # What the model does not take would only make the profile larger.
            yield {m: x for m, x in opened.items() if m in self.model.config.inputs}

    @property
    def _needs(self) -> str:
        """What a clip must have, in words."""
        return what_it_takes(self.model.config.predictions)


def _cut(clip: ClipStreams, cutters: Sequence[Cutter]) -> Iterator[tuple[int, Window, Window]]:
    """Cuts a clip, and tells of several people the one who speaks.

    Yields the number of the cutter, its next window, and the same with the main person alone: the
    one who speaks; the window as it is, where that is not told.
    """
    finder = SpeakerFinder(clip.step_s)
    for number, window in cut_clip(finder.watch(clip), cutters):
        talker = finder.speaker(window)
        yield number, window, window if talker is None else window.of(talker)


def _in_parts(features: FeatureArrays) -> Iterator[FeatureArrays]:
    """Features as they are, or in equal parts of at most :data:`MOST_STEPS`, as long media are.

    What is known of no step of a part is left out of it.
    """
    count = -(-max(map(len, features.values()), default=0) // MOST_STEPS)
    if count <= 1:
        yield features
        return
    cut = {modality: np.array_split(x, count) for modality, x in features.items()}
    for number in range(count):
        part = {modality: parts[number] for modality, parts in cut.items()}
        known = {m: x for m, x in part.items() if len(x) and not np.isnan(x).all()}
        if known:
            yield known


def _of_clip(whole: TimedPrediction, name: str, duration_s: float | None) -> ClipPrediction:
    """What was predicted for the whole of a clip, as its prediction."""
    assert whole.modality is not None
    return ClipPrediction(
        name=name,
        modality=whole.modality,
        label=whole.label,
        probabilities=whole.probabilities,
        attributes=whole.attributes,
        duration_s=duration_s,
    )
