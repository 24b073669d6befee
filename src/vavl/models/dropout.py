"""Dropout that costs little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
