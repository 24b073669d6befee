"""The extractors by their names: the only place that maps a name to what it builds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import MediaField
from vavl.data.shards import describe
from vavl.errors import InputError, all_problems, did_you_mean
from vavl.features.arrays import ArrayFeatures
from vavl.features.efficientnet import NAME as EFFICIENTNET
from vavl.features.face_models import (
    compact_face_features,
    efficientnet_b2_features,
    face_pixel_features,
    hub_face_features,
    random_face_features,
)
from vavl.features.logmel import LogMel, LogMelPitch
from vavl.features.random_projection import RandomLogMel
from vavl.features.speech_encoder import PAPER_PRESET, SpeechEncoder, Wav2Vec2LargeRobust12
from vavl.features.whisper import WhisperBase
from vavl.types import STREAMS, FeatureSpec, Modality


class Extractor(Protocol):
    """Makes the features of one clip after another.

    An extractor with weights may also have a method ``load()``, which a batch job calls once
    before the first clip: what it raises concerns all clips, and stops the job.
    """

    @property
    def spec(self) -> FeatureSpec:
        """What the features are; its key changes with everything that changes the numbers."""

    @property
    def source_field(self) -> MediaField:
        """Field of the manifest that names the file to read."""

    def extract_file(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> NDArray[np.float32]:
        """Features ``(T, D)`` of a file, or of a part of it."""


_HUB = "hf"
_BUILDERS: dict[Modality, dict[str, Callable[..., Extractor]]] = {
    Modality.ACOUSTIC: {
        "logmel": LogMel,
        "logmel-pitch": LogMelPitch,
        "logmel-random": RandomLogMel,
        PAPER_PRESET: Wav2Vec2LargeRobust12,
        WhisperBase.name: WhisperBase,
        "arrays": partial(ArrayFeatures, Modality.ACOUSTIC),
        _HUB: SpeechEncoder,
    },
    Modality.VISUAL: {
        "compact-face": compact_face_features,
        EFFICIENTNET: efficientnet_b2_features,
        "face-pixels": face_pixel_features,
        "face-pixels-random": random_face_features,
        "arrays": partial(ArrayFeatures, Modality.VISUAL),
        _HUB: hub_face_features,
    },
}


def extractor_names(modality: Modality | str) -> tuple[str, ...]:
    """The names that :func:`build_extractor` knows for a modality.

    Example:
        >>> print(*extractor_names("visual"))
        compact-face efficientnet-b2-affectnet face-pixels face-pixels-random arrays hf:ID_OR_FOLDER
    """
    names = _BUILDERS[_checked(modality)]
    return tuple(f"{name}:ID_OR_FOLDER" if name == _HUB else name for name in names)


def build_extractor(modality: Modality | str, name: str, **parameters: Any) -> Extractor:
    """Builds an extractor.

    Args:
        modality: ``acoustic`` or ``visual``.
        name: One of :func:`extractor_names`. ``"NAME:SOURCE"`` says where the weights lie, for
            those that take them from somewhere.
        **parameters: Those of :class:`vavl.features.logmel.LogMel`,
            :class:`vavl.features.speech_encoder.SpeechEncoder`,
            :class:`vavl.features.speech_encoder.Wav2Vec2LargeRobust12`,
            :class:`vavl.features.arrays.ArrayFeatures` and of the functions in
            :mod:`vavl.features.face_models`.

    Raises:
        InputError: The name or a parameter is unknown, or a value does not fit.

    Example:
        >>> build_extractor("acoustic", "logmel", max_duration_s=12).spec.dim
        80
    """
    modality = _checked(modality)
    builders = _BUILDERS[modality]
    name, _, source = name.partition(":")
    if name == _HUB and not (source or "source" in parameters):
        raise InputError("extractor: expected hf:ID_OR_FOLDER, got no id and no folder")
    if source:
        parameters = {"source": source, **parameters}
    if name not in builders:
        known = ", ".join(extractor_names(modality))
        raise InputError(
            f"extractor: expected one of {known} for {modality}, got {name!r}"
            + did_you_mean(name, builders)
        )
    return _build(name, builders[name], parameters)


def rebuild_extractor(spec: FeatureSpec, *, source: str | None = None) -> Extractor:
    """Builds the extractor that made the features of a store or a trained model.

    Args:
        spec: What the features are.
        source: Where the weights lie now, if no longer at ``spec.source``.

    Raises:
        InputError: The extractor is unknown, its weights are not to be had, or the features would
            not be the same: other weights, settings, or another version of the extractor.

    Example:
        >>> spec = build_extractor("acoustic", "logmel", normalization="none").spec
        >>> rebuild_extractor(spec).spec.key == spec.key
        True
    """
    name = spec.extractor
    builder = _BUILDERS.get(spec.modality, {}).get(name)
    if builder is None:
        raise InputError(f"extractor: {spec.modality} {name!r} is not known to this vavl")
    known = _parameters(builder)
    values = {
        "dim": spec.dim,
        "frame_rate_hz": spec.frame_rate_hz,
        "source": source or spec.source,
        **spec.parameters,
    }
    rebuilt = _build(name, builder, {k: v for k, v in values.items() if k in known})
    if rebuilt.spec.key != spec.key:
        raise InputError(
            f"extractor: the features of {name!r} would not be the same\n"
            f"  expected: {describe(spec)}\n"
            f"  got:      {describe(rebuilt.spec)}\n"
            "Are these other weights, or is this another version of vavl?"
        )
    return rebuilt


def _build(name: str, builder: Callable[..., Extractor], parameters: dict[str, Any]) -> Extractor:
    known = _parameters(builder)
    unknown = [
        f"{parameter}: not a parameter of it{did_you_mean(parameter, known)}"
        for parameter in parameters
        if parameter not in known
    ]
    if unknown:
        raise InputError(
            all_problems(f"extractor {name!r}", unknown) + f"\nIt takes: {', '.join(known)}"
        )
    return builder(**parameters)


def _parameters(builder: Callable[..., Extractor]) -> list[str]:
    """What a builder takes by name."""
    names: list[str] = []
    for name, parameter in inspect.signature(builder, eval_str=True).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            [options] = get_args(parameter.annotation)  # Unpack[...Options]
            names += options.__annotations__
        else:
            names.append(name)
    return names


def _checked(modality: Modality | str) -> Modality:
    if modality not in STREAMS:
        raise InputError(f"modality: expected 'acoustic' or 'visual', got {modality!r}")
    return Modality(modality)
