"""How much it helps to know the person: scores against the number of their unlabelled clips.

Nothing is trained: the models of some runs predict their test clips again, each clip normalised by
statistics of n *other* clips of its speaker, see :mod:`vavl.data.speakers`. A clip is never among
the clips that it is normalised by; all clips are scored under all conditions, so that differences
are between the same clips.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition, seeded_order
from vavl.data.speakers import PRIOR_CLIPS, Moments, SequenceMap, pooled, towards_training
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.evaluation.compare import (
    Comparison,
    Predicted,
    compare,
    mean_test_share,
    predicted,
    variant_scores,
)
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.quantities import quantities
from vavl.evaluation.run import check_comparable, prediction_table, run_config
from vavl.evaluation.scores import Score
from vavl.evaluation.views import View, available_views
from vavl.models.base import priors
from vavl.models.pretrained import WEIGHTS_FILE
from vavl.models.registry import load_model
from vavl.training.experiment import open_stores
from vavl.training.run_folder import FoldDirectory, check_provenance, folds_of_run
from vavl.training.scoring import run_model
from vavl.types import Modality

COUNTS = (0, 1, 2, 5, 10, 30, None)
"""Numbers of clips; None is all that there are."""

MIXED = "mixed"
"""Clips of all moods."""


@dataclass(frozen=True)
class Condition:
    """Which clips of the speaker are known.

    Attributes:
        pool: :data:`MIXED`, or the category that the clips are taken from.
        clips: How many; None is all.
    """

    pool: str
    clips: int | None

    @property
    def amount(self) -> str:
        """The number of clips, or ``all``."""
        return "all" if self.clips is None else str(self.clips)

    @property
    def name(self) -> str:
        """``mixed, 5``; without clips the pool makes no difference."""
        return f"{self.pool}, {self.amount}" if self.clips != 0 else "nothing known"

    @property
    def draws(self) -> bool:
        """Whether there is anything to draw."""
        return self.clips is not None and self.clips > 0


NOTHING = Condition(MIXED, 0)
"""The speaker is a stranger: what all else is compared with."""


def clip_moments(store: FeatureStore, ids: Sequence[str]) -> dict[str, Moments]:
    """The moments of each clip that a store has."""
    return {name: Moments.of_clip(store.read(name)) for name in ids if name in store}


class KnownSpeakers:
    """Normalises clips by other clips of their speaker.

    Args:
        manifest: Says who speaks, and for a pool of one category also what.
        ids: The clips, which are scored and drawn from.
        moments: By modality and clip, see :func:`clip_moments`.
        training: Training statistics by modality, with the weight of the prior.
    """

    def __init__(
        self,
        manifest: Manifest,
        ids: Sequence[str],
        moments: Mapping[Modality, Mapping[str, Moments]],
        training: Mapping[Modality, Moments],
    ) -> None:
        self._utterances = {name: manifest.by_id[name] for name in ids}
        self._moments = dict(moments)
        self._training = dict(training)

    def known(self, condition: Condition, draw: int = 0) -> dict[str, list[str]]:
        """Each clip, and the other clips of its speaker that it is normalised by."""
        pools: defaultdict[str, list[str]] = defaultdict(list)
        for name, utterance in self._utterances.items():
            if condition.pool in (MIXED, utterance.category):
                pools[utterance.speaker].append(name)
        orders = {s: seeded_order(names, draw, "enrolment") for s, names in pools.items()}
        return {
            name: [other for other in orders.get(utterance.speaker, []) if other != name][
                : condition.clips
            ]
            for name, utterance in self._utterances.items()
        }

    def sequence_map(self, condition: Condition, draw: int = 0) -> SequenceMap:
        """What normalises each clip under a condition.

        Raises:
            InputError: A speaker has fewer clips than that.
        """
        known = self.known(condition, draw)
        fewest = min(map(len, known.values()))
        if fewest < (1 if condition.clips is None else condition.clips):
            raise InputError(
                f"clips: expected {condition.amount} other clips of each clip's speaker in the "
                f"pool {condition.pool!r}, got {fewest} for one of them"
            )

        def normalised(
            modality: Modality, name: str, frames: NDArray[np.floating]
        ) -> NDArray[np.floating]:
            if modality not in self._moments:
                return frames
            moments = self._moments[modality]
            others = (moments[other] for other in known[name] if other in moments)
            speaker = pooled(others, frames.shape[1])
            return towards_training(frames, speaker, self._training[modality])

        return normalised


@dataclass(frozen=True)
class ConditionResult:
    """Scores under one condition.

    Attributes:
        condition: What is known of the speaker.
        scores: View and measure to score; draws and seeds are averaged like seeds.
        differences: View and measure to the comparison with knowing nothing; empty for that.
    """

    condition: Condition
    scores: Mapping[tuple[View, str], Score]
    differences: Mapping[tuple[View, str], Comparison]


def possible_conditions(
    speakers: Sequence[KnownSpeakers], pools: Sequence[str], counts: Sequence[int | None] = COUNTS
) -> list[Condition]:
    """The conditions that every test clip has enough other clips for, :data:`NOTHING` first."""
    wanted = [Condition(pool, count) for pool in pools for count in counts if count != 0]
    return [NOTHING, *(c for c in wanted if all(_is_possible(c, known) for known in speakers))]


def _is_possible(condition: Condition, speakers: KnownSpeakers) -> bool:
    return min(map(len, speakers.known(condition).values())) >= (condition.clips or 1)


def score_conditions(
    tables: Mapping[Condition, Sequence[tuple[str, PredictionTable]]],
    views: Sequence[View],
    *,
    test_share: float,
    replicates: int,
) -> list[ConditionResult]:
    """Scores all conditions, and compares each with knowing nothing.

    Args:
        tables: For each condition, label (of seed and draw) and predictions of every fold.
        views: Which predictions are scored.
        test_share: As for :func:`vavl.evaluation.compare.compare`.
        replicates: Resamples of speakers.
    """
    found = {
        condition: {
            view: predicted([table for _, table in rows], [label for label, _ in rows], view)
            for view in views
        }
        for condition, rows in tables.items()
    }
    first = next(iter(found[NOTHING].values())).tables
    measures = [measure for quantity in quantities(first) for measure in quantity.compared]

    def difference(condition: Condition, view: View, measure: str) -> Comparison:
        sides: tuple[Predicted, Predicted] = (found[condition][view], found[NOTHING][view])
        names = (condition.name, NOTHING.name)
        return compare(names, *sides, measure, test_share=test_share, replicates=replicates)

    return [
        ConditionResult(
            condition,
            {
                (view, measure): score
                for view in views
                for measure, score in variant_scores(
                    by_view[view], measures, replicates=replicates
                ).items()
            },
            {
                (view, measure): difference(condition, view, measure)
                for view in views
                for measure in measures
                if condition != NOTHING
            },
        )
        for condition, by_view in found.items()
    ]


class TestedFold:
    """A trained fold that predicts its test clips again and again.

    Args:
        fold: A finished fold.
        manifest: Utterance table.
        stores: Feature stores, as in training.
    """

    def __init__(
        self, fold: FoldDirectory, manifest: Manifest, stores: Mapping[Modality, FeatureStore]
    ) -> None:
        self.path = fold.path
        self.partition = Partition.load(fold.partition_file)
        self._model = load_model(fold.path)
        read = {m: store for m, store in stores.items() if m in self._model.config.inputs}
        training = priors(self._model, read)
        moments = {m: clip_moments(store, self.partition.test) for m, store in read.items()}
        self.speakers = KnownSpeakers(manifest, self.partition.test, moments, training)
        self._dataset = UtteranceDataset(
            manifest,
            self.partition.test,
            read,
            categories=self._model.config.categories,
            attributes=self._model.config.attributes,
        )
        content = (fold.path / WEIGHTS_FILE).read_bytes()
        self._key = hashlib.sha256(content).hexdigest()[:12]

    def predict(self, condition: Condition, draw: int, folder: Path) -> PredictionTable:
        """Predictions under a condition, computed once and kept in a folder."""
        parts = (self._key, f"{PRIOR_CLIPS:g}", condition.pool, condition.amount, str(draw))
        file = folder / f"{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:16]}.parquet"
        if file.is_file():
            return PredictionTable.load(file)
        self._dataset.sequence_map = (
            None if condition == NOTHING else self.speakers.sequence_map(condition, draw)
        )
        found = run_model(self._model, self._dataset)
        table = prediction_table(self._dataset, found, self.partition.name)
        table.save(file)
        return table


def run_enrolment(
    runs: Sequence[Path],
    folder: Path,
    *,
    pools: Sequence[str] = (MIXED, "neutral"),
    draws: int = 3,
    replicates: int = 5000,
    progress: Callable[[str], None] = lambda _: None,
) -> list[ConditionResult]:
    """Runs the study on trained runs; the same call goes on where it was interrupted.

    Args:
        runs: Run folders that differ in their seed alone.
        folder: Keeps the predictions of each fold under each condition.
        pools: :data:`MIXED` and categories.
        draws: How often clips are drawn; scores are averaged over the draws.
        replicates: Resamples of speakers.
        progress: Told what was done.

    Raises:
        StoreError: A run without a finished fold, data that have changed since training, or runs
            with different settings.
    """
    configs = [run_config(run) for run in runs]
    check_comparable(runs, configs)
    folds: list[tuple[int, TestedFold]] = []
    for run, config in zip(runs, configs, strict=True):
        manifest, stores = Manifest.load(config.data.manifest), open_stores(config)
        found = folds_of_run(run)
        check_provenance(found[0].path.parent, manifest, stores)
        folds += [(config.training.seed, TestedFold(f, manifest, stores)) for f in found]
    tables: defaultdict[Condition, list[tuple[str, PredictionTable]]] = defaultdict(list)
    for condition in possible_conditions([fold.speakers for _, fold in folds], pools):
        for draw in range(draws if condition.draws else 1):
            for seed, fold in folds:
                tables[condition].append((f"{seed}/{draw}", fold.predict(condition, draw, folder)))
            progress(f"{condition.name}, draw {draw + 1}")
    first = tables[NOTHING][0][1]
    return score_conditions(
        tables,
        [view for view in available_views(first) if view is not View.AVERAGE],
        test_share=mean_test_share({fold.partition.name: fold.partition for _, fold in folds}),
        replicates=replicates,
    )
