"""Controls: random projections, and pixels."""

from __future__ import annotations

import numpy as np
import pytest

from vavl.errors import InputError
from vavl.features.logmel import LogMel
from vavl.features.random_projection import FacePixels, RandomLogMel, random_matrix
from vavl.features.registry import build_extractor, rebuild_extractor


def test_distances_are_kept() -> None:
    points = np.random.default_rng(1).normal(size=(2, 20, 160))
    before = np.linalg.norm(points[0] - points[1], axis=1)
    after = np.linalg.norm((points[0] - points[1]) @ random_matrix(160, 512, 0), axis=1)
    np.testing.assert_allclose(after / before, 1, atol=0.2)


def test_a_step_is_a_projection_of_its_frames(noise) -> None:
    samples = noise(0.5)
    bands = LogMel().extract(samples)
    steps = RandomLogMel().extract(samples)
    assert steps.shape == ((len(bands) + 1) // 2, 512)
    expected = bands[2:4].reshape(-1) @ random_matrix(160, 512, 0)
    np.testing.assert_allclose(steps[1], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("modality", "name"), [("acoustic", "logmel-random"), ("visual", "face-pixels-random")]
)
def test_seed_and_size_are_in_the_key_and_can_be_built_again(modality: str, name: str) -> None:
    changes = [{}, {"seed": 1}, {"dim": 64}]
    specs = [build_extractor(modality, name, **change).spec for change in changes]
    assert len({spec.key for spec in specs}) == 3
    for spec in specs:
        assert rebuild_extractor(spec).spec == spec


def test_pixels_are_the_crop() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    pixels = FacePixels().embed(crops)
    np.testing.assert_array_equal((pixels * 255).round().reshape(crops.shape), crops)
    np.testing.assert_allclose(
        FacePixels(dim=256).embed(crops), pixels @ random_matrix(2304, 256, 0), atol=1e-5
    )


def test_sizes_that_make_no_sense() -> None:
    for arguments in ({"dim": 0}, {"frames": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="at least"):
            RandomLogMel(**arguments)
