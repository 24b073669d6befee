"""What every model is: the one interface that training, scoring and inference work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast

import torch
from torch import Tensor, nn

from vavl.config.experiment import TrainingConfig
from vavl.config.models import ModelConfig
from vavl.data.speakers import Moments, training_moments
from vavl.errors import InputError, StoreError
from vavl.models.pretrained import (
    check_sizes,
    load_weights,
    read_encoders,
    read_model_config,
    resolve_model,
    write_encoders,
    write_model,
)
from vavl.models.sequences import AnyClips, Predicted, Sequences, average, checked_batch, in_common
from vavl.types import STREAMS, Inputs, Modality


class Criterion(Protocol):
    """What the outputs for a batch are judged by: over the clips of all processes that share it."""

    def task_loss(self, values: Tensor, rows: Tensor) -> Tensor | None:
        """Scalar loss of ``(n, outputs)`` of the clips at ``(n,)`` places of the batch.

        None where no process has such a clip.
        """

    def squared_error(self, values: Tensor, targets: Tensor) -> Tensor:
        """Mean square of the differences of ``(n, d)`` and ``(n, d)``, of at least one clip."""

    def draw_below(self, count: int) -> int:
        """A random whole number in [0, count), the same in all processes."""


Losses = dict[Modality, Tensor]
"""Prediction to scalar: what a step minimises is their sum."""

Step = Callable[[Mapping[Modality, Sequences], Criterion], Losses]
"""One step of the optimizer on a batch; no losses where the batch has nothing to train."""

TaskLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A scalar plus the task loss of ``(n, outputs)`` of the clips at ``(n,)`` places of a data set."""


class Encoder(Protocol):
    """A network in front of a model, which makes its features of what is read of a clip.

    It is a module, whose ``state_dict()`` holds what was tuned of it alone.

    Attributes:
        input_dim: Numbers per step that it takes.
        dim: Features per step that it gives.
        learning_rate: Step size for what is tuned of it.
    """

    input_dim: int
    dim: int
    learning_rate: float

    def __call__(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``(B, T, input_dim)`` to ``(B, T', dim)``, and the mask likewise.

        At least one step of each clip is valid, before and after.
        """

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Of the module; those that are tuned require gradients."""

    def description(self) -> dict[str, Any]:
        """JSON-compatible values by which it can be made again, but for what was tuned."""


def task_losses(predictions: Mapping[Modality, Predicted], criterion: Criterion) -> Losses:
    """The task loss of each prediction that is made for any clip."""
    losses = {m: criterion.task_loss(part.values, part.rows) for m, part in predictions.items()}
    return {m: loss for m, loss in losses.items() if loss is not None}


@dataclass(frozen=True)
class ModelOutput:
    """Outputs for a batch of B clips: category logits, then attributes.

    A row of a clip that lacks what the row needs holds NaN: there is no such prediction.

    Attributes:
        acoustic: ``(B, outputs)`` from sound alone, or None without any sound in the batch, or
            where the model does not predict from sound alone.
        visual: ``(B, outputs)`` from the face alone, or None likewise.
        audiovisual: ``(B, outputs)`` from both together, or None when no clip has both.
        prediction: ``(B, outputs)``: audiovisual where both are present, else of what is there.
            A model that never saw both at once averages the two, and ``audiovisual`` is None.
        modality: B modalities that ``prediction`` was made from; None for a clip that lacks what
            the model needs.
    """

    acoustic: Tensor | None
    visual: Tensor | None
    audiovisual: Tensor | None
    prediction: Tensor
    modality: list[Modality | None]


def spread(rows: Tensor, values: Tensor, batch: int) -> Tensor:
    """``(n, d)`` values at their ``(n,)`` rows of ``(batch, d)``, NaN elsewhere."""
    return values.new_full((batch, values.shape[1]), torch.nan).index_copy(0, rows, values)


class Normalisation(nn.Module):
    """Mean and scale of the training speakers' ``dim`` features, as buffers beside the weights."""

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

    def moments(self) -> Moments:
        """These statistics as a prior for those of a speaker."""
        mean, std = self.statistics()
        return training_moments(mean.numpy(), std.numpy())


def priors(model: EmotionModel, known: Container[Modality]) -> dict[Modality, Moments]:
    """The training statistics of each modality that a model reads, of those that are known.

    Raises:
        InputError: The model makes its features itself: there is nothing to hold against them.
    """
    if model.fronts:
        raise InputError(
            "normalisation by speaker: expected a model of features that are given, got one with "
            f"a tuned encoder of its own ({', '.join(model.fronts)})"
        )
    return {m: model.normalisation(m).moments() for m in model.config.inputs if m in known}


class EmotionModel(nn.Module, ABC):
    """A model of emotion from sound, from the face, or from both.

    A subclass names the place of its normalisation and predicts from the sequences of a batch.
    Where it learns by anything else than the task loss of each prediction, it overrides
    :meth:`losses`, or :meth:`steps` where it takes several steps on a batch. Its configuration says
    which predictions it makes, and so which modalities it can do without.

    The prediction for a clip depends on that clip alone: not on its neighbours in the batch, on
    padding, or on what stands where a mask is False.
    """

    config_class: ClassVar[type[ModelConfig]]
    normalisation_path: ClassVar[str] = "projections.{modality}"
    """The submodule that normalises the features of a modality."""
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.fronts = nn.ModuleDict()
        """By modality, the networks of :meth:`put_in_front`; most models have none."""

    def put_in_front(self, modality: Modality, encoder: Encoder) -> None:
        """Has an encoder make the features of a modality from what is given from now on.

        Raises:
            InputError: The model does not read this modality, or not features of this size.
        """
        if modality not in self.config.inputs or encoder.dim != self.config.dim(modality):
            raise InputError(
                f"{modality} encoder: expected a model that reads {encoder.dim} {modality} "
                f"features, got {self.config.name} of {' and '.join(self.config.inputs)} features"
            )
        self.fronts[modality] = cast(nn.Module, encoder)

    def front(self, modality: Modality) -> Encoder | None:
        """The network in front of the model for a modality, if there is one."""
        return cast(Encoder, self.fronts[modality]) if modality in self.fronts else None

    def input_dim(self, modality: Modality) -> int:
        """Numbers per step of what is given of a modality."""
        encoder = self.front(modality)
        return self.config.dim(modality) if encoder is None else encoder.input_dim

    def normalisation(self, modality: Modality) -> Normalisation:
        """The statistics by which features of a modality are normalised."""
        path = self.normalisation_path.format(modality=modality)
        return cast(Normalisation, self.get_submodule(path))

    @abstractmethod
    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """What the model predicts from normalised sequences, as :meth:`sequences` gives them.

        The predictions of the configuration, each for the clips that have what it takes, perhaps
        none. A unimodal one never looks at the other modality.
        """

    def pair(self, parts: Mapping[Modality, AnyClips]) -> tuple[AnyClips, AnyClips] | None:
        """Sound and face of the clips with both, perhaps of none.

        None where the batch has one modality alone, or the model does not predict from both.
        """
        if Modality.AUDIOVISUAL not in self.config.predictions or len(parts) < len(STREAMS):
            return None
        acoustic, visual = in_common(*(parts[modality] for modality in STREAMS))
        return acoustic, visual

    def prepare(self, clips: Iterable[tuple[Tensor, Inputs]], add_task_loss: TaskLoss) -> None:
        """Learns what is not learned step by step; called once, before the first step.

        Args:
            clips: ``(B,)`` places in the training split, and the features of the clips there.
            add_task_loss: Takes places in that split.
        """

    def steps(self, settings: TrainingConfig) -> tuple[Step, ...]:  # noqa: ARG002
        """What is minimised on each batch, one step of the optimizer after the other."""
        return (self.losses,)

    def losses(self, sequences: Mapping[Modality, Sequences], criterion: Criterion) -> Losses:
        """What a step minimises: here the task loss of each prediction.

        Where several processes share the batch, a modality that clips of another process have is
        among the sequences too, perhaps for none of these clips.
        """
        return task_losses(self.predict(sequences), criterion)

    def sequences(self, inputs: Inputs) -> dict[Modality, Sequences]:
        """Normalised sequences of each modality that the model reads, of the clips that have it.

        They are cut to the last step that is valid in any of these clips. There is no entry where
        no clip has the modality: where all masks are False.
        """
        return {
            modality: self.clips_with(modality, *inputs[modality])
            for modality in self.config.inputs
            if modality in inputs and inputs[modality][1].any()
        }

    def clips_with(self, modality: Modality, x: Tensor, mask: Tensor) -> Sequences:
        """Normalised sequences of those clips, at least one, of a batch that have a modality."""
        rows = torch.nonzero(mask.any(1)).flatten()
        steps = int(torch.nonzero(mask.any(0)).max()) + 1
        if len(rows) < len(mask):
            x, mask = x[rows], mask[rows]
        x, mask = x[:, :steps].float(), mask[:, :steps]
        encoder = self.front(modality)
        if encoder is not None:
            x, mask = encoder(x, mask)
        x = self.normalisation(modality).normalise(x.float())
        return Sequences(rows, x, mask)

    def clips_without(self, modality: Modality) -> Sequences:
        """Sequences of no clips, of one step."""
        mean = self.normalisation(modality).mean
        rows = torch.empty(0, dtype=torch.int64, device=mean.device)
        return Sequences(rows, mean.new_empty(0, 1, len(mean)), mean.new_empty(0, 1).bool())

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
            {m: self.input_dim(m) for m in self.config.inputs},
            acoustic,
            acoustic_lengths,
            visual,
            visual_lengths,
            acoustic_mask=acoustic_mask,
            visual_mask=visual_mask,
        )
        batch = len(next(iter(inputs.values()))[0])
        return self.output(self.predict(self.sequences(inputs)), batch)

    def output(self, predictions: Mapping[Modality, Predicted], batch: int) -> ModelOutput:
        """Puts together what :meth:`predict` returned for a batch of that many clips."""
        made = {m: part for m, part in predictions.items() if len(part)}
        spread_out = {m: spread(part.rows, part.values, batch) for m, part in made.items()}
        if Modality.AUDIOVISUAL not in made and len(made) == len(STREAMS):
            made[Modality.AUDIOVISUAL] = average([made[m] for m in STREAMS], self.config)
        device = self.normalisation(self.config.inputs[0]).mean.device
        prediction = torch.full((batch, self.config.outputs), torch.nan, device=device)
        modality: list[Modality | None] = [None] * batch
        for source in Modality:  # both together come last, and count where there are both
            if source not in made:
                continue
            part = made[source]
            prediction = prediction.to(part.values.dtype).index_copy(0, part.rows, part.values)
            for row in part.rows.tolist():
                modality[row] = source
        return ModelOutput(
            acoustic=spread_out.get(Modality.ACOUSTIC),
            visual=spread_out.get(Modality.VISUAL),
            audiovisual=spread_out.get(Modality.AUDIOVISUAL),
            prediction=prediction,
            modality=modality,
        )

    def save_pretrained(self, directory: Path | str) -> None:
        """Writes ``config.json`` and ``model.safetensors`` into a folder, made if needed.

        A model with encoders in front of it also has ``encoders.json``.
        """
        write_model(Path(directory), self.config, self.state_dict())
        write_encoders(Path(directory), self.described_encoders())

    def described_encoders(self) -> dict[Modality, dict[str, Any]]:
        """What the encoders in front of it can be made of again, by modality."""
        found = {m: self.front(m) for m in STREAMS}
        return {m: encoder.description() for m, encoder in found.items() if encoder is not None}

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        *,
        revision: str | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
        encoders: Mapping[Modality, Encoder] | None = None,
    ) -> Self:
        """Loads a model from a folder or from the Hugging Face hub, in evaluation mode.

        Args:
            source: Folder written by :meth:`save_pretrained`, or a hub id ``"owner/name"``.
            revision: Branch, tag or commit on the hub; pin a commit for reproducible work.
            cache_dir: Where downloads are kept; None is the hub library's default.
            local_files_only: Never ask the network (``HF_HUB_OFFLINE=1`` does the same).
            encoders: Those that ``encoders.json`` describes, as they were before their tuning.

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
        with torch.device("meta"):
            check_sizes(folder, cls(config).state_dict())
        model = cls(config)
        for modality, encoder in (encoders or {}).items():
            model.put_in_front(modality, encoder)
        described = read_encoders(folder)
        if described.keys() - {m for m in STREAMS if model.front(m)}:
            raise StoreError(
                f"model: {folder} has a tuned {' and '.join(described)} encoder of its own; "
                "vavl.load loads it, and vavl.training.trained.load_trained"
            )
        load_weights(model, folder)
        return model.eval()
