"""From a configuration to trained folds: what ``vavl train`` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vavl.config import ExperimentConfig
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.errors import InputError
from vavl.training.loop import EpochCallback, train_fold
from vavl.training.run import (
    FoldDirectory,
    make_partitions,
    open_run,
    open_stores,
    open_variants,
    record_provenance,
)
from vavl.training.setup import output_names
from vavl.types import STREAMS, Modality

FoldCallback = Callable[[FoldDirectory, bool], EpochCallback | None]
"""Called before each fold with its folder and whether it is finished already."""


def train_experiment(
    config: ExperimentConfig,
    *,
    only: Sequence[str] = (),
    on_fold: FoldCallback | None = None,
) -> list[FoldDirectory]:
    """Trains every partition of an experiment; finished folds are left as they are.

    Args:
        config: The experiment.
        only: Names of partitions (``"fold-0"``); none means all.
        on_fold: Progress display.

    Returns:
        The folders of the trained partitions.

    Raises:
        InputError: Something in the configuration or the data does not fit.
        StoreError: A store or the run's folder cannot be used.
    """
    manifest = Manifest.load(config.data.manifest)
    stores = open_stores(config)
    partitions = _chosen(make_partitions(config, manifest), only)
    # What can be wrong is found before anything is written.
    open_variants(config, stores)
    output_names(config, manifest)
    both = len(stores) == len(STREAMS)
    config.check_model((*stores, Modality.AUDIOVISUAL) if both else tuple(stores))
    open_run(config)
    record_provenance(config, manifest, stores)
    folds = []
    for partition in partitions:
        fold = FoldDirectory(config.run_dir / partition.name)
        on_epoch = on_fold(fold, fold.finished) if on_fold is not None else None
        if not fold.finished:
            for stale in fold.path.glob("predictions*.parquet"):
                stale.unlink()
            train_fold(config, manifest, stores, partition, fold, on_epoch=on_epoch)
        folds.append(fold)
    return folds


def _chosen(partitions: list[Partition], only: Sequence[str]) -> list[Partition]:
    names = [partition.name for partition in partitions]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise InputError(f"folds: expected some of {names}, got {unknown}")
    return [partition for partition in partitions if not only or partition.name in only]
