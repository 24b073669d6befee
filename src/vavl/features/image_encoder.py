"""Pretrained image models of transformers as embedders of faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.faces.alignment import Face, align
from vavl.features.weights import Checkpoint, find_checkpoint, load_pretrained

FACES_PER_PASS = 16
_USUAL_SIZE = 224

Pooling = Literal["mean", "first"]


class ImageEncoder:
    """Embeds faces with any image model of transformers: ViT, BEiT, DINOv2, ConvNeXt, ResNet, ...

    Faces are brought upright into the template of :func:`vavl.faces.alignment.template`, at the
    size of the model's input, and normalised with its mean and deviation. The embedding is the last
    hidden state, averaged over the picture; a checkpoint's pooling layer may be untrained.

    Args:
        source: A folder, or a hub id ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit on the hub.
        margin: Space around the face on each side, as a share of the crop's side.
        pooling: ``"mean"`` over all positions, or ``"first"``: the class token of a transformer.

    Raises:
        InputError: The source cannot be had, is no image model, or an argument makes no sense.
    """

    name = "hf"

    def __init__(
        self,
        source: str,
        revision: str | None = None,
        margin: float = 0.2,
        pooling: Pooling = "mean",
    ) -> None:
        if pooling not in ("mean", "first"):
            raise InputError(f"pooling: expected 'mean' or 'first', got {pooling!r}")
        self._checkpoint = find_checkpoint(source, revision)
        settings = self._checkpoint.preprocessor_config
        self._size = _side(self._checkpoint, settings)
        self._mean, self._std = (
            np.array(settings.get(key, [0.5, 0.5, 0.5]), np.float32)
            for key in ("image_mean", "image_std")
        )
        if self._mean.shape != (3,) or self._std.shape != (3,) or not (self._std > 0).all():
            raise InputError(
                f"{self._checkpoint.source}: expected image_mean and image_std of three channels"
            )
        self._margin = margin
        self._pooling = pooling
        config = self._checkpoint.config
        widths = config.get("hidden_sizes")
        found = widths[-1] if isinstance(widths, list) and widths else config.get("hidden_size")
        if not isinstance(found, int):
            raise InputError(
                f"{self._checkpoint.source}: expected an image model with hidden_size or "
                f"hidden_sizes, got {self._checkpoint.model_type!r}"
            )
        self.dim = found
        self._model: Any = None

    @property
    def source(self) -> str:
        """Where the weights come from."""
        return self._checkpoint.source

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights."""
        return self._checkpoint.weights_sha256

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        return {
            "margin": self._margin,
            "pooling": self._pooling,
            "model_type": self._checkpoint.model_type,
            "config_sha256": self._checkpoint.config_sha256(),
        }

    def load(self) -> None:
        """Reads the weights now instead of with the first face."""
        if self._model is None:
            self._model = load_pretrained(self._checkpoint, optional=("pooler.",))

    def embed_faces(self, frames: NDArray[np.uint8], faces: list[Face]) -> NDArray[np.float32]:
        """Embeds one face of each frame: ``(N, H, W, 3)`` to ``(N, D)``."""
        import torch

        self.load()
        crops = align(frames, faces, self._size, self._margin)
        parts = []
        for pixels in normalised_pixels(crops, self._mean, self._std):
            with torch.inference_mode():
                hidden = self._model(torch.from_numpy(pixels)).last_hidden_state
            if hidden.ndim == 4:  # of a convolutional model: (n, D, h, w)
                hidden = hidden.flatten(2).transpose(1, 2)
            pooled = hidden[:, 0] if self._pooling == "first" else hidden.mean(1)
            parts.append(pooled.numpy())
        return np.concatenate(parts)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the weights from disk, which is cheaper than sending them.
        return {**self.__dict__, "_model": None}


def normalised_pixels(
    crops: NDArray[np.uint8],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    per_pass: int = FACES_PER_PASS,
) -> Iterator[NDArray[np.float32]]:
    """Crops as normalised input of image networks, some at a time.

    Args:
        crops: ``(N, S, S, 3)`` RGB, uint8.
        mean: ``(3,)`` of pixels in [0, 1].
        std: ``(3,)`` likewise.
        per_pass: How many at a time.

    Yields:
        ``(n, 3, S, S)``, n at most ``per_pass``.
    """
    for start in range(0, len(crops), per_pass):
        pixels = crops[start : start + per_pass].astype(np.float32) / np.float32(255)
        yield ((pixels - mean) / std).transpose(0, 3, 1, 2).copy()


def _side(checkpoint: Checkpoint, settings: Any) -> int:
    """Side of the model's square input."""
    for size in (
        settings.get("crop_size"),
        settings.get("size"),
        checkpoint.config.get("image_size"),
    ):
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        if isinstance(size, int) and size >= 1:
            return size
    return _USUAL_SIZE
