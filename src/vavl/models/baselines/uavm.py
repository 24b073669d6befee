"""UAVM: a transformer that sound and face share, so that either is a case of the same thing.

Source: Gong, Liu, Rouditchenko and Glass 2022, "UAVM: Towards Unifying Audio and Visual Models"
(arXiv 2208.00061), with the sizes of the published code.

Each modality has a few transformer layers of its own; the layers behind them, and the output layer,
are common to both and never told which of them they see. Each step of training sees one modality,
drawn evenly. With both modalities the outputs are averaged.

Differs from the published code: sines and cosines stand for the learned positions, which fix the
number of steps (30 there), and clips keep their length; the output layers of the single modalities'
transformers, which nothing uses, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from vavl.config.baselines import UAVMConfig
from vavl.models.base import Criterion, EmotionModel, Losses, Normalisation, task_losses
from vavl.models.baselines.transformer import TransformerLayer, with_positions
from vavl.models.conformer import masked_mean
from vavl.models.sequences import Predicted, Sequences, mean_outputs, subsampled
from vavl.types import STREAMS, Modality


class Stack(nn.Module):
    """Layer normalisation, a projection where widths differ, positions, and transformer layers."""

    def __init__(self, config: UAVMConfig, input_width: int, layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_width, eps=1e-6)
        same = input_width == config.width
        self.projection = nn.Identity() if same else nn.Linear(input_width, config.width)
        self.layers = nn.ModuleList(
            TransformerLayer(
                config.width,
                config.heads,
                config.dropout,
                attention_bias=False,
                activation=F.gelu,
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps ``(B, T, input_width)`` to ``(B, T, width)``; ``mask`` is ``(B, T)``."""
        x = with_positions(self.projection(self.norm(x)))
        for layer in self.layers:
            x = layer(x, mask[:, None])
        return x


class UAVM(EmotionModel):
    """See the module's docstring and :class:`vavl.config.baselines.UAVMConfig`."""

    config_class = UAVMConfig

    def __init__(self, config: UAVMConfig) -> None:
        super().__init__(config)
        self.normalisations = nn.ModuleDict({str(m): Normalisation(config.dim(m)) for m in STREAMS})
        self.encoders = nn.ModuleDict(
            {str(m): Stack(config, config.dim(m), config.encoder_layers) for m in STREAMS}
        )
        self.shared = Stack(config, config.width, config.shared_layers)
        self.head = nn.Sequential(
            nn.LayerNorm(config.width, eps=1e-6), nn.Linear(config.width, config.outputs)
        )

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return cast(Normalisation, self.normalisations[modality])

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        found = {m: self._predict_from(m, part) for m, part in sequences.items()}
        if self.pair(sequences) is not None:
            found[Modality.AUDIOVISUAL] = mean_outputs([found[m] for m in STREAMS])
        return found

    def losses(self, sequences: Mapping[Modality, Sequences], criterion: Criterion) -> Losses:
        """The task loss of one modality, drawn evenly from those of the batch."""
        if not sequences:
            return {}
        modality = list(sequences)[criterion.draw_below(len(sequences))]
        found = self._predict_from(modality, sequences[modality])
        return task_losses({modality: found}, criterion)

    def _predict_from(self, modality: Modality, part: Sequences) -> Predicted:
        part = subsampled({modality: part}, self.config)[modality]
        encoded = self.shared(self.encoders[modality](part.x, part.mask), part.mask)
        return Predicted(part.rows, self.head(masked_mean(encoded, part.mask)))
