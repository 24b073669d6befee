"""From a configuration to trained folds: what ``vavl train`` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vavl.config.experiment import ExperimentConfig
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.training.loop import EpochCallback, train_fold
from vavl.training.run_folder import (
    FoldDirectory,
    make_partitions,
    open_run,
    open_stores,
    open_variants,
    record_provenance,
)
from vavl.training.setup import make_fabric, output_names
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

    Under torchrun all processes call it alike, and train together: each batch is
    divided among them, so that the same configuration gives the same result. The first one writes.

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
    fabric = make_fabric(config.training)
    manifest, stores, partitions = begin(config, only, write=fabric.is_global_zero)
    folds = []
    for partition in partitions:
        fold = FoldDirectory(config.run_dir / partition.name)
        finished = fabric.broadcast(fold.finished)
        on_epoch = None
        if fabric.is_global_zero:
            on_epoch = on_fold(fold, finished) if on_fold is not None else None
            for stale in () if finished else fold.path.glob("predictions*.parquet"):
                stale.unlink()
        if not finished:
            train_fold(config, manifest, stores, partition, fold, fabric, on_epoch=on_epoch)
        folds.append(fold)
    fabric.barrier()  # when any rank returns, all is written
    return folds


def begin(
    config: ExperimentConfig, only: Sequence[str] = (), *, write: bool = True
) -> tuple[Manifest, dict[Modality, FeatureStore], list[Partition]]:
    """Opens the data of an experiment, and its run's folder.

    What can be wrong is found before anything is written.

    Args:
        config: The experiment.
        only: Names of partitions; none means all.
        write: Whether the run's folder is made and compared; else another rank does so.

    Returns:
        The utterance table, the feature stores, and the partitions to train.
    """
    manifest = Manifest.load(config.data.manifest)
    stores = open_stores(config)
    partitions = _chosen(make_partitions(config, manifest), only)
    open_variants(config, stores)
    output_names(config, manifest)
    both = len(stores) == len(STREAMS)
    config.check_model((*stores, Modality.AUDIOVISUAL) if both else tuple(stores))
    if write:
        open_run(config)
        record_provenance(config, manifest, stores)
    return manifest, stores, partitions


def _chosen(partitions: list[Partition], only: Sequence[str]) -> list[Partition]:
    names = [partition.name for partition in partitions]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise InputError(f"folds: expected some of {names}, got {unknown}")
    return [partition for partition in partitions if not only or partition.name in only]
