"""The extractors of the package as graphs: from samples and from pictures of faces to features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vavl.errors import InputError, all_problems
from vavl.faces.alignment import LANDMARKS
from vavl.features.compact_face import (
    CROP_SIZE,
    LUMA,
    CompactFaceFeatures,
    crop_template,
    pretrained,
)
from vavl.features.face_features import FaceFeatures
from vavl.features.waveform import Conditioning
from vavl.features.whisper import (
    BANDS,
    FRAME,
    LONGEST,
    STEP,
    WhisperBase,
    cut_frames,
    mel_filters,
    read_encoder,
    scaled_log,
)
from vavl.inference.reader import Reader
from vavl.inference.windows import LONGEST_S
from vavl.media.audio import SAMPLING_RATE_HZ, SILENCE_DBFS
from vavl.types import FeatureSpec, Modality


@dataclass(frozen=True, eq=False)
class Sense:
    """How a modality comes in, and the network that makes features of it.

    Attributes:
        network: Maps what comes in to features ``(1, T, D)`` and a mask ``(1, T)``.
        name: Of what comes in.
        axes: Names of its axes whose length is free, by their number.
        example: Something of its shape.
        about: What somebody must know who makes it, JSON-compatible.
        licence: Of the weights.
    """

    network: nn.Module
    name: str
    axes: Mapping[int, str]
    example: Tensor
    about: Mapping[str, Any]
    licence: str


def build_senses(reader: Reader, streams: tuple[Modality, ...]) -> dict[Modality, Sense]:
    """The extractors of some modalities, by which a clip is read, as graphs.

    Raises:
        InputError: One of them has no graph.
    """
    problems = [_problem(stream, reader.specs.get(stream)) for stream in streams]
    if any(problems):
        found = [problem for problem in problems if problem]
        raise InputError(all_problems("standalone", found))
    return {stream: _SENSES[reader.specs[stream].extractor](reader) for stream in streams}


def _problem(stream: Modality, spec: FeatureSpec | None) -> str | None:
    """Why an extractor has no graph, or None."""
    known = " or ".join(_SENSES)
    if spec is None:
        return f"{stream}: expected features of {known}, got a model that does not say of which"
    if spec.extractor not in _SENSES:
        return (
            f"{stream}: expected features of {known}, got {spec.extractor}, which has no graph; "
            "export without it, and give the graphs features"
        )
    others = {n: spec.parameters.get(n, usual) for n, usual in _USUAL.items()}
    if others != _USUAL:
        return f"{stream}: expected {spec.extractor} with {_USUAL}, got {others}"
    return None


class Ear(nn.Module):
    """whisper-base as a graph: ``(1, N)`` samples at 16 kHz to hidden states.

    Args:
        extractor: Whose numbers it gives.
    """

    waves: Tensor
    filters: Tensor

    def __init__(self, extractor: WhisperBase) -> None:
        super().__init__()
        self.conditioning = extractor.conditioning
        self.layers = extractor.layers
        self.encoder = read_encoder()
        # Two products with matrices: onnxruntime's own transform is slower, and less exact.
        self.register_buffer("waves", _waves())
        self.register_buffer("filters", mel_filters(BANDS, torch.device("cpu")))

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(1, T, D)``, all of them valid."""
        samples = conditioned(waveform[0], self.conditioning)
        parts = (cut_frames(samples) @ self.waves).view(-1, 2, FRAME // 2 + 1)
        mel = scaled_log(parts.square().sum(1) @ self.filters)
        [states] = self.encoder([mel], self.layers)
        return states[None], torch.ones_like(states[None, :, 0], dtype=torch.bool)


def conditioned(samples: Tensor, how: Conditioning) -> Tensor:
    """``(N,)`` samples as :meth:`vavl.features.waveform.Conditioning.apply` makes them."""
    if how.max_duration_s is not None:
        samples = samples[: max(1, round(how.max_duration_s * SAMPLING_RATE_HZ))]
    if how.normalization == "none":
        return samples
    # Not float32: the sum over a long clip would lose digits.
    precise = samples.double()
    if how.normalization == "corpus":
        assert how.corpus_mean is not None  # its own check has seen to both
        assert how.corpus_std is not None
        return ((precise - how.corpus_mean) / how.corpus_std).float()
    precise = precise - precise.mean()
    deviation = precise.square().mean().sqrt()
    return torch.where(deviation > 1e-10, precise / deviation, 0.0).float()


def _waves() -> Tensor:
    """``(400, 2 * 201)`` cosines and sines of a frame's frequencies, under a Hann window."""
    angles = 2 * np.pi / FRAME * np.outer(np.arange(FRAME), np.arange(FRAME // 2 + 1))
    waves = np.hstack([np.cos(angles), np.sin(angles)]) * np.hanning(FRAME + 1)[:-1, None]
    return torch.from_numpy(waves.astype(np.float32))


class Eye(nn.Module):
    """compact-face as a graph: ``(T, 48, 48, 3)`` crops in 0..255 to embeddings.

    Args:
        embedder: Whose numbers it gives.
    """

    luma: Tensor

    def __init__(self, embedder: CompactFaceFeatures) -> None:
        super().__init__()
        self.mirrored = embedder.mirrored
        self.readable_only = embedder.readable_only
        self.network = pretrained()
        self.register_buffer("luma", torch.from_numpy(LUMA))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(1, T, D)``, valid where a crop is a face and not black."""
        grey = (faces.float() @ self.luma).round()
        embed = self.network.embed_both_ways if self.mirrored else self.network.embed
        embeddings = embed(grey)
        seen = grey.amax(dim=(1, 2)) > 0
        if self.readable_only:
            seen = seen & self.network.is_readable(embeddings)
        return embeddings[None], seen[None]


def _ear(reader: Reader) -> Sense:
    extractor = reader.acoustic_extractor
    assert isinstance(extractor, WhisperBase)
    about = {
        "shape": [1, "samples"],
        "range": [-1, 1],
        "sampling_rate_hz": SAMPLING_RATE_HZ,
        "shortest_s": reader.shortest_s,
        "longest_s": LONGEST / SAMPLING_RATE_HZ,
        "part_s": LONGEST_S,
        "speech_only": reader.speech_only,
        "normalization": extractor.conditioning.normalization,
        "feature_rate_hz": extractor.spec.frame_rate_hz,
    }
    if not reader.speech_only:
        about["quietest_dbfs"] = SILENCE_DBFS
    return Sense(
        Ear(extractor).eval(),
        "waveform",
        {1: "samples"},
        torch.linspace(-1, 1, 101 * STEP + 7)[None],
        about,
        _licence("whisper_base.LICENSE.md"),
    )


def _eye(reader: Reader) -> Sense:
    extractor: FaceFeatures = reader.visual_extractor
    embedder = extractor.embedder
    assert isinstance(embedder, CompactFaceFeatures)
    about = {
        "shape": ["steps", CROP_SIZE, CROP_SIZE, 3],
        "channels": "RGB",
        "range": [0, 255],
        "frame_rate_hz": extractor.rate_hz,
        "part_s": LONGEST_S,
        "landmarks": LANDMARKS,
        "landmarks_px": crop_template().tolist(),
        "first_pixel_centre_px": [0.5, 0.5],
        "no_face": "all zeros",
        "normalization": "each crop",
    }
    return Sense(
        Eye(embedder).eval(),
        "faces",
        {0: "steps"},
        torch.arange(5 * CROP_SIZE**2 * 3).view(5, CROP_SIZE, CROP_SIZE, 3).byte(),
        about,
        _licence("LICENSE-WEIGHTS.md"),
    )


def _licence(name: str) -> str:
    return (resources.files("vavl.features") / "assets" / name).read_text(encoding="utf-8")


_SENSES: dict[str, Callable[[Reader], Sense]] = {
    WhisperBase.name: _ear,
    CompactFaceFeatures.name: _eye,
}
_USUAL = {"speed": 1.0, "precision": "float32", "silence_db": None}
"""Parameters that a graph has for one value alone."""
