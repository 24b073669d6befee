"""An experiment: its data opened, and each of its partitions trained, as ``vavl train`` does it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from typing import Any

from vavl.config.experiment import ExperimentConfig
from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition, given_folds, seeded_order, speaker_kfold
from vavl.data.store import FeatureStore
from vavl.distributed import is_restarted
from vavl.errors import InputError, StoreError
from vavl.features.samples import Samples
from vavl.system.locks import alone
from vavl.training.loop import EpochCallback, finish, fit, prepare
from vavl.training.run_folder import (
    FINAL,
    TRAINS_HERE,
    FoldDirectory,
    folds_of_run,
    open_run,
)
from vavl.training.setup import make_encoder, make_fabric
from vavl.types import STREAMS, FeatureSpec, Modality

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

FoldCallback = Callable[[FoldDirectory, bool], EpochCallback | None]
"""Called before each fold with its folder and whether it is finished already."""


def train_experiment(
    config: ExperimentConfig,
    *,
    only: Sequence[str] = (),
    final: bool = False,
    overwrite: bool = False,
    on_fold: FoldCallback | None = None,
) -> list[FoldDirectory]:
    """Trains every partition of an experiment; finished folds are left as they are.

    Under torchrun all processes call it alike, and train together: each batch is divided among
    them, so that the same configuration gives the same result. The first one writes.

    Args:
        config: The experiment.
        only: Names of partitions (``"fold-0"``); none means all.
        final: Whether to train one more model instead, on the clips of all partitions, once these
            are finished: for as many epochs as is the median of those that they kept.
        overwrite: Whether to begin a run that is there anew, whatever it is.
        on_fold: Progress display.

    Raises:
        InputError: Something in the configuration or the data does not fit.
        StoreError: A store or the run's folder cannot be used.
    """
    fabric = make_fabric(config.training)
    manifest, stores, partitions = begin(
        config,
        only,
        final=final,
        write=fabric.is_global_zero,
        overwrite=overwrite and not is_restarted(),
    )
    epochs = epochs_of(config, final=final)
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
            with alone(fold.path, TRAINS_HERE) if fabric.is_global_zero else nullcontext():
                datasets = make_datasets(config, manifest, stores, partition)
                training = prepare(config, manifest, partition, datasets, fold, fabric)
                fit(training, epochs, on_epoch)
                finish(training)
        folds.append(fold)
    fabric.barrier()  # when any rank returns, all is written
    return folds


def begin(
    config: ExperimentConfig,
    only: Sequence[str] = (),
    *,
    final: bool = False,
    write: bool = True,
    overwrite: bool = False,
) -> tuple[Manifest, dict[Modality, FeatureStore], list[Partition]]:
    """Opens the data of an experiment, and its run's folder unless another rank is to write it.

    What can be wrong is found before anything is written or overwritten. Returns the partitions to
    train last.
    """
    manifest = Manifest.load(config.data.manifest)
    stores = open_stores(config)
    partitions = make_partitions(config, manifest)
    names = [partition.name for partition in partitions]
    if unknown := sorted(set(only) - set(names)):
        raise InputError(f"folds: expected some of {names}, got {unknown}")
    if final:
        partitions = [_everybody(config, only, manifest, partitions, overwrite=overwrite)]
    open_variants(config, stores)
    output_names(config, manifest)
    both = len(stores) == len(STREAMS)
    config.check_model((*stores, Modality.AUDIOVISUAL) if both else tuple(stores))
    make_encoder(config)
    if write:
        open_run(config, manifest, stores, overwrite=overwrite)
    return manifest, stores, [p for p in partitions if not only or p.name in only]


def _everybody(
    config: ExperimentConfig,
    only: Sequence[str],
    manifest: Manifest,
    partitions: Sequence[Partition],
    *,
    overwrite: bool,
) -> Partition:
    """All clips of the partitions, to train on; refused unless these are finished."""
    if only or overwrite:
        raise InputError(
            f"final: expected neither folds nor overwrite with it, got {'folds' if only else ''}"
            f"{' and ' if only and overwrite else ''}{'overwrite' if overwrite else ''}"
        )
    left = [p.name for p in partitions if not FoldDirectory(config.run_dir / p.name).finished]
    if left:
        raise InputError(
            f"final: expected all folds of {config.run_dir} to be finished, since they choose the "
            f"number of epochs and show how good it is; not yet finished: {', '.join(left)}; train "
            "them first, and give the same options as then"
        )
    known = {name for p in partitions for name in (*p.train, *p.development, *p.test)}
    return Partition(FINAL, tuple(u.utterance_id for u in manifest if u.utterance_id in known))


def epochs_of(config: ExperimentConfig, *, final: bool = False) -> int:
    """Epochs to train a fold for; or the final model: the median of those that the folds kept."""
    if not final:
        return config.training.epochs
    return round(median(fold.best_epoch for fold in folds_of_run(config.run_dir)))


def open_stores(config: ExperimentConfig) -> dict[Modality, FeatureStore]:
    """Opens the feature stores that the configuration names.

    Raises:
        InputError: It names none, or waveforms without an encoder for them, or the reverse.
        StoreError: A store is missing, damaged or holds another modality.
    """
    stores = {}
    for modality, path in (
        (Modality.ACOUSTIC, config.data.acoustic),
        (Modality.VISUAL, config.data.visual),
    ):
        if path is None:
            continue
        store = FeatureStore.open(path)
        if store.spec.modality != modality:
            raise StoreError(
                f"data.{modality}: expected a store of {modality} features, got one of "
                f"{store.spec.modality} features at {path}"
            )
        stores[modality] = store
    _check_waveforms(config, stores)
    if not stores:
        raise InputError("data.acoustic, data.visual: expected at least one store, got none")
    return stores


def _check_waveforms(config: ExperimentConfig, stores: Mapping[Modality, FeatureStore]) -> None:
    """Waveforms are for an encoder that is tuned, and it takes nothing else."""
    store = stores.get(Modality.ACOUSTIC)
    holds = store is not None and store.spec.extractor == Samples.name
    if store is None or holds == (config.acoustic_encoder is not None):
        return
    raise InputError(
        f"data.acoustic: expected features, got the waveforms in {store.path}; "
        "[acoustic_encoder] says what is to be made of them"
        if holds
        else "data.acoustic: expected waveforms for [acoustic_encoder], got "
        f"{store.spec.extractor!r} features in {store.path}; make a store of them with "
        f"`vavl extract --acoustic {Samples.name}`"
    )


def open_variants(
    config: ExperimentConfig, stores: Mapping[Modality, FeatureStore]
) -> dict[Modality, list[FeatureStore]]:
    """Opens the further stores that training may draw from.

    Raises:
        StoreError: One of them differs from the first store in more than its speed.
    """
    paths = config.data.acoustic_variants
    if not paths:
        return {}
    if Modality.ACOUSTIC not in stores:
        raise InputError("data.acoustic_variants: expected data.acoustic beside them, got none")
    base = stores[Modality.ACOUSTIC]
    variants = [FeatureStore.open(path) for path in paths]
    for variant in variants:
        if _without_speed(variant.spec) != _without_speed(base.spec):
            raise StoreError(
                f"data.acoustic_variants: {variant.path} differs from {base.path} in more than its "
                f"speed\n  {base.spec.description}\n  {variant.spec.description}"
            )
    return {Modality.ACOUSTIC: variants}


def _without_speed(spec: FeatureSpec) -> str:
    parameters = {name: value for name, value in spec.parameters.items() if name != "speed"}
    return replace(spec, parameters=parameters).key


def make_partitions(config: ExperimentConfig, manifest: Manifest) -> list[Partition]:
    """The partitions that the configuration asks for, each checked against the manifest."""
    data = config.data
    if data.partition == "file":
        if not data.partition_files:
            raise InputError('data.partition_files: expected files for partition = "file"')
        partitions = [Partition.load(path) for path in data.partition_files]
        names = [partition.name for partition in partitions]
        distinct = len(set(names)) == len(names) and FINAL not in names
        if not distinct or not all(map(_FOLDER_NAME.fullmatch, names)):
            raise InputError(
                "data.partition_files: expected distinct names that can be folders, and none of "
                f"them {FINAL!r}, got {names}"
            )
    elif data.partition == "folds":
        partitions = given_folds(
            manifest,
            development_share=data.development_share,
            seed=data.partition_seed,
            balance_by=data.balance_by,
        )
    else:
        partitions = speaker_kfold(
            manifest,
            folds=data.kfold,
            development_share=data.development_share,
            seed=data.partition_seed,
            balance_by=data.balance_by,
        )
    for partition in partitions:
        partition.check(manifest)
    return partitions


def make_datasets(
    config: ExperimentConfig,
    manifest: Manifest,
    stores: Mapping[Modality, FeatureStore],
    partition: Partition,
) -> tuple[UtteranceDataset, UtteranceDataset | None]:
    """The training split, and the development split if there is one."""
    categories, attributes = output_names(config, manifest)

    def dataset(ids: Sequence[str], **training_only: Any) -> UtteranceDataset:
        return UtteranceDataset(
            manifest,
            ids,
            stores,
            categories=categories,
            attributes=attributes,
            soft=config.data.category_targets == "votes",
            **training_only,
        )

    development = dataset(partition.development) if partition.development else None
    apart = unpaired_clips(config, stores, partition)
    kept = partition.train
    if config.data.unpaired == "drop":
        kept = tuple(name for name in kept if name not in apart)
        if not kept:
            raise InputError(
                'data.paired_share: expected more than 0 with unpaired = "drop", got '
                f"{config.data.paired_share}: no training clip is left"
            )
    return dataset(kept, variants=open_variants(config, stores), apart=apart), development


def unpaired_clips(
    config: ExperimentConfig, stores: Mapping[Modality, FeatureStore], partition: Partition
) -> frozenset[str]:
    """The training clips with both modalities whose sound and face are torn apart.

    Drawn by the training seed, so that several seeds average over draws. Of two shares the smaller
    one's pairs are among the larger one's.
    """
    paired = [i for i in partition.train if all(m in stores and i in stores[m] for m in STREAMS)]
    kept = round(config.data.paired_share * len(paired))
    return frozenset(seeded_order(paired, config.training.seed, "pairing")[kept:])


def output_names(
    config: ExperimentConfig, manifest: Manifest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Categories and attributes to predict.

    Raises:
        InputError: A name that no utterance of the manifest has.
    """
    data = config.data
    categories = manifest.categories if data.categories is None else data.categories
    for kind, names, known in (
        ("data.categories", categories, manifest.categories),
        ("data.attributes", data.attributes, manifest.attribute_names),
    ):
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise InputError(f"{kind}: expected some of {list(known)}, got {unknown}")
    return tuple(categories), data.attributes
