"""What a model says of the features of one clip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError
from vavl.inference.enrolment import normalised
from vavl.inference.exported import ExportedModel
from vavl.inference.reading import FeatureArrays
from vavl.models.base import EmotionModel
from vavl.types import Modality


class Answer(NamedTuple):
    """A prediction, or nothing where a clip lacks what the model needs.

    Attributes:
        modality: What it was predicted from; None, and the rest empty, if it was not.
        probabilities: Category to probability; they sum to 1.
        attributes: Attribute to value in [0, 1].
    """

    modality: Modality | None
    probabilities: dict[str, float]
    attributes: dict[str, float]

    @property
    def label(self) -> str | None:
        """The most probable category; None without categories."""
        said = self.probabilities
        return max(said, key=lambda name: said[name]) if said else None


def answer(
    model: EmotionModel | ExportedModel,
    sequences: FeatureArrays,
    temperatures: Mapping[Modality, float],
    device: torch.device,
    profile: SpeakerProfile | None = None,
) -> Answer:
    """Asks the model about one clip.

    Args:
        model: In evaluation mode.
        sequences: ``(T, D)`` features, at least one step each; a row of NaN is a step without any.
        temperatures: What the logits of each prediction are divided by; 1 where it is not given.
        device: Where the model is.
        profile: Of the person, if they are known.

    Raises:
        InputError: Features of another shape, or none but NaN.
    """
    if not sequences:
        return Answer(None, {}, {})
    inputs: dict[str, Tensor] = {}
    for modality, sequence in sequences.items():
        if sequence.ndim != 2 or not len(sequence):
            raise InputError(
                f"{modality}: expected (T, {model.config.dim(modality)}) with T >= 1, got "
                f"{sequence.shape}"
            )
        if profile is not None:
            sequence = normalised(model, modality, sequence, profile)
        x = torch.as_tensor(np.asarray(sequence, dtype=np.float32), device=device)[None]
        known = ~x.isnan().all(-1)
        if not known.any():
            raise InputError(f"{modality}: expected finite features, got NaN or infinity alone")
        inputs[modality.value] = x
        inputs[f"{modality}_mask"] = known
    with torch.inference_mode():
        out = model(**inputs)
    source: Modality | None = out.modality[0]
    if source is None:
        return Answer(None, {}, {})
    categories, attributes = model.config.categories, model.config.attributes
    values = out.prediction[0].float().cpu()
    logits = values[: len(categories)] / temperatures.get(source, 1.0)
    return Answer(
        source,
        dict(zip(categories, logits.softmax(0).tolist(), strict=True)),
        dict(zip(attributes, values[len(categories) :].clamp(0, 1).tolist(), strict=True)),
    )


def mean_answer(answers: Iterable[Answer]) -> Answer:
    """The mean of at least one answer, each of them from some modality; the most frequent one."""
    said = list(answers)
    modalities = [one.modality for one in said]
    return Answer(
        max(Modality, key=modalities.count),
        _means([one.probabilities for one in said]),
        _means([one.attributes for one in said]),
    )


def _means(parts: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
