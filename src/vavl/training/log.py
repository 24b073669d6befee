"""Records of a training: JSON lines and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from vavl.atomic import atomic_write
from vavl.training.run import FoldDirectory


class EpochLog:
    """Appends one record per epoch to ``metrics.jsonl`` and to TensorBoard.

    Args:
        fold: Where the records go.
        epochs_done: Epochs of the checkpoint that training goes on from; a record of a later
            epoch, written just before a crash, is dropped, because that epoch is run again.
    """

    def __init__(self, fold: FoldDirectory, epochs_done: int) -> None:
        kept = [record for record in fold.history() if record["epoch"] <= epochs_done]
        with atomic_write(fold.history_file) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), "utf-8")
        self._file = fold.history_file.open("a", encoding="utf-8")
        self._board = SummaryWriter(
            str(fold.path / "tensorboard"), purge_step=epochs_done + 1 if epochs_done else None
        )

    def write(self, record: dict[str, Any]) -> None:
        """Appends the record of an epoch."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in _scalars(record):
            self._board.add_scalar(name, value, record["epoch"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a nested record, with their path as a name."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and key != "epoch":
            yield f"{prefix}{key}", value
