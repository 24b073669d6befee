"""Runs pretrained speech encoders up to one of their layers; layers above it are not loaded."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.features.waveform import padded
from vavl.features.weights import (
    Checkpoint,
    for_inference,
    load_pretrained,
    loading,
    refuse_missing,
)
from vavl.media.audio import SAMPLING_RATE_HZ

if TYPE_CHECKING:
    import torch

WAVEFORM_ENCODERS = frozenset(
    {"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "wav2vec2-conformer"}
)
"""Architectures, as transformers names them, with strided convolutions over the waveform."""

_WHISPER_HOP = 160
_WHISPER_STRIDE = 2 * _WHISPER_HOP
"""Samples per output frame: mel hop times the stride of the second convolution."""

Layers = int | Sequence[int] | None
"""One layer, several, or the output of the whole encoder."""


class HiddenStates(ABC):
    """A pretrained encoder, cut off above the layer that is asked for.

    Args:
        checkpoint: The weights; they are read when first needed.
        layer: k >= 1 is the output of transformer layer number k, before any final normalisation;
            0 is the input of the first layer; None is the output of the whole encoder. Several
            layers stand beside each other in a frame, in the order given.
        layers_kept: How many transformer layers there shall be. Default: all.

    Attributes:
        checkpoint: As given.
        width: Features per frame of one layer.
        samples_per_frame: At 16 kHz.
    """

    layers_field: ClassVar[str]
    width: int
    samples_per_frame: int

    def __init__(
        self, checkpoint: Checkpoint, layer: Layers, layers_kept: int | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self._model: Any = None
        # Files leave out defaults, so the configuration class has to fill them in.
        available = int(getattr(self._configuration(), self.layers_field))
        layers = available if layers_kept is None else layers_kept
        if layers > available:
            raise InputError(
                f"{checkpoint.source}: expected at least {layers} layers, it has {available}"
            )
        several = layer if isinstance(layer, Sequence) else () if layer is None else (layer,)
        self._taken = tuple(several)
        nothing = layer is not None and not self._taken
        if nothing or not all(type(k) is int and 0 <= k <= layers for k in self._taken):
            raise InputError(
                f"layer: expected 0 (before the first layer) to {layers} for "
                f"{checkpoint.source}, or several of them, got {layer!r}"
            )
        if len(set(self._taken)) < len(self._taken):
            raise InputError(f"layer: expected each layer once, got {layer!r}")
        # Layer 0 is seen as the input of layer 1, so that one must be there.
        self._layers_needed = max(self._taken, default=layers) or 1

    @property
    def dim(self) -> int:
        """Features per frame: those of all layers that are taken."""
        return self.width * max(len(self._taken), 1)

    def load(self) -> None:
        """Loads the weights, in single precision, if they are not there yet.

        Raises:
            InputError: The weights do not fit the architecture, or are damaged.
        """
        if self._model is None:
            self._model = self._loaded()

    def run(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of a conditioned waveform at 16 kHz.

        Args:
            waveform: ``(N,)``, N >= 1; zeros are appended to a clip shorter than one frame.

        Returns:
            ``(T, dim)``.
        """
        self.load()
        return self._run(waveform)

    @abstractmethod
    def _loaded(self) -> torch.nn.Module:
        """The model with its weights, ready for inference."""

    @abstractmethod
    def _run(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """As :meth:`run`, with the model loaded."""

    def _configuration(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(
                self.checkpoint.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise InputError(f"{self.checkpoint.source}: unusable config.json ({error})") from error

    def _forward(self, layers: torch.nn.ModuleList, inputs: torch.Tensor) -> NDArray[np.float32]:
        """Runs the model on ``(1, ...)`` inputs and catches the layers: ``(T, dim)``."""
        import torch

        caught: dict[int, torch.Tensor] = {}
        with ExitStack() as hooks:
            for k in self._taken:
                hooks.callback(_catch(layers, k, caught).remove)
            with torch.inference_mode():
                output = self._model(inputs).last_hidden_state
        states = [caught[k] for k in self._taken] or [output]
        # The encoder may hand out a transposed view.
        features: NDArray[np.float32] = torch.cat(states, dim=-1)[0].contiguous().numpy()
        return features

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the weights from disk, which is cheaper than sending them.
        return {**self.__dict__, "_model": None}


class WaveformHiddenStates(HiddenStates):
    """wav2vec 2.0 and its relatives: convolutions over the waveform, then a transformer."""

    layers_field = "num_hidden_layers"

    def __init__(
        self, checkpoint: Checkpoint, layer: Layers, layers_kept: int | None = None
    ) -> None:
        super().__init__(checkpoint, layer, layers_kept)
        configuration = self._configuration()
        self.width = int(configuration.hidden_size)
        self.samples_per_frame = math.prod(configuration.conv_stride)
        self._receptive_field = 1
        for kernel, stride in zip(
            reversed(configuration.conv_kernel), reversed(configuration.conv_stride), strict=True
        ):
            self._receptive_field = (self._receptive_field - 1) * stride + kernel

    def _loaded(self) -> torch.nn.Module:
        configuration = self._configuration()
        configuration.num_hidden_layers = self._layers_needed
        configuration.add_adapter = False  # it would lower the frame rate
        # Only training reads the mask embedding, and not every checkpoint has it.
        return load_pretrained(self.checkpoint, configuration, optional=("masked_spec_embed",))

    def _run(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        samples = torch.from_numpy(padded(waveform, self._receptive_field))[None]  # (1, N)
        return self._forward(self._model.encoder.layers, samples)


class WhisperHiddenStates(HiddenStates):
    """The Whisper encoder, run on the clip's own length instead of on 30 s of mostly silence.

    The table of positions is cut to the clip. Clips longer than the table (30 s) are processed in
    consecutive windows; a rest shorter than one frame (20 ms) is left out.
    """

    layers_field = "encoder_layers"
    samples_per_frame = _WHISPER_STRIDE

    def __init__(
        self, checkpoint: Checkpoint, layer: Layers, layers_kept: int | None = None
    ) -> None:
        super().__init__(checkpoint, layer, layers_kept)
        configuration = self._configuration()
        self.width = int(configuration.d_model)
        self._window = int(configuration.max_source_positions) * _WHISPER_STRIDE
        self._mel: Any = None

    def _loaded(self) -> torch.nn.Module:
        import torch
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        configuration = self._configuration()
        configuration.encoder_layers = self._layers_needed
        with loading(self.checkpoint):
            with torch.device("meta"):  # no time lost on initial values
                encoder: Any = WhisperEncoder(configuration)
            weights = _whisper_encoder_weights(self.checkpoint, self._layers_needed)
            refuse_missing(self.checkpoint, sorted(set(encoder.state_dict()) - set(weights)))
            encoder.load_state_dict(weights, assign=True)
        # All positions; the table of the encoder itself is cut anew for each clip.
        encoder.register_buffer("all_positions", encoder.embed_positions.weight.detach().clone())
        return for_inference(encoder)

    def _run(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        samples = padded(waveform, _WHISPER_STRIDE)
        return np.concatenate(
            [
                self._run_window(samples[start : start + self._window])
                for start in range(0, len(samples) - _WHISPER_STRIDE + 1, self._window)
            ]
        )

    def _run_window(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        from torch.nn import Embedding

        if self._mel is None:
            self._mel = self._load_mel()
        mel = self._mel(
            samples,
            sampling_rate=SAMPLING_RATE_HZ,
            padding=False,
            truncation=False,
            return_tensors="pt",
        ).input_features  # (1, bands, N // 160)
        frames = mel.shape[-1] // 2
        model = self._model
        positions = model.all_positions[:frames]
        model.embed_positions = Embedding(len(positions), self.width, _weight=positions)
        model.config.max_source_positions = frames  # the encoder refuses other lengths
        return self._forward(model.layers, mel[..., : 2 * frames])

    def _load_mel(self) -> Any:
        from transformers import WhisperFeatureExtractor

        settings = dict(self.checkpoint.preprocessor_config)
        settings.setdefault("feature_size", self._configuration().num_mel_bins)
        # Noise that some recipes add against digital silence: features must not change by chance.
        mel: Any = WhisperFeatureExtractor
        return mel(**{**settings, "dither": 0.0})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_mel": None}


def _catch(layers: Any, k: int, caught: dict[int, torch.Tensor]) -> Any:
    """Has layer k noted in ``caught`` when the model runs; returns the handle of the hook."""
    if k == 0:

        def note_input(_module: Any, args: Any, kwargs: Any) -> None:
            caught[0] = args[0] if args else kwargs["hidden_states"]

        return layers[0].register_forward_pre_hook(note_input, with_kwargs=True)

    def note_output(_module: Any, _args: Any, output: Any) -> None:
        caught[k] = output[0] if isinstance(output, tuple) else output

    return layers[k - 1].register_forward_hook(note_output)


def _whisper_encoder_weights(checkpoint: Checkpoint, layers: int) -> dict[str, torch.Tensor]:
    """The tensors of the encoder up to a layer, from a checkpoint with or without a decoder."""
    from safetensors import safe_open

    weights: dict[str, Any] = {}
    for path in checkpoint.weight_files:
        with safe_open(str(path), framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                if name.startswith(("model.decoder.", "decoder.", "proj_out.")):
                    continue
                local = name.removeprefix("model.").removeprefix("encoder.")
                if local.startswith("layers.") and int(local.split(".")[1]) >= layers:
                    continue
                weights[local] = file.get_tensor(name).float()
    return weights
