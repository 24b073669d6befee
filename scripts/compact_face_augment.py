"""Random changes of face crops in training, for a whole batch at a time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_TURN = math.radians(12)
_STRETCH = 0.12
_SHIFT = 0.08
_GAMMA = 0.4
_LIGHT = 25.0
_NOISE = 8.0
_RARE = 0.1
"""Share of crops that each of blur, noise and erasing befalls."""


def augmented(crops: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Moves, mirrors, relights, blurs and partly erases crops.

    A similarity transform (12 degrees, a factor of 1.13 either way, 8 % of the side), a mirror
    image in half of the cases, a gamma of exp(-0.4) to exp(0.4) and light that grows along one
    direction; noise, the blur of a smaller crop, and a grey rectangle on 2 to 16 % of the area
    befall 10 % each. Brightness and contrast need no change: the network removes them.

    Args:
        crops: ``(N, 48, 48)`` uint8.
        size: Side of what comes out, in pixels.
        random: Where chance comes from.

    Returns:
        ``(N, size, size)`` in 0..255, floating point.
    """
    x = _moved(crops.float()[:, None], size, random)
    x = _relit(x, random)
    some = _chosen(len(x), random)
    x[some] = _blurred(x[some], random)
    some = _chosen(len(x), random)
    deviation = _NOISE * torch.rand(len(some), 1, 1, 1, generator=random)
    x[some] += deviation * torch.randn(x[some].shape, generator=random)
    some = _chosen(len(x), random)
    x[some] = _erased(x[some], random)
    return x[:, 0]


def _uniform(count: int, bound: float, random: torch.Generator) -> Tensor:
    return bound * (2 * torch.rand(count, generator=random) - 1)


def _chosen(count: int, random: torch.Generator) -> Tensor:
    """Indices of a share of ``_RARE``."""
    return (torch.rand(count, generator=random) < _RARE).nonzero()[:, 0]


def _moved(x: Tensor, size: int, random: torch.Generator) -> Tensor:
    count = len(x)
    angle, scale = _uniform(count, _TURN, random), _uniform(count, _STRETCH, random).exp()
    mirror = _uniform(count, 1, random).sign()
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    # The grid runs from -1 to 1: a shift of 1 is half a side.
    right, down = _uniform(count, 2 * _SHIFT, random), _uniform(count, 2 * _SHIFT, random)
    backward = torch.stack([mirror * cosine, -sine, right, mirror * sine, cosine, down], dim=1)
    grid = F.affine_grid(backward.view(-1, 2, 3), [count, 1, size, size], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _relit(x: Tensor, random: torch.Generator) -> Tensor:
    count, size = len(x), x.shape[-1]
    gamma = _uniform(count, _GAMMA, random).exp().view(-1, 1, 1, 1)
    along = torch.linspace(-1, 1, size)
    across = _uniform(count, _LIGHT, random).view(-1, 1, 1, 1) * along
    downwards = _uniform(count, _LIGHT, random).view(-1, 1, 1, 1) * along[:, None]
    return 255 * (x / 255).clamp(0, 1) ** gamma + across + downwards


def _blurred(x: Tensor, random: torch.Generator) -> Tensor:
    """Shrinks to between 65 and 95 % of the side, one size for all, and back."""
    size = x.shape[-1]
    smaller = int(torch.randint(size * 13 // 20, size * 19 // 20, (1,), generator=random))
    small = F.interpolate(x, (smaller, smaller), mode="bilinear", antialias=True)
    return F.interpolate(small, (size, size), mode="bilinear")


def _erased(x: Tensor, random: torch.Generator) -> Tensor:
    """Puts one tone on a rectangle."""
    count, size = len(x), x.shape[-1]
    shape = (count, 2, 1)
    area = 0.02 + 0.14 * torch.rand(shape, generator=random)[:, :1]
    ratio = (torch.rand(shape, generator=random)[:, :1] - 0.5).exp()
    sides = size * torch.cat([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1)  # (N, 2, 1)
    low = torch.rand(shape, generator=random) * (size - sides)
    along = torch.arange(size)
    within = (along >= low) & (along < low + sides)  # (N, 2, S)
    rectangle = within[:, 0, :, None] & within[:, 1, None, :]  # (N, S, S)
    tone = 255 * torch.rand(count, 1, 1, 1, generator=random)
    return torch.where(rectangle[:, None], tone, x)
