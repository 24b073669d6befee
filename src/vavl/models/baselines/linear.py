"""Linear models of what a clip's features are like over time, and their product.

For sound and for the face a linear model of the mean and the deviation of each feature over the
valid steps: a logistic regression, which is solved as a whole before the first step of training. On
frozen features of a small corpus it is hard to beat, so every other model should. With both, the
log-probabilities are added up with a weight each (a logarithmic opinion pool), of attributes the
mean is taken; the two weights alone are learned step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from vavl.config.baselines import LinearConfig
from vavl.models.base import Criterion, EmotionModel, Losses, Normalisation, TaskLoss, task_losses
from vavl.models.sequences import Predicted, Sequences
from vavl.models.statistics import StatisticsHead, clip_statistics, fit_heads
from vavl.types import STREAMS, Inputs, Modality


class Linear(EmotionModel):
    """A linear model of statistics for each modality."""

    config_class = LinearConfig
    config: LinearConfig

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config)
        dims = {str(m): config.dim(m) for m in STREAMS}
        self.projections = nn.ModuleDict({m: Normalisation(dim) for m, dim in dims.items()})
        self.heads = nn.ModuleDict(
            {m: StatisticsHead(dim, config.outputs) for m, dim in dims.items()}
        )
        self.weights = nn.Parameter(torch.ones(len(STREAMS)))

    def head(self, modality: Modality) -> StatisticsHead:
        """The linear model of one modality."""
        return cast(StatisticsHead, self.heads[str(modality)])

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        found = {m: self.encode(m, part) for m, part in sequences.items()}
        pair = self.pair(found)
        if pair is None:
            return found
        return found | {Modality.AUDIOVISUAL: Predicted(pair[0].rows, self.fuse(*pair))}

    def encode(self, modality: Modality, part: Sequences) -> Predicted:
        """The prediction from sequences of one modality."""
        return Predicted(part.rows, self.head(modality)(clip_statistics(part)))

    def fuse(self, acoustic: Predicted, visual: Predicted) -> Tensor:
        """``(n, outputs)`` of the same n clips from both predictions."""
        split = len(self.config.categories)
        both = torch.stack([acoustic.values, visual.values])
        logits = torch.einsum("m,mnc->nc", self.weights, both[..., :split].log_softmax(-1))
        return torch.cat([logits, both[..., split:].mean(0)], dim=1)

    def losses(self, sequences: Mapping[Modality, Sequences], criterion: Criterion) -> Losses:
        """The loss of the pool alone: the linear models are solved in :meth:`prepare`."""
        found = task_losses(self.predict(sequences), criterion)
        return {m: loss for m, loss in found.items() if loss.requires_grad}

    def prepare(self, clips: Iterable[tuple[Tensor, Inputs]], add_task_loss: TaskLoss) -> None:
        """Solves the linear models."""
        heads = {m: self.head(m) for m in self.config.inputs}
        fit_heads(self, heads, clips, add_task_loss, self.config.inverse_penalty)
