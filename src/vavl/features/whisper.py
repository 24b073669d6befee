"""whisper-base: hidden states of the first layers of Whisper's encoder, in the package, offline.

The two convolutions and the first four blocks of OpenAI's Whisper-base, which was trained to
transcribe 680,000 hours of speech. Emotion is heard best in its middle layers, so the last two
blocks are left out. The weights are stored in 8 bits: ``scripts/quantize_whisper.py`` makes the
file, and ``docs/results/whisper-base.md`` says what the 8 bits cost.

Source: Radford et al., "Robust speech recognition via large-scale weak supervision", 2023, section
2.2. Weights: MIT, Copyright (c) 2022 OpenAI, see ``assets/whisper_base.LICENSE.md``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load
from torch import Tensor, nn

from vavl.errors import InputError
from vavl.features.waveform import (
    Conditioning,
    ConditioningOptions,
    WaveformExtractor,
    padded,
    precision_parameter,
)
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.system.device import Precision, inference, usable_device
from vavl.types import FeatureSpec, Modality

LAYERS = 4
"""Blocks in the package, of the six that Whisper-base has."""
WIDTH = 512
"""Features of a layer in one step."""
BANDS = 80
"""Mel bands."""
FRAME = 400
"""Samples of one frame: 25 ms."""
HOP = 160
"""Samples from one frame of log-mel energies to the next: 10 ms."""
STEP = 2 * HOP
"""Samples from one step of features to the next: 20 ms, so 50 steps a second."""
LONGEST = 30 * SAMPLING_RATE_HZ
"""Samples that the encoder takes in one piece: it was trained on 30 s."""
DEFAULT_LAYERS = (2, 3, 4)
"""Chosen on RAVDESS, see ``docs/results/whisper-base.md``."""
SCALE_SUFFIX = ".scale"
"""Ends the name of the scales that belong to a tensor of 8-bit weights."""

_HEADS = 8
_DYNAMIC_RANGE = 8.0
"""Decades below the loudest energy of a piece at which all others are cut."""
_STEPS_AT_ONCE = 3000
"""Steps of one pass, a minute of sound: bounds the memory, and keeps a GPU busy."""


class WhisperEncoder(nn.Module):
    """The convolutions and some of the blocks of a Whisper encoder.

    The steps of all clips stand one after another, without padding, in every product with weights;
    only attention and the neighbourhoods of the convolutions are taken clip by clip. So a clip's
    numbers do not depend on the clips beside it, and no work is spent on padding.

    Args:
        blocks: How many blocks.
        width: Features of a step.
        heads: Of the attention in each block.
        hidden: Width of the two-layer network in each block.
        bands: Mel bands.
        positions: Steps of the longest clip.
    """

    positions: Tensor

    def __init__(
        self,
        blocks: int = LAYERS,
        width: int = WIDTH,
        heads: int = _HEADS,
        hidden: int = 4 * WIDTH,
        bands: int = BANDS,
        positions: int = LONGEST // STEP,
    ) -> None:
        super().__init__()
        # Convolutions as products with three neighbours: as fast on a CPU, and in full single
        # precision on a GPU, whose own convolutions round to 10 bits by default.
        self.conv1 = nn.Linear(3 * bands, width)
        self.conv2 = nn.Linear(3 * width, width)
        self.blocks = nn.ModuleList(_Block(width, heads, hidden) for _ in range(blocks))
        self.register_buffer("positions", torch.empty(positions, width))

    def forward(self, mels: Sequence[Tensor], layers: Sequence[int]) -> list[Tensor]:
        """Hidden states of clips.

        Args:
            mels: ``(frames, bands)`` of each clip, from :func:`log_mel`; at least two frames. An
                odd last frame is left out.
            layers: k >= 1 is the output of block number k; 0 is the input of the first block.

        Returns:
            ``(frames // 2, width * len(layers))`` of each clip, the layers beside each other.
        """
        steps = [mel.shape[0] // 2 for mel in mels]  # not len(): it may be a symbol, in an export
        frames = [mel[: 2 * n] for mel, n in zip(mels, steps, strict=True)]
        x = torch.cat([_neighbours(clip, stride=1) for clip in frames])
        clips = torch.split(F.gelu(self.conv1(x)), [2 * n for n in steps])
        x = torch.cat([_neighbours(clip, stride=2) for clip in clips])
        x = F.gelu(self.conv2(x))  # (sum of steps, width)
        x = x + torch.cat([self.positions[:n] for n in steps])
        states = {0: x}
        for number, block in enumerate(self.blocks[: max(layers)], start=1):
            x = block(x, steps)
            if number in layers:
                states[number] = x
        return list(torch.split(torch.cat([states[k] for k in layers], dim=1), steps))


class _Block(nn.Module):
    """Self-attention, then a network of two layers, each on what is normalised and added to it."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.hidden_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, steps: list[int]) -> Tensor:
        qkv = self.qkv(self.attention_norm(x)).unflatten(1, (3, self.heads, -1))
        attended = [_attended(clip) for clip in torch.split(qkv, steps)]
        x = x + self.out(torch.cat(attended))
        return x + self.fc2(F.gelu(self.fc1(self.hidden_norm(x))))


def _attended(qkv: Tensor) -> Tensor:
    """Attention within one clip: ``(T, 3, heads, size)`` to ``(T, heads * size)``."""
    query, key, value = qkv.permute(1, 2, 0, 3)[:, None]  # (1, heads, T, size) each
    return F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).flatten(1)


def _neighbours(x: Tensor, stride: int) -> Tensor:
    """Each row with the one before and the one after it, zeros outside the clip.

    ``(N, C)`` to ``(N / stride, 3 * C)``; ordered as the weights of a convolution, channels first.
    """
    return F.pad(x, (0, 0, 1, 1)).unfold(0, 3, stride)[: x.shape[0] // stride].flatten(1)


def log_mel(waveform: Tensor, bands: int = BANDS) -> Tensor:
    """Log-mel energies as Whisper has them, on the clip's own length.

    The floor lies 8 decades below the loudest energy of the clip.

    Args:
        waveform: ``(N,)`` samples at 16 kHz, N > 200.
        bands: Mel bands from 0 to 8000 Hz.

    Returns:
        ``(N // 160, bands)``, about -1 to 1.5 for speech.

    Source: Radford et al. 2023, ``whisper/audio.py``; the mel scale is that of Slaney, "Auditory
    toolbox", 1998, with triangles of equal area.
    """
    frames = cut_frames(waveform)
    spectra = torch.fft.rfft(frames * torch.hann_window(FRAME, device=waveform.device))
    power = spectra.real.square() + spectra.imag.square()  # (T, 201)
    return scaled_log(power @ mel_filters(bands, waveform.device))


def cut_frames(waveform: Tensor) -> Tensor:
    """``(N,)`` samples to ``(N // 160, 400)``: frames around every 160th, mirrored at the ends."""
    around = F.pad(waveform[None], (FRAME // 2, FRAME // 2), mode="reflect")[0]
    return around.unfold(0, FRAME, HOP)[: waveform.shape[0] // HOP]


def scaled_log(energies: Tensor) -> Tensor:
    """Logarithm of energies, above the floor, in the range that the encoder takes."""
    decades = energies.clamp(min=1e-10).log10()
    return (decades.maximum(decades.max() - _DYNAMIC_RANGE) + 4) / 4


@cache
def mel_filters(bands: int, device: torch.device) -> Tensor:
    """``(201, bands)`` triangles of equal area, at equal distances on Slaney's mel scale."""
    # The scale is linear up to 1000 Hz, which is 15 mel, and logarithmic above.
    log_step = math.log(6.4) / 27
    mels = np.linspace(0, 15 + math.log(8) / log_step, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(log_step * (mels - 15)))
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    bins_hz = np.linspace(0, SAMPLING_RATE_HZ / 2, FRAME // 2 + 1)[:, None]
    rising = (bins_hz - left) / (center - left)
    falling = (right - bins_hz) / (right - center)
    triangles = np.clip(np.minimum(rising, falling), 0, None) * 2 / (right - left)
    return torch.from_numpy(triangles.astype(np.float32)).to(device)


def load_encoder(weights: Mapping[str, Tensor], heads: int = _HEADS) -> WhisperEncoder:
    """Builds an encoder with as many blocks as there are weights for, in single precision.

    Args:
        weights: By the names that transformers gives them in ``WhisperEncoder``. A tensor with
            scales beside it, named with :data:`SCALE_SUFFIX`, is multiplied by them, row by row.
            Positions may be missing: they are :func:`sinusoids`.
        heads: Of the attention.

    Returns:
        The encoder, ready for inference.
    """

    def tensor(name: str) -> Tensor:
        value = weights[name].float()
        scale = weights.get(name + SCALE_SUFFIX)
        return value if scale is None else value * scale.view(-1, *[1] * (value.ndim - 1))

    width = len(weights["conv1.bias"])
    positions = weights.get("embed_positions.weight")
    if positions is None:  # as in the package, where they would take 1.5 MB
        positions = sinusoids(LONGEST // STEP, width)
    loaded = {"positions": positions.float()}
    for name in ("conv1", "conv2"):
        loaded[f"{name}.weight"] = tensor(f"{name}.weight").flatten(1)  # (width, 3 * channels)
        loaded[f"{name}.bias"] = tensor(f"{name}.bias")
    blocks = sum(name.endswith(".fc1.bias") for name in weights)
    for block in range(blocks):
        theirs, ours = f"layers.{block}.", f"blocks.{block}."
        attention = theirs + "self_attn."
        qkv = [tensor(f"{attention}{part}_proj.weight") for part in "qkv"]
        biases = [tensor(f"{attention}{part}_proj.bias") for part in "qv"]
        loaded[f"{ours}qkv.weight"] = torch.cat(qkv)
        # Whisper's keys have no bias: it would raise the scores of all keys alike.
        loaded[f"{ours}qkv.bias"] = torch.cat([biases[0], torch.zeros(width), biases[1]])
        for name, source in (
            ("attention_norm", f"{theirs}self_attn_layer_norm"),
            ("out", f"{attention}out_proj"),
            ("hidden_norm", f"{theirs}final_layer_norm"),
            ("fc1", f"{theirs}fc1"),
            ("fc2", f"{theirs}fc2"),
        ):
            for kind in ("weight", "bias"):
                loaded[f"{ours}{name}.{kind}"] = tensor(f"{source}.{kind}")
    with torch.device("meta"):  # no time lost on initial values
        encoder = WhisperEncoder(
            blocks,
            width,
            heads,
            hidden=len(weights["layers.0.fc1.bias"]),
            bands=weights["conv1.weight"].shape[1],
            positions=len(positions),
        )
    encoder.load_state_dict(loaded, assign=True)
    return encoder.requires_grad_(False).eval()


def sinusoids(steps: int, width: int) -> Tensor:
    """Whisper's table of positions ``(steps, width)``: sines, then cosines, in half precision.

    Rounded to half precision as in the published weights, to the last bit; given in single.

    Source: Vaswani et al., "Attention is all you need", 2017; Radford et al. 2023.
    """
    periods = torch.arange(width // 2, dtype=torch.float64) / (width // 2 - 1)
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * 10_000.0**-periods
    return torch.cat([angles.sin(), angles.cos()], dim=1).half().float()


class WhisperBase(WaveformExtractor):
    """Hidden states of the first layers of Whisper-base, 50 times a second: ``(T, 512 * layers)``.

    Nothing is downloaded. The numbers are those of ``hf:FOLDER`` on a folder with Whisper-base, but
    for the 8 bits of the weights: about 3 % of a layer's deviation.

    A clip of N samples has T = N // 320 steps; one shorter than 320 samples is padded to them with
    zeros. Clips longer than 30 s are taken in consecutive pieces of 30 s. Each piece is encoded as
    a clip of its own: nothing is seen across the seam, and the floor of the energies follows the
    loudest moment of each piece. A rest shorter than one step (20 ms) is left out.

    Args:
        layer: k >= 1 is the output of block number k, of 4; 0 is the input of the first block.
            Several stand beside each other in each step, in the order given.
        device: Where the encoder runs: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"``, or
            ``"auto"`` for an accelerator if there is one. It does not enter the store's key, and is
            sought by :meth:`load`, in the process that computes.
        precision: Of the products in the encoder; see ``docs/results/whisper-base.md`` for what
            ``"bfloat16"`` costs. Any but ``"float32"`` enters the key.
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`.

    Raises:
        InputError: There is no such layer or precision.

    Example:
        >>> encoder = WhisperBase(layer=3)
        >>> encoder.extract(np.zeros(16000)).shape, encoder.spec.frame_rate_hz
        ((50, 512), 50.0)
    """

    name = "whisper-base"

    def __init__(
        self,
        layer: int | Sequence[int] = DEFAULT_LAYERS,
        device: str = "cpu",
        precision: Precision = "float32",
        **conditioning: Unpack[ConditioningOptions],
    ) -> None:
        self.conditioning = Conditioning(**conditioning)
        self.layers = _checked_layers(layer)
        self.device = device
        self._precision = precision
        self.spec = FeatureSpec(
            modality=Modality.ACOUSTIC,
            extractor=self.name,
            dim=WIDTH * len(self.layers),
            frame_rate_hz=SAMPLING_RATE_HZ / STEP,
            parameters={
                **self.conditioning.parameters(),
                **precision_parameter(precision),
                "layer": list(self.layers),
                "sampling_rate_hz": SAMPLING_RATE_HZ,
            },
            weights_sha256=_weights_sha256(),
        )

    def load(self) -> None:
        """Reads the weights now instead of with the first clip.

        Raises:
            InputError: The device cannot be used here.
        """
        _encoder(usable_device(self.device))

    def extract_many(
        self, waveforms: Iterable[ArrayLike], sampling_rate_hz: int = SAMPLING_RATE_HZ
    ) -> list[NDArray[np.float32]]:
        """Features of several waveforms, a minute of sound in one pass.

        Args:
            waveforms: ``(N,)`` samples each, full scale [-1, 1]; the lengths may differ.
            sampling_rate_hz: Rate of all of them.

        Returns:
            ``(T, D)`` of each: the numbers of :meth:`extract`, up to rounding.

        Raises:
            InputError, MediaError: As :meth:`extract`, for the first waveform that does not fit.

        Example:
            >>> encoder = WhisperBase(layer=(3, 4))
            >>> [clip.shape for clip in encoder.extract_many([np.zeros(640), np.zeros(16000)])]
            [(2, 1024), (50, 1024)]
        """
        return self.features_of([self._conditioned(w, sampling_rate_hz) for w in waveforms])

    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._features_of_many([waveform])[0]

    def _features_of_many(
        self, waveforms: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        clips = [_pieces(waveform) for waveform in waveforms]
        encoded = self._passes([piece for clip in clips for piece in clip])
        return [np.concatenate([next(encoded) for _ in clip]) for clip in clips]

    def _passes(self, pieces: list[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Runs the encoder on as many pieces at a time as memory is meant for."""
        device = usable_device(self.device)
        encoder = _encoder(device)
        while pieces:
            ends = np.cumsum([len(piece) // STEP for piece in pieces])
            count = max(1, int(np.searchsorted(ends, _STEPS_AT_ONCE, side="right")))
            with inference(device):
                mels = [
                    log_mel(torch.from_numpy(np.array(piece)).to(device))
                    for piece in pieces[:count]
                ]
                with inference(device, self._precision):  # energies need all their digits
                    states = encoder(mels, self.layers)
            yield from (state.float().cpu().numpy() for state in states)
            pieces = pieces[count:]


def _pieces(waveform: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Consecutive pieces of at most 30 s, none shorter than one step."""
    samples = padded(waveform, STEP)
    starts = range(0, len(samples) - STEP + 1, LONGEST)
    return [samples[start : start + LONGEST] for start in starts]


def _checked_layers(layer: int | Sequence[int]) -> tuple[int, ...]:
    layers = tuple(layer) if isinstance(layer, Sequence) else (layer,)
    if not layers or not all(type(k) is int and 0 <= k <= LAYERS for k in layers):
        raise InputError(
            f"layer: expected 0 (before the first block) to {LAYERS}, or several of them, got "
            f"{layer!r}"
        )
    if len(set(layers)) < len(layers):
        raise InputError(f"layer: expected each layer once, got {layer!r}")
    return layers


def _weights() -> bytes:
    return (resources.files("vavl.features") / "assets" / "whisper_base.safetensors").read_bytes()


@cache
def _weights_sha256() -> str:
    return hashlib.sha256(_weights()).hexdigest()


def read_encoder() -> WhisperEncoder:
    """The encoder of the package, ready for inference, with weights that nobody else has."""
    return load_encoder(load(_weights()))


@cache
def _encoder(device: torch.device) -> WhisperEncoder:
    """The same, read once in a process."""
    return read_encoder().to(device)
