"""From a clip to a prediction: media, arrays or features in, labels and attributes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError
from vavl.features.face_features import FaceFeatures, FaceStep
from vavl.features.registry import rebuild_extractor
from vavl.features.waveform import WaveformExtractor
from vavl.inference.answers import Answer, answer
from vavl.inference.clip import FRAME_RATE_HZ, ClipStreams
from vavl.inference.enrolment import Clip, enrolled
from vavl.inference.exported import ExportedModel
from vavl.inference.files import ClipFiles
from vavl.inference.reading import FeatureArrays, read_clip, window_features
from vavl.inference.whole_clip import predict_streams
from vavl.inference.windows import LONGEST_S, Window
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.models.base import EmotionModel
from vavl.models.pretrained import FEATURES_FILE
from vavl.system.memory import release_memory
from vavl.types import FeatureSpec, Modality, Prediction, TimedPrediction, what_it_takes


class Recognizer:
    """A model together with the extractors of its features.

    Args:
        model: Trained model, or an exported one, which onnxruntime runs.
        features: How the features of each modality were made; without it, only arrays of features
            can be given.
        temperatures: What the logits of each prediction are divided by, so that probabilities mean
            what they say; 1 where it is not given.
        device: Where the model runs: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``;
            an exported one runs on the CPU.

    Attributes:
        speakers: Profiles of the people it was adapted to, by name; loaded ones may be put there.

    Raises:
        InputError: The device cannot be used here, or is not the CPU for an exported model.
    """

    def __init__(
        self,
        model: EmotionModel | ExportedModel,
        features: Mapping[Modality, FeatureSpec] | None = None,
        temperatures: Mapping[Modality, float] | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        if isinstance(model, EmotionModel):
            self.device = _usable_device(device)
            model = model.to(self.device).eval()
        elif device in ("cpu", "auto"):
            self.device = torch.device("cpu")
        else:
            raise InputError(f"device: expected cpu for an exported model, got {device!r}")
        self.model = model
        self.features = dict(features or {})
        self.temperatures = dict(temperatures or {})
        self.speakers: dict[str, SpeakerProfile] = {}

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that the model tells apart."""
        return self.model.config.categories

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes that the model estimates, in [0, 1]."""
        return self.model.config.attributes

    def predict(
        self,
        path: Path | str | None = None,
        *,
        audio: NDArray[np.floating] | None = None,
        sampling_rate_hz: int = SAMPLING_RATE_HZ,
        frames: NDArray[np.uint8] | None = None,
        frame_rate_hz: float = FRAME_RATE_HZ,
        acoustic: NDArray[np.floating] | Path | str | None = None,
        visual: NDArray[np.floating] | Path | str | None = None,
        name: str | None = None,
        speaker: str | SpeakerProfile | None = None,
        timeline: bool = False,
        on_step: Callable[[FaceStep], None] | None = None,
    ) -> Prediction:
        """Predicts from whatever is given of one clip.

        A clip of up to 10 s is predicted as a whole. A longer one, beyond what models are usually
        trained on, is predicted in consecutive parts of 10 s whose probabilities and attributes
        are averaged. The timeline has windows of 2 s, one every 0.5 s, each of them predicted as a
        clip of its own. Memory does not grow with the length of the clip.

        Sound below -65 dBFS counts as none, and so does a picture without a face.

        Args:
            path: A sound file, a video file, or a folder of frames.
            audio: Instead of a file: ``(N,)`` samples, full scale [-1, 1].
            sampling_rate_hz: Of ``audio``.
            frames: Instead of a file: ``(N, H, W, 3)`` RGB, uint8.
            frame_rate_hz: Of ``frames``, in pictures per second.
            acoustic: ``(T, acoustic_dim)`` acoustic features, or a ``.npy`` file of them.
            visual: ``(T, visual_dim)`` visual features, or a ``.npy`` file of them; a row of NaN is
                a step without a face.
            name: What the prediction is called; by default the file's name.
            speaker: Who is heard and seen: a name that was given to :meth:`adapt`, or a profile.
            timeline: Whether to predict over time as well; not for features.
            on_step: Called with each face as it is found, e.g. to draw it.

        Returns:
            Label, probabilities, attributes in [0, 1], and the modality they come from.

        Raises:
            InputError: Nothing is given, two sources for one modality, wrong shapes, or a speaker
                who is not known or whose profile was made with other extractors.
            MediaError: A file is missing or cannot be read, or there is neither sound nor a face.
        """
        given = next((str(p) for p in (path, acoustic, visual) if isinstance(p, (str, Path))), "")
        name = name or Path(given).name
        profile = None if speaker is None else self.profile_of(speaker)
        clip = read_clip(
            self,
            path,
            audio=audio,
            sampling_rate_hz=sampling_rate_hz,
            frames=frames,
            frame_rate_hz=frame_rate_hz,
            acoustic=acoustic,
            visual=visual,
        )
        if isinstance(clip, ClipStreams):
            return predict_streams(
                self, clip, name, timeline=timeline, on_step=on_step, profile=profile
            )
        if timeline:
            raise InputError("timeline: expected sound or pictures, got features alone")
        return self._predict_features(clip, name, profile)

    def adapt(self, clips: Iterable[Clip], *, speaker: str) -> SpeakerProfile:
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

        Returns:
            The profile, also to be saved: ``SpeakerProfile.save`` and ``SpeakerProfile.load``.

        Raises:
            InputError: As :meth:`predict`, or no clip.
            MediaError: As :meth:`predict`. The profile then stays as it was.

        Example:
            >>> import vavl
            >>> recognizer = vavl.load()
            >>> clips = [{"audio": np.sin(np.arange(16_000) / pace)} for pace in (5.0, 7.0)]
            >>> profile = recognizer.adapt(clips, speaker="ann")
            >>> recognizer.predict(**clips[0], speaker="ann").modality
            <Modality.ACOUSTIC: 'acoustic'>
        """
        known = self.speakers.get(speaker, SpeakerProfile(speaker))
        self.speakers[speaker] = enrolled(self, clips, known, LONGEST_S)
        return self.speakers[speaker]

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
        speaker: str | SpeakerProfile | None = None,
    ) -> Prediction:
        """Predicts from the files of one clip, see :func:`vavl.inference.group_files`."""
        return self.predict(
            clip.media,
            acoustic=clip.acoustic,
            visual=clip.visual,
            name=clip.name,
            timeline=timeline,
            speaker=speaker,
        )

    def predict_window(
        self, window: Window, profile: SpeakerProfile | None = None
    ) -> TimedPrediction:
        """Predicts from a span of a clip, as from a clip of its own.

        Raises:
            InputError: The model has no extractors for sound and picture.
        """
        shown = [step.face is not None for step in window.steps]
        face_share = sum(shown) / len(shown) if shown else None
        found = self._answer(window_features(self, window), profile)
        release_memory()  # a file or a stream may go on for hours
        return TimedPrediction(
            start_s=window.start_s,
            end_s=window.end_s,
            modality=found.modality,
            label=found.label,
            probabilities=found.probabilities,
            attributes=found.attributes,
            face_share=face_share,
        )

    def _predict_features(
        self, sequences: FeatureArrays, name: str, profile: SpeakerProfile | None
    ) -> Prediction:
        found = self._answer(sequences, profile)
        if found.modality is None:
            raise InputError(
                f"acoustic, visual: expected {self.needs}, which this model takes, got "
                f"{' and '.join(sequences)} features alone"
            )
        return Prediction(
            name=name,
            modality=found.modality,
            label=found.label,
            probabilities=found.probabilities,
            attributes=found.attributes,
            duration_s=self._duration_s(sequences),
        )

    def _answer(self, sequences: FeatureArrays, profile: SpeakerProfile | None) -> Answer:
        return answer(self.model, sequences, self.temperatures, self.device, profile)

    @property
    def needs(self) -> str:
        """What a clip must have, in words."""
        return what_it_takes(self.model.config.predictions)

    def _duration_s(self, sequences: Mapping[Modality, NDArray[np.floating]]) -> float | None:
        """Length of the clip by its longest sequence of known frame rate."""
        durations = [
            len(sequence) / rate
            for modality, sequence in sequences.items()
            if modality in self.features and (rate := self.features[modality].frame_rate_hz)
        ]
        return max(durations, default=None)

    @property
    def hears(self) -> bool:
        """Whether the model can be given sound, and not features of it alone."""
        return self._reads(Modality.ACOUSTIC)

    @property
    def sees(self) -> bool:
        """Whether the model can be given pictures, and not features of them alone."""
        return self._reads(Modality.VISUAL)

    def _reads(self, modality: Modality) -> bool:
        spec = self.features.get(modality)
        return spec is not None and spec.extractor != "arrays"

    @cached_property
    def acoustic_extractor(self) -> WaveformExtractor:
        """Makes features of sound as the model's were made; an InputError if it takes none."""
        if not self.hears:
            raise InputError(self._unreadable(Modality.ACOUSTIC, "sound", "give it a face"))
        extractor = rebuild_extractor(self.features[Modality.ACOUSTIC])
        assert isinstance(extractor, WaveformExtractor)
        return extractor

    @cached_property
    def visual_extractor(self) -> FaceFeatures:
        """Makes features of pictures as the model's were made; an InputError if it takes none."""
        if not self.sees:
            raise InputError(self._unreadable(Modality.VISUAL, "pictures", "give it sound"))
        extractor = rebuild_extractor(self.features[Modality.VISUAL])
        assert isinstance(extractor, FaceFeatures)
        return extractor

    def _unreadable(self, modality: Modality, what: str, instead: str) -> str:
        if not self.features:
            return (
                f"{what}: the model's folder has no {FEATURES_FILE}, which says how its features "
                "were made, so that it takes arrays of features alone: give acoustic=, visual=, or "
                "NAME.acoustic.npy, NAME.visual.npy"
            )
        if modality not in self.features:
            return f"{what}: this model was trained without {modality} features; {instead}"
        return (
            f"{what}: this model was trained on precomputed {modality} features, so that it cannot "
            f"read {what} itself; give {modality}=, or a NAME.{modality}.npy file"
        )


def _usable_device(name: str) -> torch.device:
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"device: {name!r} cannot be used here ({reason}); expected auto, cpu, cuda, cuda:N or "
            "mps"
        ) from None
    return device
