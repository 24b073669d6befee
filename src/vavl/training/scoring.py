"""Outputs on a data set without gradients, and the score that an epoch is chosen by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vavl.data.dataset import UtteranceDataset, sorted_batches
from vavl.metrics import accuracy, ccc, uar
from vavl.models.vavl import VAVL
from vavl.training.augment import Targets
from vavl.training.objective import Objective
from vavl.types import Modality

SCORING_BATCH = 64
"""Clips per batch without gradients; any other number gives the same outputs."""


def run_model(model: VAVL, dataset: UtteranceDataset) -> dict[Modality, Tensor]:
    """Outputs of a model in evaluation mode for all N clips, in the order of the data set.

    Returns:
        Modality to ``(N, outputs)`` on the CPU, rows of NaN where a clip lacks what it takes.
    """
    device = next(model.parameters()).device
    shape = (len(dataset), model.config.outputs)
    collected = {modality: torch.full(shape, torch.nan) for modality in Modality}
    training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in sorted_batches(dataset.lengths.max(0).tolist(), SCORING_BATCH):
            batch = dataset[rows].to(device)
            out = model(batch.acoustic, batch.acoustic_lengths, batch.visual, batch.visual_lengths)
            for modality in Modality:
                values = getattr(out, modality)
                if values is not None:
                    collected[modality][rows] = values.float().cpu()
    model.train(training)
    return collected


def development_report(objective: Objective, dataset: UtteranceDataset) -> dict[str, Any]:
    """Loss and scores of the current weights on the development split.

    Returns:
        ``loss`` (without label smoothing) and ``score`` of the prediction that the model would
        give: the audio-visual one where clips have both, else the mean over what there is; and the
        scores of each modality. The score is the mean of UAR and of the CCC of each attribute.
    """
    outputs = run_model(objective.model, dataset)
    report: dict[str, Any] = {}
    values: dict[Modality, tuple[float, float]] = {}
    for modality, output in outputs.items():
        rows = torch.nonzero(~output.isnan().any(1)).flatten()
        if not len(rows):
            continue
        targets = Targets(dataset.category_targets, dataset.attribute_targets).at(rows)
        scores = _scores(output[rows], targets, dataset)
        if not scores:
            continue
        loss = objective.task_loss(output[rows], targets, label_smoothing=0.0).item()
        main = [value for name, value in scores.items() if name != "accuracy"]
        values[modality] = (loss, float(np.mean(main)))
        report[modality] = {"loss": loss, **scores}
    chosen = values.get(Modality.AUDIOVISUAL)
    used = [chosen] if chosen else list(values.values())
    loss, score = np.mean(used, axis=0) if used else (np.nan, np.nan)
    return {"loss": float(loss), "score": float(score), **report}


def _scores(output: Tensor, targets: Targets, dataset: UtteranceDataset) -> dict[str, float]:
    """Accuracy and UAR of the categories and CCC of each attribute, where anything is known."""
    scores: dict[str, float] = {}
    split = len(dataset.categories)
    if targets.categories is not None:
        known = ~targets.categories.isnan().any(1)
        if known.any():
            labels = targets.categories[known].argmax(1).numpy()
            predicted = output[known, :split].argmax(1).numpy()
            scores |= {"accuracy": accuracy(labels, predicted), "uar": uar(labels, predicted)}
    if targets.attributes is not None:
        for index, name in enumerate(dataset.attributes):
            target = targets.attributes[:, index].numpy()
            if np.isfinite(target).sum() >= 2:
                scores[f"{name}_ccc"] = ccc(target, output[:, split + index].numpy())
    return scores
