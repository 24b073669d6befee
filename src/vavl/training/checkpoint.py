"""Checkpoints at the end of an epoch, to resume from."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vavl.errors import StoreError
from vavl.system.atomic import atomic_write
from vavl.system.extras import extra
from vavl.training.run_folder import FoldDirectory

if TYPE_CHECKING:
    from lightning_fabric.plugins.precision import Precision


@contextmanager
def epoch_log(fold: FoldDirectory, epochs_done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives what appends the record of an epoch to ``metrics.jsonl`` and to TensorBoard.

    Args:
        fold: Where the records go.
        epochs_done: Epochs of the checkpoint that training goes on from; a record of a later
            epoch, written just before a crash, is dropped, because that epoch is run again.
    """
    with extra("train", "training"):
        from torch.utils.tensorboard import SummaryWriter

    kept = [record for record in fold.history() if record["epoch"] <= epochs_done]
    with atomic_write(fold.history_file) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), "utf-8")
    purged = epochs_done + 1 if epochs_done else None
    with (
        fold.history_file.open("a", encoding="utf-8") as file,
        SummaryWriter(str(fold.path / "tensorboard"), purge_step=purged) as board,
    ):

        def write(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()
            for name, value in _scalars(record):
                board.add_scalar(name, value, record["epoch"])

        yield write


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a nested record, with their path as a name."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and key != "epoch":
            yield f"{prefix}{key}", value


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
    # Into memory first: where a disk is full, torch raises a RuntimeError that does not say so.
    content = io.BytesIO()
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
            content,
        )
        temporary.write_bytes(content.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; StoreError if it is damaged or from another release."""
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
    """Puts the content of the checkpoint at a path back; returns the progress and the best weights.

    Raises StoreError if it does not fit the model.
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
