"""Speech encoders inside a model: from samples to hidden states, a part of the weights tuned.

A part is either the last blocks, or low-rank corrections of the projections in all blocks (Hu et
al., "LoRA: low-rank adaptation of large language models", 2022). All other weights stay what they
are; they are not saved with a model either, but read again from where they came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vavl.config.base import validated
from vavl.config.experiment import AcousticEncoderConfig
from vavl.errors import InputError
from vavl.features.samples import SAMPLES
from vavl.features.speech_encoder import SpeechEncoder, hidden_states
from vavl.features.weights import nothing_fetched
from vavl.features.whisper import STEP, WhisperBase, WhisperEncoder, log_mel, read_encoder
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.types import FeatureSpec

PROJECTIONS = {
    "attention": frozenset(
        {"qkv", "out"}
        | {"q_proj", "k_proj", "v_proj", "out_proj"}
        | {"linear_q", "linear_k", "linear_v", "linear_out"}
    ),
    "feed_forward": frozenset({"fc1", "fc2", "intermediate_dense", "output_dense"}),
}
"""What the projections of a block are called, in our encoder and in those of transformers."""


class LowRankLinear(nn.Module):
    """A linear layer that stays as it is, and a correction of low rank: ``(W + s B A) x + b``.

    B is zero at first, so that nothing changes before the first step.

    Args:
        linear: The layer.
        rank: Rows of A, and columns of B.
        scale: s.

    Source: Hu et al. 2022, section 4.1; s is their alpha / r.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale
        self.a = nn.Parameter(torch.empty(rank, linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.a), self.b)

    @property
    def weight(self) -> Tensor:
        """``(out, in)`` with the correction, for those that multiply themselves, as WavLM does."""
        return self.linear.weight + self.scale * self.b @ self.a

    @property
    def bias(self) -> Tensor:
        """``(out,)``."""
        return self.linear.bias


class TunableEncoder(nn.Module):
    """A speech encoder in front of a model, of which a part is tuned.

    It stays in evaluation mode: it drops nothing, and the features of a clip depend on that clip
    alone. What is not tuned neither gets gradients nor stands in ``state_dict()``.

    Args:
        config: Which encoder, which layers, and what is tuned.

    Attributes:
        config: The same, with the address of the weights as it was resolved.
        dim: Features per step.
        learning_rate: Step size for what is tuned.
        weights_sha256: Hash of the weights that the tuning began with.

    Raises:
        InputError: The encoder cannot be found, lacks a layer or a block, or has other steps than
            20 ms.

    Example:
        >>> encoder = TunableEncoder(AcousticEncoderConfig(layer=1, lora_rank=2))
        >>> features, mask = encoder(torch.randn(1, 50, 320), torch.ones(1, 50).bool())
        >>> features.shape, sorted(encoder.state_dict())[0]
        (torch.Size([1, 50, 512]), 'network.blocks.0.out.a')
    """

    input_dim = SAMPLES

    def __init__(self, config: AcousticEncoderConfig) -> None:
        super().__init__()
        self.network, self._layers, spec = _read(config)
        source = f"hf:{spec.source}" if spec.source else config.extractor
        self.config = config.model_copy(update={"extractor": source})
        self.dim = spec.dim
        self.learning_rate = config.encoder_learning_rate
        assert spec.weights_sha256 is not None  # both kinds have weights
        self.weights_sha256 = spec.weights_sha256
        self.requires_grad_(False)
        _tune(self._blocks(), config)
        self.eval()
        self.register_state_dict_post_hook(_leave_out_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_in_frozen)  # type: ignore[no-untyped-call]

    def description(self) -> dict[str, Any]:
        """What :func:`rebuild_encoder` makes the same encoder of, before its tuning."""
        return {**self.config.model_dump(mode="json"), "weights_sha256": self.weights_sha256}

    def train(self, mode: bool = True) -> TunableEncoder:  # noqa: ARG002
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states of clips.

        Args:
            frames: ``(B, T, 320)`` samples, see :class:`vavl.features.samples.Samples`.
            mask: ``(B, T)``, True = valid, at least one step of each clip. Samples in a gap count
                as zeros.

        Returns:
            ``(B, T', dim)`` and ``(B, T')``. T' = T for Whisper; encoders over the waveform, whose
            steps overlap, have one step less, whose place the one before it takes.
        """
        samples = frames.masked_fill(~mask[..., None], 0.0)  # (B, T, 320)
        places = torch.arange(mask.shape[1], device=mask.device)
        lengths = (mask * (places + 1)).amax(1).tolist()
        clips = [clip[:n].flatten() for clip, n in zip(samples, lengths, strict=True)]
        if isinstance(self.network, WhisperEncoder):
            states = self._of_whisper(self.network, clips)
        else:
            states = [self._of_transformers(clip) for clip in clips]
        features = pad_sequence(states, batch_first=True)
        steps = torch.tensor([len(state) for state in states], device=mask.device)
        to = torch.minimum(places, steps[:, None] - 1)  # (B, T)
        found = mask.new_zeros(features.shape[:2], dtype=torch.int64).scatter_add(
            1, to, mask.long()
        )
        return features, found > 0

    def _of_whisper(self, network: WhisperEncoder, clips: Sequence[Tensor]) -> list[Tensor]:
        longest, bands = len(network.positions) * STEP, network.conv1.in_features // 3
        pieces = [torch.split(clip, longest) for clip in clips]
        with torch.autocast(clips[0].device.type, enabled=False):  # energies need all their digits
            mels = [log_mel(piece, bands) for clip in pieces for piece in clip]
        states = iter(network(mels, self._layers))
        return [torch.cat([next(states) for _ in clip]) for clip in pieces]

    def _of_transformers(self, clip: Tensor) -> Tensor:
        """By itself: some of these encoders see the padding of a batch."""
        network = cast(Any, self.network)
        missing = max(0, _receptive_field(network.config) - len(clip))
        inputs = F.pad(clip, (0, missing))[None]
        return hidden_states(network, network.encoder.layers, self._layers, inputs)[0]

    def _blocks(self) -> nn.ModuleList:
        """The blocks up to the last layer that is taken; the others are removed."""
        if isinstance(self.network, WhisperEncoder):
            self.network.blocks = self.network.blocks[: max(self._layers)]
            return self.network.blocks
        blocks = cast(nn.ModuleList, cast(Any, self.network).encoder.layers)
        return blocks[: max(self._layers, default=len(blocks))]


def rebuild_encoder(
    description: Mapping[str, Any], *, local_files_only: bool = True
) -> TunableEncoder:
    """The encoder of a description, as it was before its tuning.

    Unless ``local_files_only`` is False, nothing is fetched from a hub that it names.

    Raises:
        InputError: It cannot be found, or its weights are not those that the tuning began with.
    """
    content = dict(description)
    expected = content.pop("weights_sha256", None)
    config = validated(AcousticEncoderConfig, content, "acoustic encoder")
    with nothing_fetched() if local_files_only else nullcontext():
        encoder = TunableEncoder(config)
    if encoder.weights_sha256 != expected:
        raise InputError(
            f"{encoder.config.extractor}: expected the weights that the encoder was tuned from "
            f"({expected}), got others ({encoder.weights_sha256})"
        )
    return encoder


def _read(config: AcousticEncoderConfig) -> tuple[nn.Module, tuple[int, ...], FeatureSpec]:
    """The network with its weights, the layers that are taken, and what its features are."""
    kind, _, source = config.extractor.partition(":")
    if kind == WhisperBase.name:
        base = WhisperBase() if config.layer is None else WhisperBase(config.layer)
        return read_encoder(), tuple(base.spec.parameters["layer"]), base.spec
    encoder = SpeechEncoder(source, layer=config.layer)
    if encoder.spec.frame_rate_hz != SAMPLING_RATE_HZ / SAMPLES:
        raise InputError(
            f"acoustic_encoder.extractor: expected an encoder of {SAMPLING_RATE_HZ / SAMPLES:g} "
            f"steps a second, got {source} with {encoder.spec.frame_rate_hz:g}"
        )
    network, layers = encoder.network()
    return network, layers, encoder.spec


def _tune(blocks: nn.ModuleList, config: AcousticEncoderConfig) -> None:
    """Makes trainable what the configuration says."""
    last = len(blocks) if config.tune == "lora" else int(config.tune.removeprefix("last:"))
    if not 1 <= last <= len(blocks):
        raise InputError(
            f"acoustic_encoder.tune: expected at most the {len(blocks)} blocks below the layers "
            f"that are taken, got {config.tune}; check acoustic_encoder.layer"
        )
    if config.tune != "lora":
        blocks[-last:].requires_grad_(True)
        return
    names = frozenset[str]().union(*(PROJECTIONS[kind] for kind in config.lora_modules))
    found = [
        (module, name, child)
        for module in blocks.modules()
        for name, child in module.named_children()
        if name in names and isinstance(child, nn.Linear)
    ]
    for module, name, linear in found:
        scale = config.lora_alpha / config.lora_rank
        setattr(module, name, LowRankLinear(linear, config.lora_rank, scale))


def _receptive_field(configuration: Any) -> int:
    """Samples that the first step of an encoder over the waveform sees."""
    samples = 1
    convolutions = zip(configuration.conv_kernel, configuration.conv_stride, strict=True)
    for kernel, stride in reversed(list(convolutions)):
        samples = (samples - 1) * stride + kernel
    return samples


def _frozen(encoder: nn.Module) -> dict[str, Tensor]:
    tensors = dict(encoder.named_parameters()) | dict(encoder.named_buffers())
    return {name: tensor for name, tensor in tensors.items() if not tensor.requires_grad}


def _leave_out_frozen(
    encoder: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any
) -> None:
    for name in _frozen(encoder):
        state.pop(prefix + name, None)


def _fill_in_frozen(encoder: nn.Module, state: dict[str, Any], prefix: str, *_unused: Any) -> None:
    state.update({prefix + name: tensor for name, tensor in _frozen(encoder).items()})
