"""Unimodal conformers, and late fusion: the average of two that know nothing of each other.

The encoder of each modality is VAVL's, as deep as VAVL's encoder and shared layers together; there
are no shared layers, no reconstruction and no learned fusion. With one modality this is the
unimodal baseline, with both it is averaging: two models in one file, trained at the same time on
the same batches. (They share the order of the batches, the chosen epoch, and the norm that
``gradient_clip`` limits.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import nn

from vavl.baseline_config import ConformersConfig
from vavl.models.base import EmotionModel, Losses, Normalisation, TaskLoss
from vavl.models.branches import ModalityBranch
from vavl.models.conformer import masked_mean
from vavl.models.outputs import Rows, average
from vavl.models.sequences import Sequences
from vavl.types import STREAMS, Modality


class Conformers(EmotionModel):
    """A conformer for each modality that is read, and the average of what they say."""

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

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Rows]:
        """See the base class."""
        found = {m: self._predict_from(m, part) for m, part in sequences.items()}
        if self.pair(sequences) is not None:
            found[Modality.AUDIOVISUAL] = average([found[m] for m in STREAMS], self.config)
        return found

    def losses(self, sequences: Mapping[Modality, Sequences], task: TaskLoss) -> Losses:
        """The task loss of each unimodal prediction; there is nothing to learn in their average."""
        found = {m: self._predict_from(m, part) for m, part in sequences.items()}
        return {m: task(part.values, part.rows) for m, part in found.items()}

    def _predict_from(self, modality: Modality, part: Sequences) -> Rows:
        branch = self.branch(modality)
        x, mask = branch.projection(part.x, part.mask)
        return Rows(part.rows, branch.head(masked_mean(branch.encoder(x, mask), mask)))
