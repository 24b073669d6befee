"""From a clip to a prediction: media, arrays or features in, labels and attributes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vavl.errors import InputError, MediaError
from vavl.features.face_features import FaceFeatures, FaceStep
from vavl.features.media import SAMPLING_RATE_HZ
from vavl.features.registry import rebuild_extractor
from vavl.features.visual import read_array
from vavl.features.waveform import WaveformExtractor
from vavl.inference.clip import ClipStreams, streams_of_arrays, streams_of_file
from vavl.inference.exported import ExportedModel
from vavl.inference.files import ClipFiles
from vavl.inference.quality import SILENCE_DBFS, Quality, level_dbfs
from vavl.inference.windows import Window, WindowCutter, cut_clip
from vavl.memory import release_memory
from vavl.models.base import EmotionModel
from vavl.types import FeatureSpec, Modality, Prediction, TimedPrediction, what_it_takes

LONGEST_S = 10.0
"""Longer clips are predicted in consecutive parts of so many seconds, and the parts averaged."""
WINDOW_S = 2.0
"""Length of a window of the timeline."""
HOP_S = 0.5
"""From one window of the timeline to the next."""

_SHORTEST_SOUND_S = 0.1
"""Sound shorter than this says nothing."""


class Recognizer:
    """A model together with the extractors of its features.

    Args:
        model: Trained model, or an exported one, which onnxruntime runs.
        features: How the features of each modality were made; without it, only arrays of features
            can be given.
        temperatures: What the logits of each prediction are divided by, so that probabilities mean
            what they say; 1 where it is not given.
        device: Where the model runs; an exported one runs on the CPU.

    Raises:
        InputError: Another device for an exported model.
    """

    def __init__(
        self,
        model: EmotionModel | ExportedModel,
        features: Mapping[Modality, FeatureSpec] | None = None,
        temperatures: Mapping[Modality, float] | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        if isinstance(model, EmotionModel):
            model = model.to(self.device).eval()
        elif self.device.type != "cpu":
            raise InputError(f"device: expected cpu for an exported model, got {device!r}")
        self.model = model
        self.features = dict(features or {})
        self.temperatures = dict(temperatures or {})

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
        frame_rate_hz: float = 25.0,
        acoustic: NDArray[np.floating] | Path | str | None = None,
        visual: NDArray[np.floating] | Path | str | None = None,
        name: str | None = None,
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
            timeline: Whether to predict over time as well; not for features.
            on_step: Called with each face as it is found, e.g. to draw it.

        Returns:
            Label, probabilities, attributes in [0, 1], and the modality they come from.

        Raises:
            InputError: Nothing is given, two sources for one modality, or wrong shapes.
            MediaError: A file is missing or cannot be read, or there is neither sound nor a face.
        """
        given = next((str(p) for p in (path, acoustic, visual) if isinstance(p, (str, Path))), "")
        name = name or Path(given).name
        if acoustic is not None or visual is not None:
            if audio is not None or frames is not None or timeline:
                raise InputError(
                    "acoustic, visual: expected features alone or with a sound file, got also "
                    "audio, frames or timeline"
                )
            return self._predict_features(path, acoustic, visual, name)
        if path is not None and (audio is not None or frames is not None):
            raise InputError("path, audio, frames: expected a file or arrays, got both")
        if path is not None:
            if not self.hears and not self.sees:
                _ = self.acoustic_extractor  # its error says why this model reads no media
            faces = self.visual_extractor if self.sees else None
            media = streams_of_file(Path(path), sound=self.hears, faces=faces)
        elif audio is not None or frames is not None:
            if audio is not None:
                _ = self.acoustic_extractor  # or an error that says why there is none
            faces = None if frames is None else self.visual_extractor
            media = streams_of_arrays(audio, sampling_rate_hz, frames, frame_rate_hz, faces)
        else:
            raise InputError(
                "path, audio, frames, acoustic, visual: expected at least one of them, got none"
            )
        return self._predict_media(media, name, timeline, on_step)

    def predict_files(self, clip: ClipFiles, *, timeline: bool = False) -> Prediction:
        """Predicts from the files of one clip, see :func:`vavl.inference.group_files`."""
        return self.predict(
            clip.media,
            acoustic=clip.acoustic,
            visual=clip.visual,
            name=clip.name,
            timeline=timeline,
        )

    def predict_window(self, window: Window) -> TimedPrediction:
        """Predicts from a span of a clip, as from a clip of its own.

        Raises:
            InputError: The model has no extractors for sound and picture.
        """
        sequences: dict[Modality, NDArray[np.floating]] = {}
        long_enough = len(window.waveform) >= _SHORTEST_SOUND_S * SAMPLING_RATE_HZ
        if long_enough and level_dbfs(window.waveform) >= SILENCE_DBFS:
            sequences[Modality.ACOUSTIC] = self.acoustic_extractor.extract(window.waveform)
        shown = [step.face is not None for step in window.steps]
        if any(shown):
            sequences[Modality.VISUAL] = np.stack([step.features for step in window.steps])
        face_share = sum(shown) / len(shown) if shown else None
        modality, probabilities, attributes = self._run(sequences)
        release_memory()  # a file or a stream may go on for hours
        return TimedPrediction(
            start_s=window.start_s,
            end_s=window.end_s,
            modality=modality,
            label=_most_probable(probabilities),
            probabilities=probabilities,
            attributes=attributes,
            face_share=face_share,
        )

    def _predict_media(
        self,
        media: ClipStreams,
        name: str,
        timeline: bool,
        on_step: Callable[[FaceStep], None] | None,
    ) -> Prediction:
        sides = {"audio": media.audio is not None, "video": media.steps is not None}
        quality = Quality(**sides)
        cutters = [WindowCutter(LONGEST_S, LONGEST_S, **sides)]
        if timeline:
            cutters.append(WindowCutter(WINDOW_S, HOP_S, **sides))

        def watched(steps: Iterator[FaceStep]) -> Iterator[FaceStep]:
            for step in steps:
                if on_step is not None:
                    on_step(step)
                yield quality.see(step)

        predictions: list[list[TimedPrediction]] = [[] for _ in cutters]
        for index, window in cut_clip(
            cutters,
            None if media.audio is None else map(quality.hear, media.audio),
            None if media.steps is None else watched(media.steps),
            media.step_s,
        ):
            predictions[index].append(self.predict_window(window))
        parts = [part for part in predictions[0] if part.modality is not None]
        if not parts:
            found = ", ".join(quality.warnings) or "the clip has less than the model takes"
            raise MediaError(f"{name}: nothing to go by: {found}; expected {self._needs}")
        probabilities = _means([part.probabilities for part in parts])
        modalities = [part.modality for part in parts]
        return Prediction(
            name=name,
            modality=max(Modality, key=modalities.count),
            label=_most_probable(probabilities),
            probabilities=probabilities,
            attributes=_means([part.attributes for part in parts]),
            duration_s=predictions[0][-1].end_s,
            face_share=quality.face_share,
            warnings=quality.warnings,
            timeline=tuple(predictions[1]) if timeline else (),
        )

    def _predict_features(
        self,
        path: Path | str | None,
        acoustic: NDArray[np.floating] | Path | str | None,
        visual: NDArray[np.floating] | Path | str | None,
        name: str,
    ) -> Prediction:
        if path is not None and acoustic is not None:
            raise InputError("path, acoustic: expected one source of sound, got both")
        sequences: dict[Modality, NDArray[np.floating]] = {}
        if path is not None:
            sequences[Modality.ACOUSTIC] = self.acoustic_extractor.extract_file(path)
        elif acoustic is not None:
            sequences[Modality.ACOUSTIC] = _as_array(acoustic)
        if visual is not None:
            sequences[Modality.VISUAL] = _as_array(visual)
        modality, probabilities, attributes = self._run(sequences)
        if modality is None:
            raise InputError(
                f"acoustic, visual: expected {self._needs}, which this model takes, got "
                f"{' and '.join(sequences)} features alone"
            )
        return Prediction(
            name=name,
            modality=modality,
            label=_most_probable(probabilities),
            probabilities=probabilities,
            attributes=attributes,
            duration_s=self._duration_s(sequences),
        )

    def _run(
        self, sequences: Mapping[Modality, NDArray[np.floating]]
    ) -> tuple[Modality | None, dict[str, float], dict[str, float]]:
        """What one clip is predicted from, its probabilities and its attributes.

        None, and nothing else, for a clip that lacks what the model needs.
        """
        if not sequences:
            return None, {}, {}
        inputs: dict[str, Tensor] = {}
        for modality, sequence in sequences.items():
            if sequence.ndim != 2 or not len(sequence):
                raise InputError(
                    f"{modality}: expected (T, {self.model.config.dim(modality)}) with T >= 1, got "
                    f"{sequence.shape}"
                )
            x = torch.as_tensor(np.asarray(sequence, dtype=np.float32), device=self.device)[None]
            known = ~x.isnan().all(-1)
            if not known.any():
                raise InputError(f"{modality}: expected finite features, got NaN or infinity alone")
            inputs[modality.value] = x
            inputs[f"{modality}_mask"] = known
        with torch.inference_mode():
            out = self.model(**inputs)
        source: Modality | None = out.modality[0]
        if source is None:
            return None, {}, {}
        values = out.prediction[0].float().cpu()
        split = len(self.categories)
        logits = values[:split] / self.temperatures.get(source, 1.0)
        return (
            source,
            dict(zip(self.categories, logits.softmax(0).tolist(), strict=True)),
            dict(zip(self.attributes, values[split:].clamp(0, 1).tolist(), strict=True)),
        )

    @property
    def _needs(self) -> str:
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
        if modality not in self.features:
            return f"{what}: this model was trained without {modality} features; {instead}"
        return (
            f"{what}: this model was trained on precomputed {modality} features, so that it cannot "
            f"read {what} itself; give {modality}=, or a NAME.{modality}.npy file"
        )


def _as_array(sequence: NDArray[np.floating] | Path | str) -> NDArray[np.floating]:
    return read_array(sequence) if isinstance(sequence, (str, Path)) else np.asarray(sequence)


def _means(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rows = list(parts)
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _most_probable(probabilities: Mapping[str, float]) -> str | None:
    return max(probabilities, key=lambda name: probabilities[name]) if probabilities else None
