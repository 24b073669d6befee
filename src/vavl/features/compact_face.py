"""compact-face: embeddings of facial expressions from a small network in the package.

The model card is ``docs/models/compact-face.md``.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vavl.errors import InputError
from vavl.faces.alignment import Face, align
from vavl.system.device import CPU, inference, usable_device
from vavl.system.notices import say_once

_STEM_WIDTH = 32
_STAGES = ((40, 1), (72, 2), (144, 2), (256, 1))
"""Channels and blocks at 24, 12, 6 and 3 pixels a side: most of the work is at 12 and 6."""


class CompactFace(nn.Module):
    """Grey crops to embeddings and class scores; ``dropout`` is that before the classifier.

    Example:
        >>> network = CompactFace().eval()
        >>> embedding = network.embed(torch.zeros(2, 48, 48))
        >>> embedding.shape, network.classifier(embedding).shape
        (torch.Size([2, 256]), torch.Size([2, 8]))
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
        self.classifier = nn.Linear(DIM, len(OUTPUTS))

    def embed(self, pixels: Tensor) -> Tensor:
        """``(N, H, W)`` in 0..255, H and W even and about 48, to embeddings ``(N, 256)``."""
        x = self.blocks(self.stem(_normalised(pixels)))
        return self.embedding(x.mean(dim=(2, 3)))

    def embed_both_ways(self, pixels: Tensor) -> Tensor:
        """The mean of the embeddings of crops, and of their mirror images; as :meth:`embed`."""
        both = self.embed(torch.cat([pixels, pixels.flip(-1)]))
        return both.view(2, -1, DIM).mean(dim=0)

    def is_readable(self, embeddings: Tensor) -> Tensor:
        """``(N,)``, True where an expression can be read, of ``(N, 256)`` embeddings."""
        shares = self.classifier(embeddings).softmax(dim=1)
        return shares[:, OUTPUTS.index("none")] <= NONE_ABOVE

    def forward(self, pixels: Tensor) -> Tensor:
        """``(N, H, W)`` in 0..255 to scores ``(N, 8)`` before the softmax."""
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


CROP_SIZE = 48
DIM = 256
CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Expressions."""
OUTPUTS = (*CLASSES, "none")
"""In the order of the scores; ``"none"`` is a crop in which no expression can be read."""
NONE_ABOVE = 0.1
"""With ``readable_only``, a crop says nothing whose probability of ``"none"`` is larger: 0.5 % of
the validation faces, 93 % of the same upside down, 91 % of the same at 12 pixels."""
NOTICE = (
    "compact-face: weights trained on FER2013 with the votes of FER+, for research and "
    "non-commercial use only; see vavl/features/assets/LICENSE-WEIGHTS.md"
)
"""Logged as a warning by this module, once, when the weights are first read."""

_TEMPLATE = ((14.9, 18.2), (33.1, 18.2), (24.0, 28.3), (16.6, 37.4), (31.4, 37.4))
"""Medians of the landmarks that the detector finds in training faces, made symmetric: those of the
first 1,300; over all of them the medians are the same within 0.3 pixels."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601, as in JPEG, from which the training faces come."""
_CROPS_PER_PASS = 64

_log = logging.getLogger(__name__)


def crop_template() -> NDArray[np.float64]:
    """Where :data:`vavl.faces.alignment.LANDMARKS` lie in a crop: ``(5, 2)`` x and y in pixels.

    Example:
        >>> crop_template()[2].tolist()  # the nose
        [24.0, 28.3]
    """
    return np.array(_TEMPLATE)


def crop_faces(
    frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], faces: Sequence[Face]
) -> NDArray[np.uint8]:
    """Crops one face out of each frame: N times ``(H, W, 3)`` RGB to ``(N, 48, 48)`` grey, uint8.

    Example:
        >>> frame = np.full((1, 90, 120, 3), 128, np.uint8)
        >>> face = Face((20, 20, 68, 68), 1.0, (crop_template() + 20).astype(np.float32))
        >>> crop_faces(frame, [face]).shape
        (1, 48, 48)
    """
    crops = align(frames, faces, CROP_SIZE, goal=crop_template())
    return (crops @ LUMA).round().astype(np.uint8)


class CompactFaceFeatures:
    """Embeddings of face crops by the network of the package.

    The weights are read when first needed, once in a process; then :data:`NOTICE` is said.

    Args:
        mirrored: Take the mean over the crop and its mirror image, which turns a face to the left
            into the same embedding as one to the right, is a little more accurate, and doubles the
            time to 2.5 ms a face on one thread.
        readable_only: A crop in which the network sees no expression that one could read, e.g. a
            face upside down, of a few pixels, or none at all, becomes a row of NaN.
        device: Where the network runs: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or
            ``"auto"``. It does not enter the store's key, and is sought with the first crops.

    Example:
        >>> CompactFaceFeatures().embed(np.zeros((3, 48, 48), np.uint8)).shape
        (3, 256)
    """

    name = "compact-face"
    dim = DIM
    source = None

    def __init__(
        self, mirrored: bool = True, readable_only: bool = False, device: str = "cpu"
    ) -> None:
        self.mirrored = mirrored
        self.readable_only = readable_only
        self.device = device

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        parameters = {"mirrored": self.mirrored, "crop": CROP_SIZE}
        return parameters | ({"readable_only": True} if self.readable_only else {})

    @property
    def weights_sha256(self) -> str:
        """Hexadecimal SHA-256 of the weights file."""
        return hashlib.sha256(_weights()).hexdigest()

    def load(self) -> None:
        """Reads the weights now instead of with the first crops."""
        pretrained(usable_device(self.device))

    def embed_faces(
        self, frames: Sequence[NDArray[np.uint8]], faces: Sequence[Face]
    ) -> NDArray[np.float32]:
        """Embeds one face of each frame: N times ``(H, W, 3)`` and N faces to ``(N, 256)``."""
        return self.embed(crop_faces(frames, faces))

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops of :func:`crop_faces`, ``(N, 48, 48)``, to ``(N, 256)``; no row depends on others.

        Over the training faces, each feature has about mean 0 and deviation 1.
        """
        _check_crops(crops)
        # A copy, since torch takes neither read-only nor flipped arrays.
        device = usable_device(self.device)
        pixels = torch.from_numpy(np.array(crops, order="C")).to(device)
        network = pretrained(device)
        embeddings = torch.empty(len(crops), DIM, device=device)
        with inference(device):
            for start in range(0, len(crops), _CROPS_PER_PASS):
                part = pixels[start : start + _CROPS_PER_PASS].float()
                embedding = network.embed_both_ways(part) if self.mirrored else network.embed(part)
                if self.readable_only:
                    embedding[~network.is_readable(embedding)] = torch.nan
                embeddings[start : start + _CROPS_PER_PASS] = embedding
        return embeddings.cpu().numpy()


def _check_crops(crops: NDArray[np.uint8]) -> None:
    size = (CROP_SIZE, CROP_SIZE)
    if isinstance(crops, np.ndarray):
        if crops.dtype == np.uint8 and crops.ndim == 3 and crops.shape[1:] == size:
            return
        found = f"{crops.dtype} of shape {crops.shape}"
    else:
        found = type(crops).__name__
    raise InputError(
        f"crops: expected grey pixels (N, {CROP_SIZE}, {CROP_SIZE}) of uint8 in 0..255, as "
        f"crop_faces makes them, got {found}"
    )


def _weights() -> bytes:
    return (resources.files("vavl.features") / "assets" / "compact_face.safetensors").read_bytes()


def pretrained(device: torch.device = CPU) -> CompactFace:
    """The network with the weights of the package, ready for inference; read once."""
    return _pretrained(device)


@cache
def _pretrained(device: torch.device) -> CompactFace:
    if device != CPU:
        return copy.deepcopy(pretrained()).to(device)
    say_once(_log, NOTICE)
    return load_weights(_weights())
