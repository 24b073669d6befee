"""The parts that VAVL is put together from: what belongs to one modality, and what is shared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vavl.config import VAVLConfig
from vavl.models.conformer import Conformer, multilayer_perceptron
from vavl.models.dropout import Dropout
from vavl.types import STREAMS, Modality


class InputProjection(nn.Module):
    """Normalises frames, projects them to a few channels and joins neighbouring ones.

    The mean and scale of the training speakers are buffers, so that they travel with the weights.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, channels: int, subsampling: int, dropout: float) -> None:
        super().__init__()
        self.subsampling = subsampling
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(dim, channels, bias=False)

    def normalise(self, x: Tensor) -> Tensor:
        """Zero mean and unit variance per dimension, by the statistics of the training speakers."""
        return (x - self.mean) * self.scale

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Maps normalised ``(B, T, D)`` to ``(B, ceil(T / s), s * channels)`` and a new mask.

        A joined step is valid if one of its frames is; the others count as zeros, the mean of
        normalised features.
        """
        x = self.linear(self.dropout(x)).masked_fill(~mask[..., None], 0.0)
        step = self.subsampling
        if step == 1:
            return x, mask
        missing = -x.shape[1] % step
        x = nn.functional.pad(x, (0, 0, 0, missing))
        mask = nn.functional.pad(mask, (0, missing))
        batch, steps, channels = x.shape
        x = x.reshape(batch, steps // step, step * channels)
        return x, mask.view(batch, steps // step, step).any(-1)


def _conformer(config: VAVLConfig, input_width: int, blocks: int, *, streams: int = 1) -> Conformer:
    return Conformer(
        input_width,
        config.width,
        blocks,
        heads=config.heads,
        expansion=config.expansion,
        kernel=config.kernel,
        dropout=config.dropout,
        streams=streams,
    )


class ModalityBranch(nn.Module):
    """All that belongs to one modality: projection, encoder and its two heads."""

    def __init__(self, config: VAVLConfig, modality: Modality) -> None:
        super().__init__()
        dim = config.dim(modality)
        subsampling = config.subsampling(modality)
        self.projection = InputProjection(
            dim, config.projection_channels, subsampling, config.input_dropout
        )
        self.encoder = _conformer(
            config, subsampling * config.projection_channels, config.encoder_blocks
        )
        hidden = (config.width, *config.head_widths)
        self.head = multilayer_perceptron((*hidden, config.outputs), config.head_dropout)
        self.reconstruction = multilayer_perceptron((*hidden, dim), config.head_dropout)


class SharedLayers(nn.Module):
    """Conformer blocks common to the modalities, with a residual connection over them."""

    def __init__(self, config: VAVLConfig) -> None:
        super().__init__()
        self.residual = config.residual
        self.conformer = (
            _conformer(config, config.width, config.shared_blocks, streams=len(STREAMS))
            if config.shared_blocks
            else None
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, z: Tensor, mask: Tensor, stream: int) -> Tensor:
        """``LayerNorm(Shared(z) + z)`` of ``(B, T, width)``; ``stream`` is the modality's index."""
        if self.conformer is None:
            return self.norm(z)
        shared = self.conformer(z, mask, stream)
        return self.norm(shared + z if self.residual else shared)
