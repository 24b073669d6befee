"""The parts that models of conformers are put together from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vavl.config.models import ConformerConfig, VAVLConfig
from vavl.models.base import Normalisation
from vavl.models.conformer import Conformer, Dropout, masked_mean, multilayer_perceptron
from vavl.types import STREAMS, Modality


class InputProjection(Normalisation):
    """Normalises frames, projects them to a few channels and joins neighbouring ones.

    Args:
        dim: Features per step.
        channels: What each step is projected to, without a bias.
        subsampling: Neighbouring steps that are joined into one.
        dropout: Share of the features that is dropped in training.
    """

    def __init__(self, dim: int, channels: int, subsampling: int, dropout: float) -> None:
        super().__init__(dim)
        self.subsampling = subsampling
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(dim, channels, bias=False)

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


def input_projection(config: ConformerConfig, modality: Modality) -> InputProjection:
    """The way into a model of conformers for the frames of one modality."""
    return InputProjection(
        config.dim(modality),
        config.projection_channels,
        config.subsampling(modality),
        config.input_dropout,
    )


def make_conformer(
    config: ConformerConfig, input_width: int, blocks: int, *, streams: int = 1
) -> Conformer:
    """A stack of conformer blocks of the configured sizes."""
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


def make_head(config: ConformerConfig, inputs: int, outputs: int) -> nn.Sequential:
    """A head of the configured widths."""
    return multilayer_perceptron((inputs, *config.head_widths, outputs), config.head_dropout)


class ModalityBranch(nn.Module):
    """Projection, encoder and prediction head of one modality."""

    def __init__(self, config: ConformerConfig, modality: Modality, blocks: int) -> None:
        super().__init__()
        joined = config.subsampling(modality) * config.projection_channels
        self.projection = input_projection(config, modality)
        self.encoder = make_conformer(config, joined, blocks)
        self.head = make_head(config, config.width, config.outputs)


class ReconstructingBranch(ModalityBranch):
    """As VAVL has it: with a second head that rebuilds the mean of the modality's input."""

    def __init__(self, config: VAVLConfig, modality: Modality) -> None:
        super().__init__(config, modality, config.encoder_blocks)
        self.reconstruction = make_head(config, config.width, config.dim(modality))
        self.statistics = None
        if config.input_statistics:
            self.statistics = StatisticsHead(config.dim(modality), config.outputs)


class StatisticsHead(nn.Module):
    """A linear model of the mean and the standard deviation of the input over time.

    On frozen features of a small corpus it is hard to beat, and it errs elsewhere than the
    conformers do. No gradients: it is fitted as a whole, see :mod:`vavl.training.linear`,
    and says nothing until then.

    Args:
        dim: Features per step.
        outputs: What is predicted.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, 2 * dim))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, statistics: Tensor) -> Tensor:
        """Maps ``(B, 2 D)``, see :func:`input_statistics`, to ``(B, outputs)``."""
        return nn.functional.linear(statistics, self.weight, self.bias)


def input_statistics(x: Tensor, mask: Tensor) -> Tensor:
    """Mean and standard deviation over time.

    Args:
        x: ``(B, T, D)`` normalised features.
        mask: ``(B, T)``, True = valid; at least one valid step per clip.

    Returns:
        ``(B, 2 D)``.
    """
    mean = masked_mean(x, mask)
    # First to zero what is not valid, then squared: it may be NaN, or too large for that.
    apart = (x - mean[:, None]).masked_fill_(~mask[..., None], 0.0)
    deviation = (apart.square_().sum(1) / mask.sum(1, keepdim=True)).sqrt()
    return torch.cat([mean, deviation], dim=-1)


class SharedLayers(nn.Module):
    """Conformer blocks common to the modalities, with a residual connection over them."""

    def __init__(self, config: VAVLConfig) -> None:
        super().__init__()
        self.residual = config.residual
        self.conformer = (
            make_conformer(config, config.width, config.shared_blocks, streams=len(STREAMS))
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
