"""Controls: random projections, and pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from controls import FacePixels, RandomFacePixels, RandomLogMel, random_matrix

from vavl.cli import data
from vavl.data.manifest import Manifest, Utterance
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.features.logmel import LogMel
from vavl.features.registry import build_extractor, rebuild_extractor

SCRIPT = Path(__file__).parents[2] / "research" / "controls.py"


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
        RandomFacePixels(256).embed(crops), pixels @ random_matrix(2304, 256, 0), atol=1e-5
    )


def test_sizes_that_make_no_sense() -> None:
    for arguments in ({"dim": 0}, {"frames": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="at least"):
            RandomLogMel(**arguments)


def test_any_command_knows_them_and_so_do_its_workers(tmp_path: Path, write_wav, noise) -> None:
    for number in range(3):
        write_wav(noise(0.5, number), f"{number}.wav")
    clips = [Utterance(str(k), "test", "ann", audio_path=f"{k}.wav") for k in range(3)]
    table = tmp_path / "manifest.parquet"
    Manifest(clips, root=tmp_path).save(table)
    command = ["extract", str(table), "--acoustic", "logmel-random", "--workers", "2"]
    subprocess.run(
        [sys.executable, SCRIPT, *command, "--out", str(tmp_path / "store")],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    store = FeatureStore.open(tmp_path / "store" / "acoustic")
    assert store.ids == ("0", "1", "2")
    expected = RandomLogMel().extract(noise(0.5, 1)).astype(np.float16)
    np.testing.assert_allclose(store.read("1"), expected, atol=0.01)
    assert "logmel-random" not in Path(data.__file__).read_text()


def test_without_them_the_package_knows_none() -> None:
    code = (
        "from vavl.features.registry import extractor_names\n"
        "print(*extractor_names('acoustic'), *extractor_names('visual'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "random" not in done.stdout
    assert "pixels" not in done.stdout
