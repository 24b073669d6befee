"""Typed, frozen configuration: each default stands here once.

TOML files are read with :func:`load_experiment`; an unknown key is an error that names the nearest
known one, and every problem of a file is reported in one error. Importing this module does not
import torch.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vavl.errors import InputError, all_problems
from vavl.types import STREAMS, Modality

SCHEMA_VERSION = 1
"""Version of the stored configuration of a model (``config.json``)."""


class Configuration(BaseModel):
    """Base of all configurations: frozen, no unknown keys, docstrings as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class VAVLConfig(Configuration):
    """Sizes of a VAVL model and the names of its outputs.

    The defaults of the sizes are those of the paper. Use :meth:`preset` for a known set.

    Example:
        >>> config = VAVLConfig.preset(
        ...     "small", acoustic_dim=512, visual_dim=35, categories=["happy", "sad"]
        ... )
        >>> config.outputs
        2
    """

    acoustic_dim: int = Field(ge=1)
    """Features per step of the acoustic sequence."""
    visual_dim: int = Field(ge=1)
    """Features per step of the visual sequence."""
    categories: tuple[str, ...] = ()
    """Names of the emotion categories, in the order of the outputs."""
    attributes: tuple[str, ...] = ()
    """Names of the emotional attributes (outputs in [0, 1]), after the categories."""
    predictions: tuple[Modality, ...] = tuple(Modality)
    """Predictions that were trained. Without the audio-visual one, clips with both modalities get
    the average of the two; a modality that is missing here is refused."""

    projection_channels: int = Field(default=50, ge=1)
    """Channels of the bias-free projection of each input frame."""
    acoustic_subsampling: int = Field(default=1, ge=1, le=16)
    """Steps of the acoustic sequence that are joined into one before the encoder."""
    visual_subsampling: int = Field(default=1, ge=1, le=16)
    """Steps of the visual sequence that are joined into one before the encoder."""
    width: int = Field(default=512, ge=2)
    """Width of the conformers and of the representations."""
    encoder_blocks: int = Field(default=3, ge=1)
    """Conformer blocks of each modality encoder."""
    shared_blocks: int = Field(default=2, ge=0)
    """Conformer blocks common to both modalities; 0 leaves the shared layers out."""
    residual: bool = True
    """Whether the residual connection bridges the shared layers."""
    heads: int = Field(default=8, ge=1)
    """Attention heads; must divide ``width``."""
    expansion: int = Field(default=4, ge=1)
    """Inner width of the feed-forward modules as a multiple of ``width``."""
    kernel: int = Field(default=31, ge=1)
    """Taps of the depthwise convolution, odd."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the conformers."""
    input_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of single features of the normalised input frames; the paper has none."""
    head_widths: tuple[int, ...] = (512, 256)
    """Hidden widths of the prediction and reconstruction heads."""
    head_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout after the first layer of each head."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if not self.categories and not self.attributes:
            problems.append("categories, attributes: expected at least one output, got none")
        names = (*self.categories, *self.attributes)
        if len(set(names)) < len(names):
            problems.append(f"categories, attributes: expected distinct names, got {names}")
        if len(self.categories) == 1:
            problems.append("categories: expected none or at least two, got one")
        if self.width % self.heads or self.width % 2:
            problems.append(
                f"width: expected an even multiple of heads={self.heads}, got {self.width}"
            )
        if self.kernel % 2 == 0:
            problems.append(f"kernel: expected an odd number of taps, got {self.kernel}")
        if not set(STREAMS) & set(self.predictions):
            problems.append("predictions: expected acoustic or visual among them, got neither")
        if not self.head_widths:
            problems.append("head_widths: expected at least one hidden width, got none")
        if problems:
            raise ValueError("; ".join(problems))
        return self

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
            name: ``"paper"`` (53.9 M parameters for 1024/1408 inputs and 6 categories) or
                ``"small"`` (1 to 3 M, trains on two CPU cores).
            acoustic_dim: Features per acoustic step.
            visual_dim: Features per visual step.
            categories: Names of the categories.
            attributes: Names of the attributes.
            **overrides: Any other field of this class.

        Raises:
            InputError: Unknown preset, unknown field or a value out of range.
        """
        if name not in MODEL_PRESETS:
            raise InputError(unknown_name("preset", name, MODEL_PRESETS))
        steps = ("acoustic_subsampling", "visual_subsampling")
        if name == "paper" and any(overrides.get(step, 1) != 1 for step in steps):
            raise InputError(
                f"{', '.join(steps)}: the preset 'paper' has no subsampling; take preset 'small'"
            )
        return validated(
            cls,
            {
                "acoustic_dim": acoustic_dim,
                "visual_dim": visual_dim,
                "categories": tuple(categories),
                "attributes": tuple(attributes),
                **MODEL_PRESETS[name],
                **overrides,
            },
            "VAVLConfig",
        )


MODEL_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "projection_channels": 64,
        "acoustic_subsampling": 4,
        "width": 128,
        "encoder_blocks": 1,
        "shared_blocks": 1,
        "heads": 4,
        "kernel": 7,
        "dropout": 0.2,
        "head_widths": (128, 64),
        "head_dropout": 0.3,
    },
}


class DataConfig(Configuration):
    """Which clips, which features, which targets and which split."""

    manifest: Path
    """Utterance table (Parquet), as written by ``vavl prepare``."""
    acoustic: Path | None = None
    """Feature store of the acoustic sequences; None trains without sound."""
    visual: Path | None = None
    """Feature store of the visual sequences; None trains without faces."""
    acoustic_variants: tuple[Path, ...] = ()
    """Further stores of the same sound, e.g. at other speeds; training draws from all of them."""
    categories: tuple[str, ...] | None = None
    """Categories to predict; None takes all that occur in the manifest, () predicts none."""
    attributes: tuple[str, ...] = ()
    """Attributes to predict, e.g. ``["arousal", "valence"]``."""
    paired_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the training clips with both modalities that keep them together."""
    unpaired: Literal["keep", "drop"] = "keep"
    """What becomes of the others: their sound and their face train apart, or are left out."""
    category_targets: Literal["label", "votes"] = "label"
    """Train on the one label of each clip, or on the distribution of the raters' votes."""
    partition: Literal["folds", "kfold", "file"] = "kfold"
    """Folds given in the manifest, seeded speaker-independent k-fold, or ``partition_files``."""
    kfold: int = Field(default=5, ge=2)
    """Number of folds for ``partition = "kfold"``."""
    partition_files: tuple[Path, ...] = ()
    """JSON partitions for ``partition = "file"``."""
    partition_seed: int = 0
    """Seed of the choice of speakers."""
    development_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of the training side's speakers that are set apart for development."""
    balance_by: str | None = None
    """Metadata field over which speakers are balanced, e.g. ``"sex"``."""


class TrainingConfig(Configuration):
    """How the model is trained."""

    schedule: Literal["alternating", "joint"] = "joint"
    """The paper's three steps per batch, or one pass with the fusion head on detached inputs."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the training clips."""
    batch_size: int = Field(default=32, ge=1)
    """Clips per batch; clips of similar length share a batch."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Step size of Adam; the paper's is 5e-5."""
    betas: tuple[float, float] = (0.95, 0.999)
    """Decay rates of Adam's moments."""
    weight_decay: float = Field(default=5e-7, ge=0)
    """Weight decay; ``decoupled_weight_decay`` says which kind."""
    decoupled_weight_decay: bool = False
    """AdamW instead of Adam with an L2 term."""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """Constant as in the paper, or a cosine to zero over all epochs."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs over which the learning rate rises linearly from zero."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient of a step; None leaves it alone."""
    alpha: float | None = Field(default=None, ge=0)
    """Weight of the reconstruction loss; None takes the published 2 (categories) or 1."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over the categories."""
    class_weights: bool = False
    """Weigh categories by the inverse of their frequency in the training split."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that a paired clip loses one modality (either, evenly) in a step."""
    acoustic_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise on the normalised acoustic training features."""
    visual_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of Gaussian noise on the normalised visual training features."""
    time_masking: float = Field(default=0.0, ge=0, lt=1)
    """Largest share of a training sequence that is blanked in one span (SpecAugment, Park 2019)."""
    mixup: float = Field(default=0.0, ge=0)
    """Beta parameter of mixup (Zhang 2018) of clips that have the same modalities; 0 is off."""
    selection: Literal["score", "loss", "last"] = "score"
    """Keep the epoch with the best development score, the lowest development loss, or the last."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many epochs without a better one (needs development speakers)."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of weights, order, dropout and augmentation."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ..."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Numerical precision, as Lightning Fabric names it."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; None leaves torch's default."""


class ExperimentConfig(Configuration):
    """One experiment: data, model, training. Stored with every run as ``config.toml``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run's folder."""
    runs_dir: Path = Path("runs")
    """Folder that holds the runs."""
    data: DataConfig
    model: dict[str, Any] = Field(default_factory=lambda: {"preset": "small"})
    """``preset`` and any size of :class:`VAVLConfig` that differs from it."""
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _model_is_valid(self) -> Self:
        # The data say the dimensions and names later; everything else is checked before a run
        # is begun, so that a misspelt size leaves nothing behind.
        try:
            self.build_model_config(
                acoustic_dim=1, visual_dim=1, categories=("a", "b"), attributes=()
            )
        except InputError as error:
            raise ValueError(f"model: {error}") from None
        if self.training.patience is not None and self.training.selection == "last":
            raise ValueError('training.patience: has no meaning with selection = "last"')
        return self

    @property
    def run_dir(self) -> Path:
        """Where the run is written."""
        return self.runs_dir / self.name

    def build_model_config(
        self,
        *,
        acoustic_dim: int,
        visual_dim: int,
        categories: Sequence[str],
        attributes: Sequence[str],
        predictions: Sequence[Modality] = tuple(Modality),
    ) -> VAVLConfig:
        """The model's configuration, once the data have said the dimensions and the outputs."""
        sizes = dict(self.model)
        return VAVLConfig.preset(
            sizes.pop("preset", "small"),
            acoustic_dim=acoustic_dim,
            visual_dim=visual_dim,
            categories=categories,
            attributes=attributes,
            **{"predictions": tuple(predictions), **sizes},
        )


ConfigurationT = TypeVar("ConfigurationT", bound=Configuration)


def unknown_name(kind: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Says that a name is unknown, and which one was probably meant."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
    return f"{kind}: unknown name {name!r}; {hint}"


def validated(
    cls: type[ConfigurationT], content: Mapping[str, Any], subject: str
) -> ConfigurationT:
    """Builds a configuration, or raises one InputError that lists every problem of the content."""
    try:
        return cls.model_validate(dict(content))
    except ValidationError as error:
        problems = [_describe(cls, dict(problem)) for problem in error.errors()]
        raise InputError(all_problems(subject, problems)) from None


def _describe(cls: type[Configuration], problem: dict[str, Any]) -> str:
    """One line about one problem that pydantic found."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location) or "configuration"
    if problem["type"] == "extra_forbidden":
        known = list(_section(cls, location[:-1]).model_fields)
        return unknown_name(".".join(location[:-1]) or "configuration", location[-1], known)
    if problem["type"] == "missing":
        return f"{key}: expected a value, got none"
    message = problem["msg"].removeprefix("Value error, ")
    if not location:
        return message
    return f"{key}: {message}, got {problem['input']!r}"


def _section(cls: type[Configuration], path: Sequence[str]) -> type[Configuration]:
    """The configuration class of a nested section, also within a table or a list of sections."""
    for part in path:
        field = cls.model_fields.get(part)
        if field is None:  # a name in a table, or a number in a list
            continue
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, Configuration):
                cls = candidate
    return cls


def load_experiment(
    path: Path | str, overrides: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Reads an experiment from TOML; paths in it are relative to the working directory.

    Args:
        path: TOML file.
        overrides: Dotted keys to values, e.g. ``{"training.epochs": 5}``; they win over the file.

    Raises:
        InputError: The file is missing or is not TOML, or some keys or values do not fit: all of
            them are listed.
    """
    content = read_toml(Path(path), "config")
    for key, value in (overrides or {}).items():
        set_dotted(content, key, value)
    return validated(ExperimentConfig, content, str(path))


def read_toml(path: Path, argument: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: The file.
        argument: What the file was given as, for the error.

    Raises:
        InputError: The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{argument}: expected a TOML file, found none at {path}") from None
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{argument}: {path} is not valid TOML: {error}") from None


def set_dotted(content: dict[str, Any], key: str, value: Any) -> None:
    """Sets ``content["a"]["b"]`` for the key ``"a.b"``, making tables on the way."""
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise InputError(f"{key}: {section!r} is a value, not a table")
    content[last] = value


def to_toml(config: Configuration) -> str:
    """The resolved configuration as TOML, every default spelled out; None is left out."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
