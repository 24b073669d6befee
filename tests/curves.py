"""Whole trainings on the tiny corpus, and how they are compared."""

from __future__ import annotations

from typing import Any

import pytest

from vavl.config.experiment import ExperimentConfig
from vavl.training.run_folder import FoldDirectory

NO_DROPOUT = {"model__dropout": 0.0, "model__head_dropout": 0.0, "model__input_dropout": 0.0}
UNPAIRED = {"data__attributes": ["arousal"], "data__paired_share": 0.3}
CHANCE = {
    "training__mixup": 0.5,
    "training__modality_dropout": 0.3,
    "training__visual_noise": 0.3,
    "training__time_masking": 0.2,
    "training__gradient_clip": 1.0,
}


def fold_of(config: ExperimentConfig) -> FoldDirectory:
    return FoldDirectory(config.run_dir / "fold-0")


def numbers(record: Any) -> list[float]:
    """All numbers of an epoch's record but its duration."""
    if isinstance(record, dict):
        return [n for key in sorted(record) if key != "seconds" for n in numbers(record[key])]
    return [record]


def assert_same_curves(one: ExperimentConfig, two: ExperimentConfig) -> None:
    """The losses and scores of all epochs; how far apart they may be is in the issue's words."""
    expected, found = fold_of(one).history(), fold_of(two).history()
    assert len(expected) == len(found) > 0
    for before, after in zip(expected, found, strict=True):
        assert numbers(after) == pytest.approx(numbers(before), abs=1e-4)


def assert_same_bits(one: ExperimentConfig, two: ExperimentConfig) -> None:
    """Losses, scores and weights of two trainings that came to their end."""
    folds = [fold_of(config) for config in (one, two)]
    assert all(fold.finished and not fold.checkpoint_file.exists() for fold in folds)
    histories = [[numbers(record) for record in fold.history()] for fold in folds]
    assert histories[0] == histories[1]
    weights = [(fold.path / "model.safetensors").read_bytes() for fold in folds]
    assert weights[0] == weights[1]
