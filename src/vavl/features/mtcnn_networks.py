"""The three networks of MTCNN, and their pretrained weights.

Pixels come in as RGB in 0..255, floating point.

Source: Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded
convolutional networks", arXiv 1604.02878, figure 2. Weights: facenet-pytorch 2.6.0 (MIT, Copyright
(c) 2019 Timothy Esler; the notice lies beside them in ``assets``).
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn


class _ProposalNet(nn.Module):
    """(N, 3, H, W) to the probability of a face (N, h, w) and box offsets (N, 4, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _normalised(x)
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(dim=1)[:, 1], self.conv4_2(x)


class _RefineNet(nn.Module):
    """Crops (K, 3, 24, 24) to the probability of a face (K,) and box offsets (K, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _normalised(x)
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu4(self.dense4(_flattened(self.prelu3(self.conv3(x)))))
        return self.dense5_1(x).softmax(dim=1)[:, 1], self.dense5_2(x)


class _OutputNet(nn.Module):
    """Crops (K, 3, 48, 48) to probability (K,), box offsets (K, 4) and landmarks (K, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = _normalised(x)
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(_flattened(self.prelu4(self.conv4(x)))))
        return self.dense6_1(x).softmax(dim=1)[:, 1], self.dense6_2(x), self.dense6_3(x)


class Cascade(nn.Module):
    """The three networks, under the names of the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = _ProposalNet(), _RefineNet(), _OutputNet()


def _normalised(pixels: Tensor) -> Tensor:
    """As in training, and channels last: with so few channels, three times faster on a CPU."""
    return ((pixels - 127.5) / 128).contiguous(memory_format=torch.channels_last)


def _flattened(x: Tensor) -> Tensor:
    """(K, C, H, W) to (K, W * H * C): the order the dense weights were trained in."""
    return x.permute(0, 3, 2, 1).flatten(1)


@cache
def pretrained() -> Cascade:
    """The networks with the weights of the package, ready for inference; read once."""
    weights = resources.files("vavl.features") / "assets" / "mtcnn.safetensors"
    cascade = Cascade()
    cascade.load_state_dict(load(weights.read_bytes()))
    return cascade.requires_grad_(False).eval()
