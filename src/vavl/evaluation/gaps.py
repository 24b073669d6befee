"""Test clips with gaps: steps of the sound or of the face that the model does not get to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest
from vavl.data.partition import seeded_fraction
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.types import STREAMS, Batch, Modality


@dataclass(frozen=True)
class Gaps:
    """The share of each clip's steps that is hidden, in one span at a place of its own.

    The hidden steps are masked and keep their place in time, as where a face is out of sight. A
    clip always keeps at least one step: whole modalities go missing another way.

    Attributes:
        acoustic: Share of the steps with sound, in [0, 1).
        visual: Share of the steps with a face, in [0, 1).
        seed: Draws the places. A clip's place depends on the seed and its name alone, and a longer
            gap covers a shorter one.
    """

    acoustic: float = 0.0
    visual: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for modality in STREAMS:
            if not 0 <= self.share(modality) < 1:
                raise InputError(
                    f"{modality}: expected a share of 0 <= share < 1, got {self.share(modality)}"
                )

    def share(self, modality: Modality) -> float:
        """The share of the steps of a modality that is hidden."""
        return self.acoustic if modality is Modality.ACOUSTIC else self.visual

    @property
    def name(self) -> str:
        """What tells these gaps from others, fit for a file name."""
        return f"gaps-{self.acoustic:g}-{self.visual:g}-{self.seed}"


class ClipsWithGaps(UtteranceDataset):
    """A data set whose batches have gaps; arguments as for :class:`UtteranceDataset`."""

    def __init__(
        self,
        manifest: Manifest,
        ids: Sequence[str],
        stores: Mapping[Modality, FeatureStore],
        *,
        gaps: Gaps,
        **options: Any,
    ) -> None:
        super().__init__(manifest, ids, stores, **options)
        self.gaps = gaps

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        """The batch of the clips at these positions, without what is hidden."""
        batch = super().__getitem__(positions)
        return replace(
            batch,
            acoustic_mask=self._seen(Modality.ACOUSTIC, batch.utterance_ids, batch.acoustic_mask),
            visual_mask=self._seen(Modality.VISUAL, batch.utterance_ids, batch.visual_mask),
        )

    def _seen(self, modality: Modality, ids: Sequence[str], mask: Tensor | None) -> Tensor | None:
        share = self.gaps.share(modality)
        if mask is None or not share:
            return mask
        for utterance_id, row in zip(ids, mask, strict=True):
            steps = torch.nonzero(row).flatten()
            place = seeded_fraction(utterance_id, self.gaps.seed, f"{modality} gap")
            row[steps[hidden_span(len(steps), share, place)]] = False
        return mask


def hidden_span(steps: int, share: float, place: float) -> slice:
    """Which of a clip's steps are hidden; at one place a larger share covers a smaller one's.

    Args:
        steps: How many steps the clip has.
        share: Share that is hidden, in [0, 1); at least one step stays.
        place: Where, from 0 (at the beginning) up to 1 (at the end).

    Example:
        >>> hidden_span(10, 0.3, 0.0), hidden_span(10, 0.3, 0.99), hidden_span(2, 0.9, 0.0)
        (slice(0, 3, None), slice(7, 10, None), slice(0, 1, None))
    """
    hidden = min(round(share * steps), max(steps - 1, 0))
    start = int(place * (steps - hidden + 1))
    return slice(start, start + hidden)
