"""Conformers without shared layers: of one modality, averaged (late), or over both (early fusion).

Late fusion averages what a conformer for sound and one for the face predict. Early fusion lays the
frames of sound and face side by side, for one conformer. The two sequences cover the same span of
time at different rates. Each is stretched to as many steps as the longer one has, by repeating
steps; where a face is out of sight, its half of the frame is zero. A sequence is taken to end with
its last valid step: masks do not tell a face that is gone for good from the end of the clip. There
is no prediction by early fusion without one of the modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from vavl.config.baselines import ConcatenationConfig, ConformersConfig
from vavl.models.base import Criterion, EmotionModel, Losses, Normalisation, task_losses
from vavl.models.conformer import masked_mean
from vavl.models.sequences import Predicted, Sequences, average, last_valid
from vavl.models.vavl import (
    InputProjection,
    ModalityBranch,
    input_projection,
    make_conformer,
    make_head,
)
from vavl.types import STREAMS, Modality


class Concatenation(EmotionModel):
    """One conformer over frames that hold sound and face."""

    config_class = ConcatenationConfig

    def __init__(self, config: ConcatenationConfig) -> None:
        super().__init__(config)
        self.projections = nn.ModuleDict({str(m): input_projection(config, m) for m in STREAMS})
        joined = sum(config.subsampling(m) * config.projection_channels for m in STREAMS)
        self.encoder = make_conformer(config, joined, config.blocks)
        self.head = make_head(config, config.width, config.outputs)

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return cast(InputProjection, self.projections[modality])

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        pair = self.pair(sequences)
        if pair is None:
            return {}
        acoustic, visual = (
            self.projections[modality](part.x, part.mask)
            for modality, part in zip(STREAMS, pair, strict=True)
        )
        x, mask = side_by_side(acoustic, visual)
        values = self.head(masked_mean(self.encoder(x, mask), mask))
        return {Modality.AUDIOVISUAL: Predicted(pair[0].rows, values)}


def side_by_side(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Frames of two sequences that cover the same span of time, joined.

    Args:
        first: ``(B, T_1, D_1)``, zero where nothing is valid, and mask ``(B, T_1)``.
        second: ``(B, T_2, D_2)`` and ``(B, T_2)`` likewise.

    Returns:
        ``(B, T, D_1 + D_2)`` with T the longest of all sequences, and its mask: a step is valid if
        either part is.

    Example:
        >>> x = torch.arange(1.0, 5.0).view(1, 4, 1)
        >>> y = torch.tensor([[[10.0], [20.0]]])
        >>> joined, _ = side_by_side((x, x[..., 0] > 0), (y, y[..., 0] > 0))
        >>> joined[0].tolist()
        [[1.0, 10.0], [2.0, 10.0], [3.0, 20.0], [4.0, 20.0]]
    """
    lengths = [last_valid(mask) + 1 for _, mask in (first, second)]
    longest = torch.maximum(*lengths)  # (B,)
    most = int(longest.max()) if len(longest) else 1
    steps = torch.arange(most, device=longest.device)
    xs, masks = [], []
    for (x, mask), length in zip((first, second), lengths, strict=True):
        place = (steps * length[:, None]) // longest[:, None]  # (B, T)
        place = place.clamp_max(x.shape[1] - 1)  # beyond the clip's end
        xs.append(x.gather(1, place[..., None].expand(-1, -1, x.shape[2])))
        masks.append(mask.gather(1, place))
    inside = steps < longest[:, None]
    return torch.cat(xs, dim=-1), (masks[0] | masks[1]) & inside


class Conformers(EmotionModel):
    """A conformer for each modality that is read, and the average of their predictions."""

    config_class = ConformersConfig

    def __init__(self, config: ConformersConfig) -> None:
        super().__init__(config)
        self.branches = nn.ModuleDict(
            {str(m): ModalityBranch(config, m, config.blocks) for m in config.inputs}
        )

    def branch(self, modality: Modality) -> ModalityBranch:
        """Everything that belongs to one modality."""
        return cast(ModalityBranch, self.branches[modality])

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return self.branch(modality).projection

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        found = {m: self._predict_from(m, part) for m, part in sequences.items()}
        if self.pair(sequences) is not None:
            found[Modality.AUDIOVISUAL] = average([found[m] for m in STREAMS], self.config)
        return found

    def losses(self, sequences: Mapping[Modality, Sequences], criterion: Criterion) -> Losses:
        """The task loss of each unimodal prediction; there is nothing to learn in their average."""
        found = {m: self._predict_from(m, part) for m, part in sequences.items()}
        return task_losses(found, criterion)

    def _predict_from(self, modality: Modality, part: Sequences) -> Predicted:
        branch = self.branch(modality)
        x, mask = branch.projection(part.x, part.mask)
        return Predicted(part.rows, branch.head(masked_mean(branch.encoder(x, mask), mask)))
