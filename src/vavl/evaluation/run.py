"""Scores of run directories: what ``vavl evaluate`` runs."""

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
from vavl.data.speakers import SEEN_SPEAKERS, SpeakerNormalisation
from vavl.data.store import FeatureStore
from vavl.errors import InputError, StoreError, all_problems
from vavl.evaluation.gaps import ClipsWithGaps, Gaps
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import Evaluation, evaluate_tables
from vavl.models.base import priors
from vavl.models.registry import load_model
from vavl.training.experiment import make_partitions, open_stores, open_variants
from vavl.training.run_folder import (
    FoldDirectory,
    check_provenance,
    configuration_differences,
    folds_of_run,
)
from vavl.training.scoring import Outputs, mean_over_versions, run_model
from vavl.types import Modality, what_it_takes

Variants = Mapping[Modality, Sequence[FeatureStore]]
"""Further stores of the same clips, e.g. of their sound at other speeds."""


def predict_fold(
    fold: FoldDirectory,
    manifest: Manifest,
    stores: dict[Modality, FeatureStore],
    gaps: Gaps | None = None,
    split: Split = "test",
    variants: Variants | None = None,
) -> PredictionTable:
    """Outputs of a trained fold on one of its splits, computed once and kept beside the weights.

    Clips that lack a modality that the model needs are left out.

    Args:
        fold: A finished fold.
        manifest: Utterance table.
        stores: Feature stores, as in training.
        gaps: Steps of the clips that the model does not get to see.
        split: Which clips; scores on any other split than ``test`` are for diagnosis alone.
        variants: Further stores of the same clips, e.g. at other speeds. The output for a clip is
            then the mean over all of them (logits and attributes alike); a clip that a variant
            lacks counts there as it is in ``stores``.

    Raises:
        StoreError: A file of the fold is missing or damaged.
        InputError: No clip has what the model needs.
    """
    file = predictions_file(fold, gaps, split, variants)
    if file.is_file():
        return PredictionTable.load(file)
    model = load_model(fold.path)
    by_speaker = run_config(fold.path).data.speaker_normalisation
    sequence_map = None
    if by_speaker:
        sequence_map = SpeakerNormalisation.of_stores(manifest, stores, priors(model, stores))
    partition = Partition.load(fold.partition_file)

    def clips(stores: Mapping[Modality, FeatureStore]) -> ClipsWithGaps:
        return ClipsWithGaps(
            manifest,
            getattr(partition, split),
            stores,
            categories=model.config.categories,
            attributes=model.config.attributes,
            gaps=gaps or Gaps(),
            sequence_map=sequence_map,
        )

    dataset = clips(stores)
    found = run_model(model, dataset)
    if variants:
        others = [
            run_model(model, clips({**stores, modality: store}))
            for modality, further in variants.items()
            for store in further
        ]
        found = mean_over_versions(found, others)
    if not found.predicted.any():
        raise InputError(
            f"{fold.path}: expected {split} clips with {what_it_takes(model.config.predictions)}, "
            f"got none among {len(dataset)}"
        )
    table = prediction_table(dataset, found, partition.name)
    table.save(file)
    return table


def prediction_table(dataset: UtteranceDataset, found: Outputs, partition: str) -> PredictionTable:
    """Outputs with what they are scored by; clips that lack what the model needs are left out.

    Args:
        dataset: The clips.
        found: Outputs of a model for them.
        partition: Name of the partition.
    """
    rows = np.flatnonzero(found.predicted)
    outputs = {m: output[rows].numpy() for m, output in found.by_modality.items()}
    classes = len(dataset.categories)
    attributes = (
        np.empty((len(rows), 0), dtype=np.float32)
        if dataset.attribute_targets is None
        else dataset.attribute_targets[rows].numpy()
    )
    return PredictionTable(
        categories=dataset.categories,
        attributes=dataset.attributes,
        utterance_ids=tuple(dataset.ids[row] for row in rows),
        speakers=tuple(dataset.speakers[row] for row in rows),
        partitions=(partition,) * len(rows),
        category_targets=dataset.labels[rows].numpy(),
        attribute_targets=attributes,
        logits={m: output[:, :classes] for m, output in outputs.items()} if classes else {},
        attribute_outputs=(
            {m: output[:, classes:] for m, output in outputs.items()} if dataset.attributes else {}
        ),
    )


def predictions_file(
    fold: FoldDirectory,
    gaps: Gaps | None = None,
    split: Split = "test",
    variants: Variants | None = None,
) -> Path:
    """Where the outputs on a split are kept: of each way to look at the clips in a file of its own.

    The variants of a run are those of its configuration, so that one name serves for them.
    """
    plain = fold.predictions_file
    parts = [plain.stem]
    if split != "test":
        parts.append(split)
    if gaps:
        parts.append(gaps.name)
    if variants:
        parts.append("variants")
    return plain.with_name(f"{'-'.join(parts)}{plain.suffix}")


@dataclass(frozen=True)
class RunScores:
    """Scores of some runs, and what they were computed from.

    Attributes:
        evaluation: The scores.
        tables: One per fold.
        histories: Learning curves by run and fold.
    """

    evaluation: Evaluation
    tables: list[PredictionTable]
    histories: dict[str, list[dict[str, Any]]]


def evaluate_runs(
    runs: Sequence[Path],
    *,
    replicates: int = 2000,
    seed: int = 0,
    average_variants: bool = False,
) -> RunScores:
    """Scores all finished folds of some runs together; runs of other seeds are averaged.

    Args:
        runs: Run folders, or folders of single folds, that differ in nothing but their seed.
        replicates: Bootstrap resamples.
        seed: Seed of the resamples.
        average_variants: The output for a clip is the mean over ``data.acoustic`` and all of
            ``data.acoustic_variants``, e.g. over the clip at several speeds.

    Raises:
        InputError: There are no variants to average.
        StoreError: A run without a finished fold, data that have changed since training, or runs
            with different settings.
    """
    tables: list[PredictionTable] = []
    seeds: list[int] = []
    histories: dict[str, list[dict[str, Any]]] = {}
    remarks: list[str] = []
    # The folder that a run or fold lies in is asked for; "." says nothing of it.
    runs = [run.resolve() if run.name in ("", "..") else run for run in runs]
    configs = [run_config(run) for run in runs]
    check_comparable(runs, configs)
    for run, config in zip(runs, configs, strict=True):
        manifest = Manifest.load(config.data.manifest)
        stores = open_stores(config)
        folds = folds_of_run(run)
        check_provenance(folds[0].path.parent, manifest, stores)
        variants = open_variants(config, stores) if average_variants else {}
        if average_variants and not variants:
            raise InputError(
                f"average_variants: expected stores in data.acoustic_variants of {run}, got none"
            )
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
            table = predict_fold(fold, manifest, stores, variants=variants)
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
    evaluation = evaluate_tables(tables, seeds=labels, replicates=replicates, seed=seed)
    return RunScores(replace(evaluation, remarks=tuple(remarks)), tables, histories)


def check_comparable(runs: Sequence[Path], configs: Sequence[ExperimentConfig]) -> None:
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
            + "\nEvaluate runs with different settings one by one."
        )


def run_config(run: Path) -> ExperimentConfig:
    """The configuration of a run, found from the run's folder or from one of its folds."""
    for folder in (run, run.parent):
        if (folder / "config.toml").is_file():
            return load_experiment(folder / "config.toml")
    raise StoreError(f"run: expected a folder written by `vavl train`, got {run}")
