"""Transformer layers against torch's, and what steps may see."""

from __future__ import annotations

import pytest
import torch
from small_models import (
    sized,
)
from torch import nn

from vavl.models.baselines.mult import TransformerEncoder
from vavl.models.baselines.transformer import TransformerLayer
from vavl.models.conformer import lengths_to_mask


@pytest.mark.parametrize(("activation", "bias"), [("relu", True), ("gelu", False)])
def test_layers_equal_those_of_torch(activation: str, bias: bool) -> None:
    torch.manual_seed(0)
    width, heads = 8, 2
    theirs = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, activation, batch_first=True, norm_first=True
    ).eval()
    function = getattr(nn.functional, activation)
    ours = TransformerLayer(width, heads, 0.0, attention_bias=bias, activation=function).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
        attention = theirs.self_attn
        if not bias:
            attention.in_proj_bias.zero_()
        parts = (ours.attention.query, ours.attention.key, ours.attention.value)
        for index, part in enumerate(parts):
            rows = slice(index * width, (index + 1) * width)
            part.weight.copy_(attention.in_proj_weight[rows])
            if bias:
                part.bias.copy_(attention.in_proj_bias[rows])
        for mine, other in (
            (ours.attention.out, attention.out_proj),
            (ours.attention_norm, theirs.norm1),
            (ours.norm, theirs.norm2),
            (ours.expand, theirs.linear1),
            (ours.contract, theirs.linear2),
        ):
            mine.load_state_dict(other.state_dict())
        x, mask = torch.randn(3, 7, width), lengths_to_mask(torch.tensor([7, 1, 4]), 7)
        expected = theirs(x, src_key_padding_mask=~mask)
        assert torch.allclose(ours(x, mask[:, None])[mask], expected[mask], atol=1e-5)


def test_causal_steps_see_earlier_ones_alone() -> None:
    encoder = TransformerEncoder(sized("auxformer"), positions=False, causal=True).eval()
    x, mask = torch.randn(1, 9, 8), torch.ones(1, 9, dtype=torch.bool)
    mask[0, :2] = False  # a leading gap: those steps have nothing to attend to but themselves
    later = x.clone()
    later[:, 6:] = torch.randn(1, 3, 8)
    with torch.no_grad():
        before, after = encoder((x, mask))[0], encoder((later, mask))[0]
    assert before.isfinite().all()
    assert torch.allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert not torch.allclose(before[:, 6:], after[:, 6:], atol=1e-3)
