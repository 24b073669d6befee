"""compact-face: embeddings and classes of facial expressions from a small network in the package.

A detector's landmarks say where a face is; :func:`crop_faces` brings it into the template that the
network was trained with, and :class:`CompactFaceFeatures` turns crops into embeddings. See the
model card in ``docs/models/compact-face.md``.
"""

from __future__ import annotations

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

from vavl.errors import InputError, all_problems
from vavl.faces.alignment import Face, align

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


CROP_SIZE = 48
DIM = 256
CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""In the order of the log-probabilities."""
NOTICE = (
    "compact-face: weights trained on FER2013, for research and non-commercial use only; see "
    "vavl/features/assets/LICENSE-WEIGHTS.md"
)
"""Logged as a warning by this module, once in a process, when the weights are first read."""

_TEMPLATE = ((14.9, 18.2), (33.1, 18.2), (24.0, 28.3), (16.6, 37.4), (31.4, 37.4))
"""Medians of the landmarks that the detector finds in training faces, made symmetric: those of the
first 1,300; over all of them the medians are the same within 0.3 pixels."""
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601, as in JPEG, from which the training faces come."""
_CROPS_PER_PASS = 64

_log = logging.getLogger(__name__)


def crop_template() -> NDArray[np.float64]:
    """Where the landmarks of a detector lie in a crop, for training and use alike.

    Returns:
        ``(5, 2)`` x and y in pixels of a 48 x 48 crop, in the order of
        :data:`vavl.faces.alignment.LANDMARKS`.

    Example:
        >>> crop_template()[2].tolist()  # the nose
        [24.0, 28.3]
    """
    return np.array(_TEMPLATE)


def crop_faces(frames: NDArray[np.uint8], faces: Sequence[Face]) -> NDArray[np.uint8]:
    """Crops one face out of each frame, for the network.

    Args:
        frames: ``(N, H, W, 3)`` RGB, uint8.
        faces: N faces, the n-th in the n-th frame.

    Returns:
        ``(N, 48, 48)`` grey, uint8.

    Raises:
        InputError: As :func:`vavl.faces.alignment.align`.

    Example:
        >>> frame = np.full((1, 90, 120, 3), 128, np.uint8)
        >>> face = Face((20, 20, 68, 68), 1.0, (crop_template() + 20).astype(np.float32))
        >>> crop_faces(frame, [face]).shape
        (1, 48, 48)
    """
    crops = align(frames, faces, CROP_SIZE, goal=crop_template())
    return (crops @ _GREY).round().astype(np.uint8)


class CompactFaceFeatures:
    """Embeddings of face crops by the network of the package.

    The weights are read when first needed, once in a process; then :data:`NOTICE` is logged.

    Args:
        mirrored: Take the mean over the crop and its mirror image, which turns a face to the left
            into the same embedding as one to the right, is a little more accurate, and doubles the
            time to 2.5 ms a face on one thread.

    Example:
        >>> features = CompactFaceFeatures()
        >>> embeddings = features.embed(np.zeros((3, 48, 48), np.uint8))
        >>> embeddings.shape, features.log_probabilities(embeddings).shape
        ((3, 256), (3, 7))
    """

    name = "compact-face"
    dim = DIM
    source = None

    def __init__(self, mirrored: bool = True) -> None:
        self.mirrored = mirrored

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        return {"mirrored": self.mirrored, "crop": CROP_SIZE}

    @property
    def weights_sha256(self) -> str:
        """Hexadecimal SHA-256 of the weights file."""
        return hashlib.sha256(_weights()).hexdigest()

    def load(self) -> None:
        """Reads the weights now instead of with the first crops."""
        _pretrained()

    def embed_faces(self, frames: NDArray[np.uint8], faces: Sequence[Face]) -> NDArray[np.float32]:
        """Embeds one face of each frame: ``(N, H, W, 3)`` and N faces to ``(N, 256)``."""
        return self.embed(crop_faces(frames, faces))

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of crops; none depends on the others.

        Args:
            crops: ``(N, 48, 48)`` grey, uint8, from :func:`crop_faces`; N may be 0.

        Returns:
            ``(N, 256)``; over the training faces each has about mean 0 and deviation 1.

        Raises:
            InputError: The crops are not of that kind.
        """
        import torch

        _check_crops(crops)
        # A copy, since torch takes neither read-only nor flipped arrays.
        pixels = torch.from_numpy(np.array(crops, order="C"))
        network = _pretrained()
        embeddings = torch.empty(len(crops), DIM)
        with torch.inference_mode():
            for start in range(0, len(crops), _CROPS_PER_PASS):
                part = pixels[start : start + _CROPS_PER_PASS].float()
                if self.mirrored:
                    both = network.embed(torch.cat([part, part.flip(-1)]))
                    embedding = both.view(2, len(part), DIM).mean(dim=0)
                else:
                    embedding = network.embed(part)
                embeddings[start : start + _CROPS_PER_PASS] = embedding
        return embeddings.numpy()

    def log_probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Classifies embeddings with the network's own classifier.

        Args:
            embeddings: ``(N, 256)`` from :meth:`embed`, or means of them over time.

        Returns:
            ``(N, 7)`` natural logarithms of probabilities, in the order of :data:`CLASSES`.

        Raises:
            InputError: The embeddings are not of that shape.
        """
        import torch

        if embeddings.ndim != 2 or embeddings.shape[1] != DIM:
            raise InputError(f"embeddings: expected (N, {DIM}), got {embeddings.shape}")
        with torch.inference_mode():
            scores = _pretrained().classifier(torch.from_numpy(np.array(embeddings, np.float32)))
            return scores.log_softmax(dim=1).numpy()


def _check_crops(crops: NDArray[np.uint8]) -> None:
    if not isinstance(crops, np.ndarray):
        raise InputError(
            f"crops: expected an array (N, {CROP_SIZE}, {CROP_SIZE}) of uint8, got "
            f"{type(crops).__name__}"
        )
    problems = []
    if crops.dtype != np.uint8:
        problems.append(f"expected uint8 in 0..255, got {crops.dtype}")
    if crops.ndim != 3 or crops.shape[1:] != (CROP_SIZE, CROP_SIZE):
        problems.append(
            f"expected (N, {CROP_SIZE}, {CROP_SIZE}) in grey, got {crops.shape}; crop_faces makes "
            "such crops of frames"
        )
    if problems:
        raise InputError(all_problems("crops", problems))


def _weights() -> bytes:
    return (resources.files("vavl.features") / "assets" / "compact_face.safetensors").read_bytes()


@cache
def _pretrained() -> CompactFace:
    """The network with the weights of the package, ready for inference; read once."""
    _log.warning(NOTICE)
    return load_weights(_weights())
