"""Sizes of the models: what all have, and VAVL's. :mod:`vavl.config.baselines` has the others'.

What a user chooses is apart from what the data say. A class of sizes holds the choices, e.g.
:class:`VAVLSizes`. The configuration of a model adds what :class:`GivenByData` names, e.g.
:class:`VAVLConfig`. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from vavl.config.base import Configuration, unknown_name, validated
from vavl.errors import InputError
from vavl.types import MOST_FEATURES, STREAMS, Modality

SCHEMA_VERSION = 1
"""Version of the stored configuration of a model (``config.json``)."""

Width = Annotated[int, Field(ge=1, le=MOST_FEATURES)]
"""Channels, features or outputs side by side. All sizes are bounded: a file may claim any."""
Count = Annotated[int, Field(ge=1, le=256)]
"""Layers, blocks, heads, taps."""

DEFAULT_MODEL = "vavl"
"""Name of the model where none is named."""

Presets = Mapping[str, Mapping[str, Any]]
"""Named sets of sizes: what differs from the defaults."""


class Sizes(Configuration):
    """What a user chooses of a model; the defaults are those of the model's paper."""

    presets: ClassVar[Presets] = {"paper": {}}
    """The sets that :meth:`with_preset` knows."""

    name: str
    """Which model it is, e.g. ``vavl`` or ``mult``."""
    predictions: tuple[Modality, ...] = tuple(Modality)
    """Predictions that the model makes: those that it is able to and was trained for. A model that
    makes both unimodal ones alone averages the two for clips with both modalities; a modality that
    no prediction needs is refused."""
    acoustic_subsampling: int = Field(default=1, ge=1, le=16)
    """Steps of the acoustic sequence that are joined into one before the encoder."""
    visual_subsampling: int = Field(default=1, ge=1, le=16)
    """Steps of the visual sequence that are joined into one before the encoder."""

    _table: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """What does not go together; a subclass adds its own."""
        possible = self.possible_predictions()
        if self.predictions and set(self.predictions) <= set(possible):
            return []
        return [
            f"predictions: expected some of {[str(p) for p in possible]}, got "
            f"{[str(p) for p in self.predictions]}"
        ]

    @classmethod
    def class_of(cls, table: object) -> type[Configuration]:
        """The sizes of the model that a ``[model]`` table names."""
        named = table.get("name", DEFAULT_MODEL) if isinstance(table, Mapping) else None
        kinds = [*cls.__subclasses__()]
        for kind in kinds:  # it grows
            kinds += [k for k in kind.__subclasses__() if not issubclass(k, GivenByData)]
        return next((kind for kind in kinds if kind.model_fields["name"].default == named), cls)

    @property
    def solved_beforehand(self) -> bool:
        """Whether a part is solved on the features of all clips before the first step."""
        return False

    @classmethod
    def possible_predictions(cls) -> tuple[Modality, ...]:
        """What the model is able to predict from, given the data to train it."""
        possible: tuple[Modality, ...] = cls.model_fields["predictions"].default
        return possible

    @classmethod
    def with_preset(cls, preset: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a preset, with those that were chosen in place of its own.

        Raises:
            InputError: Unknown preset, or a choice that it does not allow.
        """
        if preset not in cls.presets:
            raise InputError(unknown_name("preset", preset, cls.presets))
        steps = ("acoustic_subsampling", "visual_subsampling")
        if preset == "paper" and any(chosen.get(step, 1) != 1 for step in steps):
            raise InputError(
                f"{', '.join(steps)}: the preset 'paper' has no subsampling; take preset 'small'"
            )
        return {**cls.presets[preset], **chosen}

    def read_from(self, table: Mapping[str, Any]) -> Self:
        """The same sizes, which remember the ``[model]`` table that they were read from."""
        self._table = dict(table)
        return self

    def as_table(self) -> dict[str, Any]:
        """The ``[model]`` table of an experiment: as it was read, or else every value."""
        derived = {"predictions"} - self.model_fields_set
        return dict(self._table) or self.model_dump(mode="json", exclude=derived)


class GivenByData(Configuration):
    """What the data say: the inputs and the outputs of a model."""

    name: str
    acoustic_dim: Width
    """Features per step of the acoustic sequence."""
    visual_dim: Width
    """Features per step of the visual sequence."""
    categories: tuple[str, ...] = ()
    """Names of the emotion categories, in the order of the outputs."""
    attributes: tuple[str, ...] = ()
    """Names of the emotional attributes (outputs in [0, 1]), after the categories."""


GIVEN_BY_DATA = tuple(name for name in GivenByData.model_fields if name != "name")
"""Names of the fields that follow from the data of an experiment."""


class ModelConfig(Sizes, GivenByData):
    """All that a model is built from; stored beside its weights as ``config.json``.

    Use :meth:`preset` for a known set of sizes.
    """

    def _problems(self) -> list[str]:
        problems = []
        if not self.categories and not self.attributes:
            problems.append("categories, attributes: expected at least one output, got none")
        names = (*self.categories, *self.attributes)
        if len(set(names)) < len(names):
            problems.append(f"categories, attributes: expected distinct names, got {names}")
        if len(self.categories) == 1:
            problems.append("categories: expected none or at least two, got one")
        return problems + super()._problems()

    @classmethod
    def of_model(cls) -> str:
        """Name of the model that it is for."""
        return str(cls.model_fields["name"].default)

    @property
    def inputs(self) -> tuple[Modality, ...]:
        """The modalities that the predictions need."""
        both = Modality.AUDIOVISUAL in self.predictions
        return tuple(m for m in STREAMS if both or m in self.predictions)

    @property
    def outputs(self) -> int:
        """Number of outputs: the categories, then the attributes."""
        return len(self.categories) + len(self.attributes)

    def dim(self, modality: Modality) -> int:
        """Features per step that the model expects of a modality."""
        return self.acoustic_dim if modality is Modality.ACOUSTIC else self.visual_dim

    def subsampling(self, modality: Modality) -> int:
        """Steps joined into one before the encoder of a modality."""
        if modality is Modality.ACOUSTIC:
            return self.acoustic_subsampling
        return self.visual_subsampling

    @classmethod
    def preset(
        cls,
        name: str,
        *,
        acoustic_dim: int,
        visual_dim: int,
        categories: Sequence[str] = (),
        attributes: Sequence[str] = (),
        **overrides: Any,
    ) -> Self:
        """A named set of sizes for given inputs and outputs.

        Args:
            name: ``"paper"`` (of VAVL: 53.9 M parameters for 1024/1408 inputs and 6 categories) or
                ``"small"`` (0.4 to 3 M, trains on two CPU cores).
            acoustic_dim: Features per acoustic step.
            visual_dim: Features per visual step.
            categories: Names of the categories.
            attributes: Names of the attributes.
            **overrides: Any other field of this class.

        Raises:
            InputError: Unknown preset, unknown field or a value out of range.
        """
        values = cls.with_preset(name, overrides)
        outputs = {"categories": tuple(categories), "attributes": tuple(attributes)}
        dims = {"acoustic_dim": acoustic_dim, "visual_dim": visual_dim}
        return validated(cls, {**values, **dims, **outputs}, cls.__name__)


class ConformerSizes(Sizes):
    """Sizes of conformers and of the heads behind them."""

    projection_channels: Width = 50
    """Channels of the bias-free projection of each input frame."""
    width: Width = 512
    """Width of the encoders and of the representations."""
    heads: Count = 8
    """Attention heads; must divide ``width``."""
    expansion: Count = 4
    """Inner width of the feed-forward modules as a multiple of ``width``."""
    kernel: Count = 31
    """Taps of the depthwise convolution, odd."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the encoders."""
    input_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of single features of the normalised input frames; the paper has none."""
    head_widths: tuple[Width, ...] = Field(default=(512, 256), max_length=16)
    """Hidden widths of the prediction and reconstruction heads."""
    head_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout after the first layer of each head."""

    def _problems(self) -> list[str]:
        problems = [*super()._problems(), *width_problems(self.width, self.heads)]
        if self.kernel % 2 == 0:
            problems.append(f"kernel: expected an odd number of taps, got {self.kernel}")
        if not self.head_widths:
            problems.append("head_widths: expected at least one hidden width, got none")
        return problems


class ConformerConfig(ConformerSizes, ModelConfig):
    """What a model of conformers is built from."""


def width_problems(width: int, heads: int) -> list[str]:
    """What is wrong with the width of attention whose positions are sines and cosines."""
    if width % heads or width % 2:
        return [f"width: expected an even multiple of heads={heads}, got {width}"]
    return []


SMALL_CONFORMER: dict[str, Any] = {
    "projection_channels": 64,
    "acoustic_subsampling": 4,
    "width": 128,
    "heads": 4,
    "kernel": 7,
    "dropout": 0.2,
    "head_widths": (128, 64),
    "head_dropout": 0.3,
}
"""What the preset ``small`` of all models of conformers has in common."""


class VAVLSizes(ConformerSizes):
    """Sizes of a VAVL model."""

    presets: ClassVar[Presets] = {
        "paper": {},
        "small": {**SMALL_CONFORMER, "encoder_blocks": 1, "shared_blocks": 1},
    }

    name: Literal["vavl"] = "vavl"
    encoder_blocks: Count = 3
    """Conformer blocks of each modality encoder."""
    shared_blocks: int = Field(default=2, ge=0, le=256)
    """Conformer blocks common to both modalities; 0 leaves the shared layers out."""
    residual: bool = True
    """Whether the residual connection bridges the shared layers."""
    fusion_base: Literal["none", "product"] = "none"
    """What the fusion head adds to: nothing, as in the paper; or the product of the two unimodal
    predictions (of attributes the mean), which it then learns to correct."""
    correction_share: float = Field(default=1.0, ge=0, le=1)
    """With a base, how much of the learned correction counts outside training: it was learned on
    clips whose sound and face are told apart better than those of unknown speakers."""
    input_statistics: bool = False
    """Whether each unimodal prediction is the average of the head's and of a linear model's, which
    sees mean and deviation of the input over time, and which ``vavl train`` solves beforehand; the
    paper has the head alone."""
    statistics_inverse_penalty: float = Field(default=0.03, gt=0)
    """How little large weights of that linear model cost, as ``C`` of scikit-learn. The default is
    the best of 0.003, 0.01 and 0.03 on development speakers of RAVDESS, for sound and face
    together."""

    @property
    def solved_beforehand(self) -> bool:
        """As the linear model of the statistics is."""
        return self.input_statistics

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not set(STREAMS) & set(self.predictions):
            problems.append("predictions: expected acoustic or visual among them, got neither")
        return problems


class VAVLConfig(VAVLSizes, ConformerConfig):
    """Sizes of a VAVL model, its inputs, and the names of its outputs.

    Example:
        >>> config = VAVLConfig.preset(
        ...     "small", acoustic_dim=512, visual_dim=35, categories=["happy", "sad"]
        ... )
        >>> config.outputs
        2
    """


class VAVLPlusSizes(VAVLSizes):
    """VAVL with what did well on development speakers beyond the paper.

    The fusion head corrects the product of the unimodal predictions a little, a linear model of the
    input's statistics has a say beside the conformers, and ``small`` projects its input to more
    channels. Every other size, and the model, are VAVL's. docs/results/ravdess.md says what was
    tried, and what it gives.
    """

    presets: ClassVar[Presets] = {
        "paper": {},
        "small": {**VAVLSizes.presets["small"], "projection_channels": 128},
    }

    # The one name in place of the other: nothing that reads VAVL's sizes asks for its name.
    name: Literal["vavl+"] = "vavl+"  # type: ignore[assignment]
    fusion_base: Literal["none", "product"] = "product"
    correction_share: float = Field(default=0.25, ge=0, le=1)
    input_statistics: bool = True


class VAVLPlusConfig(VAVLPlusSizes, VAVLConfig):
    """What a VAVL model beyond the paper is built from."""
