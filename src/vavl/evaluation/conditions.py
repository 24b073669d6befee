"""What is done to test clips after training: gaps, a lost modality, speakers that are known.

A :class:`Condition` is written under ``test`` in a study file. Gaps and known clips change what the
model is given, so the model predicts once under each. A clip that loses a modality is predicted
from the other one, which the model has done already, so :func:`take_away` needs the table alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from vavl.config.base import Configuration
from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import seeded_fraction, seeded_order
from vavl.data.speakers import Moments, pooled, towards_training
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.evaluation.predictions import PredictionTable
from vavl.types import STREAMS, Batch, Modality


def _number_or_all(value: object) -> object:
    if value is None or value == "all" or (isinstance(value, int) and value >= 0):
        return value
    raise ValueError('expected a number of clips, or "all"')


class Condition(Configuration):
    """What is done to the test clips after training; by default nothing."""

    without_acoustic: float = Field(default=0.0, ge=0, le=1)
    """Share of the test clips with both modalities that lose their sound."""
    without_visual: float = Field(default=0.0, ge=0, le=1)
    """Share that lose their face; no clip loses both."""
    acoustic_gaps: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps of each clip's sound that is hidden, in one span."""
    visual_gaps: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps of each clip's face that is hidden, in one span."""
    known_clips: Annotated[int | Literal["all"] | None, BeforeValidator(_number_or_all)] = None
    """How many other unlabelled clips of its speaker each clip is normalised by. None: as in
    training, by none, or by all clips with ``data.speaker_normalisation``."""
    known_category: str | None = None
    """Takes the known clips from this category alone; None takes them from all."""
    average_variants: bool = False
    """The output is the mean over ``data.acoustic`` and all of ``data.acoustic_variants``."""
    seed: int = Field(default=0, ge=0)
    """Draws the clips and the places."""
    draws: int = Field(default=1, ge=1)
    """Draws this often, with ``seed``, ``seed + 1``, ...; scores are averaged over the draws."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        lost = self.without_acoustic + self.without_visual
        if lost > 1:
            raise ValueError(
                "without_acoustic, without_visual: expected a sum of at most 1, since no clip can "
                "lose both"
            )
        if lost and self.draws > 1:
            raise ValueError(
                "draws: expected 1 where clips lose a modality: each draw would score other clips"
            )
        return self

    @property
    def has_gaps(self) -> bool:
        """Whether any steps are hidden."""
        return bool(self.acoustic_gaps or self.visual_gaps)

    @property
    def name(self) -> str:
        """Tells the model's outputs from those under other conditions; fit for a file name.

        Empty for the clips as they are, and where clips lose a modality: the outputs are the same.
        """
        parts = []
        if self.has_gaps:
            parts.append(f"gaps-{self.acoustic_gaps:g}-{self.visual_gaps:g}-{self.seed}")
        if self.known_clips is not None:
            pool = [] if self.known_category is None else [quote(self.known_category, safe="")]
            parts.append("-".join(["known", *pool, str(self.known_clips), str(self.seed)]))
        if self.average_variants:
            parts.append("variants")
        return "-".join(parts)

    def single_draws(self) -> tuple[Condition, ...]:
        """The same with one draw each; one condition where nothing is drawn.

        Example:
            >>> [c.seed for c in Condition(known_clips=5, seed=3, draws=2).single_draws()]
            [3, 4]
            >>> Condition(known_clips="all", seed=3, draws=2).single_draws()[0].name
            'known-all-0'
        """
        known = {} if self.known_clips else {"known_category": None}
        some_known = self.known_clips not in (None, 0, "all")
        if not (self.without_acoustic or self.without_visual or self.has_gaps or some_known):
            return (self.model_copy(update={**known, "seed": 0, "draws": 1}),)
        return tuple(
            self.model_copy(update={**known, "seed": self.seed + draw, "draws": 1})
            for draw in range(self.draws)
        )


AS_THEY_ARE = Condition()
"""The test clips as they are."""


class ClipsWithGaps(UtteranceDataset):
    """A data set whose batches have gaps; arguments as for :class:`UtteranceDataset`.

    The hidden steps are masked and keep their place in time, as where a face is out of sight. A
    clip always keeps at least one step. Its place depends on the condition's seed and the clip's
    name alone, and a longer gap covers a shorter one.
    """

    def __init__(
        self,
        manifest: Manifest,
        ids: Sequence[str],
        stores: Mapping[Modality, FeatureStore],
        *,
        condition: Condition,
        **options: Any,
    ) -> None:
        super().__init__(manifest, ids, stores, **options)
        self._seed = condition.seed
        self._shares = dict(
            zip(STREAMS, (condition.acoustic_gaps, condition.visual_gaps), strict=True)
        )

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        """The batch of the clips at these positions, without what is hidden."""
        batch = super().__getitem__(positions)
        return replace(
            batch,
            acoustic_mask=self._seen(Modality.ACOUSTIC, batch.utterance_ids, batch.acoustic_mask),
            visual_mask=self._seen(Modality.VISUAL, batch.utterance_ids, batch.visual_mask),
        )

    def _seen(self, modality: Modality, ids: Sequence[str], mask: Tensor | None) -> Tensor | None:
        share = self._shares[modality]
        if mask is None or not share:
            return mask
        for utterance_id, row in zip(ids, mask, strict=True):
            steps = torch.nonzero(row).flatten()
            place = seeded_fraction(utterance_id, self._seed, f"{modality} gap")
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


def known_clips(condition: Condition, utterances: Iterable[Utterance]) -> dict[str, list[str]]:
    """The other clips of its speaker that each clip is normalised by; never the clip itself.

    Of one draw, a smaller number of clips is among a larger one. Labels are read for
    ``known_category`` alone.

    Args:
        condition: One with ``known_clips``.
        utterances: The test clips of a fold, which are scored and drawn from.

    Raises:
        InputError: A speaker has fewer other clips than that, or none for ``"all"``.
    """
    utterances = list(utterances)
    pools: defaultdict[str, list[str]] = defaultdict(list)
    for utterance in utterances:
        if condition.known_category in (None, utterance.category):
            pools[utterance.speaker].append(utterance.utterance_id)
    orders = {s: seeded_order(names, condition.seed, "enrolment") for s, names in pools.items()}
    count = None if condition.known_clips == "all" else condition.known_clips
    known = {
        u.utterance_id: [name for name in orders.get(u.speaker, []) if name != u.utterance_id]
        for u in utterances
    }
    fewest = min(map(len, known.values()))
    if fewest < (1 if count is None else count):
        kind = "" if condition.known_category is None else f" {condition.known_category!r}"
        raise InputError(
            f"known_clips: expected {condition.known_clips} other{kind} clips of the speaker of "
            f"each test clip, got {fewest} for one of them"
        )
    return {name: others[:count] for name, others in known.items()}


def clip_moments(store: FeatureStore, ids: Iterable[str]) -> dict[str, Moments]:
    """The moments of each of the clips that a store has."""
    return {name: Moments.of_clip(store.read(name)) for name in ids if name in store}


class KnownClips:
    """Normalises each clip by other clips of its speaker; for ``UtteranceDataset.sequence_map``.

    Args:
        known: Clip to the clips that it is normalised by, see :func:`known_clips`.
        moments: By modality and clip, see :func:`clip_moments`; a clip without any adds nothing.
        training: Training statistics by modality, with the weight of the prior; other modalities
            stay as they are.
    """

    def __init__(
        self,
        known: Mapping[str, Sequence[str]],
        moments: Mapping[Modality, Mapping[str, Moments]],
        training: Mapping[Modality, Moments],
    ) -> None:
        self._known = known
        self._moments = moments
        self._training = training

    def __call__(
        self, modality: Modality, utterance_id: str, frames: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """``(T, D)`` of one clip, normalised by the clips that are known of its speaker."""
        if modality not in self._training:
            return frames
        moments = self._moments[modality]
        others = (moments[name] for name in self._known[utterance_id] if name in moments)
        return towards_training(frames, pooled(others, frames.shape[1]), self._training[modality])


def take_away(table: PredictionTable, condition: Condition) -> PredictionTable:
    """The predictions as they were if some clips lacked their sound, and others their face.

    Clips are drawn within each speaker, so that all speakers lose the same share; of two shares the
    smaller one's clips are among the larger one's. The draw depends on the seed and the clips'
    names alone. Clips that lack a modality already stay as they are.
    """
    if not (condition.without_acoustic or condition.without_visual):
        return table
    sound, face = (table.present(modality) for modality in STREAMS)
    by_speaker: dict[tuple[str, str], dict[str, int]] = {}
    for row in np.flatnonzero(sound & face):
        own = by_speaker.setdefault((table.partitions[row], table.speakers[row]), {})
        own[table.utterance_ids[row]] = int(row)
    lost: dict[Modality, list[int]] = {modality: [] for modality in STREAMS}
    for rows in by_speaker.values():
        order = [rows[name] for name in seeded_order(rows, condition.seed, "missing")]
        from_start = round(condition.without_acoustic * len(order))
        from_end = max(from_start, len(order) - round(condition.without_visual * len(order)))
        lost[Modality.ACOUSTIC] += order[:from_start]
        lost[Modality.VISUAL] += order[from_end:]
    lost[Modality.AUDIOVISUAL] = [row for rows in lost.values() for row in rows]

    def without(outputs: Mapping[Modality, NDArray[np.float32]]) -> dict[Modality, NDArray[Any]]:
        left = {modality: values.copy() for modality, values in outputs.items()}
        for modality, rows in lost.items():
            left[modality][rows] = np.nan
        return left

    return replace(
        table, logits=without(table.logits), attribute_outputs=without(table.attribute_outputs)
    )
