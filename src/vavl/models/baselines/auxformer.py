"""AuxFormer: a crossmodal transformer, kept honest by two auxiliary unimodal networks.

Source: Goncalves and Busso 2022, "AuxFormer: Robust Approach to Audiovisual Emotion Recognition"
(ICASSP), and its published code, from which the sizes are.

The main network rewrites each modality by the other, as MulT does, looks over the results, and
predicts from their last steps. An auxiliary network per modality, a transformer that is passed
three times, predicts from that modality alone, through a head that both share. Each of the three is
trained with a third of the loss, and their outputs are averaged. In training the main network loses
one modality of some clips.

Without a modality the main network sees one step of zeros in its place, and the prediction is the
mean of the main network and of the auxiliary network of what is there.

Differs from the published code: visual features are projected as the acoustic ones are (there they
have the right width); a modality is lost clip by clip instead of for a whole batch, as one step of
zeros instead of a sequence of them, and in the main network alone, so that no auxiliary network
learns from zeros; crossmodal attention hides padding and gaps alone, because what the code hides
beyond that depends on the padded lengths of the batch; positions, dropout rates and first weights
are those of our MulT. As there, self-attention sees earlier steps alone
and has no positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from vavl.config.baselines import AuxFormerConfig
from vavl.models.base import Criterion, EmotionModel, Losses, Normalisation, task_losses
from vavl.models.baselines.mult import (
    CrossmodalNetwork,
    Frames,
    ResidualHead,
    TransformerEncoder,
    by_modality,
    input_projections,
)
from vavl.models.sequences import (
    Pair,
    Predicted,
    Sequences,
    completed,
    drop_modalities,
    last_step,
    mean_outputs,
    subsampled,
)
from vavl.types import STREAMS, Modality

_PASSES = 3
"""How often a sequence passes its auxiliary transformer."""


class AuxFormer(EmotionModel):
    """See the module's docstring and :class:`vavl.config.baselines.AuxFormerConfig`."""

    config_class = AuxFormerConfig
    config: AuxFormerConfig

    def __init__(self, config: AuxFormerConfig) -> None:
        super().__init__(config)
        self.projections = input_projections(config)
        self.main = CrossmodalNetwork(config, positions=False, causal=True, gated=True)
        self.auxiliary = by_modality(
            lambda: TransformerEncoder(config, positions=False, causal=True)
        )
        self.auxiliary_head = ResidualHead(
            (config.width, *config.auxiliary_widths, config.width),
            config.outputs,
            config.head_dropout,
        )

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return cast(Normalisation, self.projections[modality])

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Predicted]:
        """See the base class."""
        sequences = subsampled(sequences, self.config)
        auxiliary = {m: self._auxiliary(m, part) for m, part in sequences.items()}
        found = {
            m: mean_outputs([self._main(completed({m: part}, self.config)), auxiliary[m]])
            for m, part in sequences.items()
        }
        pair = self.pair(sequences)
        if pair is not None:
            outputs = [self._main(pair), *(auxiliary[m] for m in STREAMS)]
            found[Modality.AUDIOVISUAL] = mean_outputs(outputs)
        return found

    def losses(self, sequences: Mapping[Modality, Sequences], criterion: Criterion) -> Losses:
        """A third of the task loss of each of the three networks."""
        if not sequences:
            return {}
        sequences = subsampled(sequences, self.config)
        outputs = {m: self._auxiliary(m, part) for m, part in sequences.items()}
        left = drop_modalities(sequences, self.config.missing_share)
        outputs[Modality.AUDIOVISUAL] = self._main(completed(left, self.config))
        return {m: loss / 3 for m, loss in task_losses(outputs, criterion).items()}

    def _main(self, pair: Pair) -> Predicted:
        """The prediction of the main network."""
        frames = (self._projected(m, part) for m, part in zip(STREAMS, pair, strict=True))
        return Predicted(pair[0].rows, self.main(*frames))

    def _auxiliary(self, modality: Modality, part: Sequences) -> Predicted:
        """The prediction of the auxiliary network of a modality."""
        frames = self._projected(modality, part)
        for _ in range(_PASSES):
            frames = self.auxiliary[modality](frames)
        return Predicted(part.rows, self.auxiliary_head(last_step(*frames)))

    def _projected(self, modality: Modality, part: Sequences) -> Frames:
        return self.projections[modality](part.x, part.mask)
