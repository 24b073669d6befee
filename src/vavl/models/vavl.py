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
from vavl.config.models import VAVLConfig
from vavl.distributed import anywhere, gathered
from vavl.models.base import EmotionModel, Losses, Normalisation, Step, TaskLoss
from vavl.models.branches import ReconstructingBranch, SharedLayers, input_statistics, make_head
from vavl.models.conformer import masked_mean
from vavl.models.outputs import ModelOutput, Rows, combined, product_values, spread_rows
from vavl.models.sequences import Sequences, paired
from vavl.types import STREAMS, Modality

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


@dataclass(frozen=True)
class Unimodal:
    """What one modality's branch says about n clips.

    Attributes:
        representation: ``(n, width)`` mean of the shared representation over time.
        head: ``(n, outputs)`` of the head, which learns by the task loss.
        prediction: ``(n, outputs)``: the head's, or the mean of it and a linear model's.
    """

    representation: Tensor
    head: Tensor
    prediction: Tensor

    def at(self, keep: Tensor) -> Unimodal:
        """Of some of the clips: places, or where ``(n,)`` is True."""
        return Unimodal(self.representation[keep], self.head[keep], self.prediction[keep])

    def detach(self) -> Unimodal:
        """Cut off from the graph."""
        return Unimodal(self.representation.detach(), self.head.detach(), self.prediction.detach())


@dataclass(frozen=True)
class StreamOutput:
    """What one modality's branch says about those clips of a batch that have this modality.

    Attributes:
        rows: ``(n,)`` their places in the batch, ascending.
        said: Representation and prediction.
        reconstruction: ``(n, D)``.
        target: ``(n, D)`` what the reconstruction aims at: the mean normalised input.
    """

    rows: Tensor
    said: Unimodal
    reconstruction: Tensor
    target: Tensor


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

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return self.branch(modality).projection

    def present(self, modality: Modality, x: Tensor, mask: Tensor) -> Sequences | None:
        """See the base class; with statistics, so that augmentation leaves them what they are."""
        part = super().present(modality, x, mask)
        if part is None or not self.config.input_statistics:
            return part
        return replace(part, statistics=input_statistics(part.x, part.mask))

    def read(
        self, modality: Modality, x: Tensor, mask: Tensor, statistics: Tensor | None = None
    ) -> Unimodal:
        """Representation and prediction of sequences of one modality.

        Args:
            modality: ``acoustic`` or ``visual``.
            x: ``(B, T, D)`` normalised features, finite in the padding too.
            mask: ``(B, T)``, True = valid; at least one valid step per clip.
            statistics: ``(B, 2 D)`` mean and deviation over time; None takes those of ``x``.
        """
        branch = self.branch(modality)
        projected, valid = branch.projection(x, mask)
        z = branch.encoder(projected, valid)
        mean = masked_mean(self.shared(z, valid, STREAMS.index(modality)), valid)
        head = branch.head(mean)
        if branch.statistics is None:
            return Unimodal(mean, head, head)
        found = input_statistics(x, mask) if statistics is None else statistics
        # Of attributes the mean; of logits, too: the geometric mean of the probabilities.
        return Unimodal(mean, head, (head + branch.statistics(found)) / 2)

    def fuse(self, acoustic: Unimodal, visual: Unimodal) -> Tensor:
        """Audio-visual prediction ``(B, outputs)`` of B clips, from what the two branches say."""
        both = torch.cat([acoustic.representation, visual.representation], dim=-1)
        fused: Tensor = self.fusion(both)
        if self.config.fusion_base == "none":
            return fused
        share = 1.0 if self.training else self.config.correction_share
        base = product_values([acoustic.prediction, visual.prediction], self.config)
        return share * fused + base

    def streams(
        self, sequences: Mapping[Modality, Sequences], modalities: Iterable[Modality] = STREAMS
    ) -> dict[Modality, StreamOutput]:
        """What the branches of some modalities say about the clips that have them."""
        found = {}
        for modality in modalities:
            if modality not in sequences:
                continue
            part, branch = sequences[modality], self.branch(modality)
            said = self.read(modality, part.x, part.mask, part.statistics)
            found[modality] = StreamOutput(
                rows=part.rows,
                said=said,
                reconstruction=branch.reconstruction(said.representation),
                target=masked_mean(part.x, part.mask) if part.target is None else part.target,
            )
        return found

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Rows]:
        """See the base class."""
        return self._predictions(self.streams(sequences))

    def _predictions(self, streams: Mapping[Modality, StreamOutput]) -> dict[Modality, Rows]:
        found = {m: Rows(stream.rows, stream.said.prediction) for m, stream in streams.items()}
        pair = said_of_pairs(streams)
        if pair is not None and Modality.AUDIOVISUAL in self.config.predictions:
            rows, acoustic, visual = pair
            found[Modality.AUDIOVISUAL] = Rows(rows, self.fuse(acoustic, visual))
        return found

    def answer(self, sequences: Mapping[Modality, Sequences], batch: int) -> VAVLOutput:
        """Predictions and reconstructions of a batch of B clips."""
        streams = self.streams(sequences)
        output = combined(self._predictions(streams), sequences, batch, self.config)

        def rebuilt(modality: Modality) -> Tensor | None:
            if modality not in streams:
                return None
            return spread_rows(streams[modality].reconstruction, streams[modality].rows, batch)

        return VAVLOutput(
            **vars(output),
            acoustic_reconstruction=rebuilt(Modality.ACOUSTIC),
            visual_reconstruction=rebuilt(Modality.VISUAL),
        )

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
        that are cut off from the graph, so that it does not move the trunk either.

        Args:
            parts: Which predictions the step trains.
            alpha: Weight of the reconstruction.
        """
        if parts == {Modality.AUDIOVISUAL}:
            return self._fusion_losses
        return partial(self._branch_losses, parts=parts, alpha=alpha)

    def _branch_losses(
        self,
        sequences: Mapping[Modality, Sequences],
        task: TaskLoss,
        *,
        parts: Parts,
        alpha: float,
    ) -> Losses:
        streams = self.streams(sequences, [m for m in STREAMS if m in parts])
        losses = {
            modality: task(stream.said.head, stream.rows)
            + alpha * F.mse_loss(gathered(stream.reconstruction), gathered(stream.target))
            for modality, stream in streams.items()
        }
        pair = said_of_pairs(streams)
        if pair is not None and Modality.AUDIOVISUAL in parts:
            rows, acoustic, visual = pair
            fused = self.fuse(acoustic.detach(), visual.detach())
            losses[Modality.AUDIOVISUAL] = task(fused, rows)
        return losses

    def _fusion_losses(self, sequences: Mapping[Modality, Sequences], task: TaskLoss) -> Losses:
        """The loss of the fusion head alone, on the clips that have both modalities."""
        pair = paired(sequences)
        if pair is None:
            return {}
        with in_evaluation_mode(self.acoustic, self.visual, self.shared), torch.no_grad():
            said = [
                self.read(modality, part.x, part.mask, part.statistics)
                for modality, part in zip(STREAMS, pair, strict=True)
            ]
        return {Modality.AUDIOVISUAL: task(self.fuse(*said), pair[0].rows)}


def said_of_pairs(
    streams: Mapping[Modality, StreamOutput],
) -> tuple[Tensor, Unimodal, Unimodal] | None:
    """Of the clips with both modalities, or None if no clip (of any rank) has both.

    Returns:
        ``(n,)`` rows, and what the acoustic and the visual branch say about these clips.
    """
    if len(streams) < len(STREAMS):
        return None
    acoustic, visual = (streams[modality] for modality in STREAMS)
    in_visual = torch.isin(acoustic.rows, visual.rows)
    in_acoustic = torch.isin(visual.rows, acoustic.rows)
    rows = acoustic.rows[in_visual]
    if not anywhere(len(rows) > 0):
        return None
    return rows, acoustic.said.at(in_visual), visual.said.at(in_acoustic)


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
