"""Scores of run directories: what ``vavl evaluate`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vavl.config import ExperimentConfig, load_experiment
from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.shards import describe
from vavl.data.store import FeatureStore
from vavl.errors import StoreError
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import Evaluation, evaluate_tables
from vavl.models.pretrained import read_features
from vavl.models.vavl import VAVL
from vavl.training.run import FoldDirectory, folds_of_run, open_stores
from vavl.training.scoring import run_model
from vavl.types import Modality


def predict_fold(
    fold: FoldDirectory,
    manifest: Manifest,
    stores: dict[Modality, FeatureStore],
) -> PredictionTable:
    """Outputs of a trained fold on its test split, computed once and kept beside the weights.

    Raises:
        StoreError: A feature store was made by another extractor than the model was trained on.
    """
    if fold.predictions_file.is_file():
        return PredictionTable.load(fold.predictions_file)
    check_features(fold, stores)
    model = VAVL.from_pretrained(fold.path)
    partition = Partition.load(fold.partition_file)
    dataset = UtteranceDataset(
        manifest,
        partition.test,
        stores,
        categories=model.config.categories,
        attributes=model.config.attributes,
    )
    outputs = {modality: output.numpy() for modality, output in run_model(model, dataset).items()}
    split = len(dataset.categories)
    count = len(dataset)
    labels = np.full(count, -1)
    if dataset.category_targets is not None:
        targets = dataset.category_targets.numpy()
        known = ~np.isnan(targets).any(1)
        labels[known] = targets[known].argmax(1)
    attributes = (
        np.empty((count, 0), dtype=np.float32)
        if dataset.attribute_targets is None
        else dataset.attribute_targets.numpy()
    )
    table = PredictionTable(
        categories=dataset.categories,
        attributes=dataset.attributes,
        utterance_ids=tuple(dataset.ids),
        speakers=tuple(dataset.speakers),
        partitions=(partition.name,) * count,
        category_targets=labels,
        attribute_targets=attributes,
        logits={m: output[:, :split] for m, output in outputs.items()} if split else {},
        attribute_outputs=(
            {m: output[:, split:] for m, output in outputs.items()} if dataset.attributes else {}
        ),
    )
    table.save(fold.predictions_file)
    return table


def check_features(fold: FoldDirectory, stores: dict[Modality, FeatureStore]) -> None:
    """Raises StoreError unless the stores hold the features that the model was trained on."""
    for modality, trained in read_features(fold.path).items():
        store = stores.get(modality)
        if store is not None and store.spec.key != trained.key:
            raise StoreError(
                f"{store.path}: made by another extractor than the {modality} features of the "
                f"model in {fold.path}\n  model: {describe(trained)}\n  store: "
                f"{describe(store.spec)}\nExtract the features again as the model's were."
            )


def evaluate_runs(
    runs: Sequence[Path], *, replicates: int = 2000, seed: int = 0
) -> tuple[Evaluation, list[PredictionTable], dict[str, list[dict[str, object]]]]:
    """Scores all finished folds of some runs together; runs of other seeds are averaged.

    Args:
        runs: Run folders, or folders of single folds.
        replicates: Bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        The evaluation, the tables it was computed from, and the learning curves by fold.

    Raises:
        StoreError: A run without a finished fold, or features that do not fit the model.
    """
    tables: list[PredictionTable] = []
    seeds: list[int] = []
    histories: dict[str, list[dict[str, object]]] = {}
    for run in runs:
        config = run_config(run)
        manifest = Manifest.load(config.data.manifest)
        stores = open_stores(config)
        for fold in folds_of_run(run):
            tables.append(predict_fold(fold, manifest, stores))
            seeds.append(config.training.seed)
            histories[f"{run.name}/{fold.path.name}"] = fold.history()
    labels = seeds if len(set(seeds)) > 1 else None
    return (
        evaluate_tables(tables, seeds=labels, replicates=replicates, seed=seed),
        tables,
        histories,
    )


def run_config(run: Path) -> ExperimentConfig:
    """The configuration of a run, found from the run's folder or from one of its folds."""
    for folder in (run, run.parent):
        if (folder / "config.toml").is_file():
            return load_experiment(folder / "config.toml")
    raise StoreError(f"run: expected a folder written by `vavl train`, got {run}")
