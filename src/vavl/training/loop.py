"""The training of one fold: prepare, fit epoch by epoch, finish."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vavl.config.experiment import ExperimentConfig, TrainingConfig
from vavl.data.dataset import BucketSampler, UtteranceDataset, read_ahead
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.speakers import SpeakerNormalisation
from vavl.distributed import together
from vavl.errors import InputError, StoreError
from vavl.models.base import EmotionModel, priors
from vavl.models.pretrained import read_encoders, write_encoders, write_features
from vavl.system.atomic import write_json
from vavl.system.memory import keep_memory
from vavl.training.checkpoint import Progress, epoch_log, read_checkpoint, restore, save_checkpoint
from vavl.training.objective import Objective
from vavl.training.run_folder import SCHEMA_VERSION, FoldDirectory
from vavl.training.scoring import development_report
from vavl.training.setup import (
    RELATIVE_RATE,
    class_weights,
    compile_layers,
    make_model,
    make_optimizer,
    prepare_model,
)
from vavl.types import Batch, Modality

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import Precision

EpochCallback = Callable[[dict[str, Any], int], None]
"""Called after each epoch with its record and the number of epochs in all."""


@dataclass
class Training:
    """The training of one fold: what an epoch needs, and where it stands.

    Attributes:
        sampler: Batches of the training split, this rank's share of them.
        objective: The model with its losses; this and the optimizer as Fabric runs them.
        best: The weights of the best epoch so far.
    """

    settings: TrainingConfig
    fold: FoldDirectory
    fabric: Fabric
    train: UtteranceDataset
    development: UtteranceDataset | None
    sampler: BucketSampler
    model: EmotionModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def precision(self) -> Precision:
        """Of the computation; it may have a state, the scale of losses in half precision."""
        return self.fabric.strategy.precision


def prepare(
    config: ExperimentConfig,
    manifest: Manifest,
    partition: Partition,
    datasets: tuple[UtteranceDataset, UtteranceDataset | None],
    fold: FoldDirectory,
    fabric: Fabric,
) -> Training:
    """Everything before the first epoch, or before the one where a training was interrupted.

    All ranks come to the same state; the first one writes. From then on the process keeps memory
    that it frees, see :func:`vavl.system.memory.keep_memory`.

    Args:
        config: The experiment.
        manifest: Says who speaks.
        partition: Who is in which split.
        datasets: Its training split, and its development split if there is one.
        fold: Where everything is written.
        fabric: Device, precision, and the other ranks.
    """
    keep_memory()
    settings = config.training
    train, development = datasets
    fabric.seed_everything(settings.seed, verbose=False)
    model = make_model(config, train)
    if config.data.speaker_normalisation:
        stores, known = train.stores, priors(model, train.stores)
        by_speaker = SpeakerNormalisation.of_stores(manifest, stores, known)
        for dataset in (train, development):
            if dataset is not None:
                dataset.sequence_map = by_speaker
    # What the first rank sees counts: others may not see its files, or see them late.
    checkpoint = fabric.broadcast(
        read_checkpoint(fold.checkpoint_file)
        if fabric.is_global_zero and fold.checkpoint_file.is_file()
        else None
    )
    if checkpoint is None:
        prepare_model(model, train)
    if fabric.is_global_zero:
        if checkpoint is not None and read_encoders(fold.path) != model.described_encoders():
            raise StoreError(
                f"{fold.path}: the weights of the encoder that is tuned have changed since the run "
                "was begun; put them back, or train under another name (--name)"
            )
        partition.save(fold.partition_file)
        inputs = [m for m in model.config.inputs if m in train.stores]
        write_features(fold.path, {m: train.stores[m].spec for m in inputs})
        write_encoders(fold.path, model.described_encoders())
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
    training = Training(
        settings, fold, fabric, train, development, sampler, model, objective, optimizer
    )
    if checkpoint is not None:
        training.progress, training.best = restore(
            checkpoint, fold.checkpoint_file, model, optimizer, training.precision
        )
    return training


def fit(training: Training, epochs: int, on_epoch: EpochCallback | None = None) -> None:
    """Trains up to an epoch; after each one what it came to is recorded, and can be resumed.

    A learning rate with a schedule follows that of ``training.epochs`` also where it ends earlier.
    """
    settings, progress, fold = training.settings, training.progress, training.fold
    first = training.fabric.is_global_zero
    with epoch_log(fold, progress.epoch) if first else nullcontext() as write_record:
        while progress.epoch < epochs and not out_of_patience(progress, settings):
            record = run_epoch(training)
            if write_record is not None:
                # The record first: a kill between leaves one too many, which resuming drops.
                write_record(record)
                save_checkpoint(
                    fold.checkpoint_file,
                    training.model,
                    training.optimizer,
                    training.precision,
                    progress,
                    training.best,
                )
            if on_epoch is not None:
                on_epoch(record, epochs)


def run_epoch(training: Training) -> dict[str, Any]:
    """Trains an epoch, scores it, and keeps the weights if they are best; returns its record."""
    settings, fabric, progress = training.settings, training.fabric, training.progress
    started = time.perf_counter()
    # One seed per epoch: a resumed run needs no random state to go on bit for bit.
    seed = epoch_seed(settings.seed, progress.epoch, fabric.global_rank)
    fabric.seed_everything(seed, verbose=False)
    training.sampler.set_epoch(progress.epoch)
    training.train.draw_variants(epoch_seed(settings.seed, progress.epoch))
    with read_ahead(training.train.__getitem__, training.sampler) as batches:
        losses = train_epoch(
            fabric,
            training.objective,
            training.optimizer,
            batches,
            len(training.sampler),
            settings,
            progress.epoch,
        )
    report = None
    if training.development is not None:
        report = development_report(training.objective, training.development, fabric)
    progress.epoch += 1
    value = selection_value(report, settings, progress.epoch)
    if math.isnan(value):
        raise InputError(
            "data: expected known targets of some development clips that the model can "
            'predict, got none; label them, or set training.selection = "last"'
        )
    if value > progress.best_value:
        progress.best_value, progress.best_epoch = value, progress.epoch
        training.best = copy.deepcopy(training.model.state_dict())
    return {
        "epoch": progress.epoch,
        "train": losses,
        "development": report,
        "seconds": round(time.perf_counter() - started, 3),
    }


def finish(training: Training) -> None:
    """Saves the model of the best epoch, and marks the fold as finished."""
    if not training.fabric.is_global_zero:
        return
    fold, progress = training.fold, training.progress
    training.model.load_state_dict(training.best)
    training.model.save_pretrained(fold.path)
    write_json(
        fold.summary_file,
        SCHEMA_VERSION,
        {
            "best_epoch": progress.best_epoch,
            "best_value": progress.best_value,
            "selection": training.settings.selection if training.development else "last",
            "epochs": progress.epoch,
            "without_features": len(training.train.absent),
        },
    )
    fold.checkpoint_file.unlink(missing_ok=True)


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
    for index, batch in enumerate(batches):
        batch = batch.to(fabric.device)
        rate = learning_rate(settings, epoch + index / count)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get(RELATIVE_RATE, 1.0)
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
