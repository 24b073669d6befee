"""What every model promises about clips, batches, gaps and training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    ACOUSTIC,
    AUDIOVISUAL,
    NAMES,
    VISUAL,
    inputs,
    make_batch,
    objective,
    tiny,
)
from torch import Tensor

from vavl.models.conformer import lengths_to_mask
from vavl.types import STREAMS, Batch, Modality


@pytest.mark.parametrize("name", NAMES)
def test_each_clip_is_predicted_from_what_it_has(name: str) -> None:
    """One clip with both, one with sound alone, one with a face alone."""
    model = tiny(name, attributes=("arousal",))
    possible = set(model.config.predictions)
    both = AUDIOVISUAL if AUDIOVISUAL in possible else next(iter(possible))
    batch = {"acoustic": torch.randn(3, 21, 6), "visual": torch.randn(3, 5, 4)}
    batch["acoustic_lengths"] = torch.tensor([21, 9, 0])
    batch["visual_lengths"] = torch.tensor([4, 0, 5])
    kept = [
        row
        for row, has in enumerate([set(STREAMS), {ACOUSTIC}, {VISUAL}])
        if has & set(model.config.inputs)
    ]
    out = model(**{k: v[kept] for k, v in inputs(model, **batch).items()})
    expected: list[Modality | None] = [
        both,
        ACOUSTIC if ACOUSTIC in possible else None,
        VISUAL if VISUAL in possible else None,
    ]
    assert out.modality == [expected[row] for row in kept]
    assert out.prediction.shape == (len(kept), 4)
    for place, modality in enumerate(out.modality):
        if modality is None:
            assert out.prediction[place].isnan().all()
        else:
            assert out.prediction[place].isfinite().all()
            assert torch.equal(out.prediction[place], getattr(out, modality)[place])
    for modality in set(Modality) - possible:
        assert getattr(out, modality) is None


@settings(deadline=None, max_examples=6)
@given(
    lengths=st.lists(
        st.tuples(st.integers(0, 23), st.integers(0, 6)).filter(any), min_size=1, max_size=5
    ),
    extra=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("name", NAMES)
def test_prediction_depends_on_the_clip_alone(
    name: str, lengths: list[tuple[int, int]], extra: int, seed: int
) -> None:
    """Whatever the batch neighbours, the padding, its content, gaps, and the order of the batch."""
    model = tiny(name)
    read = [STREAMS.index(m) for m in model.config.inputs]
    lengths = [pair for pair in lengths if any(pair[i] for i in read)]
    if not lengths:
        return
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for modality, counts in zip(STREAMS, zip(*lengths, strict=True), strict=True):
        steps = (23 if modality is ACOUSTIC else 6) + extra
        mask = lengths_to_mask(torch.tensor(counts), steps)
        gaps = torch.rand(mask.shape, generator=generator) < 0.3
        gaps[torch.arange(len(counts)), torch.tensor(counts).clamp_min(1) - 1] = False
        masks[modality] = mask & ~gaps
    acoustic = torch.randn(len(lengths), 23 + extra, 6, generator=generator)
    visual = torch.randn(len(lengths), 6 + extra, 4, generator=generator)

    def run(rows: Tensor, ends: tuple[int, int] | None = None) -> Any:
        end = ends or (23 + extra, 6 + extra)
        whole = {
            "acoustic": acoustic[rows, : end[0]] if end[0] else None,
            "acoustic_mask": masks[ACOUSTIC][rows, : end[0]] if end[0] else None,
            "visual": visual[rows, : end[1]] if end[1] else None,
            "visual_mask": masks[VISUAL][rows, : end[1]] if end[1] else None,
        }
        return model(**inputs(model, **whole))

    def same(one: Tensor, other: Tensor) -> bool:
        return torch.allclose(one, other, atol=1e-5, equal_nan=True)

    everyone = torch.arange(len(lengths))
    order = torch.randperm(len(lengths), generator=generator)
    with torch.no_grad():
        batch = run(everyone)
        assert same(run(order).prediction, batch.prediction[order])
        for index, ends in enumerate(lengths):
            alone = run(everyone[index : index + 1], ends)
            assert alone.modality == [batch.modality[index]]
            assert same(alone.prediction[0], batch.prediction[index])
        before = batch.prediction
        acoustic.masked_fill_(~masks[ACOUSTIC][..., None], 1e3)
        visual.masked_fill_(~masks[VISUAL][..., None], -1e3)
        assert same(run(everyone).prediction, before)


@pytest.mark.parametrize("name", NAMES)
def test_unimodal_outputs_never_see_the_other_modality(name: str) -> None:
    model = tiny(name)
    batch = {"acoustic": torch.randn(2, 21, 6), "visual": torch.randn(2, 5, 4)}
    out = model(**inputs(model, **batch))
    for modality in set(STREAMS) & set(model.config.predictions):
        alone = model(**{str(modality): batch[modality]})
        assert torch.allclose(getattr(out, modality), alone.prediction, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gaps_keep_their_place_in_time(name: str) -> None:
    model = tiny(name, acoustic_subsampling=1)
    batch = inputs(model, acoustic=torch.randn(1, 16, 6), visual=torch.randn(1, 16, 4))
    mask = torch.ones(1, 16, dtype=torch.bool)
    mask[0, 4:11] = False
    masks = {f"{modality}_mask": mask for modality in batch}
    with torch.no_grad():
        gap = model(**batch, **masks).prediction
        whole = model(**batch).prediction
        joined = model(**{modality: x[mask][None] for modality, x in batch.items()}).prediction
        backwards = model(**{modality: x.flip(1) for modality, x in batch.items()}).prediction
    assert (gap - whole).abs().max() > 1e-4
    if name == "linear":  # which does not know of time
        assert torch.allclose(gap, joined, atol=1e-5)
        return
    assert (gap - joined).abs().max() > 1e-5
    assert (backwards - whole).abs().max() > 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_each_weight_is_trained(name: str) -> None:
    trained = objective(name)
    batch = make_batch([12, 5, 9, 12, 7, 12], [5, 5, 1, 2, 3, 4])
    for _ in range(8):  # a step of UAVM sees one modality, whichever is drawn
        for step in trained.steps:
            losses = trained(batch, step)
            assert set(losses) <= set(trained.model.config.predictions)
            torch.stack(list(losses.values())).sum().backward()
    assert not [n for n, p in trained.named_parameters() if p.grad is None]
    assert all(p.grad.isfinite().all() for p in trained.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "batch",
    [
        make_batch([1], [0]),
        make_batch([0], [1]),
        make_batch([1], [1]),
        make_batch([12, 5, 9], [0, 0, 0]),
        make_batch([0, 3, 0, 5], [5, 0, 2, 1]),
    ],
    ids=["one-heard", "one-seen", "one-step", "heard", "mixed"],
)
def test_whatever_a_batch_has_trains_or_is_left_out(name: str, batch: Batch) -> None:
    trained = objective(name)
    for step in trained.steps:
        losses = trained(batch, step)
        assert all(loss.isfinite() for loss in losses.values())
        if losses:
            torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in trained.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision(name: str) -> None:
    trained = objective(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for step in trained.steps:
            losses = trained(make_batch([12, 5, 9, 0], [5, 5, 0, 2]), step)
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert all(p.grad.isfinite().all() for p in trained.parameters() if p.grad is not None)
