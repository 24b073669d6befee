"""MulT: transformers in which each modality looks at the other, frame by frame.

Source: Tsai et al. 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences"
(arXiv 1906.00295), with the sizes of the published code.

Both sequences are projected to a common width. A crossmodal transformer rewrites each by what its
frames find in the other's; a second transformer looks over the result, and its last step speaks for
the modality. The two last steps predict together. There is no prediction without one of them.

Differs from the paper: two modalities instead of three, so that each is rewritten by one other. The
published code hides later frames from earlier ones, by a rule that depends on the padded lengths of
the batch; here nothing but padding and gaps is hidden. Sines and cosines of the positions alternate
(there all cosines stand behind all sines). One dropout rate serves attention, hidden units and
layers, and weights begin as torch has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from vavl.baseline_config import MulTConfig
from vavl.models.base import EmotionModel, Normalisation
from vavl.models.crossmodal import CrossmodalNetwork, input_projections
from vavl.models.outputs import Rows
from vavl.models.sequences import Sequences, subsampled
from vavl.types import STREAMS, Modality


class MulT(EmotionModel):
    """See the module's docstring and :class:`vavl.baseline_config.MulTConfig`."""

    config_class = MulTConfig

    def __init__(self, config: MulTConfig) -> None:
        super().__init__(config)
        self.projections = input_projections(config)
        self.network = CrossmodalNetwork(config)

    def normalisation(self, modality: Modality) -> Normalisation:
        """See the base class."""
        return cast(Normalisation, self.projections[modality])

    def predict(self, sequences: Mapping[Modality, Sequences]) -> dict[Modality, Rows]:
        """See the base class."""
        pair = self.pair(subsampled(sequences, self.config))
        if pair is None:
            return {}
        frames = [
            self.projections[m](part.x, part.mask) for m, part in zip(STREAMS, pair, strict=True)
        ]
        return {Modality.AUDIOVISUAL: Rows(pair[0].rows, self.network(*frames))}
