"""What each step of a schedule minimises, in one module with one forward pass per step.

Source: Goncalves et al., arXiv 2305.07216, section III: per batch a step for the visual branch, one
for the acoustic branch, and one for the fusion head alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.config import TrainingConfig
from vavl.losses import attribute_loss, category_loss
from vavl.models.outputs import StreamOutput, paired_representations
from vavl.models.vavl import VAVL
from vavl.training.augment import Sequences, Targets, augmented
from vavl.types import STREAMS, Batch, Modality

Parts = frozenset[Modality]

SCHEDULES: dict[str, tuple[Parts, ...]] = {
    "alternating": (
        frozenset({Modality.VISUAL}),
        frozenset({Modality.ACOUSTIC}),
        frozenset({Modality.AUDIOVISUAL}),
    ),
    "joint": (frozenset(Modality),),
}
"""The steps of each schedule: which predictions each step trains."""


class Objective(nn.Module):
    """The model with its losses.

    Args:
        model: What is trained.
        config: Weights of the losses and augmentation.
        class_weights: ``(C,)`` or None.
    """

    class_weights: Tensor | None

    def __init__(
        self, model: VAVL, config: TrainingConfig, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        # The published weights of the reconstruction: 2 for categories, 1 for attributes.
        default_alpha = 2.0 if model.config.categories else 1.0
        self.alpha = default_alpha if config.alpha is None else config.alpha
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch, parts: Parts) -> dict[Modality, Tensor]:
        """Losses of one step, by the prediction that they train.

        A step for the audio-visual prediction alone leaves encoders and shared layers frozen and in
        evaluation mode. In a step for several predictions the fusion head sees representations
        that are cut off from the graph, so that it does not move the trunk either.

        Args:
            batch: Clips with their targets.
            parts: Which predictions the step trains.

        Returns:
            Prediction to scalar; a prediction that no clip of the batch has is left out.
        """
        sequences, targets = augmented(self._sequences(batch), self._targets(batch), self.config)
        if parts == {Modality.AUDIOVISUAL}:
            return self._fusion_step(sequences, targets)
        streams = self._streams(sequences, [m for m in STREAMS if m in parts])
        losses = {
            modality: self.task_loss(stream.prediction, targets.at(stream.rows))
            + self.alpha * F.mse_loss(stream.reconstruction, stream.target)
            for modality, stream in streams.items()
            if modality in parts
        }
        if Modality.AUDIOVISUAL in parts and streams:
            rows, (acoustic, visual) = paired_representations(streams)
            if len(rows):
                fused = self.model.fuse(acoustic.detach(), visual.detach())
                losses[Modality.AUDIOVISUAL] = self.task_loss(fused, targets.at(rows))
        return losses

    def _fusion_step(
        self, sequences: dict[Modality, Sequences], targets: Targets
    ) -> dict[Modality, Tensor]:
        """The loss of the fusion head alone, on the clips that have both modalities."""
        if len(sequences) < len(STREAMS):
            return {}
        acoustic, visual = (sequences[modality] for modality in STREAMS)
        acoustic = acoustic.at(torch.isin(acoustic.rows, visual.rows))
        visual = visual.at(torch.isin(visual.rows, acoustic.rows))
        if not len(acoustic.rows):
            return {}
        with frozen(self.model), torch.no_grad():
            representations = [
                self.model.represent(modality, part.x, part.mask)
                for modality, part in zip(STREAMS, (acoustic, visual), strict=True)
            ]
        fused = self.model.fuse(*representations)
        return {Modality.AUDIOVISUAL: self.task_loss(fused, targets.at(acoustic.rows))}

    def task_loss(
        self, outputs: Tensor, targets: Targets, *, label_smoothing: float | None = None
    ) -> Tensor:
        """Cross-entropy of the categories plus ``1 - CCC`` of each attribute.

        Args:
            outputs: ``(n, outputs)`` category logits, then attributes.
            targets: Of the same n clips.
            label_smoothing: None takes the configured one.
        """
        split = len(self.model.config.categories)
        total = outputs.new_zeros(())
        if targets.categories is not None:
            total = total + category_loss(
                outputs[:, :split],
                targets.categories,
                class_weights=self.class_weights,
                label_smoothing=(
                    self.config.label_smoothing if label_smoothing is None else label_smoothing
                ),
            )
        if targets.attributes is not None:
            total = total + attribute_loss(outputs[:, split:], targets.attributes)
        return total

    def _streams(
        self, sequences: dict[Modality, Sequences], modalities: Iterable[Modality]
    ) -> dict[Modality, StreamOutput]:
        return {
            modality: self.model.forward_normalised(
                modality, part.x, part.mask, part.rows, part.target
            )
            for modality in modalities
            if (part := sequences.get(modality)) is not None
        }

    def _sequences(self, batch: Batch) -> dict[Modality, Sequences]:
        """Normalised sequences of the clips that have each modality."""
        sequences = {}
        for modality, x, mask in (
            (Modality.ACOUSTIC, batch.acoustic, batch.acoustic_mask),
            (Modality.VISUAL, batch.visual, batch.visual_mask),
        ):
            if x is not None and mask is not None and mask.any():
                sequences[modality] = Sequences(*self.model.present(modality, x, mask))
        return sequences

    @staticmethod
    def _targets(batch: Batch) -> Targets:
        return Targets(batch.category_targets, batch.attribute_targets)


@contextmanager
def frozen(model: VAVL) -> Iterator[None]:
    """Puts encoders and shared layers, but not the fusion head, into evaluation mode."""
    trunk: tuple[nn.Module, ...] = (model.acoustic, model.visual, model.shared)
    modes = [module.training for module in trunk]
    for module in trunk:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(trunk, modes, strict=True):
            module.train(mode)
