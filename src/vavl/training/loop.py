"""The training loop: set up, run epochs, score development speakers, keep the best."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from vavl.config.experiment import ExperimentConfig, TrainingConfig
from vavl.data.dataset import BucketSampler, read_ahead
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.store import FeatureStore
from vavl.distributed import together
from vavl.errors import InputError
from vavl.models.base import EmotionModel
from vavl.models.pretrained import write_features
from vavl.system.atomic import write_json
from vavl.system.memory import keep_memory
from vavl.training.checkpoint import EpochLog, Progress, read_checkpoint, restore, save_checkpoint
from vavl.training.objective import Objective
from vavl.training.run_folder import SCHEMA_VERSION, FoldDirectory
from vavl.training.scoring import development_report
from vavl.training.setup import (
    class_weights,
    compile_layers,
    make_datasets,
    make_model,
    make_optimizer,
    prepare_model,
)
from vavl.training.speakers import normalise_speakers
from vavl.types import Batch, Modality

EpochCallback = Callable[[dict[str, Any], int], None]
"""Called after each epoch with its record and the number of epochs in all."""


def train_fold(
    config: ExperimentConfig,
    manifest: Manifest,
    stores: Mapping[Modality, FeatureStore],
    partition: Partition,
    fold: FoldDirectory,
    fabric: Fabric,
    *,
    on_epoch: EpochCallback | None = None,
) -> EmotionModel:
    """Trains one model on one partition, or goes on where an interrupted training stopped.

    From then on the process keeps memory that it frees, see :func:`vavl.system.memory.keep_memory`.

    Args:
        config: The experiment.
        manifest: Utterance table.
        stores: Feature store per modality.
        partition: Who is in which split; the test split is not touched.
        fold: Where everything is written.
        fabric: Device, precision, and the other ranks, see :func:`vavl.training.setup.make_fabric`.
            All ranks hold the same state; the first one writes.
        on_epoch: Progress display.

    Returns:
        The model of the chosen epoch, in evaluation mode; it is also saved in the fold's folder.
    """
    settings = config.training
    keep_memory()
    fabric.seed_everything(settings.seed, verbose=False)
    train, development = make_datasets(config, manifest, stores, partition)
    model = make_model(config, train, stores)
    if config.data.speaker_normalisation:
        normalise_speakers(model, manifest, stores, train, development)
    # The first rank's word counts: others may not see its files, or see them late.
    checkpoint = fabric.broadcast(
        read_checkpoint(fold.checkpoint_file)
        if fabric.is_global_zero and fold.checkpoint_file.is_file()
        else None
    )
    if checkpoint is None:
        prepare_model(model, train)
    if fabric.is_global_zero:
        partition.save(fold.partition_file)
        read = {m: store.spec for m, store in stores.items() if m in model.config.inputs}
        write_features(fold.path, read)
    if settings.compile:
        compile_layers(model)
    objective = Objective(model, settings, class_weights(train) if settings.class_weights else None)
    optimizer = make_optimizer(model, settings)
    objective, optimizer = fabric.setup(objective, optimizer)
    sampler = BucketSampler(
        train.lengths.max(0).tolist(),
        settings.batch_size,
        seed=settings.seed,
        rank=fabric.global_rank,
        ranks=fabric.world_size,
    )

    precision = fabric.strategy.precision
    progress, best = Progress(), dict[str, Tensor]()
    if checkpoint is not None:
        progress, best = restore(checkpoint, fold.checkpoint_file, model, optimizer, precision)
    with EpochLog(fold, progress.epoch) if fabric.is_global_zero else nullcontext() as log:
        while progress.epoch < settings.epochs and not out_of_patience(progress, settings):
            started = time.perf_counter()
            # One seed per epoch: a resumed run needs no random state to go on bit for bit.
            seed = epoch_seed(settings.seed, progress.epoch, fabric.global_rank)
            fabric.seed_everything(seed, verbose=False)
            sampler.set_epoch(progress.epoch)
            train.draw_variants(epoch_seed(settings.seed, progress.epoch))
            with read_ahead(train.__getitem__, sampler) as batches:
                losses = train_epoch(
                    fabric, objective, optimizer, batches, len(sampler), settings, progress.epoch
                )
            report = development_report(objective, development, fabric) if development else None
            progress.epoch += 1
            value = selection_value(report, settings, progress.epoch)
            if math.isnan(value):
                raise InputError(
                    "data: expected known targets of some development clips that the model can "
                    'predict, got none; label them, or set training.selection = "last"'
                )
            if value > progress.best_value:
                progress.best_value, progress.best_epoch = value, progress.epoch
                best = copy.deepcopy(model.state_dict())
            record = {
                "epoch": progress.epoch,
                "train": losses,
                "development": report,
                "seconds": round(time.perf_counter() - started, 3),
            }
            if log is not None:
                # The record first: a kill between leaves one too many, which resuming drops.
                log.write(record)
                save_checkpoint(fold.checkpoint_file, model, optimizer, precision, progress, best)
            if on_epoch is not None:
                on_epoch(record, settings.epochs)

    model.load_state_dict(best)
    model.eval()
    if fabric.is_global_zero:
        model.save_pretrained(fold.path)
        write_json(
            fold.summary_file,
            SCHEMA_VERSION,
            {
                "best_epoch": progress.best_epoch,
                "best_value": progress.best_value,
                "selection": settings.selection if development else "last",
                "epochs": progress.epoch,
                "without_features": len(train.absent),
            },
        )
        fold.checkpoint_file.unlink(missing_ok=True)
    return model


def train_epoch(
    fabric: Fabric,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    count: int,
    settings: TrainingConfig,
    epoch: int,
) -> dict[str, float]:
    """One pass over the training clips, in ``count`` batches; returns the mean of each loss."""
    objective.train()
    totals: dict[Modality, list[float]] = {}
    for index, read in enumerate(batches):
        batch = read.to(fabric.device)
        rate = learning_rate(settings, epoch + index / count)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for step in objective.steps:
            with together(fabric.device):
                losses = objective(batch, step)
            if not losses:  # no clip of this batch has what the step trains
                continue
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(torch.stack(list(losses.values())).sum())
            if settings.gradient_clip is not None:
                # An overflow of half precision is the scaler's to skip, not an error.
                fabric.clip_gradients(
                    objective,
                    optimizer,
                    max_norm=settings.gradient_clip,
                    error_if_nonfinite=False,
                )
            optimizer.step()
            for modality, loss in losses.items():
                value = loss.item()
                if not math.isfinite(value):
                    raise InputError(
                        f"training.learning_rate: expected finite losses, got {value} for the "
                        f"{modality} prediction in epoch {epoch + 1}; lower the learning rate or "
                        "set training.gradient_clip"
                    )
                totals.setdefault(modality, []).append(value)
    means = {f"{modality}_loss": float(np.mean(values)) for modality, values in totals.items()}
    return {"loss": sum(means.values()), **means}


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed of its own for each epoch of each run and rank, below 2^32 as numpy wants it."""
    parts = (seed, epoch, rank) if rank else (seed, epoch)
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def learning_rate(settings: TrainingConfig, epoch: float) -> float:
    """The step size at a time counted in (fractions of) epochs."""
    rate = settings.learning_rate
    if epoch < settings.warmup_epochs:
        # Not zero, so that the first step moves at all.
        return rate * max(epoch / settings.warmup_epochs, 1e-3)
    if settings.learning_rate_schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    return rate


def selection_value(report: dict[str, Any] | None, settings: TrainingConfig, epoch: int) -> float:
    """What the kept epoch has most of: development score, minus the loss, or the epoch's number."""
    if settings.selection == "last" or report is None:
        return float(epoch)
    return float(report["score"] if settings.selection == "score" else -report["loss"])


def out_of_patience(progress: Progress, settings: TrainingConfig) -> bool:
    """Whether too many epochs have gone by without a better one."""
    return (
        settings.patience is not None
        and progress.best_epoch > 0
        and progress.epoch - progress.best_epoch >= settings.patience
    )
