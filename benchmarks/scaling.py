"""How the cost of training grows with the number and the length of clips; prints JSON.

python benchmarks/scaling.py --preset small --repeats 7

A training epoch on 1, 2 and 4 batches, and a step on clips of 1, 2 and 4 times the length; of the
latter also the attention layers alone, forwards and backwards. The exponent is the slope of a
straight line through the logarithms of size and time, for each repeat: 1 is linear.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from timing import interleaved, print_report, ratios, spread
from train_step import make_batch, take_steps

from vavl.config.experiment import TrainingConfig
from vavl.config.models import VAVLConfig
from vavl.models.conformer import RelativeSelfAttention, relative_positions
from vavl.models.vavl import VAVL
from vavl.training.objective import Objective
from vavl.training.setup import make_optimizer
from vavl.types import STREAMS, Batch, Modality

FACTORS = (1, 2, 4)
DIMS = (1024, 1408)


def attention_of(model: VAVL, batch: Batch) -> Callable[[], None]:
    """Forward and backward passes of all attention layers that a step on the batch runs."""
    passes = []
    for modality in STREAMS:
        mask = batch.acoustic_mask if modality is Modality.ACOUSTIC else batch.visual_mask
        assert mask is not None
        mask = mask[:, :: model.config.subsampling(modality)]
        width = model.config.width
        x = torch.randn(*mask.shape, width, requires_grad=True)
        positions = relative_positions(mask.shape[1], width, device=x.device, dtype=x.dtype)
        for part in (model.branch(modality).encoder, model.shared):
            layers = [m for m in part.modules() if isinstance(m, RelativeSelfAttention)]
            passes += [partial(layer, x, mask, positions) for layer in layers]
    gradients: dict[torch.Size, torch.Tensor] = {}

    def run() -> None:
        for each in passes:
            out = each()
            out.backward(gradients.setdefault(out.shape, torch.randn_like(out)))

    return run


def exponents(times: Mapping[int, list[float]]) -> dict[str, float]:
    """Slope of the logarithm of time over that of size, and its spread over the repeats."""
    sizes = np.log(list(times))
    slopes = [np.polyfit(sizes, np.log(turn), 1)[0] for turn in zip(*times.values(), strict=True)]
    return spread([float(slope) for slope in slopes])


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=int, default=16, help="clips per batch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = VAVLConfig.preset(
        options.preset, acoustic_dim=DIMS[0], visual_dim=DIMS[1], categories=list("abcdef")
    )
    model = VAVL(config)
    settings = TrainingConfig()
    objective = Objective(model, settings).train()
    step = partial(take_steps, objective, make_optimizer(model, settings))
    base = (125, 75)
    one = make_batch(options.clips, base, DIMS)

    def epoch(batches: int) -> None:
        for _ in range(batches):
            step(one)

    longer = {f: make_batch(options.clips, (f * base[0], f * base[1]), DIMS) for f in FACTORS}
    attention = {f: attention_of(model, batch) for f, batch in longer.items()}
    turns: dict[str, Callable[[], object]] = {}
    for f in FACTORS:
        turns[f"{f} x clips"] = partial(epoch, f)
        turns[f"{f} x length"] = partial(step, longer[f])
        turns[f"attention, {f} x length"] = attention[f]
    times = interleaved(turns, repeats=options.repeats, warm_up=1)

    def fitted(name: str) -> dict[str, float]:
        return exponents({f: times[name.format(f)] for f in FACTORS})

    rest = {
        f: [
            whole - part
            for whole, part in zip(
                times[f"{f} x length"], times[f"attention, {f} x length"], strict=True
            )
        ]
        for f in FACTORS
    }
    results: dict[str, Any] = {
        "seconds": {name: spread(values) for name, values in times.items()},
        "exponent": {
            "clips": fitted("{} x clips"),
            "length": fitted("{} x length"),
            "length, attention": fitted("attention, {} x length"),
            "length, all but attention": exponents(rest),
        },
        "attention_share": {
            f"{f} x length": ratios(times[f"attention, {f} x length"], times[f"{f} x length"])
            for f in FACTORS
        },
    }
    print_report("scaling", vars(options) | {"dims": DIMS, "steps": base}, results=results)


if __name__ == "__main__":
    main()
