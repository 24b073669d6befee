"""A corpus small enough to train on in a test."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from vavl.config.base import validated
from vavl.config.experiment import ExperimentConfig, set_dotted
from vavl.data.manifest import Manifest
from vavl.training import loop


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


def tuning_options(waveforms: str, encoder: Path) -> dict[str, object]:
    """Overrides by which a tiny Whisper encoder is tuned on a store of waveforms."""
    section = {
        "extractor": f"hf:{encoder}",
        "layer": [1, 2],
        "lora_rank": 2,
        "encoder_learning_rate": 1e-2,
    }
    tuning: dict[str, object] = {f"acoustic_encoder__{key}": v for key, v in section.items()}
    return {"data__acoustic": waveforms, "training__batch_size": 8, **tuning}


class Killed(Exception):
    """Stands for a power cut."""


def reading_threads() -> list[str]:
    """Names of the threads that read ahead."""
    return [t.name for t in threading.enumerate() if t.name.startswith("read-ahead")]


def kill_in_the_second_epoch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The second epoch from now on that is trained dies; the list grows by each that is begun."""
    original = loop.train_epoch
    begun: list[int] = []

    def train_epoch(*arguments: object) -> dict[str, float]:
        begun.append(len(begun) + 1)
        if len(begun) == 2:
            raise Killed
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_epoch", train_epoch)
    return begun


def with_statistics(model: nn.Module) -> None:
    """Gives a fresh model statistics that differ from the initial ones, as after training."""
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "mean")):
                buffer.normal_()
            elif name.endswith(("running_var", "scale")):
                buffer.uniform_(0.5, 2.0)
            elif name.endswith((".weight", ".bias")):  # of a statistics head
                buffer.normal_().mul_(0.1)
