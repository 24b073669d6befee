"""Fixtures every test may use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from vavl.config import ExperimentConfig, set_dotted, validated
from vavl.data.corpora.synthetic import prepare_synthetic
from vavl.data.manifest import Manifest
from vavl.features.extract import build_extractor, extract
from vavl.types import Modality


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared research data; tests that use it carry the marker ``shared``."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("VAVL_SHARED", default))
    if not folder.is_dir():
        pytest.skip("shared research data not found: set VAVL_SHARED to its folder")
    return folder


@dataclass(frozen=True)
class TinyCorpus:
    """A small synthetic corpus with its feature stores."""

    manifest: Manifest
    folder: Path

    def experiment(self, runs_dir: Path, **overrides: object) -> ExperimentConfig:
        """A two-epoch experiment on it; overrides are dotted keys, e.g. ``training.epochs``."""
        content: dict[str, object] = {
            "name": "tiny",
            "runs_dir": runs_dir,
            "data": {
                "manifest": self.folder / "manifest.parquet",
                "acoustic": self.folder / "stores" / "acoustic",
                "visual": self.folder / "stores" / "visual",
                "kfold": 3,
            },
            "model": {
                "preset": "small",
                "width": 16,
                "heads": 2,
                "kernel": 5,
                "projection_channels": 8,
                "head_widths": [12, 8],
            },
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "threads": 1},
        }
        for key, value in overrides.items():
            set_dotted(content, key.replace("__", "."), value)
        return validated(ExperimentConfig, content, "tiny experiment")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Six synthetic speakers with twelve clips each: log-mel and action units."""
    folder = tmp_path_factory.mktemp("tiny-corpus")
    manifest = prepare_synthetic(folder, speakers=6, clips_per_speaker=12)
    for modality, name in ((Modality.ACOUSTIC, "logmel"), (Modality.VISUAL, "arrays")):
        extractor = build_extractor(modality, name)
        extract(manifest, extractor, folder / "stores" / modality, progress=False)
    return TinyCorpus(manifest, folder)
