"""What is scored: the category and each attribute, brought into one form for all that follows.

A score is never computed from the clips themselves but from *sums over clips*: the confusion matrix
for categories, six moments for an attribute, a few more for sentiment. Sums of speakers add up,
which is why resampling speakers is one matrix product and not a loop over clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vavl import metrics
from vavl.errors import InputError
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.views import View, ViewOutputs, available_views, view_outputs
from vavl.metrics import sentiment
from vavl.metrics.scales import SENTIMENT

CATEGORY = "category"
"""Name of the quantity that is scored for a model of categories."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Quantity:
    """One thing that is predicted, with what every view predicts in every seed.

    Attributes:
        name: ``"category"``, or the name of an attribute.
        measures: Names of its scores, e.g. ``("accuracy", ...)`` or ``("arousal_ccc",)``.
        compared: Those among them that views are compared by, possibly none.
        targets: ``(N,)`` class indices or values.
        known: ``(N,)`` True where the target is known.
        predictions: View to ``(K, N)``: class indices or values, one row per seed. Arbitrary where
            the view is not present.
        present: View to ``(N,)``: True where the view predicts the clip.
        fallback: View to ``(N,)``: True where a fused view had to do with one modality.
        sums: ``(targets (n,), predictions (n,), groups (n,), count)`` to ``(count, ...)``: the sums
            over the clips of each group.
        scores: ``(..., sums)`` to measure to ``(...)``.
    """

    name: str
    measures: tuple[str, ...]
    compared: tuple[str, ...]
    targets: NDArray[np.int64] | NDArray[np.float64]
    known: NDArray[np.bool_]
    predictions: Mapping[View, NDArray[np.int64] | NDArray[np.float64]]
    present: Mapping[View, NDArray[np.bool_]]
    fallback: Mapping[View, NDArray[np.bool_]]
    sums: Callable[..., Floats]
    scores: Callable[[Floats], dict[str, Floats]]

    @property
    def views(self) -> tuple[View, ...]:
        """The views that predict at least one clip whose target is known."""
        return tuple(view for view in self.predictions if self.scored(view).any())

    def scored(self, view: View) -> NDArray[np.bool_]:
        """``(N,)`` True for the clips that a view is scored on."""
        return self.known & self.present[view]

    def unaided(self, view: View) -> NDArray[np.bool_]:
        """``(N,)`` True for the clips that a view predicts without falling back to one modality."""
        return self.present[view] & ~self.fallback[view]

    def sums_by_group(
        self, view: View, rows: NDArray[np.bool_], groups: Indices, count: int
    ) -> Floats:
        """Sums of ``rows`` within each of ``count`` groups, per seed: ``(K, count, ...)``.

        Args:
            view: One of the views.
            rows: ``(N,)`` True for the clips that count.
            groups: ``(N,)`` group of each clip, in [0, count).
            count: Number of groups.
        """
        per_seed = [
            self.sums(self.targets[rows], predictions[rows], groups[rows], count)
            for predictions in self.predictions[view]
        ]
        return np.stack(per_seed)

    def group_scores(
        self, measure: str, view: View, rows: NDArray[np.bool_], groups: Indices
    ) -> Floats:
        """One score of each group of clips, per seed: ``(K, groups)``, NaN for a group without any.

        Args:
            measure: Name of the score.
            view: One of the views.
            rows: ``(N,)`` True for the clips that count.
            groups: ``(N,)`` group of each clip, from 0 on.
        """
        sums = self.sums_by_group(view, rows, groups, int(groups.max()) + 1)
        return self.scores(sums)[measure]


def ccc_name(attribute: str) -> str:
    """What the score of an attribute is called."""
    return f"{attribute}_ccc"


def quantities(tables: Sequence[PredictionTable]) -> tuple[Quantity, ...]:
    """Everything that can be scored in tables that differ only in seed.

    Args:
        tables: One per seed, the same clips in the same order, as
            :func:`vavl.evaluation.predictions.align` brings them.

    Returns:
        The category first, where there are categories; then each attribute. Sentiment comes twice:
        with its CCC, and with the scores of its own field.
    """
    first = tables[0]
    outputs = {
        view: [view_outputs(table, view) for table in tables] for view in available_views(first)
    }
    found = [_category(first, outputs)] if first.categories else []
    for column, name in enumerate(first.attributes):
        found.append(_attribute(first, outputs, column))
        if name == sentiment.ATTRIBUTE:
            found.append(_sentiment(first, outputs, column))
    return tuple(found)


def quantity_of(tables: Sequence[PredictionTable], measure: str) -> Quantity:
    """What a measure is a measure of.

    Raises:
        InputError: The tables have no such measure.
    """
    found = quantities(tables)
    for quantity in found:
        if measure in quantity.measures:
            return quantity
    known = [name for quantity in found for name in quantity.measures]
    raise InputError(f"metrics: expected some of {', '.join(known)}, got {measure!r}")


def _category(table: PredictionTable, outputs: Mapping[View, list[ViewOutputs]]) -> Quantity:
    def labels(view: ViewOutputs) -> Indices:
        known = np.where(view.present[:, None], view.probabilities, 0.0)
        return np.argmax(known, axis=1).astype(np.int64)

    return Quantity(
        name=CATEGORY,
        measures=metrics.CATEGORY_MEASURES,
        compared=("accuracy", "uar"),
        targets=table.category_targets,
        known=table.category_targets != metrics.UNKNOWN_CATEGORY,
        predictions={v: np.stack([labels(out) for out in outs]) for v, outs in outputs.items()},
        present={v: outs[0].present for v, outs in outputs.items()},
        fallback={v: outs[0].fallback for v, outs in outputs.items()},
        sums=partial(_confusions, classes=len(table.categories)),
        scores=metrics.category_measures,
    )


def _attribute(
    table: PredictionTable, outputs: Mapping[View, list[ViewOutputs]], column: int
) -> Quantity:
    name = ccc_name(table.attributes[column])
    targets = table.attribute_targets[:, column].astype(np.float64)
    known = ~np.isnan(targets)
    # A shift of both leaves CCC alone; without it the sums of values far from 0 lose digits.
    shift = float(targets[known].mean()) if known.any() else 0.0
    return _of_values(
        table,
        outputs,
        column,
        measures=(name,),
        compared=(name,),
        convert=lambda values: values - shift,
        items=metrics.moments,
        scores=lambda sums: {name: metrics.ccc_of_moments(sums)},
    )


def _sentiment(
    table: PredictionTable, outputs: Mapping[View, list[ViewOutputs]], column: int
) -> Quantity:
    return _of_values(
        table,
        outputs,
        column,
        measures=sentiment.SENTIMENT_MEASURES,
        compared=(),
        # Rounded, since 32 bits in [0, 1] put a rater's 0 or 0.5 a little beside it.
        convert=lambda values: np.round(SENTIMENT.from_unit(values), 4),
        items=sentiment.sentiment_items,
        scores=sentiment.measures_of_items,
    )


def _of_values(
    table: PredictionTable,
    outputs: Mapping[View, list[ViewOutputs]],
    column: int,
    *,
    measures: tuple[str, ...],
    compared: tuple[str, ...],
    convert: Callable[[Floats], Floats],
    items: Callable[[Floats, Floats], Floats],
    scores: Callable[[Floats], dict[str, Floats]],
) -> Quantity:
    """An attribute as every view predicts it; the product is a view of categories alone."""
    outputs = {view: outs for view, outs in outputs.items() if view is not View.PRODUCT}
    targets = table.attribute_targets[:, column].astype(np.float64)
    return Quantity(
        name=table.attributes[column],
        measures=measures,
        compared=compared,
        targets=convert(targets),
        known=~np.isnan(targets),
        predictions={
            v: np.stack([convert(out.attributes[:, column]) for out in outs])
            for v, outs in outputs.items()
        },
        present={v: outs[0].present for v, outs in outputs.items()},
        fallback={v: outs[0].fallback for v, outs in outputs.items()},
        sums=partial(_sums_of_items, items=items),
        scores=scores,
    )


def _confusions(
    targets: Indices, predictions: Indices, groups: Indices, count: int, *, classes: int
) -> Floats:
    cells = (groups * classes + targets) * classes + predictions
    counted = np.bincount(cells, minlength=count * classes * classes)
    return counted.reshape(count, classes, classes).astype(np.float64)


def _sums_of_items(
    targets: Floats,
    predictions: Floats,
    groups: Indices,
    count: int,
    *,
    items: Callable[[Floats, Floats], Floats],
) -> Floats:
    columns = items(targets, predictions).T  # (K, n)
    return np.stack([np.bincount(groups, column, minlength=count) for column in columns], axis=1)
