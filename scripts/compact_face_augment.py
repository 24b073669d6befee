"""Random changes of face crops in training, for a whole batch at a time."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_TURN = math.radians(12)
_STRETCH = 0.12
_SHIFT = 0.08
_NARROWER = 0.1
_NEARER = 0.1
_GAMMA = 0.4
_LIGHT = 25.0
_NOISE = 8.0
_RARE = 0.1
"""Share of crops that each of blur, noise and erasing befalls."""


def augmented(crops: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Moves, mirrors, relights, blurs, compresses and partly erases crops.

    A similarity transform (12 degrees, a factor of 1.13 either way, 8 % of the side), narrower or
    wider by up to 10 % and nearer on one side, as a head that turns, a mirror image in half of the
    cases, a gamma of exp(-0.4) to exp(0.4) and light that grows along one direction; noise, the
    blur of a smaller crop (16 pixels and more), JPEG, and a grey rectangle on 2 to 16 % of the area
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
    x[some] = _blurred(x[some], 16, size * 19 // 20, random)
    some = _chosen(len(x), random)
    x[some] = _compressed(x[some], random)
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
    narrower = mirror * _uniform(count, _NARROWER, random).exp()
    backward = torch.stack([narrower * cosine, -sine, right, narrower * sine, cosine, down], dim=1)
    grid = F.affine_grid(backward.view(-1, 2, 3), [count, 1, size, size], align_corners=False)
    # Nearer on one side: what lies there is shown larger.
    grid = grid * (1 + _uniform(count, _NEARER, random).view(-1, 1, 1, 1) * grid[..., :1])
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _relit(x: Tensor, random: torch.Generator) -> Tensor:
    count, size = len(x), x.shape[-1]
    gamma = _uniform(count, _GAMMA, random).exp().view(-1, 1, 1, 1)
    along = torch.linspace(-1, 1, size)
    across = _uniform(count, _LIGHT, random).view(-1, 1, 1, 1) * along
    downwards = _uniform(count, _LIGHT, random).view(-1, 1, 1, 1) * along[:, None]
    return 255 * (x / 255).clamp(0, 1) ** gamma + across + downwards


def _blurred(x: Tensor, smallest: int, largest: int, random: torch.Generator) -> Tensor:
    """Shrinks to a side in [smallest, largest), one for all, and back."""
    size = x.shape[-1]
    smaller = int(torch.randint(smallest, largest, (1,), generator=random))
    small = F.interpolate(x, (smaller, smaller), mode="bilinear", antialias=True)
    return F.interpolate(small, (size, size), mode="bilinear")


def _compressed(x: Tensor, random: torch.Generator) -> Tensor:
    """As JPEG of a quality between 10 and 60 gives it back."""
    qualities = torch.randint(10, 60, (len(x),), generator=random).tolist()
    pixels = x[:, 0].round().clamp(0, 255).to(torch.uint8).numpy()
    decoded = []
    for picture, quality in zip(pixels, qualities, strict=True):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).float()[:, None] if decoded else x


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


def unreadable(crops: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Crops that show no expression: turned, too coarse, beside the face, or no face at all.

    Each one is drawn: a face turned by 70 to 290 degrees (two in four), one of 5 to 11 pixels, one
    that lies more than half outside (one in eight), or a pattern (one in eight).

    Args:
        crops: ``(N, 48, 48)`` uint8, of faces.
        size: Side of what comes out, in pixels.
        random: Where chance comes from.

    Returns:
        ``(N, size, size)`` in 0..255, floating point.
    """
    x = _moved(crops.float()[:, None], size, random)
    kinds = torch.randint(8, (len(x),), generator=random)
    for number, kind in enumerate(kinds.tolist()):
        if kind < 4:
            x[number] = _turned(x[number : number + 1], random)[0]
        elif kind < 6:
            x[number] = _blurred(x[number : number + 1], 5, 12, random)[0]
        elif kind == 6:
            x[number] = _beside(x[number : number + 1], random)[0]
        else:
            x[number, 0] = _pattern(size, random)
    return _relit(x, random)[:, 0]


def _turned(x: Tensor, random: torch.Generator) -> Tensor:
    angle = math.radians(70 + 220 * float(torch.rand(1, generator=random)))
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]]
    )
    grid = F.affine_grid(turn[None], list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _beside(x: Tensor, random: torch.Generator) -> Tensor:
    """Moves by 60 to 90 % of the side in some direction."""
    angle = 2 * math.pi * float(torch.rand(1, generator=random))
    far = 2 * (0.6 + 0.3 * float(torch.rand(1, generator=random)))
    shift = torch.tensor([[1.0, 0.0, far * math.cos(angle)], [0.0, 1.0, far * math.sin(angle)]])
    grid = F.affine_grid(shift[None], list(x.shape), align_corners=False)
    mode = ("border", "reflection")[int(torch.randint(2, (1,), generator=random))]
    return F.grid_sample(x, grid, padding_mode=mode, align_corners=False)


def _pattern(size: int, random: torch.Generator) -> Tensor:
    """Stripes, clouds, noise, a few discs and lines, or one tone: ``(size, size)``."""
    kind = int(torch.randint(5, (1,), generator=random))
    across = torch.linspace(-1, 1, size)
    if kind == 0:
        angle, pace, phase = torch.rand(3, generator=random).tolist()
        along = math.cos(6.3 * angle) * across + math.sin(6.3 * angle) * across[:, None]
        wave = torch.sin(4 * math.exp(2 * pace) * along + 6.3 * phase)
        return 128 + 100 * (wave.sign() if phase < 0.5 else wave)
    if kind == 1:
        side = int(torch.randint(2, 13, (1,), generator=random))
        clouds = 128 + 50 * torch.randn(1, 1, side, side, generator=random)
        return F.interpolate(clouds, (size, size), mode="bilinear")[0, 0]
    if kind == 2:
        return 128 + 60 * torch.randn(size, size, generator=random)
    pixels = torch.full((size, size), 255 * float(torch.rand(1, generator=random)))
    if kind == 3:  # a drawing
        for _ in range(int(torch.randint(2, 9, (1,), generator=random))):
            x, y, width, height, tone, filled = torch.rand(6, generator=random).tolist()
            distance = ((across - 1.4 * x + 0.7) / (0.05 + 0.8 * width)) ** 2
            distance = distance + (((across - 1.4 * y + 0.7) / (0.05 + 0.8 * height)) ** 2)[:, None]
            inside = distance < 1 if filled < 0.5 else (distance - 1).abs() < 0.25
            pixels[inside] = 255 * tone
    return pixels
