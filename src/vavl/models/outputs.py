"""What VAVL answers for a batch in which clips may lack a modality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vavl.errors import InputError
from vavl.types import STREAMS, Modality


@dataclass(frozen=True)
class StreamOutput:
    """What one modality's branch says about the n clips of a batch that have this modality.

    Attributes:
        rows: ``(n,)`` their places in the batch, ascending.
        prediction: ``(n, outputs)``.
        representation: ``(n, width)`` mean of the shared representation over time.
        reconstruction: ``(n, D)``.
        target: ``(n, D)`` what the reconstruction aims at: the mean normalised input.
    """

    rows: Tensor
    prediction: Tensor
    representation: Tensor
    reconstruction: Tensor
    target: Tensor


@dataclass(frozen=True)
class VAVLOutput:
    """Outputs for a batch of B clips: category logits, then attributes.

    A row of a clip that lacks what the row needs holds NaN: there is no such prediction.

    Attributes:
        acoustic: ``(B, outputs)`` from sound alone, or None without any sound in the batch.
        visual: ``(B, outputs)`` from the face alone, or None without any face in the batch.
        audiovisual: ``(B, outputs)`` of the fusion head, or None when no clip has both.
        acoustic_reconstruction: ``(B, acoustic_dim)`` or None.
        visual_reconstruction: ``(B, visual_dim)`` or None.
        prediction: ``(B, outputs)``: audiovisual where both are present, else of what is there.
            A model that never saw both at once averages the two, and ``audiovisual`` is None.
        modality: B modalities that ``prediction`` was made from.
    """

    acoustic: Tensor | None
    visual: Tensor | None
    audiovisual: Tensor | None
    acoustic_reconstruction: Tensor | None
    visual_reconstruction: Tensor | None
    prediction: Tensor
    modality: list[Modality]


def paired_representations(
    streams: dict[Modality, StreamOutput],
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The clips with both modalities: ``(n,)`` rows, and two ``(n, width)`` representations."""
    rows = [stream.rows for stream in streams.values()]
    if len(rows) < len(STREAMS):
        only = next(iter(streams.values()))
        empty = only.representation[:0]
        return only.rows[:0], (empty, empty)
    in_visual = torch.isin(rows[0], rows[1])
    in_acoustic = torch.isin(rows[1], rows[0])
    return rows[0][in_visual], (
        streams[Modality.ACOUSTIC].representation[in_visual],
        streams[Modality.VISUAL].representation[in_acoustic],
    )


def present_modality(index: int, rows: dict[Modality, list[int]]) -> Modality:
    """Which modalities a clip of the batch has."""
    present = [modality for modality, indices in rows.items() if index in indices]
    if not present:
        raise InputError(
            f"acoustic, visual: clip {index} of the batch has neither sound nor face; leave it out"
        )
    return present[0] if len(present) == 1 else Modality.AUDIOVISUAL


def spread_rows(values: Tensor, rows: Tensor, batch: int) -> Tensor:
    """``(n, d)`` values at their rows of ``(B, d)``, NaN elsewhere."""
    return values.new_full((batch, values.shape[1]), torch.nan).index_copy(0, rows, values)
