"""What a model answers for a batch in which clips may lack a modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vavl.config.models import ModelConfig
from vavl.models.sequences import Sequences
from vavl.types import STREAMS, Modality


@dataclass(frozen=True)
class Rows:
    """A prediction of n clips of a batch.

    Attributes:
        rows: ``(n,)`` places of the clips in the batch, ascending.
        values: ``(n, outputs)`` category logits, then attributes.
    """

    rows: Tensor
    values: Tensor


@dataclass(frozen=True)
class ModelOutput:
    """Outputs for a batch of B clips: category logits, then attributes.

    A row of a clip that lacks what the row needs holds NaN: there is no such prediction.

    Attributes:
        acoustic: ``(B, outputs)`` from sound alone, or None without any sound in the batch, or
            where the model does not predict from sound alone.
        visual: ``(B, outputs)`` from the face alone, or None likewise.
        audiovisual: ``(B, outputs)`` from both together, or None when no clip has both.
        prediction: ``(B, outputs)``: audiovisual where both are present, else of what is there.
            A model that never saw both at once averages the two, and ``audiovisual`` is None.
        modality: B modalities that ``prediction`` was made from; None for a clip that lacks what
            the model needs.
    """

    acoustic: Tensor | None
    visual: Tensor | None
    audiovisual: Tensor | None
    prediction: Tensor
    modality: list[Modality | None]


def combined(
    predictions: Mapping[Modality, Rows],
    sequences: Mapping[Modality, Sequences],
    batch: int,
    config: ModelConfig,
) -> ModelOutput:
    """Puts the predictions of a batch of B clips together.

    Args:
        predictions: What the model predicts, for the clips that have what it takes.
        sequences: What it predicted from; at least one.
        batch: B.
        config: Of the model.
    """
    chosen = dict(predictions)
    if Modality.AUDIOVISUAL not in chosen and len(predictions) == len(STREAMS):
        chosen[Modality.AUDIOVISUAL] = average([predictions[m] for m in STREAMS], config)
    like = next(iter(sequences.values())).x
    prediction = like.new_full((batch, config.outputs), torch.nan)
    modality: list[Modality | None] = [None] * batch
    for source in Modality:  # both together come last, and count where there are both
        if source not in chosen:
            continue
        part = chosen[source]
        prediction = prediction.to(part.values.dtype).index_copy(0, part.rows, part.values)
        for row in part.rows.tolist():
            modality[row] = source

    def spread(source: Modality) -> Tensor | None:
        if source not in predictions:
            return None
        return spread_rows(predictions[source].values, predictions[source].rows, batch)

    return ModelOutput(
        acoustic=spread(Modality.ACOUSTIC),
        visual=spread(Modality.VISUAL),
        audiovisual=spread(Modality.AUDIOVISUAL),
        prediction=prediction,
        modality=modality,
    )


def in_common(parts: Sequence[Rows]) -> tuple[Tensor, list[Tensor]]:
    """``(n,)`` rows of the clips that all predictions have, and ``(n, outputs)`` of each."""
    rows = parts[0].rows
    for part in parts[1:]:
        rows = rows[torch.isin(rows, part.rows)]
    return rows, [part.values[torch.isin(part.rows, rows)] for part in parts]


def average(parts: Sequence[Rows], config: ModelConfig) -> Rows:
    """Mean of predictions for the clips that have them all: of probabilities, and of attributes."""
    rows, values = in_common(parts)
    return Rows(rows, average_values(values, config))


def average_values(values: Sequence[Tensor], config: ModelConfig) -> Tensor:
    """Mean of outputs ``(n, outputs)``: of probabilities, and of attributes."""
    split = len(config.categories)
    log_sum = torch.stack([v[:, :split].log_softmax(1) for v in values]).logsumexp(0)
    attributes = torch.stack([v[:, split:] for v in values]).mean(0)
    return torch.cat([log_sum, attributes], dim=1)


def product_values(values: Sequence[Tensor], config: ModelConfig) -> Tensor:
    """Product of outputs ``(n, outputs)``: of probabilities, as logits; of attributes the mean."""
    split = len(config.categories)
    logits = torch.stack([v[:, :split].log_softmax(1) for v in values]).sum(0)
    attributes = torch.stack([v[:, split:] for v in values]).mean(0)
    return torch.cat([logits, attributes], dim=1)


def mean_outputs(parts: Sequence[Rows]) -> Rows:
    """Mean of logits and attributes for the clips that have all predictions."""
    rows, values = in_common(parts)
    return Rows(rows, torch.stack(values).mean(0))


def spread_rows(values: Tensor, rows: Tensor, batch: int) -> Tensor:
    """``(n, d)`` values at their rows of ``(B, d)``, NaN elsewhere."""
    return values.new_full((batch, values.shape[1]), torch.nan).index_copy(0, rows, values)
