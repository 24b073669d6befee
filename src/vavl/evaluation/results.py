"""What an evaluation holds: plain values, ready to be printed, drawn or saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vavl.errors import InputError
from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.missing import MissingCurve
from vavl.evaluation.views import View
from vavl.types import Modality

SCHEMA_VERSION = 1
"""Version of :meth:`Evaluation.to_dict`, and with it of ``scores.json``."""


@dataclass(frozen=True)
class Score:
    """One measure of one view.

    Attributes:
        quantity: ``"category"``, or the name of an attribute.
        view: What the predictions were made from.
        measure: One of :data:`vavl.metrics.CATEGORY_MEASURES`, ``"<attribute>_ccc"``, or one of
            :data:`vavl.metrics.sentiment.SENTIMENT_MEASURES`.
        pooled: Over the clips of all partitions together; mean over seeds.
        folds: Partition to its own score; mean over seeds.
        fold_mean: Mean of the folds.
        fold_std: Standard deviation of the folds (n - 1); NaN with a single one.
        seed_std: Standard deviation of the pooled score over seeds (n - 1); NaN with a single one.
        clips: Number of clips scored.
        fallbacks: Number of those for which a fused view had to do with one modality.
    """

    quantity: str
    view: View
    measure: str
    pooled: Interval
    folds: Mapping[str, Interval]
    fold_mean: float
    fold_std: float
    seed_std: float
    clips: int
    fallbacks: int


@dataclass(frozen=True)
class Difference:
    """How far the learned fusion is above another view, on the clips that both predict.

    Attributes:
        quantity: ``"category"``, or the name of an attribute.
        view: Always the audiovisual view.
        baseline: The other view.
        measure: Name of the score.
        pooled: The difference, with the interval from the same resamples for both views.
        clips: Number of clips.
    """

    quantity: str
    view: View
    baseline: View
    measure: str
    pooled: Interval
    clips: int

    @property
    def distinguishable(self) -> bool:
        """True where the interval does not hold 0."""
        return self.pooled.low > 0 or self.pooled.high < 0


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of one view, pooled over partitions.

    Attributes:
        view: What the predictions were made from.
        counts: Rows are targets, columns are predictions, both in the order of the categories; mean
            over seeds, so not always whole numbers.
        recalls: Recall of each category with its interval; NaN where it does not occur.
    """

    view: View
    counts: tuple[tuple[float, ...], ...]
    recalls: tuple[Interval, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known about a set of prediction tables.

    Attributes:
        categories: Category names, possibly none.
        attributes: Attribute names, possibly none.
        partitions: Names of the folds.
        seeds: Labels of the seeds averaged over; empty when none were given.
        clips: Number of rows: clips, counted once for every partition that tests them.
        speakers: Number of speakers.
        without: Modality to the number of clips that lack it.
        replicates: Bootstrap resamples.
        confidence: Share of the bootstrap distribution within an interval.
        draws: Random orders that the curves of missing modalities are averaged over.
        scores: Every measure of every view.
        differences: The learned fusion against the other views.
        confusions: Confusion matrices; none for a model of attributes only.
        missing_curves: Score against the share of clips that lack a modality.
        remarks: What else a reader has to know, such as folds that are not trained yet.
    """

    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    partitions: tuple[str, ...]
    seeds: tuple[str, ...]
    clips: int
    speakers: int
    without: Mapping[Modality, int]
    replicates: int
    confidence: float
    draws: int
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    confusions: tuple[Confusion, ...]
    missing_curves: tuple[MissingCurve, ...]
    remarks: tuple[str, ...] = ()

    def score(self, view: View | str, measure: str) -> Score:
        """The score of a view by the name of its measure.

        Raises:
            InputError: Not scored; the message lists what is.
        """
        for score in self.scores:
            if (score.view, score.measure) == (view, measure):
                return score
        known = sorted({f"{score.view} {score.measure}" for score in self.scores})
        raise InputError(f"{view} {measure}: not among the scores of this evaluation: {known}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON-compatible values; what is not a number (NaN) becomes None."""
        content: dict[str, Any] = _json_compatible(asdict(self))
        return {"schema_version": SCHEMA_VERSION, **content}


def _json_compatible(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_compatible(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_compatible(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, (View, Modality)) else value
