"""Checkpoints at the end of an epoch, to resume from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.precision import Precision
from torch import Tensor, nn

from vavl.atomic import atomic_write
from vavl.errors import StoreError

SCHEMA_VERSION = 3
"""Version of the checkpoint file, and of how random numbers are drawn in the epochs to come."""


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch: Epochs done.
        best_epoch: The epoch whose weights are kept, counted from 1; 0 before the first.
        best_value: What it was chosen by; higher is better.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -math.inf


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    progress: Progress,
    best: dict[str, Tensor],
) -> None:
    """Writes the whole state, or leaves the earlier checkpoint as it was."""
    with atomic_write(path) as temporary:
        torch.save(
            {
                "schema_version": SCHEMA_VERSION,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "precision": precision.state_dict(),  # the scale of losses in half precision
                "progress": asdict(progress),
                "best": best,
            },
            temporary,
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, for :func:`restore`.

    Raises:
        StoreError: The file is damaged or from another release.
    """
    with _damage_named(path):
        # weights_only: tensors and plain values; nothing in the file is executed.
        content = dict(torch.load(path, map_location="cpu", weights_only=True))
        if content["schema_version"] != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: expected schema version {SCHEMA_VERSION}, got "
                f"{content['schema_version']}: begun by another release of vavl, which keeps other "
                "state or draws other random numbers. Finish it with that one, or remove the file "
                "to train this fold from the start"
            )
        return content


def restore(
    content: dict[str, Any],
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
) -> tuple[Progress, dict[str, Tensor]]:
    """Puts the state back where it was; returns the progress and the best weights.

    Args:
        content: What :func:`read_checkpoint` gave.
        path: Where it was, for the error.
        model: What is trained.
        optimizer: What it is trained by.
        precision: Of the training, see :attr:`lightning_fabric.strategies.Strategy.precision`.

    Raises:
        StoreError: It does not fit the model.
    """
    with _damage_named(path):
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        precision.load_state_dict(content["precision"])
        return Progress(**content["progress"]), content["best"]


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # torch names many: pickle, zip, key and shape errors
        raise StoreError(
            f"{path}: damaged or of another model ({type(error).__name__}: {error}); remove it to "
            "train this fold from the start"
        ) from error
