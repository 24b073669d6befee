"""Outputs on a data set without gradients, and the score that an epoch is chosen by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vavl.data.dataset import UtteranceDataset, read_ahead, sorted_batches
from vavl.distributed import gathered, together
from vavl.metrics import accuracy, ccc, uar
from vavl.models.base import EmotionModel
from vavl.training.objective import Objective, Targets, task_loss
from vavl.types import STREAMS, Modality

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SCORING_BATCH = 64
"""Clips per batch without gradients; any other number gives the same outputs."""


@dataclass(frozen=True)
class Outputs:
    """Outputs for the N clips of a data set, on the CPU and in its order.

    Attributes:
        by_modality: Modality to ``(N, outputs)``, rows of NaN where a clip lacks what it takes.
        prediction: ``(N, outputs)`` from whatever each clip has; rows of NaN where that is not what
            the model needs.
    """

    by_modality: dict[Modality, Tensor]
    prediction: Tensor

    @property
    def predicted(self) -> Tensor:
        """``(N,)`` True where the clip has what the model needs."""
        return ~self.prediction.isnan().any(1)


def run_model(
    model: EmotionModel, dataset: UtteranceDataset, share: slice = slice(None)
) -> Outputs:
    """Outputs of a model in evaluation mode for all clips of a data set.

    With a share of the batches, the clips of the others have rows of NaN.
    """
    device = next(model.parameters()).device
    shape = (len(dataset), model.config.outputs)
    outputs = Outputs(
        by_modality={m: torch.full(shape, torch.nan) for m in Modality},
        prediction=torch.full(shape, torch.nan),
    )
    lengths = dataset.lengths[[STREAMS.index(m) for m in model.config.inputs]].max(0)  # (N,)
    readable = np.flatnonzero(lengths)
    batches = [
        readable[places].tolist()
        for places in sorted_batches(lengths[readable].tolist(), SCORING_BATCH)[share]
    ]
    names = [name for m in model.config.inputs for name in (str(m), f"{m}_mask")]
    training = model.training
    model.eval()
    with torch.inference_mode(), read_ahead(dataset.__getitem__, batches) as read:
        for rows, batch in zip(batches, read, strict=True):
            batch = batch.to(device)
            out = model(**{name: getattr(batch, name) for name in names})
            outputs.prediction[rows] = out.prediction.float().cpu()
            for modality in Modality:
                values = getattr(out, modality)
                if values is not None:
                    outputs.by_modality[modality][rows] = values.float().cpu()
    model.train(training)
    return outputs


def mean_over_versions(first: Outputs, others: Sequence[Outputs]) -> Outputs:
    """The mean of several outputs for the same clips, logits and attributes alike.

    The mean of logits is, normalised, the geometric mean of the probabilities. Where one of the
    others has no prediction for a clip, the first one's stands in for it.
    """

    def mean(values: Tensor, others: Sequence[Tensor]) -> Tensor:
        known = [values, *(torch.where(other.isnan(), values, other) for other in others)]
        return torch.stack(known).mean(0)

    return Outputs(
        by_modality={
            m: mean(values, [other.by_modality[m] for other in others])
            for m, values in first.by_modality.items()
        },
        prediction=mean(first.prediction, [other.prediction for other in others]),
    )


def run_shared(model: EmotionModel, dataset: UtteranceDataset, fabric: Fabric) -> Outputs:
    """As :func:`run_model`, with the batches divided among the ranks; the same on all of them."""
    ranks = fabric.world_size
    own = run_model(model, dataset, slice(fabric.global_rank, None, ranks))
    if ranks == 1:
        return own

    def merged(values: Tensor) -> Tensor:
        with together(fabric.device):
            parts = gathered(values[None].to(fabric.device)).cpu()  # (ranks, N, ...)
        whole = parts[0]
        for part in parts[1:]:  # each clip is of one rank, and NaN on the others
            whole = torch.where(whole.isnan(), part, whole)
        return whole

    return Outputs(
        by_modality={m: merged(values) for m, values in own.by_modality.items()},
        prediction=merged(own.prediction),
    )


def development_report(
    objective: Objective, dataset: UtteranceDataset, fabric: Fabric
) -> dict[str, Any]:
    """Loss and scores of the current weights on the development split.

    ``loss`` (without label smoothing) and ``score`` of what the model predicts for each clip from
    whatever the clip has, and the same for each modality. The score is the mean of UAR and of the
    CCC of each attribute; NaN where no target is known.
    """
    outputs = run_shared(objective.model, dataset, fabric)
    report: dict[str, Any] = {"loss": math.nan, "score": math.nan}
    report |= _report(objective, dataset, outputs.prediction)
    for modality, output in outputs.by_modality.items():
        part = _report(objective, dataset, output)
        if part:
            report[modality] = part
    return report


def _report(objective: Objective, dataset: UtteranceDataset, output: Tensor) -> dict[str, float]:
    """Loss, score, and its parts for ``(N, outputs)``; empty where nothing can be scored."""
    rows = torch.nonzero(~output.isnan().any(1)).flatten()
    scores = _scores(output[rows], rows, dataset)
    if not scores:
        return {}
    targets = Targets(dataset.category_targets, dataset.attribute_targets).at(rows)
    loss = task_loss(output[rows], targets, class_weights=objective.class_weights).item()
    score = float(np.mean([value for name, value in scores.items() if name != "accuracy"]))
    return {"loss": loss, "score": score, **scores}


def _scores(output: Tensor, rows: Tensor, dataset: UtteranceDataset) -> dict[str, float]:
    """Accuracy and UAR of the categories and CCC of each attribute, where anything is known."""
    scores: dict[str, float] = {}
    split = len(dataset.categories)
    labels = dataset.labels[rows].numpy()
    if split and (labels >= 0).any():
        predicted = output[:, :split].argmax(1).numpy()
        scores |= {"accuracy": accuracy(labels, predicted), "uar": uar(labels, predicted)}
    if dataset.attribute_targets is not None:
        for index, name in enumerate(dataset.attributes):
            target = dataset.attribute_targets[rows, index].numpy()
            if np.isfinite(target).sum() >= 2:
                scores[f"{name}_ccc"] = ccc(target, output[:, split + index].numpy())
    return scores
