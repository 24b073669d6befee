"""Time of a training step, `joint` against `alternating`, interleaved in one run; prints JSON.

python benchmarks/train_step.py --preset small --repeats 7
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from timing import interleaved, print_report, ratios, spread

from vavl.config.experiment import TrainingConfig
from vavl.config.models import VAVLConfig
from vavl.models.vavl import SCHEDULES, VAVL
from vavl.training.objective import Objective
from vavl.training.setup import make_optimizer
from vavl.types import Batch


def make_batch(clips: int, steps: tuple[int, int], dims: tuple[int, int]) -> Batch:
    """Random sequences of full length."""
    return Batch(
        utterance_ids=[str(index) for index in range(clips)],
        acoustic=torch.randn(clips, steps[0], dims[0]),
        acoustic_mask=torch.ones(clips, steps[0], dtype=torch.bool),
        visual=torch.randn(clips, steps[1], dims[1]),
        visual_mask=torch.ones(clips, steps[1], dtype=torch.bool),
        category_targets=torch.eye(6)[torch.randint(6, (clips,))],
    )


def take_steps(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    precision: AbstractContextManager[object] | None = None,
) -> None:
    """All steps of the objective's schedule on one batch; losses in a precision, e.g. autocast."""
    for step in objective.steps:
        with precision or nullcontext():
            losses = objective(batch, step)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dims, steps = (1024, 1408), (125, 75)
    config = VAVLConfig.preset(
        options.preset, acoustic_dim=dims[0], visual_dim=dims[1], categories=list("abcdef")
    )
    batch = make_batch(options.clips, steps, dims)
    trained = {}
    for schedule in SCHEDULES:
        objective = Objective(VAVL(config), TrainingConfig(schedule=schedule)).train()  # type: ignore[arg-type]
        trained[schedule] = objective, make_optimizer(objective.model, objective.config)
    seconds = interleaved(
        {name: partial(take_steps, *parts, batch) for name, parts in trained.items()},
        repeats=options.repeats,
        warm_up=1,
    )
    print_report(
        "train_step",
        vars(options) | {"dims": dims, "steps": steps},
        seconds={name: spread(values) for name, values in seconds.items()},
        alternating_over_joint=ratios(seconds["alternating"], seconds["joint"]),
    )


if __name__ == "__main__":
    main()
