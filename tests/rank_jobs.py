"""What two processes of one training do in tests; they import it, so it is no test itself."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import torch
from lightning_fabric import Fabric
from small_models import NAMES, make_batch, tiny
from torch import multiprocessing, nn

from vavl.config.experiment import ExperimentConfig, TrainingConfig
from vavl.distributed import anywhere, draw_below, gathered, together
from vavl.models.baselines import sfav
from vavl.models.conformer import MaskedBatchNorm
from vavl.training import loop
from vavl.training.experiment import train_experiment
from vavl.training.objective import Objective
from vavl.training.setup import make_fabric
from vavl.types import Batch

SETTINGS = TrainingConfig(device="cpu", threads=1)


InTwoRanks = Callable[..., None]
"""Runs a job, with its arguments, in two processes that train together."""

_PATIENCE_S = 300


@contextmanager
def two_ranks() -> Iterator[InTwoRanks]:
    """Starts the processes once for several jobs; what one of them raises is raised."""
    context, port = multiprocessing.get_context("spawn"), _free_port()
    with context.Pool(1, _join, (0, port)) as first, context.Pool(1, _join, (1, port)) as second:
        ranks = (first, second)

        def run(job: Callable[..., None], *arguments: Any) -> None:
            ends: SimpleQueue[BaseException | None] = SimpleQueue()
            for rank in ranks:
                rank.apply_async(job, arguments, callback=ends.put, error_callback=ends.put)
            try:
                for _ in ranks:
                    if (error := ends.get(timeout=_PATIENCE_S)) is not None:
                        raise error
            except BaseException:
                for rank in ranks:  # the other one may wait for this one
                    rank.terminate()
                raise

        yield run


def killed_in_two_ranks(job: Callable[..., None], *arguments: Any) -> None:
    """Runs a job in two processes of its own, which end together; raises what one has ended by."""
    multiprocessing.spawn(_start, (_free_port(), job, arguments), nprocs=2)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _start(rank: int, port: int, job: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    _join(rank, port)
    job(*arguments)


def _join(rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


def exchange() -> None:
    """What goes between ranks, and batch statistics, against one process with all rows."""
    fabric = make_fabric(SETTINGS)
    rank = fabric.global_rank
    assert anywhere(rank == 1) is (rank == 1)
    with together(fabric.device):
        assert anywhere(rank == 1)
        assert not anywhere(False)
        assert gathered(torch.tensor([draw_below(1000)])).unique().numel() == 1
    torch.manual_seed(0)
    x, factors = torch.randn(5, 4, 3) + 50, torch.randn(5, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]) > 0
    for own in ([0, 2, 4], [1, 3]), ([0, 1, 2, 3, 4], []):
        one, two = (MaskedBatchNorm(3, streams=2).train() for _ in range(2))
        whole = x.clone().requires_grad_()
        (one(whole, mask, 1) * factors).sum().backward()
        rows = own[rank]
        part = x[rows].requires_grad_()
        with together(fabric.device):
            (two(part, mask[rows], 1) * factors[rows]).sum().backward()
        assert torch.allclose(part.grad, whole.grad[rows], atol=1e-4)
        for name, value in one.named_buffers():
            assert torch.allclose(value, two.get_buffer(name), rtol=1e-5), name
        total = gathered_sum(fabric, two.weight.grad)
        assert torch.allclose(total, one.weight.grad, atol=1e-3)


def gathered_sum(fabric: Fabric, x: torch.Tensor) -> torch.Tensor:
    with together(fabric.device):
        return gathered(x[None]).sum(0)


def every_model() -> None:
    """Losses, gradients and statistics of every model, also where a rank has no face or no clip."""
    sfav._scaled = lambda *pair: pair  # a random share of each clip
    batches = {
        "no face on the second rank": make_batch([12, 5, 9, 7, 0], [5, 0, 2, 0, 3]),
        "no clip on the second rank": make_batch([12], [5]),
        "sound alone": make_batch([12, 5, 9], [0, 0, 0]),
        "both everywhere": make_batch([12, 5, 9, 3], [5, 1, 2, 2]),
    }
    fabric = make_fabric(SETTINGS)
    for name in NAMES:
        for schedule in ("joint", "alternating") if name == "vavl" else ("joint",):
            model = _without_chance(tiny(name, attributes=("arousal",)))
            settings = replace_schedule(schedule)
            alone = Objective(deepcopy(model), settings).train()
            shared = Objective(model, settings)
            wrapped = fabric.setup_module(shared).train()
            for case, batch in batches.items():
                for expected, step in zip(alone.steps, shared.steps, strict=True):
                    where = f"{name}, {schedule}, {case}"
                    _compare(fabric, (alone, expected), (wrapped, shared, step), batch, where)


def replace_schedule(schedule: str) -> TrainingConfig:
    return SETTINGS.model_copy(update={"schedule": schedule, "label_smoothing": 0.1})


def _without_chance(model: nn.Module) -> Any:
    for module in model.modules():
        if hasattr(module, "rate"):
            module.rate = 0.0
    if hasattr(model.config, "missing_share"):
        model.config = model.config.model_copy(update={"missing_share": 0.0})
    return model


def _compare(fabric: Fabric, one: Any, two: Any, batch: Batch, where: str) -> None:
    alone, expected_step = one
    wrapped, shared, step = two
    torch.manual_seed(3)
    expected = alone(batch, expected_step)
    torch.manual_seed(3)
    with together(fabric.device):
        losses = wrapped(share(batch, fabric.global_rank), step)
    assert losses.keys() == expected.keys(), where
    for modality, loss in losses.items():
        assert torch.allclose(loss, expected[modality], atol=1e-5), (where, modality)
    if not losses:
        return
    for objective in (alone, shared):
        objective.zero_grad(set_to_none=True)
    torch.stack(list(expected.values())).sum().backward()
    fabric.backward(torch.stack(list(losses.values())).sum())
    for (name, parameter), other in zip(alone.named_parameters(), shared.parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), (where, name)
        if parameter.grad is not None and not _is_rounding(where, name):
            assert torch.allclose(parameter.grad, other.grad, atol=2e-5, rtol=1e-3), (where, name)
    for (name, value), other in zip(alone.named_buffers(), shared.buffers(), strict=True):
        assert torch.allclose(value, other, atol=1e-5), (where, name)


def _is_rounding(where: str, name: str) -> bool:
    """Whether a slope is zero by rights: no batch norm lets one through in front of equal inputs.

    SFAV gives a batch without a face the same zeros for each clip. What is computed is rounding,
    large because the variance is small.
    """
    return where.startswith("sfav") and "sound alone" in where and "visual" in name


def share(batch: Batch, rank: int) -> Batch:
    """A rank's part of a batch, as the data set gives it: a modality that no clip has is None."""
    rows = list(range(rank, len(batch), 2))
    part = replace(
        batch,
        utterance_ids=[batch.utterance_ids[row] for row in rows],
        category_targets=batch.category_targets[rows],
        attribute_targets=batch.attribute_targets[rows],
    )
    for modality in ("acoustic", "visual"):
        mask = getattr(batch, f"{modality}_mask")
        found = mask is not None and bool(mask[rows].any())
        x = getattr(batch, modality)
        part = replace(
            part,
            **{
                modality: x[rows] if found else None,
                f"{modality}_mask": mask[rows] if found else None,
            },
        )
    return part


def train(configs: Sequence[ExperimentConfig], killed: ExperimentConfig | None = None) -> None:
    """Trains the first fold of each; one more loses its second rank in its third epoch.

    By then the first rank has written a checkpoint: without it there is no second epoch.
    """
    for config in configs:
        train_experiment(config, only=["fold-0"])
    if killed is None:
        return
    original, begun = loop.train_epoch, []

    def train_epoch(*arguments: Any) -> Any:
        begun.append(0)
        if len(begun) == 3 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    loop.train_epoch = train_epoch
    train_experiment(killed, only=["fold-0"])
