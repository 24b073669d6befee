"""Conformer over time, with masks in every place where a padded frame could leak.

Source: Gulati et al. 2020, "Conformer: Convolution-augmented Transformer for Speech Recognition"
(arXiv 2005.08100), with the relative positions of Dai et al. 2019 (Transformer-XL,
arXiv 1901.02860, appendix B).

Differs from the published VAVL code: attention runs over time and not over the batch, padding is
masked in attention, convolution and batch normalisation, scores are divided by the square root of
a head's width and not of the model's, and positions are relative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.distributed import are_together, gathered


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the valid frames of a batch, with statistics per stream.

    The scale and shift are shared, the running statistics are kept apart for each stream (modality)
    that runs through the layer: one mixed set would fit no stream at evaluation.

    With fewer than two valid frames the batch has no variance: the running statistics normalise
    and stay as they are.

    Args:
        width: Features per frame.
        streams: Streams whose statistics are kept apart.
    """

    eps = 1e-5
    """Added to the variance."""
    momentum = 0.1
    """Share of a batch's statistics in the new running ones."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, streams: int = 1) -> None:
        super().__init__()
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


_LEVELS = 256


class Dropout(nn.Module):
    """Drops activations in training, and scales the rest so that the mean stays.

    On a CPU the random numbers of ``torch.nn.Dropout`` are a sixth of a training step of a small
    model. One random byte per activation is enough: eight come from one draw. The rate is rounded
    to the nearest 1/256, and the scale is exact for the rounded rate. On other devices, and where
    torch.compile writes the loop, this is ``torch.nn.functional.dropout``.

    Args:
        rate: Share of activations set to zero, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x`` with some activations dropped in training, and ``x`` itself otherwise."""
        threshold = min(round(self.rate * _LEVELS), _LEVELS - 1)
        if not self.training or threshold == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.rate)
        count = x.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
        bytes_ = words.view(torch.uint8)[:count].view(x.shape)
        scale = _LEVELS / (_LEVELS - threshold)
        # In bytes, where a comparison is quick: 1 for what stays, 0 for what goes.
        return x * bytes_.ge_(threshold).to(x.dtype).mul_(scale)

    def extra_repr(self) -> str:
        """The rate, for ``print(model)``."""
        return f"rate={self.rate}"


class FeedForward(nn.Module):
    """Position-wise feed-forward module: LayerNorm, expand, SiLU, contract.

    Args:
        width: Of each step.
        expansion: Hidden units over width.
        dropout: Probability, after the activation and at the end.
    """

    def __init__(self, width: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, width * expansion)
        self.contract = nn.Linear(width * expansion, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, T, width)`` to ``(B, T, width)``."""
        hidden = self.dropout(F.silu(self.expand(self.norm(x))))
        return self.dropout(self.contract(hidden))


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sines and cosines of ``(n,)`` float32 places in time: ``(n, width)``, alternating."""
    rates = torch.exp(
        torch.arange(0, width, 2, device=places.device, dtype=torch.float32)
        * (-math.log(10000.0) / width)
    )
    angles = places[:, None] * rates  # (n, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def relative_positions(
    steps: int, width: int, *, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Sinusoids of the distances ``steps - 1`` down to ``-(steps - 1)``: ``(2 steps - 1, width)``.

    Sine and cosine alternate over the width. Source: Dai et al. 2019, section 3.3.
    """
    distances = torch.arange(steps - 1, -steps, -1, device=device, dtype=torch.float32)
    return sinusoids(distances, width).to(dtype)


class RelativeSelfAttention(nn.Module):
    """Multi-head self-attention whose scores depend on content and on distance in time.

    Score of query i and key j: ``((q_i + u) . k_j + (q_i + v) . p_{i-j}) / sqrt(head width)``.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.position = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, width // heads))
        self.position_bias = nn.Parameter(torch.zeros(heads, width // heads))
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.position_bias)

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Attends over the valid steps of each item.

        Args:
            x: ``(B, T, width)``.
            mask: ``(B, T)``, True = valid; at least one valid step per item.
            positions: ``(2T - 1, width)`` from :func:`relative_positions`.

        Returns:
            ``(B, T, width)``; rows of padding hold values without meaning.
        """
        batch, steps, width = x.shape
        head_width = width // self.heads
        x = self.norm(x)

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, steps, self.heads, head_width).permute(2, 0, 1, 3)

        # (H, B, T, head width): heads first, so that all clips meet the positions in one product.
        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scale = 1 / math.sqrt(head_width)  # on the queries: there are fewer of them than of scores
        to_keys = (query + self.content_bias[:, None, None]) * scale
        to_distances = (query + self.position_bias[:, None, None]) * scale

        def each(x: Tensor) -> Tensor:  # (H * B, T, ...): one matrix for each head and clip
            return x.reshape(self.heads * batch, steps, x.shape[-1])

        # One more row than there are distances, see below.
        position = F.pad(self.position(positions), (0, 0, 0, 1)).view(-1, self.heads, head_width)
        distances = to_distances.reshape(self.heads, batch * steps, head_width)
        distances = each(distances @ position.permute(1, 2, 0))  # (H * B, T, 2T)
        scores = torch.baddbmm(
            _distances_to_keys(distances), each(to_keys), each(key).transpose(1, 2)
        )  # (H * B, T, T)
        hidden = torch.zeros_like(mask, dtype=x.dtype).masked_fill_(~mask, -math.inf)
        scores = scores.view(self.heads, batch, steps, steps).add_(hidden[:, None])
        attended = each(self.dropout(scores.softmax(-1))) @ each(value)  # (H * B, T, head width)
        attended = attended.view(self.heads, batch, steps, head_width).permute(1, 2, 0, 3)
        return self.dropout(self.out(attended.reshape(batch, steps, width)))


def _distances_to_keys(scores: Tensor) -> Tensor:
    """Turns columns that stand for distances into columns that stand for keys, without a copy.

    ``(N, T, 2T)``, column c = distance ``T - 1 - c`` and the last one unused, to ``(N, T, T)`` with
    column j = distance ``i - j`` in row i. Read from place ``T - 1`` on, in rows shorter by one,
    the memory has row i moved by i places, without an index tensor. Source: Dai et al. 2019,
    appendix B, where the rows are read longer by one.
    """
    count, steps, columns = scores.shape
    strides = (steps * columns, columns - 1, 1)
    return scores.as_strided((count, steps, steps), strides, steps - 1)


class ConvolutionModule(nn.Module):
    """Pointwise GLU, depthwise convolution over time, batch normalisation, SiLU, pointwise.

    Args:
        width: Of each step.
        kernel: Steps that the convolution covers, odd.
        dropout: Probability, at the end.
        streams: Modalities that run through it, see :class:`MaskedBatchNorm`.
    """

    def __init__(self, width: int, kernel: int, dropout: float, streams: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(
            width, width, kernel, padding=kernel // 2, groups=width, bias=False
        )
        self.batch_norm = MaskedBatchNorm(width, streams)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, stream: int) -> Tensor:
        """Maps ``(B, T, width)`` to ``(B, T, width)``; padding enters as zeros, as at the edges."""
        x = F.glu(self.gate(self.norm(x)), dim=-1)
        x = x * mask[..., None].to(x.dtype)
        x = self._over_time(x)
        x = F.silu(self.batch_norm(x, mask, stream))
        return self.dropout(self.out(x))

    def _over_time(self, x: Tensor) -> Tensor:
        """The depthwise convolution, as one over pictures: they may keep channels last."""
        taps = self.depthwise.weight[..., None]  # (width, 1, kernel, 1)
        picture = x.transpose(1, 2)[..., None]  # (B, width, T, 1)
        padding = (taps.shape[2] // 2, 0)
        return F.conv2d(picture, taps, padding=padding, groups=len(taps))[..., 0].transpose(1, 2)


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, LayerNorm."""

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        expansion: int = 4,
        kernel: int = 31,
        dropout: float = 0.1,
        streams: int = 1,
    ) -> None:
        super().__init__()
        self.feed_forward_in = FeedForward(width, expansion, dropout)
        self.attention = RelativeSelfAttention(width, heads, dropout)
        self.convolution = ConvolutionModule(width, kernel, dropout, streams)
        self.feed_forward_out = FeedForward(width, expansion, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor, stream: int = 0) -> Tensor:
        """Maps ``(B, T, width)`` to ``(B, T, width)``, see :class:`Conformer`."""
        x = torch.add(x, self.feed_forward_in(x), alpha=0.5)
        x = x + self.attention(x, mask, positions)
        x = x + self.convolution(x, mask, stream)
        x = torch.add(x, self.feed_forward_out(x), alpha=0.5)
        return self.norm(x)


class Conformer(nn.Module):
    """A stack of conformer blocks behind a linear input layer.

    Args:
        input_width: Width of the input sequence.
        width: Width of the blocks, a multiple of ``heads`` and of 2.
        blocks: How many blocks.
        heads: Attention heads.
        expansion: Inner width of the feed-forward modules, as a multiple of ``width``.
        kernel: Taps of the depthwise convolution, odd.
        dropout: Share of activations dropped in training.
        streams: How many modalities run through these blocks (batch statistics are per stream).
    """

    def __init__(
        self,
        input_width: int,
        width: int,
        blocks: int,
        *,
        heads: int = 8,
        expansion: int = 4,
        kernel: int = 31,
        dropout: float = 0.1,
        streams: int = 1,
    ) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(input_width, width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            ConformerBlock(
                width,
                heads=heads,
                expansion=expansion,
                kernel=kernel,
                dropout=dropout,
                streams=streams,
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor, mask: Tensor, stream: int = 0) -> Tensor:
        """Encodes sequences over time.

        Args:
            x: ``(B, T, input_width)``; what padding holds does not matter, as long as it is finite.
            mask: ``(B, T)``, True = valid; at least one valid step per item.
            stream: Index of the modality, below ``streams``.

        Returns:
            ``(B, T, width)``; rows of padding hold values without meaning.
        """
        x = self.dropout(self.input(x))
        positions = relative_positions(x.shape[1], self.width, device=x.device, dtype=x.dtype)
        for block in self.blocks:
            x = block(x, mask, positions, stream)
        return x


def lengths_to_mask(lengths: Tensor, steps: int) -> Tensor:
    """``(B,)`` lengths to a ``(B, steps)`` mask, True = valid."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid steps: ``(B, T, D)``, ``(B, T)`` with one True per row, to ``(B, D)``."""
    total = x.masked_fill(~mask[..., None], 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).to(x.dtype)


def multilayer_perceptron(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers of the given widths; ReLU and dropout after the first one only."""
    layers: list[nn.Module] = []
    for index, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(width_in, width_out))
        if index == 0:
            layers += [nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers)
