"""What each step trains, on whatever a batch has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import vavl
from vavl.config.experiment import TrainingConfig
from vavl.models.conformer import lengths_to_mask, masked_mean
from vavl.models.sequences import Sequences, drop_modalities
from vavl.models.vavl import SCHEDULES, VAVL, mean_input
from vavl.training.objective import (
    Objective,
    Targets,
    attribute_loss,
    augmented,
    category_loss,
    concordance_correlation,
    mask_time,
    mix_clips,
)
from vavl.types import STREAMS, Batch, Modality

ACOUSTIC, VISUAL, AUDIOVISUAL = Modality.ACOUSTIC, Modality.VISUAL, Modality.AUDIOVISUAL


PLUS = {"fusion_base": "product", "input_statistics": True}
"""What vavl+ has beyond VAVL."""


def objective(
    schedule: str = "joint", model: Mapping[str, object] | None = None, **options: object
) -> Objective:
    torch.manual_seed(0)
    config = vavl.VAVLConfig.preset(
        "small",
        acoustic_dim=6,
        visual_dim=4,
        categories=["a", "b", "c"],
        attributes=["arousal"],
        width=16,
        heads=2,
        kernel=5,
        head_widths=(12, 8),
        **(model or {}),
    )
    return Objective(VAVL(config), TrainingConfig(schedule=schedule, **options)).train()


def make_mask(lengths: list[int], steps: int) -> Tensor | None:
    return lengths_to_mask(torch.tensor(lengths), steps) if any(lengths) else None


def make_batch(acoustic_lengths: list[int], visual_lengths: list[int]) -> Batch:
    torch.manual_seed(1)
    count = len(acoustic_lengths)
    return Batch(
        utterance_ids=[str(i) for i in range(count)],
        acoustic=torch.randn(count, 12, 6) if any(acoustic_lengths) else None,
        acoustic_mask=make_mask(acoustic_lengths, 12),
        visual=torch.randn(count, 5, 4) if any(visual_lengths) else None,
        visual_mask=make_mask(visual_lengths, 5),
        category_targets=torch.eye(3)[torch.arange(count) % 3],
        attribute_targets=torch.rand(count, 1),
    )


PAIRED = make_batch([12, 5, 9, 12], [5, 5, 1, 2])


def losses_of(
    trained: Objective, batch: Batch, parts: frozenset[Modality]
) -> dict[Modality, Tensor]:
    """The losses of VAVL's step for these predictions."""
    return trained(batch, trained.model.step(parts, alpha=2.0))


def step(trained: Objective, batch: Batch, parts: frozenset[Modality]) -> dict[str, bool]:
    """Runs one optimiser step; returns which parts of the state it changed."""
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    optimizer = torch.optim.Adam(trained.parameters(), lr=1e-2, weight_decay=1e-2)
    loss = sum(losses_of(trained, batch, parts).values())
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    optimizer.step()
    changed: dict[str, bool] = {}
    for name, value in trained.model.state_dict().items():
        part = name.split(".")[0]
        changed[part] = changed.get(part, False) or not torch.equal(value, before[name])
    return changed


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({VISUAL}, {"visual", "shared"}),
        ({ACOUSTIC}, {"acoustic", "shared"}),
        ({AUDIOVISUAL}, {"fusion"}),
        ({ACOUSTIC, VISUAL, AUDIOVISUAL}, {"acoustic", "visual", "shared", "fusion"}),
    ],
)
@pytest.mark.parametrize("model", [{}, PLUS], ids=["vavl", "vavl+"])
def test_each_step_changes_its_part_alone(
    parts: set[Modality], expected: set[str], model: dict[str, object]
) -> None:
    """Weights and batch statistics; e.g. the visual step leaves all that is acoustic untouched."""
    changed = step(objective(model=model), PAIRED, frozenset(parts))
    assert {part for part, moved in changed.items() if moved} == expected


@pytest.mark.parametrize("model", [{}, PLUS], ids=["vavl", "vavl+"])
def test_the_fusion_loss_of_the_joint_step_does_not_move_the_trunk(
    model: dict[str, object],
) -> None:
    trained = objective(model=model)
    losses = trained(PAIRED, *trained.steps)
    assert set(losses) == {ACOUSTIC, VISUAL, AUDIOVISUAL}
    losses[AUDIOVISUAL].backward()
    touched = {n.split(".")[0] for n, p in trained.model.named_parameters() if p.grad is not None}
    assert touched == {"fusion"}


def test_shared_statistics_are_kept_apart() -> None:
    trained = objective()
    norm = trained.model.shared.conformer.blocks[0].convolution.batch_norm
    step(trained, PAIRED, frozenset({VISUAL}))
    assert (norm.running_mean[STREAMS.index(ACOUSTIC)] == 0).all()
    assert (norm.running_mean[STREAMS.index(VISUAL)] != 0).any()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_unpaired_batches_train_without_any_paired_item(schedule: str) -> None:
    trained = objective(schedule)
    for batch in (
        make_batch([12, 5, 9], [0, 0, 0]),
        make_batch([0, 0, 0], [5, 5, 1]),
        make_batch([12, 0, 9, 0], [0, 5, 0, 1]),
    ):
        for each in trained.steps:
            losses = trained(batch, each)
            assert AUDIOVISUAL not in losses
            assert all(loss.isfinite() for loss in losses.values())
            if losses:
                torch.stack(list(losses.values())).sum().backward()


def test_one_valid_frame_in_the_batch() -> None:
    trained = objective()
    trained(make_batch([1], [0]), *trained.steps)[ACOUSTIC].backward()
    grads = [p.grad for p in trained.parameters() if p.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)


def test_one_frame_of_one_modality_beside_many_of_the_other() -> None:
    """The shared layers' statistics of one stream move while the other's are still needed."""
    trained = objective()
    losses = trained(make_batch([1], [5]), *trained.steps)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in trained.parameters() if p.grad is not None)


def test_the_reconstruction_aims_at_the_clip_and_not_at_the_noise() -> None:
    trained = objective(acoustic_noise=5.0, visual_noise=5.0, time_masking=0.9)
    sequences = trained.model.sequences(PAIRED.inputs)
    expected = {m: masked_mean(part.x, part.mask) for m, part in sequences.items()}
    noisy, _ = augmented(sequences, Targets(PAIRED.category_targets, None), trained.config)
    for modality, part in noisy.items():
        assert torch.allclose(mean_input(part), expected[modality], atol=1e-6)
        assert not torch.allclose(part.x, sequences[modality].x)


def test_mixed_precision_does_not_round_what_the_reconstruction_aims_at() -> None:
    trained = objective()
    for part in trained.model.sequences(PAIRED.inputs).values():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            target = mean_input(part)
        assert target.dtype == torch.float32
        assert torch.allclose(target, masked_mean(part.x, part.mask), rtol=0, atol=1e-5)


def test_steps_equal_joint_losses_without_randomness() -> None:
    """The three steps and the one step minimise the same numbers (dropout off)."""
    trained = objective("alternating").eval()
    joint = losses_of(trained, PAIRED, frozenset(Modality))
    assert len(trained.steps) == len(STREAMS) + 1
    for each in trained.steps:
        for modality, loss in trained(PAIRED, each).items():
            assert torch.allclose(loss, joint[modality], atol=1e-5)


def test_unknown_targets_are_left_out() -> None:
    logits = torch.randn(3, 3)
    targets = torch.eye(3)
    targets[1] = torch.nan
    expected = nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([0, 2]))
    assert torch.allclose(category_loss(logits, targets), expected)
    assert category_loss(logits, torch.full((3, 3), torch.nan)) == 0
    assert attribute_loss(torch.randn(3, 2), torch.full((3, 2), torch.nan)) == 0


def test_category_loss_equals_torch() -> None:
    logits, labels = torch.randn(9, 4), torch.randint(4, (9,))
    weights = torch.rand(4) + 0.1
    targets = torch.eye(4)[labels]
    assert torch.allclose(
        category_loss(logits, targets, class_weights=weights),
        nn.functional.cross_entropy(logits, labels, weight=weights),
    )
    assert torch.allclose(
        category_loss(logits, targets, label_smoothing=0.2),
        nn.functional.cross_entropy(logits, labels, label_smoothing=0.2),
    )
    soft = torch.rand(9, 4).softmax(1)
    assert torch.allclose(category_loss(logits, soft), nn.functional.cross_entropy(logits, soft))


def test_concordance_correlation_of_a_hand_computed_case() -> None:
    # Means 2 and 3, population variances 2/3 and 2/3, covariance 2/3: 2 * 2/3 / (4/3 + 1) = 4/7.
    ccc = concordance_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 3.0, 4.0]))
    assert ccc.item() == pytest.approx(4 / 7)
    constant = torch.ones(3)
    assert concordance_correlation(constant, constant).item() == 0


def test_modality_dropout_takes_one_modality_of_paired_clips() -> None:
    torch.manual_seed(0)
    rows = torch.arange(2000)
    part = Sequences(rows, torch.zeros(2000, 1, 1), torch.ones(2000, dtype=torch.long))
    dropped = drop_modalities({ACOUSTIC: part, VISUAL: part}, 0.4)
    acoustic, visual = (set(dropped[m].rows.tolist()) for m in STREAMS)
    assert acoustic | visual == set(rows.tolist()), "no clip loses both"
    assert len(acoustic) / 2000 == pytest.approx(0.8, abs=0.03)
    assert len(visual) / 2000 == pytest.approx(0.8, abs=0.03)


def test_time_masking_never_blanks_a_whole_clip() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 10, 30] * 50)
    mask = lengths_to_mask(lengths, 30)
    masked = mask_time(torch.ones(200, 30, 2), mask, 0.99)
    kept = masked[..., 0].bool() & mask
    assert (kept.sum(1) >= 1).all()
    assert (kept.sum(1) < lengths).any()


def test_mixup_blends_clips_with_the_same_modalities_alone() -> None:
    torch.manual_seed(0)
    batch = 40
    with_sound = torch.arange(0, batch, 2)
    everyone = torch.arange(batch)
    sound = Sequences(
        with_sound,
        with_sound[:, None, None].float().expand(-1, 6, 2).clone(),
        lengths_to_mask(torch.arange(20) % 6 + 1, 6),
        summary=with_sound[:, None].float(),
    )
    face = Sequences.whole(everyone[:, None, None].float(), torch.ones(batch, 1, dtype=torch.bool))
    targets = Targets(torch.eye(batch), None)
    mixed, blended = mix_clips({ACOUSTIC: sound, VISUAL: face}, targets, 1.0)
    assert blended.categories is not None
    for row, weights in enumerate(blended.categories):
        assert weights.sum().item() == pytest.approx(1.0, abs=1e-6)
        sources = torch.nonzero(weights).flatten()
        assert set((sources % 2).tolist()) == {row % 2}, "partners have the same modalities"
        # The face of each clip holds its number, so that the blend of the targets gives it back.
        expected = (weights * everyone).sum().item()
        assert mixed[VISUAL].x[row, 0, 0].item() == pytest.approx(expected, abs=1e-4)
        if row % 2 == 0:
            place = row // 2
            assert mixed[ACOUSTIC].x[place, 0, 0].item() == pytest.approx(expected, abs=1e-4)
            assert mixed[ACOUSTIC].summary is not None
            assert mixed[ACOUSTIC].summary[place].item() == pytest.approx(expected, abs=1e-4)
            longest = max(int(sound.mask[source // 2].sum()) for source in sources)
            assert mixed[ACOUSTIC].mask[place].sum() == longest
    assert (blended.categories.max(1).values < 1).any()
