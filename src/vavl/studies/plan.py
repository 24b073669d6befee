"""What a study comes to: variants, the trainings they share, and the tasks that are left.

Two variants with the same overrides share their models: how a prediction is read, and what is done
to the test clips, comes after training. Models are kept by a key of their configuration, so that a
study that is extended keeps what it has, and studies with the same base share it::

    OUT/
      models/KEY/seed-0/    a run, as `vavl train` leaves it: KEY stands for its configuration
      NAME/
        study.toml          the study as it was begun
        results.md, .tex, .csv, folds.csv, *.svg, *.pdf
        failures.csv        tasks that failed, and why
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vavl.config.base import validated
from vavl.config.experiment import ExperimentConfig, load_experiment, set_dotted
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.speakers import SEEN_SPEAKERS
from vavl.errors import InputError, VavlError, all_problems
from vavl.evaluation.conditions import Condition, known_clips
from vavl.evaluation.evaluate import checked_variants, predictions_file
from vavl.evaluation.views import View, ccc_name
from vavl.metrics import CATEGORY_MEASURES
from vavl.metrics.sentiment import ATTRIBUTE as SENTIMENT
from vavl.metrics.sentiment import SENTIMENT_MEASURES
from vavl.studies.config import StudyConfig, VariantConfig, flattened
from vavl.training.experiment import make_partitions, open_stores, open_variants, output_names
from vavl.training.run_folder import FoldDirectory
from vavl.training.setup import make_encoder
from vavl.types import Modality

MODELS = "models"
"""The folder, beside those of the studies, that holds the models of all of them."""


@dataclass(frozen=True)
class Variant:
    """A variant with its experiment.

    Attributes:
        name: As in the study's file.
        about: What is different, and whether it has seen clips of the test speakers.
        experiment: Its configuration with the first seed, apart from where it is run.
        view: Which prediction is scored; None is what the model answers.
        conditions: What is done to the test clips, one for each draw.
    """

    name: str
    about: str
    experiment: ExperimentConfig
    view: View | None
    conditions: tuple[Condition, ...]

    @property
    def key(self) -> str:
        """What its models are kept by: the same for all variants that share them."""
        apart: dict[str, Any] = {"training": {"seed", "device", "threads"}}
        apart |= dict.fromkeys(("name", "runs_dir"), True)
        content = self.experiment.model_dump(mode="json", exclude_defaults=True, exclude=apart)
        # Settings at their defaults are left out: a later option must not orphan earlier models.
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def same_predictions(self, other: Variant) -> bool:
        """Whether the two differ in name alone."""
        return all(
            getattr(self, name) == getattr(other, name) for name in ("key", "view", "conditions")
        )


@dataclass(frozen=True)
class Task:
    """One model: a training of one fold with one seed, and its predictions.

    Attributes:
        experiment: Seed and place on disk included.
        fold: Its name.
        conditions: What is done to the test clips; each has a file of predictions of its own.
        on_training: Whether it predicts its training clips as well, for the diagnosis: as the
            reference's models of the first seed do.
        variants: Names of those that are scored on it.
    """

    experiment: ExperimentConfig
    fold: str
    conditions: tuple[Condition, ...]
    on_training: bool
    variants: tuple[str, ...]

    @property
    def directory(self) -> FoldDirectory:
        """Where the model is kept."""
        return FoldDirectory(self.experiment.run_dir / self.fold)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every table of predictions that it leaves."""
        tested = [predictions_file(self.directory, condition) for condition in self.conditions]
        trained = [predictions_file(self.directory, split="train")] if self.on_training else []
        return (*tested, *trained)

    @property
    def name(self) -> str:
        """For people: the first variant, the seed and the fold."""
        return f"{self.variants[0]}, seed {self.experiment.training.seed}, {self.fold}"


@dataclass(frozen=True)
class Plan:
    """A study with everything resolved.

    Attributes:
        study: The study.
        folder: Where everything is written, apart from the models.
        variants: All variants by name, the study's own first, then those of the sweeps.
        partitions: The folds that are trained and scored, by name.
        tasks: Everything that has to be trained, done or not: seed by seed and fold by fold, so
            that an unfinished study has compared all variants on the same part of it.
    """

    study: StudyConfig
    folder: Path
    variants: dict[str, Variant]
    partitions: dict[str, Partition]
    tasks: tuple[Task, ...] = field(repr=False)

    @property
    def models(self) -> Path:
        """Where the models of all studies are kept."""
        return self.folder.parent / MODELS

    def tasks_of(self, variant: Variant) -> list[Task]:
        """The tasks that a variant is scored on."""
        return [task for task in self.tasks if variant.name in task.variants]


def make_plan(study: StudyConfig, out: Path) -> Plan:
    """Resolves a study, and finds what can be wrong before anything is written or trained.

    Args:
        study: The study.
        out: Folder that holds studies.

    Raises:
        InputError: Variants whose configuration, data or folds do not fit, all in one error.
    """
    if study.name == MODELS:
        raise InputError(f"name: expected another than {MODELS!r}, where the models are kept")
    out = Path(out)
    base = load_experiment(study.base)
    variants: dict[str, Variant] = {}
    sharing: dict[str, list[Variant]] = {}  # by the key of their models
    folds: dict[str, dict[str, Partition]] = {}
    problems: list[str] = []
    for name in study.variant_names:
        try:
            variant = variants[name] = _variant(name, study.variant(name), base, study, out)
            sharing.setdefault(variant.key, []).append(variant)
            if len(sharing[variant.key]) == 1:
                folds[variant.key] = _checked_folds(variant.experiment, study)
        except VavlError as error:
            problems.append(f"variant {name!r}: {error}")
    if not problems:
        partitions = folds[variants[study.reference].key]
        problems += [
            f"variant {sharing[key][0].name!r}: expected the folds of the reference "
            f"({', '.join(partitions)}), got other test clips or {', '.join(others)}"
            for key, others in folds.items()
            if _tested(others) != _tested(partitions)
        ]
        problems += _store_problems(variants.values(), partitions.values())
        problems += _condition_problems(variants.values(), partitions.values())
    if problems:
        raise InputError(all_problems(f"study {study.name}", problems))
    tasks = [
        _task(trained_once, seed, fold, study)
        for seed in study.seeds
        for fold in partitions
        for trained_once in sharing.values()
    ]
    return Plan(study, out / study.name, variants, partitions, tuple(tasks))


def _variant(
    name: str, config: VariantConfig, base: ExperimentConfig, study: StudyConfig, out: Path
) -> Variant:
    content: dict[str, Any] = base.model_dump(mode="python")
    for key, value in {**study.set, **dict(flattened(config.set))}.items():
        set_dotted(content, key, value)
    set_dotted(content, "training.seed", study.seeds[0])
    of_attributes = [metric for metric in study.metrics if metric not in CATEGORY_MEASURES]
    if config.view is View.PRODUCT and of_attributes:
        raise InputError(
            f"view: expected another than {config.view} for {', '.join(of_attributes)}: only "
            "probabilities of categories can be multiplied"
        )
    if content["training"].get("threads") is None:
        # One: the numbers then do not depend on how many tasks run beside each other.
        content["training"]["threads"] = 1
    experiment = validated(ExperimentConfig, content, name)
    condition = config.test
    if condition.known_clips == 0 and not experiment.data.speaker_normalisation:
        condition = condition.model_copy(update={"known_clips": None})  # the clips as they are
    about = f"{config.about} {_seen_clips(condition, experiment)}".strip()
    variant = Variant(name, about, experiment, config.view, condition.single_draws())
    place = {"runs_dir": out / MODELS / variant.key}
    return replace(variant, experiment=experiment.model_copy(update=place))


def _seen_clips(condition: Condition, experiment: ExperimentConfig) -> str:
    """What every report has to say of a variant that has seen clips of the test speakers."""
    if condition.known_clips is None:
        return SEEN_SPEAKERS if experiment.data.speaker_normalisation else ""
    if condition.known_clips == 0:
        return ""
    return (
        f"Has seen other {condition.known_category or 'unlabelled'} clips of each test clip's "
        f"speaker ({condition.known_clips} of them): not to be compared with results without."
    )


def _checked_folds(config: ExperimentConfig, study: StudyConfig) -> dict[str, Partition]:
    """The study's partitions of an experiment, once its data have been found to fit."""
    manifest = Manifest.load(config.data.manifest)
    open_variants(config, open_stores(config))
    make_encoder(config)
    categories, attributes = output_names(config, manifest)
    partitions = {partition.name: partition for partition in make_partitions(config, manifest)}
    measures = [
        *(CATEGORY_MEASURES if categories else ()),
        *map(ccc_name, attributes),
        *(SENTIMENT_MEASURES if SENTIMENT in attributes else ()),
    ]
    for what, asked, known in (
        ("folds", study.folds, list(partitions)),
        ("metrics", study.metrics, measures),
    ):
        unknown = sorted(set(asked) - set(known))
        if unknown:
            raise InputError(f"{what}: expected some of {', '.join(known)}, got {unknown}")
    return {name: partitions[name] for name in (study.folds or partitions)}


def _tested(partitions: Mapping[str, Partition]) -> dict[str, frozenset[str]]:
    return {name: frozenset(partition.test) for name, partition in partitions.items()}


def _store_problems(variants: Iterable[Variant], partitions: Iterable[Partition]) -> Iterator[str]:
    """Stores that lack clips which another variant's store of the same modality holds.

    A clip without features loses the modality, or is not scored at all: without this check, a
    variant would be compared on an easier or a harder set of clips than the others.
    """
    clips = {name for p in partitions for name in (*p.train, *p.development, *p.test)}
    held: dict[Modality, dict[str, set[str]]] = {}
    for variant in variants:
        for modality, store in open_stores(variant.experiment).items():
            if store.path not in held.setdefault(modality, {}):
                held[modality][store.path] = clips.intersection(store.ids)
    for modality, stores in held.items():
        for path, found in stores.items():
            lacking = sorted(set().union(*stores.values()) - found)
            if lacking:
                yield (
                    f"data.{modality}: {path} lacks {len(lacking)} clips that another variant's "
                    f"store holds (first: {lacking[0]}); finish its extraction, or leave the clips "
                    "out of the utterance table"
                )


def _condition_problems(
    variants: Iterable[Variant], partitions: Collection[Partition]
) -> Iterator[str]:
    """Conditions that the test clips, or the stores, cannot meet."""
    for variant in variants:
        condition, experiment = variant.conditions[0], variant.experiment
        try:
            if condition.average_variants:
                checked_variants(experiment, open_stores(experiment))
            if condition.known_clips:
                by_id = Manifest.load(experiment.data.manifest).by_id
                for partition in partitions:
                    known_clips(condition, map(by_id.__getitem__, partition.test))
        except InputError as error:
            yield f"variant {variant.name!r}: {error}"


def _task(sharing: Sequence[Variant], seed: int, fold: str, study: StudyConfig) -> Task:
    experiment = sharing[0].experiment
    training = experiment.training.model_copy(update={"seed": seed})
    conditions = {c.name: c for variant in sharing for c in variant.conditions}
    names = tuple(variant.name for variant in sharing)
    return Task(
        experiment.model_copy(update={"name": f"seed-{seed}", "training": training}),
        fold,
        tuple(conditions.values()),
        on_training=study.reference in names and seed == study.seeds[0],
        variants=names,
    )
