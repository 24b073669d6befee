"""The words that every other module uses: modalities, features, batches, predictions.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vavl.errors import counted

if TYPE_CHECKING:
    import torch
    from pydantic import TypeAdapter
    from torch import Tensor


class Modality(StrEnum):
    """Which part of a clip a sequence or a prediction comes from.

    Example:
        >>> Modality.ACOUSTIC == "acoustic", f"from {Modality.VISUAL}"
        (True, 'from visual')
    """

    ACOUSTIC = "acoustic"
    VISUAL = "visual"
    AUDIOVISUAL = "audiovisual"


UNSURE = "unsure"
"""Label of a prediction whose confidence lies below the threshold of the recogniser."""

SCHEMA_VERSION = 1
"""Of a prediction as JSON: docs/prediction.schema.json. New fields alone do not change it."""

SOURCES = {
    Modality.ACOUSTIC: "sound",
    Modality.VISUAL: "the face",
    Modality.AUDIOVISUAL: "sound and face",
}
"""What a prediction of a modality comes from, in words."""

NOTHING = "nothing to go by"
"""What is said of a span or a person without sound or a face."""

STREAMS = (Modality.ACOUSTIC, Modality.VISUAL)
"""The modalities that are read from a clip, in the order used everywhere."""

Inputs: TypeAlias = "dict[Modality, tuple[Tensor, Tensor]]"
"""By modality features ``(B, T, D)`` of a batch and their mask ``(B, T)``, True = valid."""


def what_it_takes(predictions: Iterable[Modality]) -> str:
    """What a clip must have for at least one of these predictions, in words.

    Example:
        >>> what_it_takes(Modality), what_it_takes([Modality.AUDIOVISUAL])
        ('sound or a face', 'sound and a face together')
    """
    words = {Modality.ACOUSTIC: "sound", Modality.VISUAL: "a face"}
    return " or ".join(words[p] for p in predictions if p in words) or "sound and a face together"


MOST_FEATURES = 65_536
"""In a step: a file may claim any number."""


@dataclass(frozen=True)
class FeatureSpec:
    """How a feature sequence is made: everything that changes its numbers.

    Attributes:
        modality: ``acoustic`` or ``visual``.
        extractor: Registered name, e.g. ``"logmel"``.
        dim: Features per step (D).
        frame_rate_hz: Steps per second, or None where it is not known (precomputed arrays).
        parameters: JSON-compatible extractor parameters that change the numbers: layer, bands,
            audio normalisation, cap on the duration.
        weights_sha256: Hash of the weights file, or None for extractors without weights.
        source: Where the weights were loaded from (hub id or directory). Not part of the key: the
            same weights in another folder give the same numbers.
    """

    modality: Modality
    extractor: str
    dim: int
    frame_rate_hz: float | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str | None = None
    source: str | None = None

    @property
    def key(self) -> str:
        """Hexadecimal SHA-256 over all that changes the numbers."""
        content = self.to_dict()
        del content["source"]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def description(self) -> str:
        """One line that tells a user two extractors apart."""
        weights = f", weights {self.weights_sha256[:12]}" if self.weights_sha256 else ""
        source = f" from {self.source}" if self.source else ""
        parameters = json.dumps(dict(self.parameters), sort_keys=True)
        return f"{self.modality} {self.extractor}, dim {self.dim}{weights}{source}, {parameters}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-compatible values; :meth:`from_dict` reads it back."""
        content = asdict(self)
        content["modality"] = str(self.modality)
        content["parameters"] = dict(self.parameters)
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FeatureSpec:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ValueError: A field is missing, or holds what it cannot be.
        """
        if missing := [f.name for f in fields(cls) if f.name not in content]:
            raise ValueError(f"expected {', '.join(missing)}, got none")
        known = {f.name: content[f.name] for f in fields(cls)}
        spec = _validator().validate_json(json.dumps(known), strict=True)
        rate = spec.frame_rate_hz
        if not (1 <= spec.dim <= MOST_FEATURES and (rate is None or 0 < rate <= 1e6)):
            raise ValueError(f"dim, frame_rate_hz: got {spec.dim}, {rate}")
        return spec


@cache
def _validator() -> TypeAdapter[FeatureSpec]:
    from pydantic import TypeAdapter  # here, since most who use these words need no such check

    return TypeAdapter(FeatureSpec)


@dataclass
class Batch:
    """Padded sequences of B clips with their targets.

    Masks are True where a step is valid: False in the padding, where a face is out of sight, and
    everywhere for a clip without the modality. What is not valid holds zeros.

    Attributes:
        utterance_ids: B ids.
        acoustic: ``(B, T_a, D_a)`` or None when no clip of the batch has sound.
        acoustic_mask: ``(B, T_a)`` or None.
        visual: ``(B, T_v, D_v)`` or None when no clip of the batch has a face.
        visual_mask: ``(B, T_v)`` or None.
        category_targets: ``(B, C)`` distribution over categories, rows of NaN where unknown; or
            None for a model without categories.
        attribute_targets: ``(B, A)`` in [0, 1], NaN where unknown; or None.
    """

    utterance_ids: list[str]
    acoustic: Tensor | None = None
    acoustic_mask: Tensor | None = None
    visual: Tensor | None = None
    visual_mask: Tensor | None = None
    category_targets: Tensor | None = None
    attribute_targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.utterance_ids)

    @property
    def inputs(self) -> Inputs:
        """By modality the features of the clips and their mask; no entry where all lack it."""
        pairs = {m: (getattr(self, m), getattr(self, f"{m}_mask")) for m in STREAMS}
        return {m: (x, mask) for m, (x, mask) in pairs.items() if x is not None}

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        moved = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if f.name != "utterance_ids" and (value := getattr(self, f.name)) is not None
        }
        return Batch(self.utterance_ids, **moved)


@dataclass(frozen=True, repr=False)
class TimedPrediction:
    """A prediction for a span of a clip.

    Attributes:
        start_s: Beginning of the span in seconds.
        end_s: Its end.
        modality: What the prediction was made from; None where there is neither sound nor a face.
        label: Most probable category; :data:`UNSURE` where its probability is below the threshold;
            or None for a model of attributes only, or for no modality.
        confidence: Calibrated probability of the most probable category, whatever the label says;
            ``max(probabilities, key=probabilities.get)`` is that category. None without categories.
        probabilities: Category to probability, summing to 1; empty without categories.
        attributes: Attribute to value in [0, 1]; empty without attributes.
        face_share: Share of the span in which a face is seen, or None without a picture.
    """

    start_s: float
    end_s: float
    modality: Modality | None
    label: str | None
    confidence: float | None = field(init=False)
    probabilities: dict[str, float]
    attributes: dict[str, float]
    face_share: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "confidence", max(self.probabilities.values(), default=None))

    def __repr__(self) -> str:
        return f"<{self._what}, {self.start_s:.2f}-{self.end_s:.2f} s: {self.summary}>"

    @property
    def _what(self) -> str:
        return type(self).__name__

    @property
    def summary(self) -> str:
        """What is predicted, and from what, in a few words."""
        return _summary(self)


class FaceBox(NamedTuple):
    """Where a face is at a moment.

    Attributes:
        time_s: Seconds from the beginning of the clip.
        box: ``(x0, y0, x1, y1)`` as shares of the width and height of the picture: (0, 0) is the
            upper left corner, (1, 1) the lower right one. A face may reach beyond.
    """

    time_s: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, repr=False)
class Person(TimedPrediction):
    """A person in the picture, and what the face alone says.

    ``start_s`` and ``end_s`` are when the person was seen first and last, and ``face_share`` is the
    share of the clip in which the face can be read. Without a face that can be read, or for a model
    that does not predict from the face alone, the modality is None.

    Attributes:
        number: From 1 in the order of appearance.
        is_main: Whether most of the clip's own prediction is made from this face: of the one whose
            mouth moves with the voice, where that can be told, else of the most prominent one.
        track: Where the face is. Up to 0.5 s apart, it moves in a straight line from one to the
            next; further apart, it is out of sight in between.
        timeline: Predictions over time, where they were asked for; windows in which it is seen.
    """

    number: int = 0
    is_main: bool = False
    track: tuple[FaceBox, ...] = ()
    timeline: tuple[TimedPrediction, ...] = ()

    @property
    def _what(self) -> str:
        return f"Person {self.number}{' (main)' if self.is_main else ''}"


@dataclass(frozen=True, repr=False)
class Segment(TimedPrediction):
    """A prediction for a sentence, or for a span that somebody else has marked.

    Attributes:
        speaker: Who speaks, where the one who marked the span says so.
        text: What is said, likewise.
    """

    speaker: str | None = None
    text: str | None = None

    @property
    def _what(self) -> str:
        return "Segment" if self.speaker is None else f"Segment of {self.speaker!r}"


@dataclass(frozen=True, repr=False)
class Prediction:
    """A prediction for one clip.

    Attributes:
        name: File name or utterance id.
        modality: What the prediction was made from.
        label: Most probable category; :data:`UNSURE` where its probability is below the threshold;
            or None for a model of attributes only.
        confidence: As in :class:`TimedPrediction`; of the mean over the parts of a long clip.
        probabilities: Category to probability, summing to 1; empty without categories.
        attributes: Attribute to value in [0, 1]; empty without attributes.
        duration_s: Length in seconds of the clip, or of the span that was asked for; None where it
            is not known.
        face_share: Share of the clip in which a face is seen, or None without a picture.
        warnings: What may be wrong with the clip, e.g. silence, no face, several people.
        audio_track: Number, from 1, of the track of sound that was heard, where there are several.
        timeline: Predictions over time, where they were asked for.
        people: Everybody in the picture, in the order of appearance; with ``people="main"`` those
            who were the main person at some time.
        segments: Predictions by sentence or by given span, where they were asked for.
        speakers: By name a prediction for each speaker whom the segments name: the mean over the
            speaker's segments, weighted by the seconds of speech and of a face in them.

    Example:
        >>> found = Prediction("a.wav", Modality.ACOUSTIC, "sad", {"sad": 0.7, "happy": 0.3}, {})
        >>> found.confidence, found.to_dict()["label"]
        (0.7, 'sad')
    """

    name: str
    modality: Modality
    label: str | None
    confidence: float | None = field(init=False)
    probabilities: dict[str, float]
    attributes: dict[str, float]
    duration_s: float | None = None
    face_share: float | None = None
    warnings: tuple[str, ...] = ()
    audio_track: int | None = None
    timeline: tuple[TimedPrediction, ...] = ()
    people: tuple[Person, ...] = ()
    segments: tuple[Segment, ...] = ()
    speakers: dict[str, Prediction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "confidence", max(self.probabilities.values(), default=None))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-compatible values, with the version of their schema."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    def __repr__(self) -> str:
        length = [] if self.duration_s is None else [f"{self.duration_s:.1f} s"]
        parts = {
            ("person", "people"): self.people,
            ("window",): self.timeline,
            ("segment",): self.segments,
            ("warning",): self.warnings,
        }
        has = [counted(len(found), *word) for word, found in parts.items() if found]
        return f"<{type(self).__name__} {self.name!r}: {', '.join([self.summary, *length, *has])}>"

    @property
    def summary(self) -> str:
        """What is predicted, and from what, in a few words.

        Example:
            >>> found = {"sad": 0.71234, "happy": 0.28766}
            >>> Prediction("clip.wav", Modality.ACOUSTIC, "sad", found, {}).summary
            'sad 0.71, from sound'
        """
        return _summary(self)


def _summary(prediction: Prediction | TimedPrediction) -> str:
    if prediction.modality is None:
        return NOTHING
    found = [f"{name} {value:.2f}" for name, value in prediction.attributes.items()]
    if prediction.confidence is not None:
        found.insert(0, f"{prediction.label} {prediction.confidence:.2f}")
    return f"{', '.join(found)}, from {SOURCES[prediction.modality]}"
