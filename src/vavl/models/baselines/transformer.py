"""Transformer layers over time, with masks: what MulT, AuxFormer and UAVM are made of.

Source: Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762), with layer
normalisation in front of each part instead of behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.models.conformer import Dropout, sinusoids


class Attention(nn.Module):
    """Multi-head attention; ``bias`` is that of query, key and value."""

    def __init__(self, width: int, heads: int, dropout: float, *, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.rate = dropout
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Attends from ``(B, T, width)`` over ``(B, S, width)``, where ``(B, T or 1, S)`` is True.

        Every query needs a key that it may attend to.
        """
        attended = F.scaled_dot_product_attention(
            by_head(self.query(x), self.heads),
            by_head(self.key(keys), self.heads),
            by_head(self.value(keys), self.heads),
            attn_mask=mask[:, None],
            dropout_p=self.rate if self.training else 0.0,
        )  # (B, heads, T, head width)
        return self.out(attended.transpose(1, 2).flatten(2))


def by_head(x: Tensor, heads: int) -> Tensor:
    """``(B, T, width)`` to ``(B, heads, T, width / heads)``."""
    batch, steps, width = x.shape
    return x.view(batch, steps, heads, width // heads).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward module, each with layer normalisation and a residual.

    Args:
        width: Width of the layer.
        heads: Attention heads.
        dropout: Of attention weights, hidden units, and what is added to the residual.
        attention_bias: Whether query, key and value have a bias.
        activation: Of the hidden units, four times ``width``.
        gated: Whether a learned number weighs the residual against what is added to it.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        *,
        attention_bias: bool = True,
        activation: Callable[[Tensor], Tensor] = F.relu,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout, bias=attention_bias)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.dropout = Dropout(dropout)
        self.gate = nn.Parameter(torch.rand(1)) if gated else None

    def forward(self, x: Tensor, mask: Tensor, keys: Tensor | None = None) -> Tensor:
        """Maps ``(B, T, width)`` to the same shape.

        It attends over the keys, ``(B, S, width)``, or over ``x`` itself, where the mask,
        ``(B, T or 1, S)``, is True.
        """
        queries = self.attention_norm(x)
        keys = queries if keys is None else self.attention_norm(keys)
        x = self._added(x, self.dropout(self.attention(queries, keys, mask)))
        hidden = self.dropout(self.activation(self.expand(self.norm(x))))
        return self._added(x, self.dropout(self.contract(hidden)))

    def _added(self, x: Tensor, update: Tensor) -> Tensor:
        return x + update if self.gate is None else self.gate * x + (1 - self.gate) * update


def with_positions(x: Tensor) -> Tensor:
    """``(B, T, width)`` plus sines and cosines of the steps' places in time."""
    places = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
    return x + sinusoids(places, x.shape[2]).to(x.dtype)
