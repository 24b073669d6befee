"""The extractors by name: the one place that maps a name to a class and its parameters.

To add one, write a class whose arguments are its parameters and that has a ``name``, and list it
below. One with a network also takes the name of a ``device``. A speech encoder derives from
:class:`vavl.features.waveform.WaveformExtractor`. A network that embeds faces has the members of
:class:`vavl.features.face_features.FaceEmbedder`. An extractor of your own, outside the package, is
made known by :func:`register_extractor`, or by an entry point of its package
(:mod:`vavl.config.plugins`); docs/extending.md has a template.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from os import PathLike
from typing import Any, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vavl.config.plugins import (
    EXTRACTORS,
    import_named_modules,
    is_object,
    load_object,
    load_plugin,
    plugin_names,
)
from vavl.data.manifest import MediaField
from vavl.errors import InputError, VavlError, all_problems, did_you_mean
from vavl.features.arrays import ArrayFeatures
from vavl.features.compact_face import CompactFaceFeatures
from vavl.features.face_features import FaceFeaturesOf
from vavl.features.image_encoder import EfficientNetB2Affectnet, ImageEncoder
from vavl.features.logmel import LogMel, LogMelPitch
from vavl.features.samples import Samples
from vavl.features.speech_encoder import SpeechEncoder, Wav2Vec2LargeRobust12
from vavl.features.weights import nothing_fetched
from vavl.features.whisper import WhisperBase
from vavl.types import STREAMS, FeatureSpec, Modality


class Extractor(Protocol):
    """Makes the features of one clip after another.

    An extractor with weights may also have a method ``load()``, which a batch job calls once
    before the first clip. An error in it stops the job.
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


Builder: TypeAlias = Callable[..., Extractor]
"""Makes an extractor; its parameters, all with names, are those of the extractor."""

BUILDERS: dict[Modality, dict[str, Builder]] = {
    Modality.ACOUSTIC: {
        LogMel.name: LogMel,
        LogMelPitch.name: LogMelPitch,
        Wav2Vec2LargeRobust12.name: Wav2Vec2LargeRobust12,
        WhisperBase.name: WhisperBase,
        Samples.name: Samples,
        ArrayFeatures.name: partial(ArrayFeatures, Modality.ACOUSTIC),
        SpeechEncoder.name: SpeechEncoder,
    },
    Modality.VISUAL: {
        CompactFaceFeatures.name: FaceFeaturesOf(CompactFaceFeatures),
        EfficientNetB2Affectnet.name: FaceFeaturesOf(EfficientNetB2Affectnet),
        ArrayFeatures.name: partial(ArrayFeatures, Modality.VISUAL),
        ImageEncoder.name: FaceFeaturesOf(ImageEncoder),
    },
}
"""What makes the extractors of each modality, by name; those of others too, once they are known."""

_OWN_NAMES = {modality: frozenset(builders) for modality, builders in BUILDERS.items()}


def register_extractor(modality: Modality | str, name: str, builder: Builder) -> None:
    """Makes an extractor of your own known by a name, in this process.

    Register it when the module that defines it is imported. Worker processes import that module
    when they are sent the extractor, so it must not be the script that is run.

    Args:
        modality: ``acoustic`` or ``visual``.
        name: The same as ``spec.extractor``, without a colon; not one of the package.
        builder: The class, or a function that makes an extractor; its parameters have names, and
            one called ``device`` gets that of :func:`build_extractor`. For a
            network that embeds faces: :class:`vavl.features.face_features.FaceFeaturesOf` it.

    Raises:
        InputError: The modality or the name does not fit.

    Example:
        >>> from functools import partial
        >>> from vavl.features.arrays import ArrayFeatures
        >>> register_extractor("acoustic", "egemaps", partial(ArrayFeatures, "acoustic", dim=88))
        >>> build_extractor("acoustic", "egemaps").spec.dim
        88
    """
    modality = _checked(modality)
    if not name or ":" in name or name in _OWN_NAMES[modality]:
        raise InputError(f"name: expected one of your own without a colon, got {name!r}")
    BUILDERS[modality][name] = builder


def extractor_names(modality: Modality | str) -> tuple[str, ...]:
    """The names that :func:`build_extractor` knows for a modality.

    Example:
        >>> print(*extractor_names("visual")[:4])
        compact-face efficientnet-b2-affectnet arrays hf:ID_OR_FOLDER
    """
    import_named_modules()
    modality = _checked(modality)
    own = tuple(
        f"{name}:ID_OR_FOLDER" if _needs_source(builder) else name
        for name, builder in BUILDERS[modality].items()
    )
    others = [plugin.partition(".") for plugin in plugin_names(EXTRACTORS)]
    return tuple(dict.fromkeys([*own, *(name for kind, _, name in others if kind == modality)]))


def build_extractor(
    modality: Modality | str, name: str, *, device: str = "cpu", **parameters: Any
) -> Extractor:
    """Builds an extractor.

    Args:
        modality: ``acoustic`` or ``visual``.
        name: One of :func:`extractor_names`. ``"NAME:SOURCE"`` says where the weights lie, for
            those that take them from somewhere. Or ``"package.module:Class"``, which is imported.
        device: Where its networks run: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"``, or
            ``"auto"`` for an accelerator if there is one. It is no part of the features' key: the
            numbers are the same up to rounding. It is sought when the weights are loaded, in the
            process and on the machine that compute. One without networks computes on the CPU.
        **parameters: Those of its class. A network that embeds faces also takes those of
            :class:`vavl.features.face_features.FaceFeatures`.

    Raises:
        InputError: The name or a parameter is unknown, or a value does not fit.

    Example:
        >>> build_extractor("acoustic", "logmel", max_duration_s=12).spec.dim
        80
    """
    modality = _checked(modality)
    whole, (name, _, source) = name, name.partition(":")
    builder = _builder(modality, name)
    if builder is None and is_object(whole):
        return _build_given(modality, whole, parameters, device)
    if builder is None:
        known = ", ".join(extractor_names(modality))
        raise InputError(
            f"extractor: expected one of {known}, or package.module:Class, for {modality}, got "
            f"{name!r}{did_you_mean(name, BUILDERS[modality])}"
        )
    if source:
        parameters = {"source": source, **parameters}
    if _needs_source(builder) and "source" not in parameters:
        raise InputError(f"extractor: expected {name}:ID_OR_FOLDER, got no id and no folder")
    return _build(name, builder, parameters, device)


def _builder(modality: Modality, name: str) -> Builder | None:
    """What makes the extractor of a name, of the package or of others."""
    if name not in BUILDERS[modality]:
        import_named_modules()
    found = BUILDERS[modality].get(name)
    return found if found is not None else load_plugin(EXTRACTORS, f"{modality}.{name}")


def _build_given(
    modality: Modality, name: str, parameters: dict[str, Any], device: str
) -> Extractor:
    """Builds what ``package.module:Class`` names; by its own name it is known from then on."""
    builder = load_object(name)
    extractor = _build(name, builder, parameters, device)
    if extractor.spec.modality != modality:
        raise InputError(
            f"extractor: expected one of {modality} features, got {name} of "
            f"{extractor.spec.modality} features"
        )
    register_extractor(modality, extractor.spec.extractor, builder)
    return extractor


def rebuild_extractor(
    spec: FeatureSpec,
    *,
    source: str | None = None,
    device: str = "cpu",
    local_files_only: bool = True,
) -> Extractor:
    """Builds the extractor that made the features of a store or a trained model.

    Where its weights no longer lie at ``spec.source``, ``source`` says where they lie. The device
    is that of :func:`build_extractor`, whatever it was when the features were made. Unless
    ``local_files_only`` is False, nothing is fetched from a hub that ``spec`` names; from an
    address that it names, nothing ever is.

    Raises:
        InputError: The extractor is unknown, its weights cannot be found, or the features would
            not be the same: other weights, settings, or another version of the extractor.

    Example:
        >>> spec = build_extractor("acoustic", "logmel", normalization="none").spec
        >>> rebuild_extractor(spec).spec.key == spec.key
        True
    """
    name = spec.extractor
    builder = _builder(spec.modality, name) if spec.modality in BUILDERS else None
    if builder is None:
        raise InputError(
            f"extractor: {spec.modality} {name!r} is not known to this vavl; name the module that "
            "registers it in VAVL_PLUGINS, or install its package (docs/extending.md)"
        )
    if source is None and spec.source is not None and _leads_away(spec.source):
        raise InputError(
            f"extractor: expected a folder or a hub id as the source of {name!r}, got the address "
            f"{spec.source}, which is not followed; fetch the weights, and give their path"
        )
    known = _parameters(builder)
    values = {
        "dim": spec.dim,
        "frame_rate_hz": spec.frame_rate_hz,
        "source": source or spec.source,
        **spec.parameters,
    }
    try:
        with nothing_fetched() if local_files_only else nullcontext():
            taken = {k: v for k, v in values.items() if k in known}
            rebuilt = _build(name, builder, taken, device)
    except VavlError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # of values of any kind
        raise InputError(
            f"extractor: {name!r} cannot take the parameters that are written down ({error}): "
            f"{spec.description}"
        ) from None
    if rebuilt.spec.key != spec.key:
        raise InputError(
            f"extractor: the features of {name!r} would not be the same\n"
            f"  expected: {spec.description}\n"
            f"  got:      {rebuilt.spec.description}\n"
            "Are these other weights, or is this another version of vavl?"
        )
    return rebuilt


def _build(name: str, builder: Builder, parameters: dict[str, Any], device: str) -> Extractor:
    known = _parameters(builder)
    if "device" in known:
        parameters = {**parameters, "device": device}
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


def _needs_source(builder: Builder) -> bool:
    source = inspect.signature(builder).parameters.get("source")
    return source is not None and source.default is source.empty


def _parameters(builder: Builder) -> list[str]:
    """The names of the parameters of a builder."""
    names: list[str] = []
    for name, parameter in inspect.signature(builder, eval_str=True).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            options = get_args(parameter.annotation)  # Unpack[...Options]
            if len(options) != 1 or not hasattr(options[0], "__annotations__"):
                raise InputError(
                    f"{builder}: expected **{name}: Unpack[...] of a TypedDict that names the "
                    f"options, got {parameter}"
                )
            names += options[0].__annotations__
        else:
            names.append(name)
    return names


def _leads_away(source: str) -> bool:
    """Whether a source is an address, or a folder of another machine as Windows names it."""
    return "://" in source or source.replace("\\", "/").startswith("//")


def _checked(modality: Modality | str) -> Modality:
    if modality not in STREAMS:
        raise InputError(f"modality: expected 'acoustic' or 'visual', got {modality!r}")
    return Modality(modality)
