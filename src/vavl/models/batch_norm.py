"""Batch normalisation that knows which frames are valid, of which modality, and on which rank."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.ranks import are_together, gathered


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the valid frames of a batch, with statistics per stream.

    The scale and shift are shared, the running statistics are kept apart for each stream (modality)
    that runs through the layer: one mixed set would fit no stream at evaluation.

    With fewer than two valid frames the batch has no variance: the running statistics normalise
    and stay as they are.

    Args:
        width: Features per frame.
        streams: Streams whose statistics are kept apart.
        eps: Added to the variance.
        momentum: Share of a batch's statistics in the new running ones.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, width: int, streams: int = 1, *, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(streams, width))
        self.register_buffer("running_var", torch.ones(streams, width))

    def forward(self, x: Tensor, mask: Tensor, stream: int = 0) -> Tensor:
        """Normalises ``(B, T, width)`` with statistics of the frames where ``mask`` is True."""
        if self.training:
            if are_together():
                found = moments_of_all(x[mask])
                if found is not None:
                    count, mean, var = found
                    self._remember(mean, var * (count / (count - 1)), stream)
                    return self._scaled(x, mean, var).masked_fill(~mask[..., None], 0.0)
            else:
                frames = mask.flatten().nonzero().squeeze(1)
                if len(frames) >= 2:
                    return self._by_batch(x, frames, stream)
        # A copy: another stream's update in the same step must not touch what backward needs.
        mean, var = self.running_mean[stream].clone(), self.running_var[stream].clone()
        return self._scaled(x, mean, var)

    def _scaled(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        scale = self.weight * torch.rsqrt(var + self.eps)
        return x * scale + (self.bias - mean * scale)

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased: Tensor, stream: int) -> None:
        """Moves the running statistics of a stream towards those of a batch."""
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            running[stream].lerp_(value.to(running.dtype), self.momentum)

    def _by_batch(self, x: Tensor, frames: Tensor, stream: int) -> Tensor:
        """Normalises the valid frames by their own statistics and sets the others to zero."""
        flat = x.flatten(0, 1)
        padded = len(frames) < len(flat)
        normalised = F.batch_norm(
            flat.index_select(0, frames) if padded else flat,
            self.running_mean[stream],
            self.running_var[stream],
            self.weight,
            self.bias,
            training=True,
            momentum=self.momentum,
            eps=self.eps,
        )
        if padded:
            normalised = torch.zeros_like(flat).index_copy(0, frames, normalised)
        return normalised.view_as(x)


def moments_of_all(valid: Tensor) -> tuple[int, Tensor, Tensor] | None:
    """Number, mean and variance of ``(frames, width)`` over all ranks; None for less than two.

    The ranks' means and squares around them are put together instead of sums of squares, which
    would cancel. Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
    variance".
    """
    own = valid.sum(0) / max(len(valid), 1)
    squares = (valid - own).square().sum(0)
    row = torch.cat([own.new_full((1,), len(valid)), own, squares]).float()
    rows = gathered(row[None])  # (ranks, 1 + 2 width)
    counts, (means, deviations) = rows[:, :1], rows[:, 1:].chunk(2, dim=1)
    count = counts.sum()
    if count < 2:
        return None
    mean = (counts * means).sum(0) / count
    var = (deviations + counts * (means - mean).square()).sum(0) / count
    return int(count), mean.to(valid), var.to(valid)
