"""What a study file says: variants, what they are compared by, and what is expected of them.

Everything that decides how the results will be read (reference, metrics, hypotheses) stands in this
file, so that it can be written down, and committed, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vavl.config.base import Configuration, unknown_name, validated
from vavl.config.experiment import read_toml, set_dotted
from vavl.config.shipped import find_toml
from vavl.errors import InputError
from vavl.evaluation.conditions import Condition
from vavl.evaluation.views import View

SET, TEST = "set.", "test."
"""Beginnings of the keys that a sweep may vary."""

Name = Annotated[str, Field(pattern=r"^[^\s|\\][^|\\\n]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class VariantConfig(Configuration):
    """One way of doing it: a few overrides of the base experiment."""

    about: str = ""
    """In a few words, what is different; shown in the report."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Overrides of the experiment, e.g. ``set.model.residual = false``; ``"none"`` is no value."""
    view: View | None = None
    """Which prediction is scored; by default what the model answers for each clip."""
    test: Condition = Condition()
    """What is done to the test clips after training."""


class SweepConfig(VariantConfig):
    """One variant for each value of one setting, alike in all else, drawn as a curve."""

    name: Name
    """The variants are called ``NAME VALUE``."""
    key: str
    """``set.KEY`` of the experiment, or ``test.KEY``, e.g. ``set.training.alpha``."""
    values: tuple[float | str, ...] = Field(min_length=2)
    """The values, numbers or names, in the order of the curve."""
    label: str = ""
    """What the axis of the curve says; by default the key."""

    @model_validator(mode="after")
    def _key_leads_somewhere(self) -> Self:
        if not self.key.startswith((SET, TEST)):
            raise ValueError(f"key: expected set.KEY or test.KEY, got {self.key!r}")
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"values: expected distinct ones, got {list(self.values)}")
        return self

    def variants(self) -> dict[str, float | str]:
        """Names of the variants and their values."""
        return {f"{self.name} {v if isinstance(v, str) else f'{v:g}'}": v for v in self.values}

    def variant(self, value: float | str) -> VariantConfig:
        """The variant at a value.

        Raises:
            InputError: The value is out of range.
        """
        content = self.model_dump(include=set(VariantConfig.model_fields))
        # Whole numbers stay whole: a size of 2.0 is no size.
        whole = isinstance(value, float) and value.is_integer()
        set_dotted(content, self.key, int(value) if whole else value)
        return validated(VariantConfig, content, f"sweep {self.name!r} at {value}")


class HypothesisConfig(Configuration):
    """A claim about the difference of two variants, written down before they are trained.

    It is *confirmed* where the difference lies on the expected side of the margin, and both tests
    can tell it from the margin: that of other speakers (bootstrap) and that of models trained anew
    (folds), each with Holm's correction over the hypotheses. It is *likely* where the first test
    alone can tell: for other speakers, with these models. *Refuted* and *unlikely* are the same on
    the other side; all else is *open*. Where both predict the same, there is nothing to decide, and
    that is what it says.
    """

    claim: str
    """In a sentence, what is expected."""
    variant: str
    """The variant it is about."""
    against: str | None = None
    """What it is compared with; by default the reference."""
    metric: str | None = None
    """By which measure; by default the first of the study's."""
    expect: str = Field(pattern=r"^[<>] *-?[0-9]*\.?[0-9]+$")
    """The expected difference, variant minus the other: e.g. ``"> 0"``, or ``"> -0.02"`` for "not
    worse by 0.02 or more"."""

    @property
    def above(self) -> bool:
        """Whether the difference is expected above the margin."""
        return self.expect.startswith(">")

    @property
    def margin(self) -> float:
        """What the difference is measured against."""
        return float(self.expect[1:])


class CorpusConfig(Configuration):
    """How the utterance table is made from a copy of the corpus; for ``vavl study --root``."""

    name: str
    """As in ``vavl prepare``."""
    out: Path
    """Folder of the table."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Those of ``vavl prepare NAME``, e.g. ``labels = "majority"``."""


class StoreConfig(Configuration):
    """How a feature store is made; for ``vavl study --root``."""

    out: Path
    """Folder of the store."""
    modality: Literal["acoustic", "visual"]
    """What is extracted."""
    extractor: str
    """As in ``vavl extract``, e.g. ``logmel``."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Those of the extractor, e.g. ``layer = 3``."""
    statistics_of: Path | None = None
    """Partition whose training clips give the mean and the deviation of all samples, for
    ``parameters.normalization = "corpus"``."""


class FigureConfig(Configuration):
    """A score that somebody published."""

    variant: str
    """The variant that it is to be compared with."""
    metric: str
    """Its measure, one of the study's."""
    mean: float
    """The score."""
    sd: float | None = None
    """Its standard deviation over partitions, where it was published."""


class PublishedConfig(Configuration):
    """Scores of others, which the report puts beside those of the study."""

    source: str
    """Where they were published."""
    note: str = ""
    """What keeps the two from being the same experiment."""
    figures: tuple[FigureConfig, ...] = ()
    """The scores; none where none is known."""


class StudyConfig(Configuration):
    """A study; ``vavl/config/studies/`` has examples."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the study's folder."""
    title: str = ""
    """Heading of the report."""
    question: str = ""
    """What the study is to answer."""
    base: Path
    """Experiment that all variants start from: a TOML file, looked for beside the study's, or the
    name of one that comes with the package."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Overrides of the base that hold for all variants."""
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1)
    """Training seeds; scores are averaged over them within each fold."""
    folds: tuple[str, ...] = ()
    """Names of the folds; none means all."""
    reference: str
    """The variant that all others are compared with."""
    metrics: tuple[str, ...] = Field(default=("uar",), min_length=1)
    """Measures of the comparisons: ``accuracy``, ``uar``, ``f1_macro``, ``f1_micro``,
    ``ATTRIBUTE_ccc``, and those of :mod:`vavl.metrics.sentiment`; the first one
    is the one that counts."""
    replicates: int = Field(default=5000, ge=100)
    """Resamples of speakers."""
    variants: dict[Name, VariantConfig] = Field(min_length=1)
    """The variants by name."""
    sweeps: tuple[SweepConfig, ...] = ()
    """Further variants, one for each value of a setting."""
    hypotheses: tuple[HypothesisConfig, ...] = ()
    """What is expected."""
    corpus: CorpusConfig | None = None
    """How its utterance table is made; None where it has to be there."""
    stores: tuple[StoreConfig, ...] = ()
    """How its feature stores are made, likewise."""
    published: PublishedConfig | None = None
    """Scores of others, for one table of all metrics beside them."""

    @property
    def variant_names(self) -> list[str]:
        """Names of all variants: the study's own first, then those of the sweeps."""
        return [*self.variants, *(name for sweep in self.sweeps for name in sweep.variants())]

    def variant(self, name: str) -> VariantConfig:
        """A variant by name.

        Raises:
            InputError: It is of a sweep whose value is out of range.
        """
        for sweep in self.sweeps:
            if name in sweep.variants():
                return sweep.variant(sweep.variants()[name])
        return self.variants[name]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        names = self.variant_names
        if len(set(names)) < len(names):
            yield "variants, sweeps: expected distinct names of all variants"
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: expected distinct ones, got {list(self.seeds)}"
        wanted = {"reference": self.reference}
        for number, hypothesis in enumerate(self.hypotheses):
            place, other = f"hypotheses.{number}", hypothesis.against or self.reference
            wanted |= {f"{place}.variant": hypothesis.variant, f"{place}.against": other}
            if other == hypothesis.variant:
                yield f"{place}: expected two variants, got {other!r} twice"
            if hypothesis.metric is not None and hypothesis.metric not in self.metrics:
                yield unknown_name(f"{place}.metric", hypothesis.metric, self.metrics)
        for number, figure in enumerate(self.published.figures if self.published else ()):
            wanted[f"published.figures.{number}.variant"] = figure.variant
            if figure.metric not in self.metrics:
                place = f"published.figures.{number}.metric"
                yield unknown_name(place, figure.metric, self.metrics)
        for place, name in wanted.items():
            if name not in names:
                yield unknown_name(place, name, names)


def load_study(
    path: Path | str, overrides: Mapping[str, Any] | None = None, seeds: Sequence[int] = ()
) -> StudyConfig:
    """Reads a study file (TOML), whose base is looked for beside it.

    A key ``like`` names another study in the same folder, or one that comes with the package. Its
    keys are taken over, except for those that the file has itself.

    Args:
        path: The file, or the name of one that comes with the package, e.g. ``"ablation"``.
        overrides: Dotted keys of the experiment to values, which hold for all variants and win
            over the file, e.g. ``{"data.manifest": "corpus/manifest.parquet"}``.
        seeds: Seeds instead of those of the file.

    Raises:
        InputError: The file is missing or is not TOML, or some keys or values do not fit: all of
            them are listed.
    """
    path = find_toml(path, "studies", "study")
    content = read_toml(path, "study")
    read, folder = [path], path.parent
    while "like" in content:
        read.append(find_toml(str(content.pop("like")), "studies", "like", read[-1].parent))
        if len(set(read)) < len(read):
            chain = " like ".join(file.name for file in read)
            raise InputError(f"like: expected an end, got {chain}")
        inherited = read_toml(read[-1], "like")
        if "base" in inherited and "base" not in content:
            folder = read[-1].parent
        content = inherited | content
    if seeds:
        content["seeds"] = tuple(seeds)
    study = validated(StudyConfig, content, str(path))
    common = dict(flattened(study.set)) | dict(overrides or {})
    base = find_toml(study.base, "experiments", "base", folder)
    return study.model_copy(update={"base": base, "set": common})


def flattened(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested tables; the text ``"none"`` is None, as TOML has no other.

    Example:
        >>> dict(flattened({"model": {"residual": False}, "data": {"visual": "none"}}))
        {'model.residual': False, 'data.visual': None}
    """
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", None if value == "none" else value
