"""The optimizer of a training against torch's plain loop over the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import tiny

from vavl.config.experiment import TrainingConfig
from vavl.models.conformer import FeedForward, RelativeSelfAttention
from vavl.training.setup import compile_layers, make_optimizer


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


def test_compiled_layers_give_the_same_from_few_graphs() -> None:
    torch.compiler.reset()  # graphs of other tests would be taken for these layers
    graphs = []
    no_dropout = {"dropout": 0.0, "input_dropout": 0.0, "head_dropout": 0.0}

    def capture(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    # One block is enough, and each layer takes a second to compile.
    sizes = {"shared_blocks": 0, **no_dropout}
    plain, compiled = (tiny("vavl", **sizes).train() for _ in range(2))
    compile_layers(compiled, backend=capture)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for clips, steps in ((4, 13), (3, 7), (5, 20)):
        x, lengths = torch.randn(clips, steps, 6), torch.arange(1, clips + 1)
        found = []
        for model in (plain, compiled):
            model.zero_grad()
            out = model(acoustic=x, acoustic_lengths=lengths)
            out.prediction.square().sum().backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            found.append([out.prediction.detach(), *gradients])
        torch.testing.assert_close(*found)
        seen = len(graphs)
    compiled(acoustic=torch.randn(6, 31, 6))
    assert len(graphs) == seen > 0, "sizes that were not seen before need no graph of their own"
    layers = [m for m in plain.modules() if isinstance(m, FeedForward | RelativeSelfAttention)]
    assert seen <= len(layers), "each layer is one graph"


def test_gradients_of_half_precision_can_be_clipped() -> None:
    # Fabric refuses to clip for an optimizer that unscales by itself, as a fused one does.
    optimizer = make_optimizer(tiny("vavl"), TrainingConfig(precision="16-mixed"))
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)
