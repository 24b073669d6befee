"""The conformer against an independent implementation, and its masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vavl.config.models import ConformerSizes
from vavl.models.conformer import (
    Conformer,
    ConformerBlock,
    ConvolutionModule,
    Dropout,
    MaskedBatchNorm,
    RelativeSelfAttention,
    lengths_to_mask,
    masked_mean,
    relative_positions,
)

WIDTH, HEADS, KERNEL = 16, 4, 5
SIZES = ConformerSizes(name="conformer", width=WIDTH, heads=HEADS, kernel=KERNEL)


def random_block() -> ConformerBlock:
    torch.manual_seed(0)
    block = ConformerBlock(SIZES)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.3)
        norm = block.convolution.batch_norm
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return block.eval()


def copied_from(block: ConformerBlock) -> tuple[nn.Module, nn.Module]:
    """The conformer layer of transformers with the same weights, and its positions."""
    modeling = pytest.importorskip(
        "transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer"
    )
    config = modeling.Wav2Vec2ConformerConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        conv_depthwise_kernel_size=KERNEL,
        position_embeddings_type="relative",
        hidden_act="swish",
        attn_implementation="eager",
    )
    layer = modeling.Wav2Vec2ConformerEncoderLayer(config).eval()
    with torch.no_grad():
        # Its pointwise convolutions have no bias.
        block.convolution.gate.bias.zero_()
        block.convolution.out.bias.zero_()
        for ours, theirs, norm in (
            (block.feed_forward_in, layer.ffn1, layer.ffn1_layer_norm),
            (block.feed_forward_out, layer.ffn2, layer.ffn2_layer_norm),
        ):
            norm.load_state_dict(ours.norm.state_dict())
            theirs.intermediate_dense.load_state_dict(ours.expand.state_dict())
            theirs.output_dense.load_state_dict(ours.contract.state_dict())
        ours = block.attention
        layer.self_attn_layer_norm.load_state_dict(ours.norm.state_dict())
        for name, linear in (
            ("linear_q", ours.query),
            ("linear_k", ours.key),
            ("linear_v", ours.value),
            ("linear_out", ours.out),
            ("linear_pos", ours.position),
        ):
            getattr(layer.self_attn, name).load_state_dict(linear.state_dict())
        layer.self_attn.pos_bias_u.copy_(ours.content_bias)
        layer.self_attn.pos_bias_v.copy_(ours.position_bias)
        conv = block.convolution
        layer.conv_module.layer_norm.load_state_dict(conv.norm.state_dict())
        layer.conv_module.pointwise_conv1.weight.copy_(conv.gate.weight[..., None])
        layer.conv_module.depthwise_conv.weight.copy_(conv.depthwise.weight)
        layer.conv_module.pointwise_conv2.weight.copy_(conv.out.weight[..., None])
        norm = layer.conv_module.batch_norm
        norm.weight.copy_(conv.batch_norm.weight)
        norm.bias.copy_(conv.batch_norm.bias)
        norm.running_mean.copy_(conv.batch_norm.running_mean[0])
        norm.running_var.copy_(conv.batch_norm.running_var[0])
        layer.final_layer_norm.load_state_dict(block.norm.state_dict())
    return layer, modeling.Wav2Vec2ConformerRelPositionalEmbedding(config)


@pytest.mark.parametrize("steps", [1, 2, 9, 40])
def test_block_equals_transformers(steps: int) -> None:
    block = random_block()
    layer, embed = copied_from(block)
    x = torch.randn(3, steps, WIDTH)
    positions = relative_positions(steps, WIDTH, device=x.device, dtype=x.dtype)
    assert torch.allclose(positions, embed(x)[0], atol=1e-6)
    with torch.no_grad():
        ours = block(x, torch.ones(3, steps, dtype=torch.bool), positions)
        theirs = layer(x, relative_position_embeddings=embed(x))
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    assert torch.allclose(ours, theirs, atol=1e-5)


def plain_attention(layer: RelativeSelfAttention, x: Tensor, mask: Tensor) -> Tensor:
    """The formula of the scores, pair by pair of steps, with the distances looked up."""
    batch, steps, width = x.shape
    heads = layer.heads

    def split(projected: Tensor) -> Tensor:
        return projected.view(batch, -1, heads, width // heads)  # (B, T, H, head width)

    x = layer.norm(x)
    query, key, value = split(layer.query(x)), split(layer.key(x)), split(layer.value(x))
    table = relative_positions(steps, width, device=x.device, dtype=x.dtype)
    places = torch.arange(steps)
    distance = layer.position(table)[steps - 1 - (places[:, None] - places)]  # (T, T, width)
    distance = distance.view(steps, steps, heads, -1)
    scores = torch.einsum("bihd,bjhd->bhij", query + layer.content_bias, key)
    scores = scores + torch.einsum("bihd,ijhd->bhij", query + layer.position_bias, distance)
    scores = (scores / (width // heads) ** 0.5).masked_fill(~mask[:, None, None], -torch.inf)
    attended = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), value)
    return layer.out(attended.reshape(batch, steps, width))


def gradients(layer: nn.Module, x: Tensor, out: Tensor, weights: Tensor) -> list[Tensor]:
    """Gradients of the input and of all weights."""
    return list(torch.autograd.grad((out * weights).sum(), [x, *layer.parameters()]))


@pytest.mark.parametrize("lengths", [[1], [1, 1], [2, 1], [5, 9, 7]])
def test_attention_and_its_gradients_equal_the_plain_formula(lengths: list[int]) -> None:
    torch.manual_seed(0)
    layer = RelativeSelfAttention(WIDTH, HEADS, dropout=0.0).double()
    mask = lengths_to_mask(torch.tensor(lengths), max(lengths))
    x = torch.randn(*mask.shape, WIDTH, dtype=torch.float64, requires_grad=True)
    table = relative_positions(max(lengths), WIDTH, device=x.device, dtype=x.dtype)
    weights = torch.randn_like(x) * mask[..., None]  # padding holds nothing that counts
    quick, plain = layer(x, mask, table), plain_attention(layer, x, mask)
    torch.testing.assert_close(quick[mask], plain[mask])
    torch.testing.assert_close(
        gradients(layer, x, quick, weights), gradients(layer, x, plain, weights)
    )


def test_convolution_over_time_equals_the_layer_that_holds_its_weights() -> None:
    torch.manual_seed(0)
    module = ConvolutionModule(WIDTH, KERNEL, 0.0, 1).double()
    x = torch.randn(3, 9, WIDTH, dtype=torch.float64)
    expected = module.depthwise(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(module._over_time(x), expected)


def test_padding_and_neighbours_change_nothing() -> None:
    torch.manual_seed(1)
    model = Conformer(SIZES, 6, 2).eval()
    x = torch.randn(1, 7, 6)
    alone = model(x, torch.ones(1, 7, dtype=torch.bool))
    padded = torch.full((3, 20, 6), 1e3)
    padded[1, :7] = x
    together = model(padded, lengths_to_mask(torch.tensor([20, 7, 13]), 20))
    assert torch.allclose(together[1, :7], alone[0], atol=1e-5)


def test_order_in_time_matters() -> None:
    model = Conformer(SIZES, 6, 1).eval()
    x, mask = torch.randn(1, 9, 6), torch.ones(1, 9, dtype=torch.bool)
    forwards, backwards = model(x, mask).mean(1), model(x.flip(1), mask).mean(1)
    assert (forwards - backwards).abs().max() > 1e-3


def test_gradients_stay_finite_with_one_valid_frame() -> None:
    model = Conformer(SIZES, 6, 1)
    x = torch.randn(1, 5, 6, requires_grad=True)
    mask = lengths_to_mask(torch.tensor([1]), 5)
    model(x, mask)[:, :1].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def reference_statistics(x: Tensor, mask: Tensor) -> nn.BatchNorm1d:
    reference = nn.BatchNorm1d(x.shape[2])
    reference(x[mask])
    return reference


def test_masked_batch_norm_equals_batch_norm_of_the_valid_frames() -> None:
    x, mask = torch.randn(4, 6, 3) * 2 + 1, lengths_to_mask(torch.tensor([6, 1, 3, 5]), 6)
    norm = MaskedBatchNorm(3, streams=2)
    out = norm(x.masked_fill(~mask[..., None], 1e4), mask, 1)
    reference = reference_statistics(x, mask)
    assert torch.allclose(out[mask], nn.BatchNorm1d(3)(x[mask]), atol=1e-5)
    assert (out[~mask] == 0).all()
    assert torch.allclose(norm.running_mean[1], reference.running_mean, atol=1e-6)
    assert torch.allclose(norm.running_var[1], reference.running_var, atol=1e-6)
    assert (norm.running_mean[0] == 0).all(), "the other stream's statistics stay as they are"


def test_a_stream_normalised_twice_before_the_gradients_are_taken() -> None:
    norm, reference = MaskedBatchNorm(3, streams=2), nn.BatchNorm1d(3)
    x, mask = torch.randn(4, 6, 3, requires_grad=True), torch.ones(4, 6, dtype=torch.bool)
    weights = torch.randn_like(x)
    both = norm(x, mask, 0) + norm(2 * x, mask, 1)
    expected = reference(x.flatten(0, 1)) + reference(2 * x.flatten(0, 1))
    torch.testing.assert_close(
        gradients(norm, x, both, weights),
        gradients(reference, x, expected.view_as(x), weights),
    )


def test_masked_batch_norm_is_defined_for_one_frame() -> None:
    norm = MaskedBatchNorm(3)
    norm.running_mean.fill_(1.0)
    x, mask = torch.full((1, 4, 3), 3.0), lengths_to_mask(torch.tensor([1]), 4)
    out = norm(x, mask)
    assert torch.allclose(out[mask], torch.full((1, 3), 2.0), atol=1e-4)
    assert (norm.running_mean == 1).all()
    assert (norm.running_var == 1).all()


def test_masked_mean_ignores_padding() -> None:
    x = torch.tensor([[[1.0], [3.0], [99.0]], [[4.0], [torch.nan], [99.0]]])
    assert masked_mean(x, lengths_to_mask(torch.tensor([2, 1]), 3)).flatten().tolist() == [2.0, 4.0]


def test_dropout_keeps_the_mean_and_drops_the_asked_share() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 301)
    out = Dropout(0.25)(x)
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    assert len(out.unique()) == 2
    assert Dropout(0.25).eval()(x) is x
    # Neither rows nor columns are dropped together.
    kept = (out != 0).float()
    assert kept.mean(0).std() < 0.03
    assert kept.mean(1).std() < 0.05
