"""Predictions of trained folds for their clips, and the scores of runs: `vavl evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vavl.config.experiment import ExperimentConfig, load_experiment
from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition, Split
from vavl.data.speakers import SEEN_SPEAKERS, SequenceMap, SpeakerNormalisation
from vavl.data.store import FeatureStore
from vavl.errors import InputError, StoreError, all_problems
from vavl.evaluation.conditions import (
    AS_THEY_ARE,
    ClipsWithGaps,
    Condition,
    KnownClips,
    clip_moments,
    known_clips,
    take_away,
)
from vavl.evaluation.groups import group_scores, values_of
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import Evaluation, evaluate_tables
from vavl.models.base import priors
from vavl.training.experiment import make_partitions, open_stores, open_variants
from vavl.training.run_folder import (
    FoldDirectory,
    check_provenance,
    configuration_differences,
    folds_of_run,
)
from vavl.training.scoring import Outputs, mean_over_versions, run_model
from vavl.training.trained import load_trained
from vavl.types import Modality, what_it_takes


def predict_fold(
    fold: FoldDirectory,
    manifest: Manifest,
    stores: Mapping[Modality, FeatureStore],
    condition: Condition = AS_THEY_ARE,
    split: Split = "test",
) -> PredictionTable:
    """Outputs of a trained fold on one of its splits, computed once and kept beside the weights.

    Clips that lack a modality that the model needs are left out. Scores on any other split than
    ``test`` are for diagnosis alone.

    Raises:
        StoreError: A file of the fold is missing or damaged.
        InputError: No clip has what the model needs, a speaker has too few clips for the condition,
            or there are no variants to average.
    """
    file = predictions_file(fold, condition, split)
    if not file.is_file():
        _predicted(fold, manifest, stores, condition, split).save(file)
    return load_predictions(fold, condition, split)


def _predicted(
    fold: FoldDirectory,
    manifest: Manifest,
    stores: Mapping[Modality, FeatureStore],
    condition: Condition,
    split: Split,
) -> PredictionTable:
    """The outputs under a condition, before any clip loses a modality."""
    model, config = load_trained(fold.path), run_config(fold.path)
    partition = Partition.load(fold.partition_file)
    ids: Sequence[str] = getattr(partition, split)
    sequence_map: SequenceMap | None = None
    if condition.known_clips:
        known = known_clips(condition, (manifest.by_id[name] for name in ids))
        training = priors(model, stores)
        moments = {m: clip_moments(stores[m], ids) for m in training}
        sequence_map = KnownClips(known, moments, training)
    elif condition.known_clips is None and config.data.speaker_normalisation:
        sequence_map = SpeakerNormalisation.of_stores(manifest, stores, priors(model, stores))

    def clips(stores: Mapping[Modality, FeatureStore]) -> ClipsWithGaps:
        return ClipsWithGaps(
            manifest,
            ids,
            stores,
            categories=model.config.categories,
            attributes=model.config.attributes,
            condition=condition,
            sequence_map=sequence_map,
        )

    dataset = clips(stores)
    found = run_model(model, dataset)
    if condition.average_variants:
        others = [
            run_model(model, clips({**stores, modality: store}))
            for modality, variants in checked_variants(config, stores).items()
            for store in variants
        ]
        found = mean_over_versions(found, others)
    if not found.predicted.any():
        raise InputError(
            f"{fold.path}: expected {split} clips with {what_it_takes(model.config.predictions)}, "
            f"got none among {len(dataset)}"
        )
    return _table(dataset, found, partition.name)


def load_predictions(
    fold: FoldDirectory, condition: Condition = AS_THEY_ARE, split: Split = "test"
) -> PredictionTable:
    """What :func:`predict_fold` found.

    Raises:
        StoreError: It has not been computed yet, or the file is damaged.
    """
    table = PredictionTable.load(predictions_file(fold, condition, split))
    return take_away(table, condition)


def _table(dataset: UtteranceDataset, found: Outputs, partition: str) -> PredictionTable:
    """Outputs and targets of the clips; those that lack what the model needs are left out."""
    rows = np.flatnonzero(found.predicted)
    outputs = {m: output[rows].numpy() for m, output in found.by_modality.items()}
    classes, targets = len(dataset.categories), dataset.attribute_targets
    return PredictionTable(
        categories=dataset.categories,
        attributes=dataset.attributes,
        utterance_ids=tuple(dataset.ids[row] for row in rows),
        speakers=tuple(dataset.speakers[row] for row in rows),
        partitions=(partition,) * len(rows),
        category_targets=dataset.labels[rows].numpy(),
        attribute_targets=(
            np.empty((len(rows), 0), np.float32) if targets is None else targets[rows].numpy()
        ),
        logits={m: output[:, :classes] for m, output in outputs.items()},
        attribute_outputs={m: output[:, classes:] for m, output in outputs.items()},
    )


def predictions_file(
    fold: FoldDirectory, condition: Condition = AS_THEY_ARE, split: Split = "test"
) -> Path:
    """Where the outputs on a split are kept, in a file for each condition that the model sees."""
    plain = fold.predictions_file
    parts = [plain.stem, "" if split == "test" else split, condition.name]
    return plain.with_name("-".join(filter(None, parts)) + plain.suffix)


def checked_variants(
    config: ExperimentConfig, stores: Mapping[Modality, FeatureStore]
) -> dict[Modality, list[FeatureStore]]:
    """The further stores of the clips, to average outputs over; raises InputError without any."""
    variants = open_variants(config, stores)
    if not variants:
        raise InputError("average_variants: expected stores in data.acoustic_variants, got none")
    return variants


@dataclass(frozen=True)
class RunScores:
    """Scores of some runs, the tables of their folds, and their learning curves by run and fold."""

    evaluation: Evaluation
    tables: list[PredictionTable]
    histories: dict[str, list[dict[str, Any]]]


def evaluate_runs(
    runs: Sequence[Path],
    *,
    replicates: int = 2000,
    seed: int = 0,
    average_variants: bool = False,
    by: Sequence[str] = (),
) -> RunScores:
    """Scores all finished folds of some runs together; runs of other seeds are averaged.

    Args:
        runs: Run folders, or folders of single folds, that differ in nothing but their seed.
        replicates: Bootstrap resamples.
        seed: Seed of the resamples.
        average_variants: See :class:`vavl.evaluation.conditions.Condition`.
        by: Columns of the utterance table whose groups are scored as well, e.g. ``sex``.

    Raises:
        InputError: There are no variants to average, or no such column.
        StoreError: A run without a finished fold, data that have changed since training, or runs
            with different settings.
    """
    condition = Condition(average_variants=average_variants)
    tables: list[PredictionTable] = []
    seeds: list[int] = []
    histories: dict[str, list[dict[str, Any]]] = {}
    remarks: list[str] = []
    # A fold's run is its parent folder, which a path such as "." does not show.
    runs = [run.resolve() if run.name in ("", "..") else run for run in runs]
    configs = [run_config(run) for run in runs]
    _check_comparable(runs, configs)
    manifests = [Manifest.load(config.data.manifest) for config in configs]
    columns = {column: values_of(manifests, column) for column in by}
    for run, config, manifest in zip(runs, configs, manifests, strict=True):
        stores = open_stores(config)
        folds = folds_of_run(run)
        check_provenance(folds[0].path.parent, manifest, stores)
        variants = checked_variants(config, stores) if average_variants else {}
        remarks += [
            f"{run}: the output for a clip is the mean over {1 + len(further)} versions of its "
            f"{modality} features."
            for modality, further in variants.items()
        ]
        if config.data.speaker_normalisation:
            remarks.append(f"{run}: {SEEN_SPEAKERS}")
        expected = len(make_partitions(config, manifest))
        if len(folds) < expected and not FoldDirectory(run).finished:
            remarks.append(f"{run}: {len(folds)} of {expected} folds are trained.")
        for fold in folds:
            table = predict_fold(fold, manifest, stores, condition)
            tested = len(Partition.load(fold.partition_file).test)
            if len(table) < tested:
                remarks.append(
                    f"{fold.path}: {tested - len(table)} of {tested} test clips lack features that "
                    "the model needs and are not scored."
                )
            tables.append(table)
            seeds.append(config.training.seed)
            histories[f"{fold.path.parent.name}/{fold.path.name}"] = fold.history()
    labels = seeds if len(set(seeds)) > 1 else None
    resampling: dict[str, Any] = {"seeds": labels, "replicates": replicates, "seed": seed}
    evaluation = replace(
        evaluate_tables(tables, **resampling),
        groups=group_scores(tables, columns, **resampling),
        remarks=tuple(remarks),
    )
    return RunScores(evaluation, tables, histories)


def _check_comparable(runs: Sequence[Path], configs: Sequence[ExperimentConfig]) -> None:
    """Raises StoreError unless runs differ in nothing but their seed."""
    problems = [
        f"{run}: {difference}"
        for run, config in zip(runs[1:], configs[1:], strict=True)
        for difference in configuration_differences(
            configs[0], config, ignored=("name", "training.seed")
        )
    ]
    if problems:
        raise StoreError(
            all_problems(f"runs: expected the settings of {runs[0]} apart from the seed", problems)
            + "\nEvaluate runs with different settings one by one; `vavl study` compares settings."
        )


def run_config(run: Path) -> ExperimentConfig:
    """The configuration of a run, found from the run's folder or from one of its folds."""
    for folder in (run, run.parent):
        if (folder / "config.toml").is_file():
            return load_experiment(folder / "config.toml")
    raise StoreError(f"run: expected a folder written by `vavl train`, got {run}")
