"""Typed, frozen configuration of experiments: each default stands here once.

TOML files are read with :func:`load_experiment`; an unknown key is an error that names the nearest
known one, and every problem of a file is reported in one error. Importing this module does not
import torch.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
    model_validator,
)

from vavl.config import baselines
from vavl.config.base import Configuration, unknown_name, validated
from vavl.config.models import (
    DEFAULT_MODEL,
    GIVEN_BY_DATA,
    ModelConfig,
    Sizes,
    VAVLConfig,
    VAVLPlusConfig,
)
from vavl.config.plugins import MODELS, import_named_modules, load_plugin, plugin_names
from vavl.config.shipped import find_toml
from vavl.errors import InputError
from vavl.system.extras import extra
from vavl.types import Modality, what_it_takes

_OWN_MODELS: tuple[type[ModelConfig], ...] = (
    VAVLConfig,
    VAVLPlusConfig,
    baselines.LinearConfig,
    baselines.AcousticConformerConfig,
    baselines.VisualConformerConfig,
    baselines.AveragingConfig,
    baselines.ConcatenationConfig,
    baselines.MulTConfig,
    baselines.AuxFormerConfig,
    baselines.UAVMConfig,
    baselines.SFAVConfig,
)

MODEL_CONFIGS = {config.of_model(): config for config in _OWN_MODELS}
"""What every model is built from, by the model's name, in the order in which people see them.

Models of others are among them once they were asked for, or by :func:`all_model_configs`.
"""


def register_model_config(config: type[ModelConfig]) -> None:
    """Makes the configuration of a model of your own known by the model's name, in this process.

    :func:`vavl.models.registry.register_model` calls it.

    Raises:
        InputError: The package itself has a model of that name.
    """
    name = config.of_model()
    if not name or MODEL_CONFIGS.get(name) in _OWN_MODELS:
        raise InputError(f"name: expected one of your own as the default, got {name!r}")
    MODEL_CONFIGS[name] = config


def model_config_class(name: str, subject: str = "model.name") -> type[ModelConfig]:
    """The configuration of a model of that name; an error calls the name by the subject.

    Raises:
        InputError: There is no such model.

    Example:
        >>> model_config_class("mult").possible_predictions()
        (<Modality.AUDIOVISUAL: 'audiovisual'>,)
    """
    if name not in MODEL_CONFIGS:
        import_named_modules()
    if name not in MODEL_CONFIGS and (model := load_plugin(MODELS, name)) is not None:
        register_model_config(model.config_class)
    if name not in MODEL_CONFIGS:
        known = unknown_name(subject, name, (*MODEL_CONFIGS, *plugin_names(MODELS)))
        raise InputError(f"{known}; one of your own is named in VAVL_PLUGINS (docs/extending.md)")
    return MODEL_CONFIGS[name]


def all_model_configs() -> dict[str, type[ModelConfig]]:
    """The configurations of all models by name, those of others included.

    Raises:
        InputError: A module of others cannot be imported.
    """
    import_named_modules()
    for name in plugin_names(MODELS):
        model_config_class(name)
    return dict(MODEL_CONFIGS)


def _read_model(table: object) -> Sizes:
    """The sizes of a ``[model]`` table: those of its preset, where it does not say otherwise."""
    if isinstance(table, Sizes):
        return table
    if not isinstance(table, Mapping):
        raise InputError(f"expected a table, got {table!r}")
    given = [name for name in GIVEN_BY_DATA if name in table]
    if given:
        raise InputError(
            f"expected no {', '.join(given)} in [model]: they follow from the data; choose outputs "
            "with data.categories and data.attributes"
        )
    chosen = dict(table)
    name, preset = str(chosen.pop("name", DEFAULT_MODEL)), str(chosen.pop("preset", "small"))
    values = model_config_class(name, "name").with_preset(preset, chosen)
    sizes = Sizes.class_of({"name": name}).model_validate({"name": name, **values})
    assert isinstance(sizes, Sizes)
    return sizes.read_from(table)


ModelSizes = Annotated[Sizes, PlainValidator(_read_model), PlainSerializer(Sizes.as_table)]
"""The ``[model]`` table: ``name`` of the model (default ``vavl``), ``preset`` (default ``small``),
and any size that differs from it. It is written as it was read."""


def _as_text(path: object) -> object:
    return str(path) if isinstance(path, Path) else path


StorePath = Annotated[str, BeforeValidator(_as_text)]
"""A folder, or an address such as ``s3://bucket/stores/logmel``, which no ``Path`` would keep."""


class DataConfig(Configuration):
    """Which clips, which features, which targets and which split."""

    manifest: Path
    """Utterance table (Parquet), as written by ``vavl prepare``."""
    acoustic: StorePath | None = None
    """Feature store of the acoustic sequences, or its address; None trains without sound."""
    visual: StorePath | None = None
    """Feature store of the visual sequences, or its address; None trains without faces."""
    acoustic_variants: tuple[StorePath, ...] = ()
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
    speaker_normalisation: bool = False
    """Normalise the clips of each speaker by statistics of all their clips, labels unseen."""
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
    """The paper's three steps per batch, or one pass with the fusion head on detached inputs. Only
    VAVL has both; every other model has one step of its own."""
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
    """Weight of VAVL's reconstruction loss; None takes the published 2 (categories) or 1."""
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
    compile: bool = False
    """Compile the conformers' layers (torch.compile): a slow start, then fewer, larger kernels."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; None leaves torch's default."""


class AcousticEncoderConfig(Configuration):
    """A speech encoder that is tuned together with the model, on waveforms."""

    extractor: str = "whisper-base"
    """``whisper-base``, or ``hf:ID_OR_FOLDER`` for a speech encoder of transformers."""
    layer: int | tuple[int, ...] | None = None
    """Layer, or several, that the model sees, as in ``vavl extract``; None takes the extractor's
    own. Blocks above them are left out."""
    tune: str = "lora"
    """``lora`` (low-rank corrections in all blocks), or ``last:N`` (all weights of the last N)."""
    encoder_learning_rate: float = Field(default=1e-4, gt=0)
    """Step size for what is tuned in the encoder; it rises and falls with that of the model."""
    lora_rank: int = Field(default=8, ge=1, le=1024)
    """Rank of each correction."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """A correction counts ``lora_alpha / lora_rank`` times."""
    lora_modules: tuple[Literal["attention", "feed_forward"], ...] = Field(
        default=("attention",), min_length=1
    )
    """Which projections of each block are corrected."""

    @field_validator("extractor")
    @classmethod
    def _has_something_to_tune(cls, extractor: str) -> str:
        if not re.fullmatch(r"whisper-base|hf:.+", extractor):
            raise ValueError(
                f"expected whisper-base or hf:ID_OR_FOLDER, which can be tuned, got {extractor!r}"
            )
        return extractor

    @field_validator("tune")
    @classmethod
    def _is_a_way_to_tune(cls, tune: str) -> str:
        if not re.fullmatch(r"lora|last:[1-9][0-9]{0,2}", tune):
            raise ValueError(f"expected lora, or last:N for the last N blocks, got {tune!r}")
        return tune


class ExperimentConfig(Configuration):
    """One experiment: data, model, training. Stored with every run as ``config.toml``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run's folder."""
    runs_dir: Path = Path("runs")
    """Folder that holds the runs."""
    data: DataConfig
    model: ModelSizes = _read_model({"preset": "small"})
    """The model and its sizes."""
    training: TrainingConfig = TrainingConfig()
    acoustic_encoder: AcousticEncoderConfig | None = None
    """A speech encoder to tune; None trains on the features of the store as they are."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if self.training.patience is not None and self.training.selection == "last":
            problems.append('training.patience: has no meaning with selection = "last"')
        if self.acoustic_encoder is not None:
            problems += self._problems_of_tuning()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems_of_tuning(self) -> list[str]:
        """What does not go together with an encoder whose features change while it is tuned."""
        problems = []
        if self.data.acoustic is None:
            problems.append("data.acoustic: expected a store of waveforms to tune on, got none")
        if self.data.speaker_normalisation:
            problems.append(
                "data.speaker_normalisation: expected false with [acoustic_encoder], whose "
                "features are not known before training, got true"
            )
        if self.model.solved_beforehand:
            problems.append(
                f"model: expected one that learns step by step with [acoustic_encoder], got "
                f"{self.model.name}, which solves linear models of the features beforehand; set "
                "model.input_statistics = false, or take vavl"
            )
        return problems

    @property
    def run_dir(self) -> Path:
        """Where the run is written."""
        return self.runs_dir / self.name

    def check_model(self, trained: Sequence[Modality]) -> None:
        """Raises InputError unless these predictions, if trained, teach the model something."""
        possible = self.model.possible_predictions()
        if not set(possible) & set(trained):
            raise InputError(
                f"model.name: expected training clips with {what_it_takes(possible)} for "
                f"{self.model.name}, got none; check data.acoustic and data.visual, or take "
                "another model"
            )

    def build_model_config(
        self,
        *,
        acoustic_dim: int,
        visual_dim: int,
        categories: Sequence[str],
        attributes: Sequence[str],
        trained: Sequence[Modality] = tuple(Modality),
    ) -> ModelConfig:
        """What the model is built from, once the dimensions and the outputs are known.

        ``trained`` are the predictions that the training clips can train. The model makes these,
        unless the experiment chooses others.

        Raises:
            InputError: A name does not fit, or the clips train nothing of the model.
        """
        self.check_model(trained)
        sizes = dict(self.model)
        if "predictions" not in self.model.model_fields_set:
            sizes["predictions"] = tuple(p for p in sizes["predictions"] if p in trained)
        content = {
            **sizes,
            "acoustic_dim": acoustic_dim,
            "visual_dim": visual_dim,
            "categories": tuple(categories),
            "attributes": tuple(attributes),
        }
        return validated(model_config_class(self.model.name), content, "model")


def load_experiment(
    path: Path | str, overrides: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Reads an experiment from TOML; paths in it are relative to the working directory.

    Args:
        path: TOML file, or the name of one that comes with the package, e.g. ``"folder"``.
        overrides: Dotted keys to values, e.g. ``{"training.epochs": 5}``; they win over the file.

    Raises:
        InputError: The file is missing or is not TOML, or some keys or values do not fit: all of
            them are listed.
    """
    path = find_toml(path, "experiments", "config")
    content = read_toml(path, "config")
    for key, value in (overrides or {}).items():
        set_dotted(content, key, value)
    return validated(ExperimentConfig, content, str(path))


def read_toml(path: Path, argument: str) -> dict[str, Any]:
    """The content of a TOML file that was given as an argument of that name.

    Raises:
        InputError: It cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{argument}: {path} is not valid TOML: {error}") from None


def set_dotted(content: dict[str, Any], key: str, value: Any) -> None:
    """Sets ``content["a"]["b"]`` for the key ``"a.b"``, making tables on the way."""
    *sections, last = key.split(".")
    for section in sections:
        if content.get(section) is None:  # an optional table that is not there yet
            content[section] = {}
        content = content[section]
        if not isinstance(content, dict):
            raise InputError(f"{key}: {section!r} is a value, not a table")
    content[last] = value


def to_toml(config: Configuration) -> str:
    """The resolved configuration as TOML, every default spelled out; None is left out."""
    with extra("train", "writing TOML"):
        import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
