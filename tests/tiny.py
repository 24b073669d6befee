"""A corpus small enough to train on in a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vavl.config import ExperimentConfig, set_dotted, validated
from vavl.data.manifest import Manifest


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
