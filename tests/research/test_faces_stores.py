"""research/faces_stores.py, on a few pictures in the format of faces48."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from vavl.data.store import FeatureStore
from vavl.studies.config import load_study
from vavl.studies.plan import make_plan

ROOT = Path(__file__).parents[2]


def test_pictures_become_stores_that_the_study_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module("faces_stores")
    crops = np.random.default_rng(0).integers(0, 256, (6, 48, 48), np.uint8)
    split = np.array([0, 0, 1, 2, 0, 2])
    np.savez("faces.npz", images=crops, labels=np.arange(6, dtype=np.uint8), split=split)
    script.main(["faces.npz"])

    plan = make_plan(load_study(ROOT / "research" / "studies" / "features-faces.toml"), tmp_path)
    assert len(plan.tasks) == 9
    (partition,) = plan.partitions.values()
    assert partition.train == ("face-00000", "face-00001", "face-00004")
    assert partition.development == ("face-00002",)
    assert partition.test == ("face-00003", "face-00005")
    stores = {
        name: FeatureStore.open(path)
        for name, variant in plan.variants.items()
        if (path := variant.experiment.data.visual) is not None
    }
    pixels = stores["pixels"].read("face-00003")
    np.testing.assert_allclose(pixels, crops[3].reshape(1, -1) / 255, atol=1e-3)
    assert stores["random"].spec.dim == stores["compact-face"].spec.dim == 256

    times = {file: file.stat().st_mtime_ns for file in Path("stores").rglob("*.safetensors")}
    script.main(["faces.npz"])  # again: everything is there
    assert len(times) == 3
    assert {file: file.stat().st_mtime_ns for file in times} == times
