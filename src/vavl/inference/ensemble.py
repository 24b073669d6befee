"""The models of a run's folds as one: each predicts, and what they say is averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from vavl.config.models import ModelConfig
from vavl.errors import StoreError
from vavl.models.base import EmotionModel, ModelOutput, Normalisation
from vavl.models.sequences import average_values
from vavl.training.trained import load_trained
from vavl.types import Modality


class Ensemble(nn.Module):
    """Models of the same configuration; it takes the inputs of :class:`vavl.VAVL`.

    Probabilities and attributes are the means of theirs. The features of a clip are extracted once.
    """

    def __init__(self, models: Sequence[EmotionModel]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.config: ModelConfig = models[0].config

    @classmethod
    def of_folders(cls, folders: Sequence[Path]) -> Ensemble:
        """Loads the model of each folder.

        Raises:
            StoreError: A model is missing or damaged, or they do not predict the same.
        """
        models = [load_trained(folder) for folder in folders]
        for folder, model in zip(folders, models, strict=True):
            if model.config != models[0].config:
                raise StoreError(
                    f"model: expected models that take and predict the same, got another one in "
                    f"{folder} than in {folders[0]}; load one of them"
                )
        return cls(models)

    @property
    def members(self) -> Iterator[EmotionModel]:
        """The models, one after the other."""
        return (cast(EmotionModel, model) for model in self.models)

    @property
    def fronts(self) -> nn.ModuleDict:
        """By modality, the tuned encoders in front of the first model; the others have the like."""
        return next(self.members).fronts

    def forward(self, **inputs: Tensor | None) -> ModelOutput:
        """Predicts as :meth:`vavl.VAVL.forward` does; only ``prediction`` is given."""
        outputs: list[ModelOutput] = [model(**inputs) for model in self.members]
        prediction = average_values([out.prediction for out in outputs], self.config)
        return ModelOutput(None, None, None, prediction, outputs[0].modality)

    def normalisation(self, modality: Modality) -> Normalisation:
        """Mean and scale of all their training speakers together, each model counted alike."""
        parts = [model.normalisation(modality).statistics() for model in self.members]
        means, deviations = (torch.stack(values) for values in zip(*parts, strict=True))
        variance = (deviations**2 + means**2).mean(0) - means.mean(0) ** 2
        pooled = Normalisation(self.config.dim(modality))
        pooled.set_statistics(means.mean(0), variance.clamp_min(0).sqrt())
        return pooled
