"""The optimizer of a training against torch's plain loop over the weights."""

from __future__ import annotations

import pytest
import torch
from small_models import tiny

from vavl.config import TrainingConfig
from vavl.training.setup import make_optimizer


@pytest.mark.parametrize("decoupled", [False, True])
def test_fused_steps_equal_plain_ones(decoupled: bool) -> None:
    settings = TrainingConfig(
        learning_rate=1e-2, weight_decay=0.1, decoupled_weight_decay=decoupled
    )
    fused, plain = tiny("vavl"), tiny("vavl")
    optimizers = [make_optimizer(model, settings) for model in (fused, plain)]
    assert optimizers[0].defaults["fused"]
    for group in optimizers[1].param_groups:
        group["fused"] = False
    for _ in range(5):
        for ours, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(list(fused.parameters()), list(plain.parameters()))


def test_gradients_of_half_precision_can_be_clipped() -> None:
    # Fabric refuses to clip for an optimizer that unscales by itself, as a fused one does.
    optimizer = make_optimizer(tiny("vavl"), TrainingConfig(precision="16-mixed"))
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)
