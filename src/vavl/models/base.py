"""What every model is: the one interface that training, scoring and inference work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from vavl.config.experiment import TrainingConfig
from vavl.config.models import ModelConfig
from vavl.distributed import anywhere
from vavl.errors import StoreError
from vavl.models.inputs import checked_batch
from vavl.models.outputs import ModelOutput, Rows, combined
from vavl.models.pretrained import load_weights, read_model_config, resolve_model, write_model
from vavl.models.sequences import Pair, Sequences, paired
from vavl.types import Batch, Modality

TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""Loss of outputs ``(n, outputs)`` of the clips at ``(n,)`` places of the batch, a scalar."""

Losses = dict[Modality, Tensor]
"""Prediction to scalar: what a step minimises is their sum."""

Step = Callable[[Mapping[Modality, Sequences], TaskLoss], Losses]
"""One step of the optimizer on a batch; no losses where the batch has nothing to train."""


class Normalisation(nn.Module):
    """Mean and scale of the training speakers' features, as buffers: they travel with the weights.

    Args:
        dim: Features per step (D).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def normalise(self, x: Tensor) -> Tensor:
        """Zero mean and unit variance per dimension, by the statistics of the training speakers."""
        return (x - self.mean).mul_(self.scale)  # in place: nobody else has the difference

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Stores ``(D,)`` statistics; dimensions that never vary are left unscaled."""
        std = std.to(self.scale)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(std > 1e-6, 1.0 / std.clamp_min(1e-6), 1.0))

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``(D,)`` on the CPU; 1 for dimensions that never vary."""
        return self.mean.cpu(), (1.0 / self.scale).cpu()


class NormalisingModel(Protocol):
    """What knows its training statistics: a model, or one that was exported."""

    @property
    def config(self) -> ModelConfig:
        """Sizes and outputs."""

    def normalisation(self, modality: Modality) -> Normalisation:
        """The statistics by which features of a modality are normalised."""


class EmotionModel(nn.Module, ABC):
    """A model of emotion from sound, from the face, or from both.

    A subclass says where its normalisation is and what it predicts from the sequences of a batch;
    what it learns by (:meth:`steps`) where that is not the task loss of each of its predictions.
    Which predictions it makes, and so which modalities it can do without, stands in its
    configuration.

    What a model answers for a clip depends on that clip alone: not on its neighbours in the batch,
    on padding, or on what stands where a mask is False.
    """

    config_class: ClassVar[type[ModelConfig]]
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def normalisation(self, modality: Modality) -> Normalisation:
        """The statistics by which features of a modality are normalised."""

    @abstractmethod
    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Rows]:
        """What the model predicts from normalised sequences.

        Args:
            sequences: By modality, for the clips of a batch that have it; no entry for none.

        Returns:
            The predictions of the configuration, each for the clips that have what it takes; none
            where no clip has. A unimodal one never looks at the other modality.
        """

    def pair(self, sequences: Mapping[Modality, Sequences]) -> Pair | None:
        """Sound and face of the clips with both, if the model predicts from both together."""
        return paired(sequences) if Modality.AUDIOVISUAL in self.config.predictions else None

    def steps(self, settings: TrainingConfig) -> tuple[Step, ...]:  # noqa: ARG002
        """What is minimised on each batch, one step of the optimizer after the other."""
        return (self.losses,)

    def losses(self, sequences: Mapping[Modality, Sequences], task: TaskLoss) -> Losses:
        """The task loss of each prediction."""
        return {m: task(part.values, part.rows) for m, part in self.predict(sequences).items()}

    def set_normalisation(self, modality: Modality, mean: Tensor, std: Tensor) -> None:
        """Stores the per-dimension statistics of the training speakers' features.

        Args:
            modality: ``acoustic`` or ``visual``.
            mean: ``(D,)``.
            std: ``(D,)``; dimensions that never vary are left unscaled.
        """
        self.normalisation(modality).set_statistics(mean, std)

    def normalise(self, modality: Modality, x: Tensor) -> Tensor:
        """Features as extracted, ``(B, T, D)``, to zero mean and unit variance."""
        return self.normalisation(modality).normalise(x)

    def present(self, modality: Modality, x: Tensor, mask: Tensor) -> Sequences | None:
        """Normalised sequences of those clips of a batch that have a modality.

        Args:
            modality: ``acoustic`` or ``visual``.
            x: ``(B, T, D)`` features as extracted.
            mask: ``(B, T)``, True = valid; all False for a clip without this modality.

        Returns:
            The n clips, cut to the last step that is valid in any of them; None if n is 0.
        """
        rows = torch.nonzero(mask.any(1)).flatten()
        if not len(rows):
            return None
        steps = int(torch.nonzero(mask.any(0)).max()) + 1
        if len(rows) < len(mask):
            x, mask = x[rows], mask[rows]
        return Sequences(self.normalise(modality, x[:, :steps].float()), mask[:, :steps], rows)

    def sequences(self, batch: Batch) -> dict[Modality, Sequences]:
        """What a batch has of the modalities that this model reads.

        Where several ranks share the batch, a modality that another rank's clips have is here too,
        with zero clips.
        """
        found = {}
        for modality, x, mask in (
            (Modality.ACOUSTIC, batch.acoustic, batch.acoustic_mask),
            (Modality.VISUAL, batch.visual, batch.visual_mask),
        ):
            if modality not in self.config.inputs:
                continue
            part = None if x is None or mask is None else self.present(modality, x, mask)
            if anywhere(part is not None):
                found[modality] = self.nobody(modality) if part is None else part
        return found

    def nobody(self, modality: Modality) -> Sequences:
        """Sequences of zero clips, of one step."""
        mean = self.normalisation(modality).mean
        rows = torch.empty(0, dtype=torch.int64, device=mean.device)
        return Sequences(mean.new_empty(0, 1, len(mean)), mean.new_empty(0, 1).bool(), rows)

    def forward(
        self,
        acoustic: Tensor | None = None,
        acoustic_lengths: Tensor | None = None,
        visual: Tensor | None = None,
        visual_lengths: Tensor | None = None,
        *,
        acoustic_mask: Tensor | None = None,
        visual_mask: Tensor | None = None,
    ) -> ModelOutput:
        """Predicts from whatever each clip of a batch has.

        Args:
            acoustic: ``(B, T_a, acoustic_dim)`` features as extracted, or None.
            acoustic_lengths: ``(B,)`` valid steps; 0 = this clip has no sound. None: all steps of
                all clips are valid.
            visual: ``(B, T_v, visual_dim)`` features as extracted, or None.
            visual_lengths: ``(B,)`` valid steps; 0 = this clip has no face. None: all valid.
            acoustic_mask: ``(B, T_a)`` instead of lengths, True = valid: for sequences with gaps,
                which keep their place in time.
            visual_mask: ``(B, T_v)`` likewise, e.g. False where the face is out of sight.

        Returns:
            Predictions, see :class:`ModelOutput`: rows of NaN for clips that lack what the model
            needs.

        Raises:
            InputError: Wrong shape or dimension, lengths out of range, a clip without any
                modality, or features that are not finite.
        """
        inputs = checked_batch(
            self.config,
            acoustic,
            acoustic_lengths,
            visual,
            visual_lengths,
            acoustic_mask=acoustic_mask,
            visual_mask=visual_mask,
        )
        sequences = {
            modality: part
            for modality, (x, mask) in inputs.items()
            if (part := self.present(modality, x, mask)) is not None
        }
        return self.answer(sequences, len(next(iter(inputs.values()))[0]))

    def answer(self, sequences: Mapping[Modality, Sequences], batch: int) -> ModelOutput:
        """Everything there is to say about a batch of B clips, from at least one modality."""
        return combined(self.predict(sequences), sequences, batch, self.config)

    def save_pretrained(self, directory: Path | str) -> None:
        """Writes ``config.json`` and ``model.safetensors`` into a folder, made if needed."""
        write_model(Path(directory), self.config, self.state_dict())

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        *,
        revision: str | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Loads a model from a folder or from the Hugging Face hub, in evaluation mode.

        Args:
            source: Folder written by :meth:`save_pretrained`, or a hub id ``"owner/name"``.
            revision: Branch, tag or commit on the hub; pin a commit for reproducible work.
            cache_dir: Where downloads are kept; None is the hub library's default.
            local_files_only: Never ask the network (``HF_HUB_OFFLINE=1`` does the same).

        Raises:
            StoreError: No such folder or hub id, a damaged file, weights that do not fit the
                configuration, another model, or a schema version this release does not read.
        """
        folder = resolve_model(
            source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only
        )
        config = read_model_config(folder)
        if not isinstance(config, cls.config_class):
            raise StoreError(
                f"model: expected a {cls.__name__} model, got {config.name!r} at {folder}; "
                "vavl.models.registry.load_model takes any model, and so does vavl.load"
            )
        model = cls(config)
        load_weights(model, folder)
        return model.eval()
