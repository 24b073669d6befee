"""What training minimises: a model's own steps, on augmented sequences, with the task loss."""

from __future__ import annotations

from torch import Tensor, nn

from vavl.config import TrainingConfig
from vavl.losses import attribute_loss, category_loss
from vavl.models.base import EmotionModel, Losses, Step
from vavl.ranks import gathered
from vavl.training.augment import Targets, augmented
from vavl.types import Batch


class Objective(nn.Module):
    """The model with its losses.

    Args:
        model: What is trained; it says which steps there are and what each minimises.
        config: Weights of the losses and augmentation.
        class_weights: ``(C,)`` or None.
    """

    class_weights: Tensor | None

    def __init__(
        self, model: EmotionModel, config: TrainingConfig, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.steps = model.steps(config)
        """The steps of the optimizer on each batch, for :meth:`forward`."""
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch, step: Step) -> Losses:
        """Losses of one step, by the prediction that they train.

        Args:
            batch: Clips with their targets; in :func:`vavl.ranks.together`, this rank's share.
            step: One of :attr:`steps`.

        Returns:
            Prediction to scalar, over the clips of all ranks; a prediction that none of them has is
            left out.
        """
        sequences, targets = augmented(
            self.model.sequences(batch),
            Targets(batch.category_targets, batch.attribute_targets),
            self.config,
        )

        def task(outputs: Tensor, rows: Tensor) -> Tensor:
            return self.task_loss(gathered(outputs), targets.at(rows).of_all_ranks())

        return step(sequences, task)

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
