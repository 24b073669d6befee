"""Normalisation by speaker: the clips of each are moved to where the training speakers' lie.

A model trained this way is given, in the test too, all clips of a speaker before it predicts the
first of them, though never a label. Its scores are no scores for speakers that nothing is known of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest
from vavl.data.speakers import Moments, pooled, towards_training, training_moments
from vavl.data.store import FeatureStore
from vavl.models.base import EmotionModel, NormalisingModel
from vavl.types import Modality

SEEN_SPEAKERS = (
    "Has seen unlabelled clips of the test speakers (all of them, the scored ones among them), "
    "never labels: not to be compared with results without."
)
"""What every report says of results with normalisation by speaker."""


def model_moments(model: NormalisingModel, modality: Modality) -> Moments:
    """The training statistics that a model normalises by, as a prior for those of a speaker."""
    mean, std = model.normalisation(modality).statistics()
    return training_moments(mean.numpy(), std.numpy())


def priors(model: EmotionModel, stores: Mapping[Modality, FeatureStore]) -> dict[Modality, Moments]:
    """The training statistics of every modality that a model reads from the stores."""
    return {m: model_moments(model, m) for m in model.config.inputs if m in stores}


def speaker_moments(manifest: Manifest, store: FeatureStore) -> dict[str, Moments]:
    """The moments of all clips of each speaker that a store has."""
    clips: defaultdict[str, list[str]] = defaultdict(list)
    for utterance in manifest:
        if utterance.utterance_id in store:
            clips[utterance.speaker].append(utterance.utterance_id)
    return {
        speaker: pooled((Moments.of_clip(store.read(name)) for name in names), store.spec.dim)
        for speaker, names in clips.items()
    }


class SpeakerNormalisation:
    """Replaces each clip's features by those that the training speakers' statistics make of it.

    Args:
        manifest: Says who speaks.
        speakers: By modality and speaker, see :func:`speaker_moments`.
        training: Training statistics by modality, with the weight of the prior; other modalities
            stay as they are.
    """

    def __init__(
        self,
        manifest: Manifest,
        speakers: Mapping[Modality, Mapping[str, Moments]],
        training: Mapping[Modality, Moments],
    ) -> None:
        self._speaker_of = {u.utterance_id: u.speaker for u in manifest}
        self._speakers = dict(speakers)
        self._training = dict(training)

    @classmethod
    def of_model(
        cls, model: EmotionModel, manifest: Manifest, stores: Mapping[Modality, FeatureStore]
    ) -> Self:
        """By all clips of each speaker, shrunk to the model's training statistics.

        No label is read. Other versions of the clips, e.g. at other speeds, are normalised by the
        statistics of these.
        """
        training = priors(model, stores)
        return cls(manifest, {m: speaker_moments(manifest, stores[m]) for m in training}, training)

    def __call__(
        self, modality: Modality, utterance_id: str, frames: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """``(T, D)`` of one clip, normalised by its speaker; the clip is one of the manifest's."""
        if modality not in self._training:
            return frames
        speaker = self._speakers[modality][self._speaker_of[utterance_id]]
        return towards_training(frames, speaker, self._training[modality])


def normalise_speakers(
    model: EmotionModel,
    manifest: Manifest,
    stores: Mapping[Modality, FeatureStore],
    train: UtteranceDataset,
    development: UtteranceDataset | None,
) -> None:
    """Has the data sets of a training give the model clips normalised by speaker."""
    by_speaker = SpeakerNormalisation.of_model(model, manifest, stores)
    for dataset in (train, development):
        if dataset is not None:
            dataset.sequence_map = by_speaker
