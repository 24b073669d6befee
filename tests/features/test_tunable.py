"""Encoders inside a model: at first the numbers of the extractor, then what was asked is tuned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vavl.config.experiment import AcousticEncoderConfig
from vavl.errors import InputError
from vavl.features.registry import build_extractor
from vavl.features.samples import SAMPLES
from vavl.features.tunable import LowRankLinear, TunableEncoder, rebuild_encoder

TinyEncoder = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {
    "wav2vec2": ("Wav2Vec2Model", {}),
    "wav2vec2 with pre-norm": ("Wav2Vec2Model", {"do_stable_layer_norm": True}),
    "wavlm": ("WavLMModel", {}),
    "conformer": ("Wav2Vec2ConformerModel", {"position_embeddings_type": "relative"}),
    "whisper": ("WhisperModel", {}),
}


def batch(noise, *steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames ``(B, T, 320)`` and their mask, of clips of so many steps; loud padding."""
    frames = torch.full((len(steps), max(steps), SAMPLES), 99.0)
    mask = torch.zeros(len(steps), max(steps), dtype=torch.bool)
    for number, count in enumerate(steps):
        samples = noise(count * SAMPLES / 16_000, seed=number)
        frames[number, :count] = torch.from_numpy(samples).view(count, SAMPLES)
        mask[number, :count] = True
    return frames, mask


def configuration(folder: Path, **options: object) -> AcousticEncoderConfig:
    return AcousticEncoderConfig.model_validate({"extractor": f"hf:{folder}", **options})


def tuned_names(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("tune", ["lora", "last:1"])
@pytest.mark.parametrize(("class_name", "settings"), KINDS.values(), ids=KINDS)
def test_at_first_the_features_are_those_of_the_extractor(
    tiny_encoder: TinyEncoder, noise, class_name: str, settings: dict[str, object], tune: str
) -> None:
    folder = tiny_encoder(class_name, **settings)
    encoder = TunableEncoder(configuration(folder, layer=(2, 1), tune=tune))
    frames, mask = batch(noise, 30, 12)
    features, valid = encoder(frames, mask)
    extractor = build_extractor(
        "acoustic", "hf", source=str(folder), layer=(2, 1), normalization="none"
    )
    assert encoder.dim == extractor.spec.dim == features.shape[2]
    for clip, steps in enumerate((30, 12)):
        expected = extractor.extract(frames[clip, :steps].flatten().numpy())
        assert valid[clip].sum() == len(expected)
        found = features[clip][valid[clip]].detach().numpy()
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_whisper_base_from_what_a_store_holds(noise) -> None:
    """In half precision: the same numbers for the same samples, and nearly those of the clip."""
    encoder = TunableEncoder(AcousticEncoderConfig())
    samples = noise(0.5)
    steps = build_extractor("acoustic", "waveform").extract(samples).astype(np.float16)
    frames = torch.from_numpy(steps).float()[None]
    with torch.no_grad():
        features = encoder(frames, torch.ones(frames.shape[:2]).bool())[0][0].numpy()
    exact = build_extractor("acoustic", "whisper-base", normalization="none")
    scale = np.abs(features).max()
    np.testing.assert_allclose(
        features, exact.extract(frames[0].flatten().numpy()), atol=1e-5 * scale
    )
    difference = features - build_extractor("acoustic", "whisper-base").extract(samples)
    assert np.sqrt(np.square(difference).mean() / features.var()) < 0.005


def test_clips_beyond_what_whisper_takes_are_cut_as_the_extractor_does(
    tiny_encoder: TinyEncoder, noise
) -> None:
    folder = tiny_encoder("WhisperModel")  # takes 50 steps
    encoder = TunableEncoder(configuration(folder, layer=2))
    frames, mask = batch(noise, 120, 20)
    features, _ = encoder(frames, mask)
    extractor = build_extractor("acoustic", "hf", source=str(folder), layer=2, normalization="none")
    expected = extractor.extract(frames[0].flatten().numpy())
    np.testing.assert_allclose(features[0].detach(), expected, atol=2e-5)


@pytest.mark.parametrize("class_name", ["Wav2Vec2Model", "WhisperModel"])
def test_neighbours_padding_and_gaps_say_nothing(
    tiny_encoder: TinyEncoder, noise, class_name: str
) -> None:
    encoder = TunableEncoder(configuration(tiny_encoder(class_name), layer=2))
    frames, mask = batch(noise, 30, 12)
    mask[1, 3:6] = False
    together, valid = encoder(frames, mask)
    frames[~mask] = -55.0
    alone, valid_alone = encoder(frames[1:, :12], mask[1:, :12])
    np.testing.assert_allclose(
        together[1][valid[1]].detach(), alone[0][valid_alone[0]].detach(), atol=1e-6
    )
    assert not valid[1, 3:6].any()
    assert valid[1, :3].all()
    # A clip of which the last step alone is known keeps a valid step.
    lonely = torch.zeros(1, 12, dtype=torch.bool)
    lonely[0, -1] = True
    assert encoder(frames[1:, :12], lonely)[1].sum() == 1


# --- what is tuned ---------------------------------------------------------------------------


def test_low_rank_is_the_corrected_matrix() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 4).requires_grad_(False)
    x = torch.randn(3, 6)
    low_rank = LowRankLinear(linear, rank=2, scale=1.5)
    assert torch.equal(low_rank(x), linear(x)), "before the first step"
    nn.init.normal_(low_rank.b)
    expected = x @ (linear.weight + 1.5 * low_rank.b @ low_rank.a).T + linear.bias
    torch.testing.assert_close(low_rank(x), expected)
    torch.testing.assert_close(nn.functional.linear(x, low_rank.weight, low_rank.bias), expected)


@pytest.mark.parametrize(
    ("options", "blocks", "parts"),
    [
        ({"tune": "lora"}, {0, 1}, {"qkv.a", "qkv.b", "out.a", "out.b"}),
        (
            {"tune": "lora", "lora_modules": ("feed_forward",)},
            {0, 1},
            {"fc1.a", "fc1.b", "fc2.a", "fc2.b"},
        ),
        ({"tune": "last:1"}, {1}, None),
        ({"tune": "last:2"}, {0, 1}, None),
    ],
)
def test_gradients_reach_what_is_tuned_alone(
    tiny_encoder: TinyEncoder, noise, options: dict[str, object], blocks: set[int], parts
) -> None:
    """Of three blocks, the two up to layer 2."""
    encoder = TunableEncoder(configuration(tiny_encoder("WhisperModel"), layer=2, **options))
    for name, parameter in encoder.named_parameters():
        if name.endswith(".b"):  # or else no gradient would come to A
            nn.init.normal_(parameter)
    encoder(*batch(noise, 20, 10))[0].square().sum().backward()
    touched = {n for n, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert {int(name.split(".")[2]) for name in touched} == blocks
    assert touched == tuned_names(encoder)
    if parts is not None:
        assert {name.split(".", 3)[3] for name in touched} == parts


@pytest.mark.parametrize(("class_name", "settings"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("modules", [("attention",), ("feed_forward",)])
def test_low_rank_in_every_block_of_every_kind(
    tiny_encoder: TinyEncoder, noise, class_name: str, settings: dict[str, object], modules
) -> None:
    folder = tiny_encoder(class_name, **settings)
    encoder = TunableEncoder(configuration(folder, layer=2, lora_modules=modules))
    tuned = tuned_names(encoder)
    corrected = {name.rpartition(".")[0] for name in tuned}
    each = {"attention": 2 if class_name == "WhisperModel" else 4, "feed_forward": 2}
    if class_name == "Wav2Vec2ConformerModel":
        each["feed_forward"] = 4  # it has two such networks
    assert len(corrected) == 2 * each[modules[0]]
    frames, mask = batch(noise, 20)
    before = encoder(frames, mask)[0].detach()
    for name, parameter in encoder.named_parameters():
        if name.endswith(".b"):
            nn.init.normal_(parameter)
    after = encoder(frames, mask)[0]
    assert not torch.allclose(before, after)
    after.square().sum().backward()
    assert all(p.grad is not None for n, p in encoder.named_parameters() if n in tuned)


def test_it_drops_nothing_in_training(tiny_encoder: TinyEncoder, noise) -> None:
    encoder = TunableEncoder(configuration(tiny_encoder("Wav2Vec2Model"), layer=2)).train()
    assert not any(module.training for module in encoder.modules())
    frames, mask = batch(noise, 20)
    assert torch.equal(encoder(frames, mask)[0], encoder(frames, mask)[0])


def test_mixed_precision_spares_the_energies(tiny_encoder: TinyEncoder, noise) -> None:
    """Log-mel energies in 8 bits of mantissa would be another sound."""
    encoder = TunableEncoder(configuration(tiny_encoder("WhisperModel"), layer=(0, 2)))
    frames, mask = batch(noise, 20, 10)
    exact = encoder(frames, mask)[0]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(frames, mask)[0]
    difference = (rounded.float() - exact).square().mean().sqrt() / exact.std()
    assert 0 < difference < 0.02
    rounded.float().square().sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.requires_grad]
    assert all(g is not None and g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("tune", ["lora", "last:1"])
def test_what_is_kept_is_what_was_tuned(tiny_encoder: TinyEncoder, noise, tune: str) -> None:
    config = configuration(tiny_encoder("Wav2Vec2Model"), layer=2, tune=tune)
    encoder = TunableEncoder(config)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    state = encoder.state_dict()
    assert state.keys() == tuned_names(encoder)
    again = rebuild_encoder(encoder.description())
    frames, mask = batch(noise, 20, 10)
    expected = encoder(frames, mask)[0]
    assert not torch.equal(again(frames, mask)[0], expected)
    whole = nn.ModuleDict({"in": again})  # the names have a beginning there
    whole.load_state_dict({f"in.{name}": value for name, value in state.items()})
    assert torch.equal(again(frames, mask)[0], expected)
    with pytest.raises(RuntimeError, match="Missing key"):
        whole.load_state_dict({})


# --- what does not fit -------------------------------------------------------------------------


def test_what_cannot_be_tuned_is_said(tiny_encoder: TinyEncoder) -> None:
    folder = tiny_encoder("WhisperModel")
    with pytest.raises(InputError, match=r"tune: expected at most the 2 blocks .* got last:3"):
        TunableEncoder(configuration(folder, layer=2, tune="last:3"))
    with pytest.raises(InputError, match="expected at most the 0 blocks"):
        TunableEncoder(configuration(folder, layer=0))
    with pytest.raises(InputError, match=r"layer: expected one or several of .* got none"):
        TunableEncoder(configuration(folder))
    with pytest.raises(InputError, match="layer: expected 0"):
        TunableEncoder(AcousticEncoderConfig(layer=5))
    fast = tiny_encoder("Wav2Vec2Model", conv_stride=[5, 2, 2, 2, 2, 2, 1])
    with pytest.raises(InputError, match=r"an encoder of 50 steps a second, got .* with 100"):
        TunableEncoder(configuration(fast, layer=1))
    other = TunableEncoder(configuration(folder, layer=2)).description() | {"weights_sha256": "0"}
    with pytest.raises(InputError, match="expected the weights that the encoder was tuned from"):
        rebuild_encoder(other)
