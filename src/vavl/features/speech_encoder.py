"""Pretrained speech encoders as acoustic feature extractors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.features.hidden_states import (
    WAVEFORM_ENCODERS,
    HiddenStates,
    Layers,
    WaveformHiddenStates,
    WhisperHiddenStates,
)
from vavl.features.waveform import Conditioning, ConditioningOptions, WaveformExtractor
from vavl.features.weights import Checkpoint, find_checkpoint
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.types import FeatureSpec, Modality

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


class SpeechEncoder(WaveformExtractor):
    """Hidden states of a pretrained speech encoder of transformers.

    Supported are wav2vec 2.0, HuBERT, WavLM, UniSpeech(-SAT) and wav2vec 2.0 Conformer, and the
    encoder of Whisper on the clip's own length. Weights are read from safetensors in single
    precision, when first needed; layers above the one asked for are not loaded. Clips shorter than
    one frame are padded to one with zeros.

    The whole clip is attended to at once (30 s at a time for Whisper): memory grows with the square
    of its length, see ``max_duration_s``.

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
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`.

    Raises:
        InputError: The source cannot be had, is no supported encoder, or lacks the layer.

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
        **conditioning: Unpack[ConditioningOptions],
    ) -> None:
        self.conditioning = Conditioning(**conditioning)
        checkpoint = find_checkpoint(source, revision)
        self._hidden_states = _hidden_states(checkpoint, layer)
        self._describe({"layer": list(layer) if isinstance(layer, Sequence) else layer})

    def _describe(self, parameters: dict[str, Any]) -> None:
        states = self._hidden_states
        self.spec = FeatureSpec(
            modality=Modality.ACOUSTIC,
            extractor=self.name,
            dim=states.dim,
            frame_rate_hz=SAMPLING_RATE_HZ / states.samples_per_frame,
            parameters={
                **self.conditioning.parameters(),
                **parameters,
                "model_type": states.checkpoint.model_type,
                "config_sha256": states.checkpoint.config_sha256(),
                "sampling_rate_hz": SAMPLING_RATE_HZ,
            },
            weights_sha256=states.checkpoint.weights_sha256,
            source=states.checkpoint.source,
        )

    def load(self) -> None:
        """Loads the weights now instead of with the first clip.

        Raises:
            InputError: The weights are damaged, or do not fit the architecture.
        """
        self._hidden_states.load()

    def _features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._hidden_states.run(waveform)


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
        **conditioning: The attributes of :class:`vavl.features.waveform.Conditioning`;
            ``max_duration_s`` is 12 by default.

    Raises:
        InputError: The source cannot be had, or is not of this architecture.
    """

    name = "wav2vec2-large-robust-12"

    def __init__(
        self,
        source: str | None = None,
        revision: str | None = None,
        **conditioning: Unpack[ConditioningOptions],
    ) -> None:
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
        self._hidden_states = WaveformHiddenStates(checkpoint, None, layers_kept=_PAPER_LAYERS)
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


def _hidden_states(checkpoint: Checkpoint, layer: Layers) -> HiddenStates:
    if checkpoint.model_type == "whisper":
        return WhisperHiddenStates(checkpoint, layer)
    if checkpoint.model_type in WAVEFORM_ENCODERS:
        return WaveformHiddenStates(checkpoint, layer)
    raise InputError(
        f"{checkpoint.source}: expected a speech encoder, one of "
        f"{sorted(WAVEFORM_ENCODERS | {'whisper'})}, got {checkpoint.model_type!r}"
    )


def _names_emotions(checkpoint: Checkpoint) -> bool:
    labels = checkpoint.config.get("id2label") or {}
    return any(str(label).lower().startswith(_EMOTIONS) for label in labels.values())
