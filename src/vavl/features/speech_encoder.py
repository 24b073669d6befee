"""Pretrained speech encoders as acoustic feature extractors, run up to the layer asked for."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.features.waveform import (
    Conditioning,
    ConditioningOptions,
    WaveformExtractor,
    padded,
    precision_parameter,
)
from vavl.features.weights import (
    Checkpoint,
    find_checkpoint,
    for_inference,
    load_pretrained,
    loading,
    refuse_missing,
)
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.system.device import CPU, Precision, inference, usable_device
from vavl.system.extras import extra
from vavl.types import FeatureSpec, Modality

if TYPE_CHECKING:
    import torch

PAPER_SOURCE = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
"""Wagner et al., "Dawn of the transformer era in speech emotion recognition", 2023: the
architecture of the paper, tuned for arousal, dominance and valence. Weights: CC BY-NC-SA 4.0."""
PAPER_REVISION = "6eba34a2485ea31cb03600241787c3a5edab8626"
_PAPER_LAYERS, _PAPER_DIM, _PAPER_DURATION_S = 12, 1024, 12.0

_EMOTIONS = (
    *("arousal", "valence", "dominance", "activation", "emotion"),
    *("ang", "hap", "sad", "fear", "disgust", "surpris", "neutral", "calm"),
)
"""How labels of emotions and attributes begin."""

_WAVEFORM_ENCODERS = frozenset(
    {"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "wav2vec2-conformer"}
)
"""Architectures, as transformers names them, with strided convolutions over the waveform."""

_WHISPER_HOP = 160
_WHISPER_STRIDE = 2 * _WHISPER_HOP
"""Samples per output frame: mel hop times the stride of the second convolution."""

LONGEST_S = 300.0
"""Longer clips are refused by encoders over the waveform, unless they are taken in windows: a
second takes about 22 MB with the sizes of wav2vec 2.0, so this takes 7 GB."""
CONTEXT_S = 2.0
"""What a window sees on either side of what is kept of it: more than all convolutions together."""

Layers = int | Sequence[int] | None
"""One layer, several, or the output of the whole encoder."""


class SpeechEncoder(WaveformExtractor):
    """Hidden states of a pretrained speech encoder of transformers.

    Supported are wav2vec 2.0, HuBERT, WavLM, UniSpeech(-SAT) and wav2vec 2.0 Conformer, and the
    encoder of Whisper on the clip's own length. Weights are read from safetensors in single
    precision, when first needed; layers above the one asked for are not loaded. Clips shorter than
    one frame are padded to one with zeros.

    The whole clip is attended to at once (30 s at a time for Whisper): at most :data:`LONGEST_S`,
    see ``window_s`` for longer ones.

    Args:
        source: A folder, or a hub id ``org/name`` or ``org/name@revision``. Cache and offline mode
            are those of huggingface_hub.
        revision: Branch, tag or commit on the hub. Whatever it is, the commit that it means now is
            noted in ``spec.source``, and the hash of the weights in ``spec.weights_sha256``.
        layer: k >= 1 is the output of transformer layer number k, before any final normalisation
            of the encoder (``hidden_states[k]`` in transformers, for all but the last k); 0 is the
            input of the first layer. Several, e.g. ``(2, 3, 4)``, are computed in one pass and
            stand beside each other in each frame. Default: the output of the whole encoder, as
            ``last_hidden_state`` in transformers.
        window_s: Take longer clips in windows: of each, so many seconds are kept, and it sees
            :data:`CONTEXT_S` more on either side. Memory then grows with the clip by no more than
            its samples and features. What has a local context, the convolutions (layer 0) of an
            encoder with layer normalisation, is that of the whole clip up to rounding; attention
            sees its window alone. It enters the key. Not for Whisper, whose windows are 30 s.
        device: Where the encoder runs: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or
            ``"auto"``. It does not enter the key, and is sought when the weights are loaded.
        precision: Of the products in the encoder; any but ``"float32"`` enters the key.
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`.

    Raises:
        InputError: The source cannot be found, is no supported encoder, or lacks the layer; or
            windows that it cannot have.

    Example:
        >>> encoder = SpeechEncoder("models/whisper-base", layer=3)     # doctest: +SKIP
        >>> encoder.extract_file("clip.wav").shape, encoder.spec.frame_rate_hz  # doctest: +SKIP
        ((165, 512), 50.0)
    """

    name = "hf"

    def __init__(
        self,
        source: str,
        revision: str | None = None,
        layer: Layers = None,
        window_s: float | None = None,
        device: str = "cpu",
        precision: Precision = "float32",
        **conditioning: Unpack[ConditioningOptions],
    ) -> None:
        self.conditioning = Conditioning(**conditioning)
        self.device = device
        self._precision = precision
        checkpoint = find_checkpoint(source, revision)
        self._hidden_states = _hidden_states(checkpoint, layer, window_s)
        layers = list(layer) if isinstance(layer, Sequence) else layer
        # Only where they are asked for, so that older stores keep their keys.
        windows = {} if window_s is None else {"window_s": float(window_s)}
        self._describe({"layer": layers, **windows})

    def _describe(self, parameters: dict[str, Any]) -> None:
        states = self._hidden_states
        self.spec = FeatureSpec(
            modality=Modality.ACOUSTIC,
            extractor=self.name,
            dim=states.dim,
            frame_rate_hz=SAMPLING_RATE_HZ / states.samples_per_frame,
            parameters={
                **self.conditioning.parameters(),
                **precision_parameter(self._precision),
                **parameters,
                "model_type": states.checkpoint.model_type,
                "config_sha256": states.checkpoint.config_sha256(),
                "sampling_rate_hz": SAMPLING_RATE_HZ,
            },
            weights_sha256=states.checkpoint.weights_sha256,
            source=states.checkpoint.source,
        )

    def load(self) -> None:
        """Loads the weights now.

        Raises:
            InputError: They are damaged or do not fit the architecture, or the device cannot be
                used here.
        """
        self._hidden_states.load(self.device)

    def network(self) -> tuple[torch.nn.Module, tuple[int, ...]]:
        """A network with weights that nobody else has, and the layers that are taken of it.

        It is the encoder of transformers; of Whisper :class:`vavl.features.whisper.WhisperEncoder`.
        Without layers, the output of the whole encoder is meant.

        Raises:
            InputError: The weights are damaged or do not fit the architecture.
        """
        return self._hidden_states.network()

    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        self.load()
        return self._hidden_states.run(waveform, self._precision)


class Wav2Vec2LargeRobust12(SpeechEncoder):
    """The acoustic features of the paper: 1024-D at 50 Hz, from at most the first 12 s.

    wav2vec2-large-robust without its top 12 layers, tuned for emotion, frozen; the output is that
    of the twelfth layer after the encoder's final normalisation. A checkpoint with 24 layers is cut
    to 12, and the others are never loaded.

    A checkpoint counts as tuned for emotion when the labels in its ``config.json`` (``id2label``)
    name emotions or attributes such as arousal. For any other, e.g. one that was only pretrained or
    tuned to recognise words, a UserWarning is given.

    Differs from the published code: the waveform is normalised per utterance by default; pass
    ``normalization="corpus"`` with the statistics of the training set for the paper's way.

    Args:
        source: A folder or hub id with this architecture. Default: the public checkpoint
            ``audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim`` at a fixed commit.
        revision: Branch, tag or commit on the hub.
        device: As there.
        precision: As there.
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`;
            ``max_duration_s`` is 12 by default.

    Raises:
        InputError: The source cannot be found, or is not of this architecture.
    """

    name = "wav2vec2-large-robust-12"

    def __init__(
        self,
        source: str | None = None,
        revision: str | None = None,
        device: str = "cpu",
        precision: Precision = "float32",
        **conditioning: Unpack[ConditioningOptions],
    ) -> None:
        self.device = device
        self._precision = precision
        capped: ConditioningOptions = {"max_duration_s": _PAPER_DURATION_S}
        self.conditioning = Conditioning(**(capped | conditioning))
        if source is None:
            source, revision = PAPER_SOURCE, revision or PAPER_REVISION
        checkpoint = find_checkpoint(source, revision)
        if checkpoint.model_type != "wav2vec2":
            raise InputError(
                f"{checkpoint.source}: {self.name} expects a wav2vec2 model, got "
                f"{checkpoint.model_type}; use 'hf:{source}' for other encoders"
            )
        self._hidden_states = _WaveformHiddenStates(checkpoint, None, layers_kept=_PAPER_LAYERS)
        if self._hidden_states.dim != _PAPER_DIM:
            raise InputError(
                f"{checkpoint.source}: {self.name} expects hidden size {_PAPER_DIM}, got "
                f"{self._hidden_states.dim}; use 'hf:{source}' for other sizes"
            )
        if not _names_emotions(checkpoint):
            warnings.warn(
                f"{checkpoint.source} was never tuned for emotion: the labels in its config.json "
                "name none. The paper's results need tuned weights; expect lower scores.",
                UserWarning,
                stacklevel=2,
            )
        self._describe({"layers_kept": _PAPER_LAYERS})


def _hidden_states(checkpoint: Checkpoint, layer: Layers, window_s: float | None) -> _HiddenStates:
    if checkpoint.model_type == "whisper":
        if window_s is not None:
            raise InputError(
                f"window_s: expected none for {checkpoint.source}, a Whisper encoder, which has "
                f"windows of 30 s, got {window_s}"
            )
        return _WhisperHiddenStates(checkpoint, layer)
    if checkpoint.model_type in _WAVEFORM_ENCODERS:
        return _WaveformHiddenStates(checkpoint, layer, window_s=window_s)
    raise InputError(
        f"{checkpoint.source}: expected a speech encoder, one of "
        f"{sorted(_WAVEFORM_ENCODERS | {'whisper'})}, got {checkpoint.model_type!r}"
    )


def _names_emotions(checkpoint: Checkpoint) -> bool:
    labels = checkpoint.config.get("id2label") or {}
    return any(str(label).lower().startswith(_EMOTIONS) for label in labels.values())


class _HiddenStates(ABC):
    """A pretrained encoder, cut off above the layer that is asked for; see :class:`SpeechEncoder`.

    Args:
        checkpoint: The weights.
        layer: As there.
        layers_kept: How many transformer layers there shall be. Default: all.

    Attributes:
        width: Features per frame of one layer.
        samples_per_frame: At 16 kHz.
    """

    layers_field: ClassVar[str]
    """Name of the number of layers in the configuration."""
    width: int
    samples_per_frame: int

    def __init__(
        self, checkpoint: Checkpoint, layer: Layers, layers_kept: int | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self._model: Any = None
        self._device = CPU
        # Files leave out defaults, so the configuration class has to fill them in.
        configuration = self._configuration()
        self._measure(configuration)
        available = int(getattr(configuration, self.layers_field))
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

    def load(self, device: str) -> None:
        """Loads the weights to a device, in single precision, if they are not there yet."""
        if self._model is None:
            self._device = usable_device(device)
            self._model = self._loaded().to(self._device)

    def network(self) -> tuple[torch.nn.Module, tuple[int, ...]]:
        """See :meth:`SpeechEncoder.network`."""
        return self._loaded(), self._taken

    @abstractmethod
    def run(self, waveform: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
        """Conditioned samples ``(N,)`` at 16 kHz to ``(T, dim)``, with the weights loaded."""

    @abstractmethod
    def _measure(self, configuration: Any) -> None:
        """Takes the sizes from the configuration."""

    @abstractmethod
    def _loaded(self) -> torch.nn.Module:
        """The model with its weights, ready for inference."""

    def _configuration(self) -> Any:
        with extra("hub", "this encoder"):
            from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(
                self.checkpoint.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise InputError(f"{self.checkpoint.source}: unusable config.json ({error})") from error

    def _forward(
        self, layers: torch.nn.ModuleList, inputs: torch.Tensor, precision: Precision
    ) -> NDArray[np.float32]:
        """Runs the model on ``(1, ...)`` inputs and catches the layers: ``(T, dim)``."""
        with inference(self._device, precision):
            states = hidden_states(self._model, layers, self._taken, inputs.to(self._device))
        # The encoder may hand out a transposed view.
        features: NDArray[np.float32] = states[0].float().contiguous().cpu().numpy()
        return features

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the weights from disk, which is cheaper than sending them.
        return {**self.__dict__, "_model": None}


class _WaveformHiddenStates(_HiddenStates):
    """wav2vec 2.0 and its relatives: convolutions over the waveform, then a transformer."""

    layers_field = "num_hidden_layers"

    def __init__(
        self,
        checkpoint: Checkpoint,
        layer: Layers,
        layers_kept: int | None = None,
        window_s: float | None = None,
    ) -> None:
        super().__init__(checkpoint, layer, layers_kept)
        if window_s is not None and not 1 <= window_s <= LONGEST_S:
            raise InputError(
                f"window_s: expected 1 to {LONGEST_S:g} seconds, or none for whole clips, got "
                f"{window_s}"
            )
        self._window_s = window_s

    def _measure(self, configuration: Any) -> None:
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

    def run(self, waveform: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
        samples = padded(waveform, self._receptive_field)
        longest_s = self._window_s or LONGEST_S
        if len(samples) <= longest_s * SAMPLING_RATE_HZ:
            return self._run_window(samples, precision)
        if self._window_s is None:
            raise MediaError(
                f"{len(samples) / SAMPLING_RATE_HZ:.0f} s of sound: expected at most "
                f"{LONGEST_S:g} s, which this encoder attends to at once; take it in windows "
                "(window_s, --window-s), or cut it"
            )
        hop = self.samples_per_frame
        kept, context = (round(s * SAMPLING_RATE_HZ) // hop for s in (self._window_s, CONTEXT_S))
        frames = (len(samples) - self._receptive_field) // hop + 1
        parts = []
        for first in range(0, frames, kept):
            begin, end = max(0, first - context), min(frames, first + kept + context)
            window = samples[begin * hop : (end - 1) * hop + self._receptive_field]
            parts.append(self._run_window(window, precision)[first - begin :][:kept])
        return np.concatenate(parts)

    def _run_window(
        self, samples: NDArray[np.float32], precision: Precision
    ) -> NDArray[np.float32]:
        import torch

        inputs = torch.from_numpy(samples)[None]  # (1, N)
        return self._forward(self._model.encoder.layers, inputs, precision)


class _WhisperHiddenStates(_HiddenStates):
    """The Whisper encoder, run on the clip's own length instead of on 30 s of mostly silence.

    The table of positions is cut to the clip. Clips longer than the table (30 s) are processed in
    consecutive windows; a rest shorter than one frame (20 ms) is left out.
    """

    layers_field = "encoder_layers"
    samples_per_frame = _WHISPER_STRIDE

    def _measure(self, configuration: Any) -> None:
        self.width = int(configuration.d_model)
        self._window = int(configuration.max_source_positions) * _WHISPER_STRIDE
        self._mel: Any = None

    def _loaded(self) -> torch.nn.Module:
        import torch

        with extra("hub", "this encoder"):
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

    def network(self) -> tuple[torch.nn.Module, tuple[int, ...]]:
        from vavl.features.whisper import load_encoder

        if not self._taken:
            raise InputError(
                f"layer: expected one or several of {self.checkpoint.source}, a Whisper encoder, "
                "got none"
            )
        heads = int(self._configuration().encoder_attention_heads)
        with loading(self.checkpoint):
            weights = _whisper_encoder_weights(self.checkpoint, self._layers_needed)
            return load_encoder(weights, heads), self._taken

    def run(self, waveform: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
        samples = padded(waveform, _WHISPER_STRIDE)
        return np.concatenate(
            [
                self._run_window(samples[start : start + self._window], precision)
                for start in range(0, len(samples) - _WHISPER_STRIDE + 1, self._window)
            ]
        )

    def _run_window(
        self, samples: NDArray[np.float32], precision: Precision
    ) -> NDArray[np.float32]:
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
        return self._forward(model.layers, mel[..., : 2 * frames], precision)

    def _load_mel(self) -> Any:
        with extra("hub", "this encoder"):
            from transformers import WhisperFeatureExtractor

        settings = dict(self.checkpoint.preprocessor_config)
        settings.setdefault("feature_size", self._configuration().num_mel_bins)
        # Noise that some recipes add against digital silence: features must not change by chance.
        mel: Any = WhisperFeatureExtractor
        return mel(**{**settings, "dither": 0.0})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_mel": None}


def hidden_states(
    model: Any, layers: Any, taken: Sequence[int], inputs: torch.Tensor
) -> torch.Tensor:
    """What layers of a model of transformers make of inputs.

    Args:
        model: The model.
        layers: Its transformer layers.
        taken: k >= 1 is the output of layer number k, 0 the input of the first; none is the output
            of the model.
        inputs: ``(B, ...)``, as the model takes them.

    Returns:
        ``(B, T, width * layers)``, the layers beside each other.
    """
    import torch

    caught: dict[int, torch.Tensor] = {}
    with ExitStack() as hooks:
        for k in taken:
            hooks.callback(_catch(layers, k, caught).remove)
        output = model(inputs).last_hidden_state
    return torch.cat([caught[k] for k in taken] or [output], dim=-1)


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
