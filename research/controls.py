"""Controls for learned features: random projections of log-mel frames and of pixels, and pixels.

A random projection has the dimensionality of learned features and none of their knowledge: what a
model gains from an encoder beyond its control is what the encoder has learned.

    python research/controls.py extract data/mine/manifest.parquet --acoustic logmel-random ...

runs any vavl command with the extractors ``logmel-random``, ``face-pixels`` and
``face-pixels-random``.

Source: W. B. Johnson, J. Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space",
1984: such a projection keeps the distances between its inputs, up to a factor near 1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.faces.alignment import Face
from vavl.features.compact_face import CROP_SIZE, crop_faces
from vavl.features.face_features import FaceFeaturesOf
from vavl.features.logmel import BANDS, LogMel
from vavl.features.registry import register_extractor
from vavl.features.waveform import ConditioningOptions

PIXELS = CROP_SIZE * CROP_SIZE


@cache
def random_matrix(inputs: int, dim: int, seed: int) -> NDArray[np.float32]:
    """``(inputs, dim)`` independent Gaussian numbers of variance 1 / dim; the same for a seed.

    Raises:
        InputError: A size is below 1, or the seed below 0.

    Example:
        >>> projected = np.ones(160, np.float32) @ random_matrix(160, 512, seed=0)
        >>> bool(0.8 < np.linalg.norm(projected) / np.linalg.norm(np.ones(160)) < 1.2)
        True
    """
    if inputs < 1 or dim < 1 or seed < 0:
        raise InputError(
            f"projection: expected sizes of at least 1 and a seed of at least 0, got {inputs} to "
            f"{dim}, seed {seed}"
        )
    matrix = np.random.default_rng(seed).standard_normal((inputs, dim)) / np.sqrt(dim)
    kept: NDArray[np.float32] = matrix.astype(np.float32)
    kept.flags.writeable = False  # all callers share it
    return kept


class RandomLogMel(LogMel):
    """Log-mel frames, some joined into one step and projected at random: ``(T, dim)``.

    With the defaults, two frames of 80 bands become one step of 512 values, 50 times a second: the
    shape of the features of whisper-base.

    Args:
        dim: Values per step.
        frames: Log-mel frames that are joined into a step; the last step repeats the last frame.
        seed: Of the projection.
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`.

    Raises:
        InputError: An argument makes no sense.

    Example:
        >>> random = RandomLogMel()
        >>> random.extract(np.zeros(16000)).shape, random.spec.frame_rate_hz
        ((49, 512), 50.0)
    """

    name = "logmel-random"

    def __init__(
        self,
        dim: int = 512,
        frames: int = 2,
        seed: int = 0,
        **conditioning: Unpack[ConditioningOptions],
    ) -> None:
        super().__init__(**conditioning)
        if frames < 1:
            raise InputError(f"frames: expected at least 1, got {frames}")
        assert self.spec.frame_rate_hz is not None
        self._frames = frames
        self._matrix = random_matrix(BANDS * frames, dim, seed)
        self.spec = replace(
            self.spec,
            dim=dim,
            frame_rate_hz=self.spec.frame_rate_hz / frames,
            parameters={**self.spec.parameters, "frames": frames, "seed": seed},
        )

    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        bands = super()._features(waveform)
        missing = -len(bands) % self._frames
        bands = np.pad(bands, ((0, missing), (0, 0)), mode="edge")
        return bands.reshape(-1, BANDS * self._frames) @ self._matrix  # (T, dim)


class FacePixels:
    """Pixels of face crops, as compact-face sees them, in [0, 1].

    Example:
        >>> FacePixels().embed(np.full((1, 48, 48), 255, np.uint8)).shape
        (1, 2304)
    """

    name = "face-pixels"
    weights_sha256 = None
    source = None
    dim = PIXELS

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        return {"crop": CROP_SIZE}

    def load(self) -> None:
        """There is nothing to read."""

    def embed_faces(self, frames: NDArray[np.uint8], faces: list[Face]) -> NDArray[np.float32]:
        """One face of each frame: ``(N, H, W, 3)`` and N faces to ``(N, dim)``."""
        return self.embed(crop_faces(frames, faces))

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops ``(N, 48, 48)`` to ``(N, dim)``."""
        pixels: NDArray[np.float32] = crops.reshape(len(crops), PIXELS).astype(np.float32)
        pixels /= 255
        return pixels


class RandomFacePixels(FacePixels):
    """A random projection of the pixels, with the dimensionality of compact-face by default.

    Args:
        dim: Values of the projection.
        seed: Of the projection.
    """

    name = "face-pixels-random"

    def __init__(self, dim: int = 256, seed: int = 0) -> None:
        self.dim = dim
        self._seed = seed
        self._matrix = random_matrix(PIXELS, dim, seed)

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        return {"crop": CROP_SIZE, "seed": self._seed}

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Crops ``(N, 48, 48)`` to ``(N, dim)``."""
        return super().embed(crops) @ self._matrix


register_extractor("acoustic", RandomLogMel.name, RandomLogMel)
register_extractor("visual", FacePixels.name, FaceFeaturesOf(FacePixels))
register_extractor("visual", RandomFacePixels.name, FaceFeaturesOf(RandomFacePixels))

if __name__ == "__main__":
    # Registers once more, now the classes of a module that worker processes can import.
    import controls  # noqa: F401

    from vavl.cli import main

    main()
