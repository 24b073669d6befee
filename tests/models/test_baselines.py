"""Every model of the registry: what all of them promise, and what each of them is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import with_statistics
from torch import Tensor, nn

import vavl
from vavl.config import MODEL_CONFIGS, ModelConfig, TrainingConfig, model_config_class
from vavl.errors import InputError, StoreError
from vavl.models.base import EmotionModel
from vavl.models.conformer import lengths_to_mask
from vavl.models.crossmodal import TransformerEncoder
from vavl.models.registry import MODELS, build_model, load_model
from vavl.models.sequences import Sequences, completed, stacked, subsampled
from vavl.models.sfav import StepWeights
from vavl.models.transformer import TransformerLayer
from vavl.training.objective import Objective
from vavl.types import STREAMS, Batch, Modality

ACOUSTIC, VISUAL, AUDIOVISUAL = Modality.ACOUSTIC, Modality.VISUAL, Modality.AUDIOVISUAL

CONFORMER = {"width": 16, "heads": 2, "kernel": 5, "head_widths": (12, 8)}
CROSSMODAL = {"width": 8, "heads": 2}
TINY: dict[str, dict[str, Any]] = {
    "vavl": CONFORMER,
    "acoustic-conformer": CONFORMER,
    "visual-conformer": CONFORMER,
    "averaging": CONFORMER,
    "concatenation": CONFORMER,
    "mult": CROSSMODAL,
    "auxformer": {**CROSSMODAL, "auxiliary_widths": (12, 8)},
    "uavm": {"width": 8, "heads": 2},
    "sfav": {"acoustic_channels": (6, 8, 10, 8), "visual_channels": (6, 4, 8, 6), "heads": 2},
}
NAMES = list(TINY)


def sized(name: str, **overrides: Any) -> ModelConfig:
    return model_config_class(name).preset(
        "small",
        **{
            "acoustic_dim": 6,
            "visual_dim": 4,
            "categories": ("angry", "happy", "sad"),
            **TINY[name],
            **overrides,
        },
    )


def tiny(name: str, **overrides: Any) -> EmotionModel:
    torch.manual_seed(0)
    model = build_model(sized(name, **overrides)).eval()
    with_statistics(model)
    return model


def inputs(model: EmotionModel, **every: Any) -> dict[str, Any]:
    """Those of the inputs that the model reads."""
    return {k: v for k, v in every.items() if k.split("_")[0] in model.config.inputs}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_each_configuration_has_one_model() -> None:
    assert list(MODEL_CONFIGS) == NAMES
    for config in MODEL_CONFIGS.values():
        assert len([m for m in MODELS if issubclass(config, m.config_class)]) == 1
        assert {"paper", "small"} <= set(config.presets)


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
    assert (gap - joined).abs().max() > 1e-5
    assert (backwards - whole).abs().max() > 1e-5


def make_batch(acoustic: list[int], visual: list[int]) -> Batch:
    torch.manual_seed(1)
    count = len(acoustic)
    return Batch(
        utterance_ids=[str(i) for i in range(count)],
        acoustic=torch.randn(count, 12, 6) if any(acoustic) else None,
        acoustic_mask=lengths_to_mask(torch.tensor(acoustic), 12) if any(acoustic) else None,
        visual=torch.randn(count, 5, 4) if any(visual) else None,
        visual_mask=lengths_to_mask(torch.tensor(visual), 5) if any(visual) else None,
        category_targets=torch.eye(3)[torch.arange(count) % 3],
        attribute_targets=torch.rand(count, 1),
    )


def objective(name: str, **overrides: Any) -> Objective:
    model = tiny(name, attributes=("arousal",), **overrides)
    return Objective(model, TrainingConfig()).train()


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


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    batch = inputs(model, acoustic=torch.randn(1, 9, 6), visual=torch.randn(1, 3, 4))
    assert torch.equal(loaded(**batch).prediction, model(**batch).prediction)
    if name != "vavl":
        with pytest.raises(StoreError, match=f"expected a VAVL model, got '{name}'"):
            vavl.VAVL.from_pretrained(tmp_path)


def test_an_unknown_model_in_a_folder_is_named(tmp_path: Path) -> None:
    tiny("mult").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"mult"', '"malt"'))
    with pytest.raises(InputError, match=r"config\.json: name: .* did you mean 'mult'"):
        load_model(tmp_path)


def test_what_a_model_cannot_read_or_do_is_refused() -> None:
    with pytest.raises(InputError, match="trained without visual"):
        tiny("acoustic-conformer")(visual=torch.randn(1, 3, 4))
    with pytest.raises(InputError, match=r"predictions: expected some of \['audiovisual'\]"):
        sized("mult", predictions=("acoustic",))
    with pytest.raises(InputError, match="even multiple of heads"):
        sized("uavm", width=9)
    with pytest.raises(InputError, match="acoustic_channels: expected channels"):
        sized("sfav", heads=3)


# What the published sizes come to, for 1024/1408 inputs and six categories. Where a published
# module has weights that nothing uses, or that we leave out, its docstring says so.
BLOCK, HEAD = 6_323_200, 395_526  # of VAVL's conformers and heads, width 512
PUBLISHED = {
    "vavl": 53_884_818,
    "acoustic-conformer": 19_046_912 + 2 * BLOCK + HEAD,
    "visual-conformer": 19_066_112 + 2 * BLOCK + HEAD,
    "averaging": 19_046_912 + 19_066_112 + 4 * BLOCK + 2 * HEAD,
    "concatenation": 50 * (1024 + 1408) + 100 * 512 + 512 + 5 * BLOCK + HEAD,
    # 30 wide, four transformers of five layers; a layer has 12 d^2 + 13 d weights.
    "mult": 30 * (1024 + 1408)
    + 4 * (5 * (12 * 30**2 + 13 * 30) + 2 * 30)
    + 2 * (60**2 + 60)
    + (60 + 1) * 6,
    # 50 wide, six transformers of five layers; those of the memory have a gate per layer.
    "auxformer": 50 * (1024 + 1408)
    + 6 * (5 * (12 * 50**2 + 13 * 50) + 2 * 50)
    + 2 * 5
    + 2 * (100**2 + 100)
    + (100 + 1) * 6
    + (50 + 1) * 512
    + (512 + 1) * 256
    + (256 + 1) * 50
    + (50 + 1) * 6,
    # 1024 wide, nine layers of 12 d^2 + 10 d weights; sound already has that width.
    "uavm": 9 * (12 * 1024**2 + 10 * 1024)
    + 2 * (1024 + 1408 + 1024)
    + (1408 + 1) * 1024
    + 2 * 1024
    + (1024 + 1) * 6,
    # Convolutions of three taps with a bias, scale and shift; queries and keys; the classifier.
    "sfav": sum(
        3 * before * after + 3 * after
        for widths in ((1024, 64, 128, 256, 128), (1408, 64, 64, 128, 128))
        for before, after in itertools.pairwise(widths)
    )
    + (64 * 64 + 128 * 64)
    + (128 * 128 + 64 * 128)
    + (128 + 128 + 1) * 6,
}


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes_have_these_parameters(name: str) -> None:
    config = model_config_class(name).preset(
        "paper", acoustic_dim=1024, visual_dim=1408, categories=tuple("abcdef")
    )
    with torch.device("meta"):
        assert parameters(build_model(config)) == PUBLISHED[name]


def test_the_table_of_the_docs_is_true() -> None:
    page = Path(__file__).parents[2] / "docs" / "models" / "baselines.md"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    words = {ACOUSTIC: "sound", VISUAL: "face", AUDIOVISUAL: "both"}
    expected = []
    for name, cls in MODEL_CONFIGS.items():
        small = cls.preset("small", acoustic_dim=512, visual_dim=35, categories=tuple("abcdefgh"))
        with torch.device("meta"):
            count = parameters(build_model(small))
        able = ", ".join(words[p] for p in cls.possible_predictions())
        expected.append([f"`{name}`", f"{PUBLISHED[name]:,}", f"{count:,}", able])
    assert [[name, paper, small, able] for name, _, paper, small, able in rows] == expected


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


def test_averaging_is_the_mean_of_two_models_that_share_nothing() -> None:
    model = tiny("averaging")
    out = model(torch.randn(2, 9, 6), visual=torch.randn(2, 3, 4))
    mean = (out.acoustic.softmax(1) + out.visual.softmax(1)) / 2
    assert torch.allclose(out.audiovisual.softmax(1), mean, atol=1e-6)
    losses = model.losses(
        {ACOUSTIC: Sequences(torch.randn(2, 9, 6), torch.ones(2, 9) > 0, torch.arange(2))},
        lambda outputs, _: outputs.square().sum(),
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
    sequences = model.sequences(make_batch([12, 5, 9], [5, 5, 1]))
    outputs: list[Tensor] = []

    def task(values: Tensor, rows: Tensor) -> Tensor:
        outputs.append(values)
        return values.new_tensor(3.0)

    losses = model.losses(sequences, task)
    assert {m: loss.item() for m, loss in losses.items()} == dict.fromkeys(Modality, 1.0)
    answer = model.answer(sequences, 3)
    assert torch.allclose(answer.audiovisual, torch.stack(outputs).mean(0), atol=1e-6)


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

    model.losses(model.sequences(batch), task)
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

    losses = model.losses(model.sequences(make_batch([12, 5, 9], [5, 5, 1])), task)
    assert counted == [(3, 2)] * 4
    assert {m: v.item() for m, v in losses.items()} == {ACOUSTIC: 1, VISUAL: 1, AUDIOVISUAL: 2}


def test_clips_are_completed_with_one_step_of_zeros() -> None:
    config = sized("sfav")
    acoustic = Sequences(
        torch.ones(2, 5, 6), lengths_to_mask(torch.tensor([5, 3]), 5), torch.tensor([0, 3])
    )
    visual = Sequences(torch.ones(2, 4, 4), torch.ones(2, 4) > 0, torch.tensor([1, 3]))
    a, v = completed({ACOUSTIC: acoustic, VISUAL: visual}, config)
    assert a.rows.tolist() == v.rows.tolist() == [0, 1, 3]
    assert a.mask.sum(1).tolist() == [5, 1, 3]
    assert v.mask.sum(1).tolist() == [1, 4, 4]
    assert (a.x[1] == 0).all()
    assert (v.x[0] == 0).all()
    a, v = completed({ACOUSTIC: acoustic}, config)
    assert (v.x.shape, a.rows.tolist()) == ((2, 1, 4), [0, 3])
    both = stacked([acoustic, Sequences(acoustic.x[:, :2], acoustic.mask[:, :2], acoustic.rows)])
    assert both.mask.sum(1).tolist() == [5, 3, 2, 2]


def test_subsampled_steps_are_means_of_the_valid_ones() -> None:
    x = torch.arange(7.0).view(1, 7, 1).expand(1, 7, 6).clone()
    mask = torch.tensor([[True, True, False, True, False, False, False]])
    x[~mask] = torch.inf
    config = sized("mult", acoustic_subsampling=2)
    part = subsampled({ACOUSTIC: Sequences(x, mask, torch.tensor([0]))}, config)[ACOUSTIC]
    assert part.mask.tolist() == [[True, True, False, False]]
    assert part.x[0, :, 0].tolist() == [0.5, 3.0, 0.0, 0.0]
