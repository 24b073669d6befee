"""The VAVL model: sizes, what it promises about batches, and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import with_statistics
from torch import nn

import vavl
from vavl.errors import InputError, StoreError
from vavl.models.vavl import StatisticsHead, Unimodal, input_statistics
from vavl.types import Modality

CATEGORIES = ("angry", "happy", "sad")


def tiny(**overrides: object) -> vavl.VAVL:
    torch.manual_seed(0)
    settings = {"width": 16, "heads": 2, "kernel": 5, "head_widths": (12, 8), **overrides}
    config = vavl.VAVLConfig.preset(
        "small", acoustic_dim=6, visual_dim=4, categories=CATEGORIES, **settings
    )
    model = vavl.VAVL(config).eval()
    with_statistics(model)
    return model


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_preset_has_the_published_parameters_part_by_part() -> None:
    config = vavl.VAVLConfig.preset(
        "paper", acoustic_dim=1024, visual_dim=1408, categories=list("abcdef")
    )
    with torch.device("meta"):
        model = vavl.VAVL(config)
    encoders = [b.encoder for b in (model.acoustic, model.visual)]
    projections = [b.projection for b in (model.acoustic, model.visual)]
    assert parameters(encoders[0]) + parameters(projections[0]) == 19_046_912
    assert parameters(encoders[1]) + parameters(projections[1]) == 19_066_112
    assert parameters(model.shared) == 12_910_080
    assert parameters(model.acoustic.head) == parameters(model.visual.head) == 395_526
    assert parameters(model.fusion) == 657_670
    assert parameters(model.acoustic.reconstruction) == 657_152
    assert parameters(model.visual.reconstruction) == 755_840
    assert parameters(model) == 53_884_818


def test_small_preset_is_small() -> None:
    config = vavl.VAVLConfig.preset(
        "small", acoustic_dim=512, visual_dim=35, categories=list("abcdefgh")
    )
    assert 1e6 <= parameters(vavl.VAVL(config)) <= 3e6


def test_missing_modalities_per_item() -> None:
    model = tiny()
    acoustic, visual = torch.randn(4, 21, 6), torch.randn(4, 3, 4)
    out = model(acoustic, torch.tensor([21, 9, 0, 7]), visual, torch.tensor([1, 0, 3, 3]))
    assert out.modality == [
        Modality.AUDIOVISUAL,
        Modality.ACOUSTIC,
        Modality.VISUAL,
        Modality.AUDIOVISUAL,
    ]
    assert out.prediction.isfinite().all()
    assert torch.equal(out.prediction[1], out.acoustic[1])
    assert torch.equal(out.prediction[2], out.visual[2])
    assert torch.equal(out.prediction[[0, 3]], out.audiovisual[[0, 3]])
    assert out.audiovisual[1:3].isnan().all()
    assert out.acoustic[2].isnan().all()
    assert out.visual[1].isnan().all()
    assert out.acoustic_reconstruction.shape == (4, 6)
    assert out.visual_reconstruction.shape == (4, 4)


def test_one_modality_alone() -> None:
    model = tiny()
    out = model(visual=torch.randn(2, 5, 4))
    assert out.acoustic is None
    assert out.audiovisual is None
    assert out.acoustic_reconstruction is None
    assert torch.equal(out.prediction, out.visual)


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(
        st.tuples(st.integers(0, 23), st.integers(0, 6)).filter(any), min_size=1, max_size=6
    ),
    extra=st.integers(0, 9),
    seed=st.integers(0, 1000),
    input_statistics=st.booleans(),
)
def test_prediction_depends_on_the_clip_alone(
    lengths: list[tuple[int, int]], extra: int, seed: int, input_statistics: bool
) -> None:
    """Whatever the batch neighbours, the padding, its content, and the order of the batch."""
    model = tiny(input_statistics=input_statistics)
    generator = torch.Generator().manual_seed(seed)
    n_a, n_v = (torch.tensor(column) for column in zip(*lengths, strict=True))
    acoustic = torch.randn(len(lengths), 23 + extra, 6, generator=generator)
    visual = torch.randn(len(lengths), 6 + extra, 4, generator=generator)
    with torch.no_grad():
        batch = model(acoustic, n_a, visual, n_v)
        order = torch.randperm(len(lengths), generator=generator)
        shuffled = model(acoustic[order], n_a[order], visual[order], n_v[order])
        assert torch.allclose(shuffled.prediction, batch.prediction[order], atol=1e-5)
        for index, (length_a, length_v) in enumerate(lengths):
            alone = model(
                acoustic[index : index + 1, :length_a] if length_a else None,
                None,
                visual[index : index + 1, :length_v] if length_v else None,
                None,
            )
            assert alone.modality == [batch.modality[index]]
            assert torch.allclose(alone.prediction[0], batch.prediction[index], atol=1e-5)


@pytest.mark.parametrize("subsampling", [1, 4])
def test_steps_in_a_gap_do_not_count_but_keep_their_place_in_time(subsampling: int) -> None:
    model = tiny(visual_subsampling=subsampling)
    visual = torch.randn(1, 16, 4)
    mask = torch.ones(1, 16, dtype=torch.bool)
    mask[0, 4:12] = False
    other = visual.masked_fill(~mask[..., None], torch.nan)
    with torch.no_grad():
        gap = model(visual=visual, visual_mask=mask).prediction
        assert torch.allclose(model(visual=other, visual_mask=mask).prediction, gap, atol=1e-6)
        whole = model(visual=visual, visual_mask=torch.ones_like(mask)).prediction
        assert torch.equal(whole, model(visual=visual).prediction)
        assert not torch.allclose(whole, gap, atol=1e-4)
        joined = model(visual=visual[mask][None]).prediction
        assert not torch.allclose(joined, gap, atol=1e-5)
    model.train()
    model(visual=other, visual_mask=mask).prediction.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_permuting_time_changes_the_prediction() -> None:
    model = tiny()
    x = torch.randn(1, 40, 6)
    forwards = model(acoustic=x).prediction
    backwards = model(acoustic=x.flip(1)).prediction
    assert (forwards - backwards).abs().max() > 1e-4


def test_categories_and_attributes_at_once() -> None:
    config = vavl.VAVLConfig.preset(
        "small", acoustic_dim=6, visual_dim=4, categories=CATEGORIES, attributes=["arousal"]
    )
    out = vavl.VAVL(config).eval()(acoustic=torch.randn(2, 9, 6))
    assert out.prediction.shape == (2, 4)


def test_a_fusion_head_on_a_product_begins_with_the_product() -> None:
    model = tiny(fusion_base="product", attributes=("arousal",))
    out = model(acoustic=torch.randn(3, 9, 6), visual=torch.randn(3, 5, 4))
    product = out.acoustic[:, :3].softmax(1) * out.visual[:, :3].softmax(1)
    expected = product / product.sum(1, keepdim=True)
    torch.testing.assert_close(out.audiovisual[:, :3].softmax(1), expected)
    mean = (out.acoustic[:, 3] + out.visual[:, 3]) / 2
    torch.testing.assert_close(out.audiovisual[:, 3], mean)
    with torch.no_grad():
        model.fusion[-1].bias[0] += 1
    pair = [
        Unimodal(torch.arange(3), torch.randn(3, 4), torch.randn(3, 16), torch.randn(3, 4))
        for _ in range(2)
    ]
    before = tiny(fusion_base="product", attributes=("arousal",)).fuse(*pair)
    learned = torch.tensor([1.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(model.fuse(*pair), before + learned)
    cautious = tiny(fusion_base="product", attributes=("arousal",), correction_share=0.25)
    cautious.load_state_dict(model.state_dict())
    torch.testing.assert_close(cautious.fuse(*pair), before + 0.25 * learned)
    cautious.fusion[2] = nn.Identity()  # no dropout
    assert not cautious.training
    torch.testing.assert_close(cautious.train().fuse(*pair), before + learned)


def test_input_statistics_are_mean_and_deviation_of_the_valid_steps() -> None:
    x, mask = torch.randn(2, 9, 6), torch.ones(2, 9, dtype=torch.bool)
    mask[0, 5:] = False
    x[0, 5:] = torch.nan
    expected = [torch.cat([c.mean(0), c.std(0, correction=0)]) for c in (x[0, :5], x[1])]
    torch.testing.assert_close(input_statistics(x, mask), torch.stack(expected))


def test_the_head_of_the_statistics_is_linear() -> None:
    head = StatisticsHead(6, 4).eval()
    head.weight.normal_()
    head.bias.normal_()
    x, y = torch.randn(2, 3, 12)
    torch.testing.assert_close(head((x + y) / 2), (head(x) + head(y)) / 2)


def test_a_prediction_is_the_mean_of_the_head_and_of_the_statistics() -> None:
    model = tiny(input_statistics=True, attributes=("arousal",))
    statistics = model.acoustic.statistics
    assert statistics is not None
    x = torch.randn(2, 9, 6)
    statistics.weight.normal_()
    with torch.no_grad():
        prediction = model(acoustic=x).prediction
        whole = torch.ones(2, 9, dtype=torch.bool)
        linear = statistics(input_statistics(model.normalise(Modality.ACOUSTIC, x), whole))
        model.acoustic.statistics = None
        torch.testing.assert_close(prediction, (model(acoustic=x).prediction + linear) / 2)


def test_without_shared_layers_and_without_residual() -> None:
    assert tiny(shared_blocks=0).shared.conformer is None
    x = torch.randn(1, 9, 6)
    with_residual, without = tiny(), tiny(residual=False)
    assert not torch.allclose(
        with_residual(acoustic=x).prediction, without(acoustic=x).prediction, atol=1e-4
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "at least one sequence"),
        ({"acoustic": torch.zeros(2, 3, 5)}, r"expected \(B, T, 6\), got \(2, 3, 5\)"),
        ({"visual": torch.zeros(2, 4)}, r"expected \(B, T, 4\)"),
        (
            {"acoustic": torch.zeros(2, 3, 6), "visual": torch.zeros(1, 3, 4)},
            "same number of clips",
        ),
        (
            {"acoustic": torch.zeros(2, 3, 6), "acoustic_lengths": torch.tensor([3, 4])},
            "values from 0 to 3",
        ),
        (
            {"acoustic": torch.zeros(2, 3, 6), "acoustic_lengths": torch.tensor([3.0, 1.0])},
            "whole numbers",
        ),
        (
            {"visual": torch.zeros(1, 3, 4), "visual_mask": torch.ones(1, 3)},
            "visual_mask: expected booleans",
        ),
        (
            {
                "visual": torch.zeros(1, 3, 4),
                "visual_mask": torch.ones(1, 3, dtype=torch.bool),
                "visual_lengths": torch.tensor([3]),
            },
            "expected one of them, got both",
        ),
        (
            {"acoustic": torch.zeros(2, 3, 6), "acoustic_lengths": torch.tensor([3, 0])},
            "clip 1 of the batch has neither",
        ),
        ({"acoustic": torch.zeros(2, 0, 6)}, "clip 0 of the batch has neither"),
        (
            {"acoustic": torch.tensor([[[0.0] * 6, [torch.nan] * 6]])},
            "NaN or infinity in clip 0 of the batch at step 1",
        ),
    ],
)
def test_bad_input_is_named(inputs: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny()(**inputs)


def test_nan_in_padding_does_no_harm() -> None:
    model = tiny()
    x = torch.randn(1, 9, 6)
    padded = torch.cat([x, torch.full((1, 4, 6), torch.nan)], 1)
    out = model(acoustic=padded, acoustic_lengths=torch.tensor([9]))
    assert torch.allclose(out.prediction, model(acoustic=x).prediction, atol=1e-5)


def test_save_and_load(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    loaded = vavl.VAVL.from_pretrained(tmp_path / "model")
    x = torch.randn(2, 9, 6)
    assert loaded.config == model.config
    assert torch.equal(loaded(acoustic=x).prediction, model(acoustic=x).prediction)


def test_loads_from_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of the hub's cache, in offline mode: what a second start without network does."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--emotions"
    tiny().save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    loaded = vavl.VAVL.from_pretrained(
        "someone/emotions", cache_dir=tmp_path, local_files_only=True
    )
    assert loaded.config.categories == CATEGORIES
    pinned = vavl.VAVL.from_pretrained(
        "someone/emotions", revision=commit, cache_dir=tmp_path, local_files_only=True
    )
    assert pinned.config == loaded.config
    with pytest.raises(StoreError, match="someone/other"):
        vavl.VAVL.from_pretrained("someone/other", cache_dir=tmp_path, local_files_only=True)


def test_damaged_or_foreign_files_are_named(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"model\.safetensors: damaged or cut short"):
        vavl.VAVL.from_pretrained(tmp_path)
    weights.write_bytes(whole)

    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "width": 32}))
    with pytest.raises(StoreError, match="does not fit the configuration"):
        vavl.VAVL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "schema_version": 99}))
    with pytest.raises(StoreError, match="schema version 1, got 99"):
        vavl.VAVL.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(StoreError, match=r"config\.json"):
        vavl.VAVL.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(StoreError, match=r"lacks model\.safetensors"):
        vavl.VAVL.from_pretrained(tmp_path)
