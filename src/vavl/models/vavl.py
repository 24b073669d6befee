"""The VAVL model: one network for sound and face, sound alone, or face alone.

Source: Goncalves, Leem, Lin, Sisman and Busso, "Versatile Audio-Visual Learning for Emotion
Recognition" (arXiv 2305.07216).

For each modality m: ``z = Conformer_m(P_m X)``, ``s = LayerNorm(Shared(z) + z)``, ``r = mean of s
over the valid steps``, a prediction ``MLP_m(r)`` and a reconstruction ``MLP_rec_m(r)`` of the mean
input. With both modalities, ``MLP_av([r_a ; r_v])`` predicts from the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.config.experiment import TrainingConfig
from vavl.config.models import ConformerConfig, VAVLConfig
from vavl.models.base import (
    Criterion,
    EmotionModel,
    Losses,
    ModelOutput,
    Normalisation,
    Step,
    TaskLoss,
    spread,
    task_losses,
)
from vavl.models.conformer import Conformer, Dropout, masked_mean, multilayer_perceptron
from vavl.models.sequences import Predicted, Sequences, in_common, product_values
from vavl.models.statistics import StatisticsHead, clip_statistics, fit_heads, input_statistics
from vavl.types import STREAMS, Inputs, Modality

Parts = frozenset[Modality]

SCHEDULES: dict[str, tuple[Parts, ...]] = {
    "alternating": (
        frozenset({Modality.VISUAL}),
        frozenset({Modality.ACOUSTIC}),
        frozenset({Modality.AUDIOVISUAL}),
    ),
    "joint": (frozenset(Modality),),
}
"""The steps of each schedule: which predictions each step trains. The alternating one is the
paper's (section III): per batch a step for the visual branch, one for the acoustic branch, and one
for the fusion head alone."""


class InputProjection(Normalisation):
    """Normalises frames, projects them to a few channels and joins neighbouring ones.

    Args:
        dim: Features per step.
        channels: Width of the projection, which has no bias.
        subsampling: Neighbouring steps that are joined into one.
        dropout: Share of the features that is dropped in training.
    """

    def __init__(self, dim: int, channels: int, subsampling: int, dropout: float) -> None:
        super().__init__(dim)
        self.subsampling = subsampling
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(dim, channels, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Maps normalised ``(B, T, D)`` to ``(B, ceil(T / s), s * channels)`` and a new mask.

        A joined step is valid if one of its frames is; the others count as zeros, the mean of
        normalised features.
        """
        x = self.linear(self.dropout(x)).masked_fill(~mask[..., None], 0.0)
        step = self.subsampling
        if step == 1:
            return x, mask
        missing = -x.shape[1] % step
        x, mask = F.pad(x, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        batch, steps, channels = x.shape
        x = x.reshape(batch, steps // step, step * channels)
        return x, mask.view(batch, steps // step, step).any(-1)


def input_projection(config: ConformerConfig, modality: Modality) -> InputProjection:
    """The way into a model of conformers for the frames of one modality."""
    return InputProjection(
        config.dim(modality),
        config.projection_channels,
        config.subsampling(modality),
        config.input_dropout,
    )


def make_head(config: ConformerConfig, inputs: int, outputs: int) -> nn.Sequential:
    """A head of the configured widths."""
    return multilayer_perceptron((inputs, *config.head_widths, outputs), config.head_dropout)


class ModalityBranch(nn.Module):
    """Projection, encoder and prediction head of one modality; the baselines have it, too."""

    def __init__(self, config: ConformerConfig, modality: Modality, blocks: int) -> None:
        super().__init__()
        joined = config.subsampling(modality) * config.projection_channels
        self.projection = input_projection(config, modality)
        self.encoder = Conformer(config, joined, blocks)
        self.head = make_head(config, config.width, config.outputs)


class ReconstructingBranch(ModalityBranch):
    """As VAVL has it: with a second head that rebuilds the mean of the modality's input."""

    def __init__(self, config: VAVLConfig, modality: Modality) -> None:
        super().__init__(config, modality, config.encoder_blocks)
        self.reconstruction = make_head(config, config.width, config.dim(modality))
        self.statistics: StatisticsHead | None = None
        if config.input_statistics:
            self.statistics = StatisticsHead(config.dim(modality), config.outputs)


class SharedLayers(nn.Module):
    """Conformer blocks common to the modalities, with a residual connection over them."""

    def __init__(self, config: VAVLConfig) -> None:
        super().__init__()
        self.residual = config.residual
        self.conformer = (
            Conformer(config, config.width, config.shared_blocks, len(STREAMS))
            if config.shared_blocks
            else None
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, z: Tensor, mask: Tensor, stream: int) -> Tensor:
        """``LayerNorm(Shared(z) + z)`` of ``(B, T, width)``; ``stream`` is the modality's index."""
        if self.conformer is None:
            return self.norm(z)
        shared = self.conformer(z, mask, stream)
        return self.norm(shared + z if self.residual else shared)


def mean_input(part: Sequences) -> Tensor:
    """``(n, D)`` what a reconstruction aims at: the mean over time of the clip, not of noise on it.

    As :func:`vavl.models.conformer.masked_mean`, of finite padding: one pass, and no copy.
    """
    # Cut off from an encoder that is tuned: the target is not to come towards what rebuilds it.
    x = (part.x if part.clean is None else part.clean).detach()
    # Mixed precision would take the product in half precision, and the target lose its digits.
    with torch.autocast(x.device.type, enabled=False):
        weights = part.mask.float()
        total = torch.bmm(weights[:, None], x.float())[:, 0]  # (n, 1, T) @ (n, T, D)
        return total / weights.sum(1, keepdim=True)


@dataclass(frozen=True)
class Unimodal(Predicted):
    """What one modality's branch makes of the clips that have this modality.

    Its ``values`` are the unimodal prediction: the head's, or the mean of it and a linear model's.

    Attributes:
        representation: ``(n, width)`` mean of the shared representation over time.
        head: ``(n, outputs)`` of the head, which learns by the task loss.
        reconstruction: ``(n, D)`` of the mean input.
    """

    representation: Tensor
    head: Tensor
    reconstruction: Tensor


@dataclass(frozen=True)
class VAVLOutput(ModelOutput):
    """The predictions, and what is rebuilt of the input.

    Attributes:
        acoustic_reconstruction: ``(B, acoustic_dim)`` or None.
        visual_reconstruction: ``(B, visual_dim)`` or None.
    """

    acoustic_reconstruction: Tensor | None
    visual_reconstruction: Tensor | None


class VAVL(EmotionModel):
    """Versatile audio-visual learning: see the module's docstring and :class:`VAVLConfig`.

    Example:
        >>> import torch, vavl
        >>> config = vavl.VAVLConfig.preset(
        ...     "small", acoustic_dim=80, visual_dim=17, categories=["happy", "sad"]
        ... )
        >>> model = vavl.VAVL(config).eval()
        >>> out = model(acoustic=torch.randn(1, 200, 80), acoustic_lengths=torch.tensor([200]))
        >>> out.prediction.shape, out.modality[0].value
        (torch.Size([1, 2]), 'acoustic')
    """

    config_class = VAVLConfig
    normalisation_path = "{modality}.projection"
    config: VAVLConfig

    def __init__(self, config: VAVLConfig) -> None:
        super().__init__(config)
        self.acoustic = ReconstructingBranch(config, Modality.ACOUSTIC)
        self.visual = ReconstructingBranch(config, Modality.VISUAL)
        self.shared = SharedLayers(config)
        self.fusion = make_head(config, 2 * config.width, config.outputs)
        if config.fusion_base == "product":  # at first there is nothing to correct
            for parameter in self.fusion[-1].parameters():
                nn.init.zeros_(parameter)

    def branch(self, modality: Modality) -> ReconstructingBranch:
        """The part of the model that belongs to one modality alone."""
        return self.acoustic if modality is Modality.ACOUSTIC else self.visual

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        unimodal = {m: self.encode(m, part) for m, part in sequences.items()}
        predictions: dict[Modality, Predicted] = {**unimodal}
        pair = self.pair(unimodal)
        return predictions if pair is None else predictions | self._fused(*pair)

    def encode(self, modality: Modality, part: Sequences) -> Unimodal:
        """What a modality's branch, with the shared layers, makes of its sequences."""
        branch = self.branch(modality)
        projected, valid = branch.projection(part.x, part.mask)
        z = branch.encoder(projected, valid)
        mean = masked_mean(self.shared(z, valid, STREAMS.index(modality)), valid)
        values = head = branch.head(mean)
        if branch.statistics is not None:
            # Of attributes the mean; of logits, too: the geometric mean of the probabilities.
            values = (head + branch.statistics(clip_statistics(part))) / 2
        return Unimodal(part.rows, values, mean, head, branch.reconstruction(mean))

    def fuse(self, acoustic: Unimodal, visual: Unimodal) -> Tensor:
        """Audio-visual prediction ``(n, outputs)`` of the same n clips from both branches."""
        both = torch.cat([acoustic.representation, visual.representation], dim=-1)
        fused: Tensor = self.fusion(both)
        if self.config.fusion_base == "none":
            return fused
        share = 1.0 if self.training else self.config.correction_share
        return share * fused + product_values([acoustic.values, visual.values], self.config)

    def clips_with(self, modality: Modality, x: Tensor, mask: Tensor) -> Sequences:
        """See the base class; with statistics, so that augmentation leaves them what they are."""
        part = super().clips_with(modality, x, mask)
        if not self.config.input_statistics:
            return part
        return replace(part, summary=input_statistics(part.x, part.mask))

    def output(self, predictions: Mapping[Modality, Predicted], batch: int) -> VAVLOutput:
        """Predictions and reconstructions of a batch of B clips."""
        rebuilt = {
            m: spread(part.rows, part.reconstruction, batch)
            for m, part in predictions.items()
            if isinstance(part, Unimodal)
        }
        return VAVLOutput(
            **vars(super().output(predictions, batch)),
            acoustic_reconstruction=rebuilt.get(Modality.ACOUSTIC),
            visual_reconstruction=rebuilt.get(Modality.VISUAL),
        )

    def prepare(self, clips: Iterable[tuple[Tensor, Inputs]], add_task_loss: TaskLoss) -> None:
        """Solves the linear models of the statistics, if the configuration has them."""
        heads = {m: self.branch(m).statistics for m in self.config.inputs}
        fit_heads(self, heads, clips, add_task_loss, self.config.statistics_inverse_penalty)

    def steps(self, settings: TrainingConfig) -> tuple[Step, ...]:
        """The steps of the configured schedule."""
        # The published weights of the reconstruction: 2 for categories, 1 for attributes.
        default_alpha = 2.0 if self.config.categories else 1.0
        alpha = default_alpha if settings.alpha is None else settings.alpha
        return tuple(self.step(parts, alpha) for parts in SCHEDULES[settings.schedule])

    def step(self, parts: Parts, alpha: float) -> Step:
        """One step of a schedule.

        A step for the audio-visual prediction alone leaves encoders and shared layers frozen and in
        evaluation mode. In a step for several predictions the fusion head sees representations
        that are cut off from the graph, so that it does not move the trunk either. ``alpha`` is the
        weight of the reconstruction.
        """
        if parts == {Modality.AUDIOVISUAL}:
            return self._fusion_losses
        return partial(self._branch_losses, parts=parts, alpha=alpha)

    def _branch_losses(
        self,
        sequences: Mapping[Modality, Sequences],
        criterion: Criterion,
        *,
        parts: Parts,
        alpha: float,
    ) -> Losses:
        """Task loss and reconstruction loss of the branches, and that of the fusion head."""
        unimodal = {m: self.encode(m, part) for m, part in sequences.items() if m in parts}
        losses: Losses = {}
        for modality, found in unimodal.items():
            task = criterion.task_loss(found.head, found.rows)
            if task is not None:
                target = mean_input(sequences[modality])
                error = criterion.squared_error(found.reconstruction, target)
                losses[modality] = task + alpha * error
        if Modality.AUDIOVISUAL in parts and len(unimodal) == len(STREAMS):
            acoustic, visual = in_common(*(unimodal[m].detach() for m in STREAMS))
            losses |= task_losses(self._fused(acoustic, visual), criterion)
        return losses

    def _fusion_losses(
        self, sequences: Mapping[Modality, Sequences], criterion: Criterion
    ) -> Losses:
        """The loss of the fusion head alone, on the clips that have both modalities."""
        if len(sequences) < len(STREAMS):
            return {}
        pair = in_common(*(sequences[m] for m in STREAMS))
        with in_evaluation_mode(self.acoustic, self.visual, self.shared), torch.no_grad():
            acoustic, visual = (self.encode(m, p) for m, p in zip(STREAMS, pair, strict=True))
        return task_losses(self._fused(acoustic, visual), criterion)

    def _fused(self, acoustic: Unimodal, visual: Unimodal) -> dict[Modality, Predicted]:
        return {Modality.AUDIOVISUAL: Predicted(acoustic.rows, self.fuse(acoustic, visual))}


@contextmanager
def in_evaluation_mode(*trunk: nn.Module) -> Iterator[None]:
    """Puts some modules into evaluation mode for a while."""
    modes = [module.training for module in trunk]
    for module in trunk:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(trunk, modes, strict=True):
            module.train(mode)
