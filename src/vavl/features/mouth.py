"""How wide a mouth is open, read from the embedding of its face by compact-face.

A line through the embeddings, fitted to what MediaPipe's face landmarker measures in training faces
(``scripts/train_mouth_opening.py``): rough, and free where the embedding is there anyway.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load


def mouth_opening(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square root of the gap between the lips, in distances between the outer corners of the eyes.

    Args:
        embeddings: ``(N, 256)`` of :class:`vavl.features.compact_face.CompactFaceFeatures`.

    Returns:
        ``(N,)``, about 0.1 for a closed mouth and 0.6 for one wide open; NaN for a row of NaN.

    Example:
        >>> mouth_opening(np.full((1, 256), np.nan, np.float32))
        array([nan], dtype=float32)
    """
    weights = _weights()
    opening: NDArray[np.float32] = embeddings @ weights["weight"] + weights["bias"]
    return opening


@cache
def _weights() -> dict[str, NDArray[np.float32]]:
    content = resources.files("vavl.features") / "assets" / "mouth_opening.safetensors"
    return load(content.read_bytes())
