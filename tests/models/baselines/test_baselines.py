"""What sets each baseline apart: how it fuses, and what it learns by."""

from __future__ import annotations

import pytest
import torch
from small_models import (
    ACOUSTIC,
    AUDIOVISUAL,
    VISUAL,
    OwnClips,
    make_batch,
    objective,
    tiny,
)
from torch import Tensor, nn

from vavl.models.baselines.sfav import StepWeights
from vavl.models.conformer import lengths_to_mask
from vavl.models.sequences import Sequences
from vavl.types import STREAMS, Modality


def test_averaging_is_the_mean_of_two_models_that_share_nothing() -> None:
    model = tiny("averaging")
    out = model(torch.randn(2, 9, 6), visual=torch.randn(2, 3, 4))
    mean = (out.acoustic.softmax(1) + out.visual.softmax(1)) / 2
    assert torch.allclose(out.audiovisual.softmax(1), mean, atol=1e-6)
    losses = model.losses(
        {ACOUSTIC: Sequences.whole(torch.randn(2, 9, 6), torch.ones(2, 9) > 0)},
        OwnClips(lambda outputs, _: outputs.square().sum()),
    )
    losses[ACOUSTIC].backward()
    touched = {n.split(".")[1] for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {"acoustic"}


def test_uavm_shares_its_last_layers_and_takes_one_modality_a_step() -> None:
    trained = objective("uavm")
    batch = make_batch([12, 5, 9], [5, 5, 1])
    seen = set()
    for _ in range(12):
        trained.zero_grad()
        ((modality, loss),) = trained(batch, *trained.steps).items()
        loss.backward()
        touched = {
            n.split(".")[0]
            for n, p in trained.model.encoders.named_parameters()
            if p.grad is not None
        }
        assert touched == {str(modality)}
        assert all(p.grad is not None for p in trained.model.shared.layers.parameters())
        seen.add(modality)
    assert seen == set(STREAMS)
    out = tiny("uavm")(torch.randn(2, 9, 6), visual=torch.randn(2, 3, 4))
    assert torch.allclose(out.audiovisual, (out.acoustic + out.visual) / 2, atol=1e-6)


def test_auxformer_trains_three_networks_by_a_third_each() -> None:
    trained = objective("auxformer", missing_share=0.0, dropout=0.0, embedding_dropout=0.0)
    model = trained.eval().model
    batch = make_batch([12, 5, 9], [5, 5, 1])
    sequences = model.sequences(batch.inputs)
    outputs: list[Tensor] = []

    def task(values: Tensor, rows: Tensor) -> Tensor:
        outputs.append(values)
        return values.new_tensor(3.0)

    losses = model.losses(sequences, OwnClips(task))
    assert {m: loss.item() for m, loss in losses.items()} == dict.fromkeys(Modality, 1.0)
    both = model.predict(sequences)[AUDIOVISUAL].values
    assert torch.allclose(both, torch.stack(outputs).mean(0), atol=1e-6)


def test_auxformer_loses_modalities_in_the_main_network_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = objective("auxformer", missing_share=0.5)
    model = trained.model
    seen: list[tuple[Sequences, Sequences]] = []
    original = model._main
    monkeypatch.setattr(model, "_main", lambda pair: (seen.append(pair), original(pair))[1])
    batch = make_batch([12] * 400, [5] * 400)
    rows: dict[Modality, int] = {}

    def task(values: Tensor, places: Tensor) -> Tensor:
        rows[list(Modality)[len(rows)]] = len(places)
        return values.sum()

    model.losses(model.sequences(batch.inputs), OwnClips(task))
    assert rows == dict.fromkeys(Modality, 400)
    lost = [(part.mask.sum(1) == 1) & (part.x[:, 0] == 0).all(1) for part in seen[0]]
    assert not (lost[0] & lost[1]).any()
    for one in lost:
        assert one.float().mean().item() == pytest.approx(0.25, abs=0.07)


def test_step_weights_have_a_mean_of_one() -> None:
    torch.manual_seed(0)
    weights = StepWeights(4, 6, heads=2)
    other, x = torch.randn(3, 5, 4), torch.randn(3, 7, 6)
    other_mask = lengths_to_mask(torch.tensor([5, 1, 3]), 5)
    mask = lengths_to_mask(torch.tensor([7, 3, 1]), 7)
    found = weights(other, other_mask, x, mask)
    assert torch.allclose(found.sum(1), mask.sum(1).float(), atol=1e-5)
    assert (found[~mask] == 0).all()
    attention = nn.MultiheadAttention(4, 2, bias=False, kdim=6, vdim=6, batch_first=True)
    with torch.no_grad():
        attention.q_proj_weight.copy_(weights.query.weight)
        attention.k_proj_weight.copy_(weights.key.weight)
        _, shares = attention(other, x, x, key_padding_mask=~mask)  # (B, T, S), mean over heads
    for clip in range(3):
        expected = shares[clip][other_mask[clip]].mean(0) * mask[clip].sum()
        assert torch.allclose(found[clip], expected, atol=1e-5)


def test_sfav_counts_each_paired_clip_four_times() -> None:
    trained = objective("sfav")
    model = trained.model
    counted: list[tuple[int, int]] = []

    def task(values: Tensor, rows: Tensor) -> Tensor:
        counted.append((len(values), int(rows.max())))
        return values.new_tensor(4.0)

    batch = make_batch([12, 5, 9], [5, 5, 1])
    losses = model.losses(model.sequences(batch.inputs), OwnClips(task))
    assert counted == [(3, 2)] * 4
    assert {m: v.item() for m, v in losses.items()} == {ACOUSTIC: 1, VISUAL: 1, AUDIOVISUAL: 2}
