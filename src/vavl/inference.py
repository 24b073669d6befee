"""From a clip to a prediction: features or files in, labels and attributes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vavl.errors import InputError, StoreError
from vavl.models.pretrained import FEATURES_FILE, read_features, resolve_model
from vavl.models.vavl import VAVL
from vavl.training.run import folds_of_run
from vavl.types import STREAMS, FeatureSpec, Modality, Prediction

if TYPE_CHECKING:
    from vavl.features.extract import Extractor


def load(
    source: Path | str,
    *,
    device: str = "cpu",
    revision: str | None = None,
    local_files_only: bool = False,
) -> Recognizer:
    """Loads a recogniser.

    Args:
        source: A run or one fold of it, as ``vavl train`` writes them; a model folder; or a hub id
            ``"owner/name"``.
        device: ``"cpu"``, ``"cuda"`` or any other torch device.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never ask the network.

    Raises:
        StoreError: Nothing usable at the source, or a run of several folds: name one of them.

    Example:
        >>> import vavl
        >>> recognizer = vavl.load("runs/my-run/fold-0")  # doctest: +SKIP
        >>> recognizer.predict("clip.wav").label  # doctest: +SKIP
        'happy'
    """
    folder = Path(source)
    if (folder / "config.toml").is_file():
        folds = folds_of_run(folder)
        if len(folds) > 1:
            names = ", ".join(str(fold.path) for fold in folds)
            raise StoreError(f"model: {folder} holds a model per fold; load one of {names}")
        folder = folds[0].path
        source = folder
    folder = resolve_model(
        source, revision=revision, cache_dir=None, local_files_only=local_files_only
    )
    features = read_features(folder) if (folder / FEATURES_FILE).is_file() else {}
    return Recognizer(VAVL.from_pretrained(folder), features, device=device)


class Recognizer:
    """A model together with the extractors of its features.

    Args:
        model: Trained model.
        features: How the features of each modality were made; without it, only arrays of features
            can be given.
        device: Where the model runs.
    """

    def __init__(
        self,
        model: VAVL,
        features: Mapping[Modality, FeatureSpec] | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.features = dict(features or {})

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
        audio: Path | str | None = None,
        *,
        acoustic: NDArray[np.floating] | Path | str | None = None,
        visual: NDArray[np.floating] | Path | str | None = None,
        name: str | None = None,
    ) -> Prediction:
        """Predicts from whatever is given of one clip.

        Args:
            audio: A sound file; its features are extracted as the model's were.
            acoustic: ``(T, acoustic_dim)`` acoustic features, or a ``.npy`` file of them.
            visual: ``(T, visual_dim)`` visual features, or a ``.npy`` file of them; a row of NaN is
                a step without a face.
            name: What the prediction is called; by default the file's name.

        Returns:
            Label, probabilities, attributes in [0, 1], and the modality they come from.

        Raises:
            InputError: Nothing is given, both ``audio`` and ``acoustic``, or wrong shapes.
            MediaError: A file is missing or cannot be read.
        """
        if audio is not None and acoustic is not None:
            raise InputError("audio, acoustic: expected one of them, got both")
        if audio is not None:
            sequences = {Modality.ACOUSTIC: self._from_audio(Path(audio))}
        elif acoustic is not None:
            sequences = {Modality.ACOUSTIC: _as_array(acoustic)}
        else:
            sequences = {}
        if visual is not None:
            sequences[Modality.VISUAL] = _as_array(visual)
        if not sequences:
            raise InputError("audio, acoustic, visual: expected at least one of them, got none")
        given = next((str(p) for p in (audio, acoustic, visual) if isinstance(p, (str, Path))), "")
        return self._predict(sequences, name or Path(given).name)

    def predict_files(self, clip: ClipFiles) -> Prediction:
        """Predicts from the files of one clip, see :func:`group_files`."""
        return self.predict(clip.audio, acoustic=clip.acoustic, visual=clip.visual, name=clip.name)

    def _predict(self, sequences: Mapping[Modality, NDArray[np.floating]], name: str) -> Prediction:
        inputs: dict[str, Tensor] = {}
        for modality, sequence in sequences.items():
            if sequence.ndim != 2 or not len(sequence):
                raise InputError(
                    f"{modality}: expected (T, {self.model.config.dim(modality)}) with T >= 1, got "
                    f"{sequence.shape}"
                )
            x = torch.as_tensor(np.asarray(sequence, dtype=np.float32), device=self.device)[None]
            inputs[modality.value] = x
            inputs[f"{modality}_mask"] = ~x.isnan().all(-1)
        with torch.inference_mode():
            out = self.model(**inputs)
        values = out.prediction[0].float().cpu()
        split = len(self.categories)
        probabilities = dict(zip(self.categories, values[:split].softmax(0).tolist(), strict=True))
        return Prediction(
            name=name,
            modality=out.modality[0],
            label=max(probabilities, key=lambda c: probabilities[c]) if probabilities else None,
            probabilities=probabilities,
            attributes=dict(zip(self.attributes, values[split:].clamp(0, 1).tolist(), strict=True)),
            duration_s=self._duration_s(sequences),
        )

    def _duration_s(self, sequences: Mapping[Modality, NDArray[np.floating]]) -> float | None:
        """Length of the clip by its longest sequence of known frame rate."""
        durations = [
            len(sequence) / rate
            for modality, sequence in sequences.items()
            if modality in self.features and (rate := self.features[modality].frame_rate_hz)
        ]
        return max(durations, default=None)

    @cached_property
    def _acoustic_extractor(self) -> Extractor:
        from vavl.features.extract import rebuild_extractor

        spec = self.features.get(Modality.ACOUSTIC)
        if spec is None:
            raise InputError("audio: this model was trained without sound; give it a face")
        if spec.extractor == "arrays":
            raise InputError(
                "audio: this model was trained on precomputed acoustic features, so that it cannot "
                "read sound itself; give acoustic=, or a NAME.acoustic.npy file"
            )
        return rebuild_extractor(spec)

    def _from_audio(self, path: Path) -> NDArray[np.float32]:
        return self._acoustic_extractor.extract_file(path)


def _as_array(sequence: NDArray[np.floating] | Path | str) -> NDArray[np.floating]:
    if not isinstance(sequence, (str, Path)):
        return np.asarray(sequence)
    from vavl.features.visual import read_array

    return read_array(Path(sequence))


@dataclass(frozen=True)
class ClipFiles:
    """The files of one clip.

    Attributes:
        name: What the clip is called.
        audio: Sound file, or None.
        acoustic: ``.npy`` of acoustic features, or None.
        visual: ``.npy`` of visual features, or None.
    """

    name: str
    audio: Path | None = None
    acoustic: Path | None = None
    visual: Path | None = None


def group_files(files: Iterable[Path]) -> list[ClipFiles]:
    """Puts files together that belong to one clip.

    ``NAME.visual.npy`` and ``NAME.acoustic.npy`` hold features of the clip NAME; together with a
    sound file ``NAME.wav`` (or any other ending) of the same folder they are one clip.

    Raises:
        InputError: A ``.npy`` file whose name does not say which modality it holds, or two files
            for the same part of a clip.
    """
    clips: dict[Path, dict[str, Path]] = {}
    for path in files:
        if path.suffix.lower() == ".npy":
            part = Path(path.stem).suffix.lstrip(".")
            if part not in STREAMS:
                raise InputError(
                    f"{path}: expected NAME.acoustic.npy or NAME.visual.npy, so that the name says "
                    "what the array holds"
                )
            clip = path.with_name(Path(path.stem).stem)
        else:
            part, clip = "audio", path.with_suffix("")
        parts = clips.setdefault(clip, {})
        if part in parts or {part, *parts} >= {"audio", "acoustic"}:
            raise InputError(
                f"{path}: expected one source per modality of clip {clip.name!r}, got also "
                f"{next(iter(parts.values()))}"
            )
        parts[part] = path
    return [ClipFiles(name=clip.name, **parts) for clip, parts in clips.items()]
