"""The network of compact-face: a small residual network for grey crops of 48 x 48 pixels.

Pixels come in as grey in 0..255, floating point.

Source: residual blocks of He et al. 2016, "Deep residual learning for image recognition",
arXiv 1512.03385, with the averaging shortcut of He et al. 2019, "Bag of tricks for image
classification with convolutional neural networks", arXiv 1812.01187 (ResNet-D).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vavl.features.compact_face import CLASSES, DIM

_STEM_WIDTH = 32
_STAGES = ((40, 1), (72, 2), (144, 2), (256, 1))
"""Channels and blocks at 24, 12, 6 and 3 pixels a side: most of the work is at 12 and 6."""


class CompactFace(nn.Module):
    """Grey crops to embeddings and class scores.

    Args:
        dropout: Share of the embedding that is set to zero before the classifier in training.

    Example:
        >>> import torch
        >>> network = CompactFace().eval()
        >>> embedding = network.embed(torch.zeros(2, 48, 48))
        >>> embedding.shape, network.classifier(embedding).shape
        (torch.Size([2, 256]), torch.Size([2, 7]))
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        # Four neighbouring pixels as channels, then 3 x 3: a stride that skips no pixel.
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), *_convolution(4, _STEM_WIDTH), nn.ReLU())
        blocks: list[nn.Module] = []
        width = _STEM_WIDTH
        for stage, (channels, count) in enumerate(_STAGES):
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(_Block(width, channels, stride))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.embedding = nn.Sequential(nn.Linear(width, DIM, bias=False), nn.BatchNorm1d(DIM))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(DIM, len(CLASSES))

    def embed(self, pixels: Tensor) -> Tensor:
        """``(N, H, W)`` in 0..255, H and W even and about 48, to embeddings ``(N, 256)``."""
        x = self.blocks(self.stem(_normalised(pixels)))
        return self.embedding(x.mean(dim=(2, 3)))

    def forward(self, pixels: Tensor) -> Tensor:
        """``(N, H, W)`` in 0..255 to scores ``(N, 7)`` before the softmax."""
        return self.classifier(self.dropout(self.embed(pixels)))


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; the first may halve the sides."""

    def __init__(self, width: int, channels: int, stride: int) -> None:
        super().__init__()
        convolution, normalisation = _convolution(channels, channels)
        self.body = nn.Sequential(
            *_convolution(width, channels, stride), nn.ReLU(), convolution, normalisation
        )
        # At first a block only passes on its input, which makes the first steps steadier.
        nn.init.zeros_(normalisation.weight)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if width != channels:
            self.shortcut.extend(_convolution(width, channels, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _convolution(
    width: int, channels: int, stride: int = 1, kernel: int = 3
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(width, channels, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(channels)


def _normalised(pixels: Tensor) -> Tensor:
    """As (N, 1, H, W) with mean 0 and deviation 1 in each crop: light and contrast do not count."""
    x = pixels[:, None]
    deviation, mean = torch.std_mean(x, dim=(2, 3), keepdim=True)
    # A crop of one tone stays near zero.
    return (x - mean) / (deviation + 4)


def load_weights(content: bytes) -> CompactFace:
    """The network with the weights of a safetensors file, ready for inference.

    Batch normalisation is folded into the convolutions before it, which saves time.
    """
    network = CompactFace()
    # Not strict about counters of batches, which only matter in training.
    network.load_state_dict({name: value.float() for name, value in load(content).items()})
    network.requires_grad_(False).eval()
    for parent in list(network.modules()):
        if isinstance(parent, nn.Sequential):
            _fold(parent)
    for parameter in network.parameters():
        if parameter.ndim == 4:  # faster on a CPU
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _fold(layers: nn.Sequential) -> None:
    for number in reversed(range(1, len(layers))):
        before, layer = layers[number - 1], layers[number]
        if isinstance(before, nn.Conv2d) and isinstance(layer, nn.BatchNorm2d):
            layers[number - 1] = fuse_conv_bn_eval(before, layer)
            layers[number] = nn.Identity()
