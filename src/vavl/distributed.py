"""Training by several processes ("ranks") on the same batches, each with its share of the clips.

Nothing is lost or changed by the division: inside :func:`together` a loss, a batch normalisation
and the question whether any clip has a face concern the clips of all ranks. To that end every rank
goes the same way through the model. A rank without a clip of what others have goes along with zero
clips, so that each collective call of one rank finds that of the others, forwards and backwards.

With one process, and outside of :func:`together`, everything here is the identity.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

_device: torch.device | None = None


def launched_ranks() -> int:
    """How many processes torchrun has started to train together; else 1."""
    if not all(name in os.environ for name in _LAUNCHED):
        return 1
    return int(os.environ["WORLD_SIZE"])


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return launched_ranks() == 1 or int(os.environ["RANK"]) == 0


def is_restarted() -> bool:
    """Whether torchrun has started the processes again, after one of them was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def leave_at_exit() -> None:
    """Has this process close its connections to the other ranks before it ends.

    Gloo's threads run on otherwise, and now and then the process aborts while it is torn down,
    after all its work is done.
    """
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Inside, the clips of all ranks are one batch; each rank must do the same, step by step.

    The ranks exchange tensors on ``device``.
    """
    global _device
    before = _device
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        _device = device
    try:
        yield
    finally:
        _device = before


def are_together() -> bool:
    """Whether other ranks have a share of the batch."""
    return _device is not None


def anywhere(here: bool) -> bool:
    """Whether something holds on any rank."""
    if _device is None:
        return here
    flag = torch.tensor(int(here), device=_device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def draw_below(count: int) -> int:
    """A random whole number in [0, count), the same on all ranks."""
    drawn = torch.randint(count, ())
    if _device is not None:
        drawn = drawn.to(_device)
        dist.broadcast(drawn, 0)
    return int(drawn)


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, rank by rank: ``(n, d)`` to ``(sum of n, d)``; n may be 0.

    The gradient of each row is the sum of what all ranks have computed for it. So a loss of
    gathered rows, which is the same on all ranks, has the gradient of the loss of one process with
    all clips, once that has been averaged over the ranks, as torch's DistributedDataParallel does.
    """
    if _device is None:
        return rows
    whole: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return whole


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ranks, rank = dist.get_world_size(), dist.get_rank()
        counts = torch.zeros(ranks, dtype=torch.int64, device=rows.device)
        counts[rank] = len(rows)
        dist.all_reduce(counts)
        sizes = counts.tolist()
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        ctx.own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.own]
