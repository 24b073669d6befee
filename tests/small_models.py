"""Every model in a size that a test runs in no time, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tiny import with_statistics
from torch import Tensor, nn

from vavl.config.experiment import TrainingConfig, model_config_class
from vavl.config.models import ModelConfig
from vavl.models.base import EmotionModel
from vavl.models.conformer import lengths_to_mask
from vavl.models.registry import build_model
from vavl.training.objective import Objective
from vavl.types import Batch, Modality

ACOUSTIC, VISUAL, AUDIOVISUAL = Modality.ACOUSTIC, Modality.VISUAL, Modality.AUDIOVISUAL

CONFORMER = {"width": 16, "heads": 2, "kernel": 5, "head_widths": (12, 8)}
CROSSMODAL = {"width": 8, "heads": 2}
TINY: dict[str, dict[str, Any]] = {
    "vavl": CONFORMER,
    "vavl+": CONFORMER,
    "linear": {},
    "acoustic-conformer": CONFORMER,
    "visual-conformer": CONFORMER,
    "averaging": CONFORMER,
    "concatenation": CONFORMER,
    "mult": CROSSMODAL,
    "auxformer": {**CROSSMODAL, "auxiliary_widths": (12, 8)},
    "uavm": {"width": 8, "heads": 2},
    "sfav": {"acoustic_channels": (6, 8, 10, 8), "visual_channels": (6, 4, 8, 6), "heads": 2},
}
NAMES = list(TINY)


def sized(name: str, **overrides: Any) -> ModelConfig:
    return model_config_class(name).preset(
        "small",
        **{
            "acoustic_dim": 6,
            "visual_dim": 4,
            "categories": ("angry", "happy", "sad"),
            **TINY[name],
            **overrides,
        },
    )


def tiny(name: str, **overrides: Any) -> EmotionModel:
    torch.manual_seed(0)
    model = build_model(sized(name, **overrides)).eval()
    with_statistics(model)
    return model


def inputs(model: EmotionModel, **every: Any) -> dict[str, Any]:
    """Those of the inputs that the model reads."""
    return {k: v for k, v in every.items() if k.split("_")[0] in model.config.inputs}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make_batch(acoustic: list[int], visual: list[int]) -> Batch:
    torch.manual_seed(1)
    count = len(acoustic)
    return Batch(
        utterance_ids=[str(i) for i in range(count)],
        acoustic=torch.randn(count, 12, 6) if any(acoustic) else None,
        acoustic_mask=lengths_to_mask(torch.tensor(acoustic), 12) if any(acoustic) else None,
        visual=torch.randn(count, 5, 4) if any(visual) else None,
        visual_mask=lengths_to_mask(torch.tensor(visual), 5) if any(visual) else None,
        category_targets=torch.eye(3)[torch.arange(count) % 3],
        attribute_targets=torch.rand(count, 1),
    )


def objective(name: str, **overrides: Any) -> Objective:
    model = tiny(name, attributes=("arousal",), **overrides)
    return Objective(model, TrainingConfig()).train()


class OwnClips:
    """Judges the outputs for a batch by a function of them and of their rows, in one process."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.task_loss = loss

    def squared_error(self, values: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(values, targets)

    def draw_below(self, count: int) -> int:
        return int(torch.randint(count, ()))
