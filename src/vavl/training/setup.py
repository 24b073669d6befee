"""What the loop needs before its first step: device, model, optimizer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vavl.config.experiment import ExperimentConfig, TrainingConfig
from vavl.data.dataset import UtteranceDataset, sorted_batches
from vavl.distributed import launched_ranks, leave_at_exit
from vavl.errors import InputError
from vavl.features.tunable import TunableEncoder
from vavl.models.base import EmotionModel, Encoder
from vavl.models.conformer import FeedForward, RelativeSelfAttention
from vavl.models.registry import build_model
from vavl.system.extras import extra
from vavl.training.objective import Targets, task_loss
from vavl.types import STREAMS, Modality

with extra("train", "training"):
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy


def make_fabric(settings: TrainingConfig) -> Fabric:
    """Lightning Fabric on the configured device and precision, seeded.

    Where torchrun has started this process beside others, it joins them.

    Raises:
        InputError: The device cannot be used here.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    kind, _, number = settings.device.partition(":")
    try:
        if launched_ranks() > 1:
            if number:
                raise ValueError("each process takes a device of its own, so it has no number")
            fabric = _distributed_fabric(kind, settings)
        else:
            devices = [int(number)] if number else 1
            fabric = Fabric(accelerator=kind, devices=devices, precision=settings.precision)
    except InputError:
        raise
    except (ValueError, RuntimeError) as error:  # Fabric's own misconfiguration error is one
        raise InputError(
            f"training.device: {settings.device!r} cannot be used here ({error}); expected auto, "
            "cpu, cuda, cuda:N or mps"
        ) from None
    fabric.seed_everything(settings.seed, verbose=False)
    return fabric


def _distributed_fabric(kind: str, settings: TrainingConfig) -> Fabric:
    """Joins the other ranks of torchrun, by gloo on CPUs and NCCL on GPUs."""
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    machines, left = divmod(launched_ranks(), here)
    if left:
        raise InputError(
            f"processes: expected as many on each machine, got {launched_ranks()} in all, of which "
            f"{here} here; start equal numbers, on Ray where no other job holds a part of a machine"
        )
    strategy = DDPStrategy(
        cluster_environment=TorchElasticEnvironment(),
        # A step trains a part of the model alone, and a batch may lack what a part learns from.
        find_unused_parameters=True,
    )
    fabric = Fabric(
        accelerator=kind,
        devices=here,
        num_nodes=machines,
        strategy=strategy,
        precision=settings.precision,
    )
    fabric.launch()
    leave_at_exit()
    return fabric


def make_encoder(config: ExperimentConfig) -> TunableEncoder | None:
    """The encoder to tune, if there is one.

    Raises:
        InputError: It cannot be found, or lacks what is asked for.
    """
    if config.acoustic_encoder is None:
        return None
    # What it draws at random is its own: the rest of the model begins as without it.
    with torch.random.fork_rng(devices=[]):
        return TunableEncoder(config.acoustic_encoder)


def make_model(config: ExperimentConfig, train: UtteranceDataset) -> EmotionModel:
    """A fresh model with the normalisation of the training speakers' features.

    Those that an encoder in front of it makes are normalised by :func:`prepare_model`.
    """
    # A modality without a store keeps a branch of the smallest size, which the model never uses.
    dims = {m: train.stores[m].spec.dim if m in train.stores else 1 for m in STREAMS}
    encoder = make_encoder(config)
    if encoder is not None:
        dims[Modality.ACOUSTIC] = encoder.dim
    model = build_model(
        config.build_model_config(
            acoustic_dim=dims[Modality.ACOUSTIC],
            visual_dim=dims[Modality.VISUAL],
            categories=train.categories,
            attributes=train.attributes,
            trained=trained_predictions(train),
        )
    )
    if encoder is not None:
        model.put_in_front(Modality.ACOUSTIC, encoder)
    for modality in model.config.inputs:
        if model.front(modality) is None:
            model.normalisation(modality).set_statistics(*train.feature_statistics(modality))
    return model


MOST_CLIPS = 20_000
"""Training clips at most from which a model learns beforehand; it may keep a part of each."""

_BATCH = 32
"""Clips per batch of those."""


def prepare_model(model: EmotionModel, train: UtteranceDataset) -> None:
    """Lets a fresh model learn beforehand what it does not learn step by step.

    That is the normalisation of what an encoder in front of it makes before its tuning, and what
    the model itself learns, by the task loss. Clips are read whole, and from their first store.
    """
    targets = Targets(train.category_targets, train.attribute_targets)
    drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:MOST_CLIPS]
    batches = sorted_batches(train.lengths.max(0)[drawn].tolist(), _BATCH)
    places = [drawn[batch] for batch in batches]
    for modality in model.config.inputs:
        encoder = model.front(modality)
        if encoder is not None:
            sequences = (train[rows.tolist()].inputs.get(modality) for rows in places)
            statistics = encoded_statistics(encoder, filter(None, sequences))
            model.normalisation(modality).set_statistics(*statistics)
    model.prepare(
        ((rows, train[rows.tolist()].inputs) for rows in places),
        lambda start, outputs, rows: task_loss(outputs, targets.at(rows), start=start),
    )


@torch.no_grad()
def encoded_statistics(
    encoder: Encoder, sequences: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(D,)`` over all steps that an encoder makes of batches.

    Sums are kept in float64 around the first step, so that large offsets do not cancel.
    """
    origin, total, squares = torch.zeros(3, encoder.dim, dtype=torch.float64)
    count = 0
    for x, mask in sequences:
        present = mask.any(1)
        if not present.any():
            continue
        states, valid = encoder(x[present], mask[present])
        steps = states[valid].double()  # (n, D)
        if not count:
            origin = steps[0].clone()
        steps -= origin
        count += len(steps)
        total += steps.sum(0)
        squares += steps.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return (origin + mean).float(), std.float()


def compile_layers(model: EmotionModel, backend: str | Callable[..., Any] = "inductor") -> None:
    """Has attention and feed-forward layers of conformers compiled when they first run.

    The same numbers within rounding; dropout draws others. Weights and their names stay as they
    are. The convolution module is left out: how many frames its batch normalisation sees depends on
    the batch, which no compiled graph can follow.
    """
    for module in model.modules():
        if isinstance(module, FeedForward | RelativeSelfAttention):
            module.compile(dynamic=True, backend=backend)


def trained_predictions(train: UtteranceDataset) -> tuple[Modality, ...]:
    """The predictions that the training clips can train: each modality, and both where paired."""
    present = train.lengths > 0  # (2, N)
    found = [modality for modality, row in zip(STREAMS, present, strict=True) if row.any()]
    return (*found, Modality.AUDIOVISUAL) if present.all(0).any() else tuple(found)


def class_weights(train: UtteranceDataset) -> Tensor | None:
    """``(C,)`` inverse frequencies of the categories in the training split, of mean 1."""
    if train.category_targets is None:
        return None
    counts = train.category_targets.nan_to_num().sum(0).clamp_min(1.0)
    weights = 1.0 / counts
    return weights / weights.mean()


RELATIVE_RATE = "relative_rate"
"""Key of a group of parameters: its learning rate, relative to that of the model."""


def make_optimizer(model: EmotionModel, settings: TrainingConfig) -> torch.optim.Optimizer:
    """Adam as in the paper, or AdamW, which leaves biases and norms without decay.

    What is tuned of encoders in front of the model makes groups of its own, with the learning rate
    of their encoder (:data:`RELATIVE_RATE`).
    """
    # One pass over the weights instead of a dozen. It would unscale the gradients of 16-mixed by
    # itself, and then they could not be clipped.
    fused = settings.precision != "16-mixed"
    rate, betas, decay = settings.learning_rate, settings.betas, settings.weight_decay
    in_front = set(model.fronts.parameters())
    named = [(name, p) for name, p in model.named_parameters() if p not in in_front]
    groups = _parameter_groups(named, settings)
    for modality in model.config.inputs:
        encoder = model.front(modality)
        if encoder is not None:
            relative = {RELATIVE_RATE: encoder.learning_rate / rate}
            tuned = [(n, p) for n, p in encoder.named_parameters() if p.requires_grad]
            groups += [group | relative for group in _parameter_groups(tuned, settings)]
    kind = torch.optim.AdamW if settings.decoupled_weight_decay else torch.optim.Adam
    return kind(groups, rate, betas, weight_decay=decay, fused=fused)


def _parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], settings: TrainingConfig
) -> list[dict[str, Any]]:
    """The parameters; where the decay is decoupled, biases and norms are apart, without any."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in named:
        is_vector = parameter.ndim <= 1 or name.endswith("_bias")
        without_decay = settings.decoupled_weight_decay and is_vector
        (vectors if without_decay else matrices).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return groups if settings.decoupled_weight_decay else groups[:1]
