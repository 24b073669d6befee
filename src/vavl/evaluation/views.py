"""What is scored: the category and each attribute, read off a clip's outputs in several views.

===============  ==================================================================================
acoustic         the output made from sound
visual           the output made from the face
audiovisual      the output of the learned fusion
average          mean of the two unimodal probability vectors; of the two outputs for attributes
product          normalised product of the two unimodal probability vectors; categories only
===============  ==================================================================================

A clip that lacks a modality has no unimodal prediction from it. The three fused views then *fall
back* to the one that is there, so they cover every clip; :attr:`ViewOutputs.fallback` marks where.

A score is never computed from the clips themselves but from *sums over clips*: the confusion matrix
for categories, six moments for an attribute, a few more for sentiment. Sums of speakers add up,
which is why resampling speakers is one matrix product and not a loop over clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl import metrics
from vavl.errors import InputError
from vavl.evaluation.predictions import PredictionTable
from vavl.metrics import sentiment
from vavl.metrics.attributes import SENTIMENT
from vavl.types import STREAMS, Modality

CATEGORY = "category"
"""Name of the quantity that is scored for a model of categories."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Rows = NDArray[np.bool_]


class View(StrEnum):
    """Which prediction of a clip is looked at."""

    ACOUSTIC = "acoustic"
    VISUAL = "visual"
    AUDIOVISUAL = "audiovisual"
    AVERAGE = "average"
    PRODUCT = "product"


TRAINED_VIEWS = (View.ACOUSTIC, View.VISUAL, View.AUDIOVISUAL)
"""The views that are outputs of the model, not computed from others."""

FUSED = (View.AUDIOVISUAL, View.AVERAGE, View.PRODUCT)
"""The views that read both modalities of a clip."""


@dataclass(frozen=True, eq=False)
class ViewOutputs:
    """What a view predicts for N clips.

    Attributes:
        probabilities: ``(N, C)`` float64, rows sum to 1; NaN where the view predicts nothing.
        attributes: ``(N, A)`` float64; NaN where the view predicts nothing, which for the
            product is everywhere.
        present: ``(N,)`` True where the view predicts the clip.
        fallback: ``(N,)`` True where a fused view had to do with one modality.
    """

    probabilities: Floats
    attributes: Floats
    present: Rows
    fallback: Rows


def available_views(table: PredictionTable) -> tuple[View, ...]:
    """The views that a table supports, in the order used everywhere.

    The average and the product need both modalities somewhere in the table. The audiovisual view
    needs outputs of a learned fusion, or both modalities but never in the same clip: then it is all
    fallback, and still the one prediction that covers all clips.

    Example:
        >>> table = PredictionTable(
        ...     ("calm", "happy"), (), ("clip",), ("ann",), ("fold-0",), np.array([0]),
        ...     np.empty((1, 0)), {Modality.ACOUSTIC: np.array([[2.0, 0.0]])},
        ... )
        >>> [str(view) for view in available_views(table)]
        ['acoustic']
    """
    acoustic, visual = (table.present(modality) for modality in STREAMS)
    both_occur = bool(acoustic.any() and visual.any())
    unpaired = both_occur and not (acoustic & visual).any()
    available = {
        View.ACOUSTIC: acoustic.any(),
        View.VISUAL: visual.any(),
        View.AUDIOVISUAL: table.present(Modality.AUDIOVISUAL).any() or unpaired,
        View.AVERAGE: both_occur,
        View.PRODUCT: both_occur and bool(table.categories),
    }
    return tuple(view for view, there in available.items() if there)


def readable_view(table: PredictionTable, view: View | None) -> View:
    """The view that a table is read by, where ``view`` is asked for.

    None is what the model answers: the fusion where there is one, else the average of the two
    modalities, else the modality that there is. A fused view of clips that have all lost the same
    modality is that of the other modality.

    Raises:
        InputError: The table lacks the view.
    """
    available = available_views(table)
    if view in available:
        return view
    if view is None:
        order = (View.AUDIOVISUAL, View.AVERAGE, View.ACOUSTIC, View.VISUAL)
        return next(candidate for candidate in order if candidate in available)
    left = [View(modality) for modality in STREAMS if View(modality) in available]
    if view in FUSED and len(left) == 1:
        return left[0]
    raise InputError(f"view: expected one of {', '.join(available)}, got {view}")


def view_outputs(table: PredictionTable, view: View) -> ViewOutputs:
    """Reads a view off a table, in the order of its clips.

    Example:
        >>> table = PredictionTable(
        ...     ("calm", "happy"), (), ("clip",), ("ann",), ("fold-0",), np.array([0]),
        ...     np.empty((1, 0)),
        ...     {
        ...         Modality.ACOUSTIC: np.log([[0.9, 0.1]]),
        ...         Modality.VISUAL: np.log([[0.6, 0.4]]),
        ...     },
        ... )
        >>> view_outputs(table, View.AVERAGE).probabilities.round(3).tolist()
        [[0.75, 0.25]]
        >>> view_outputs(table, View.PRODUCT).probabilities.round(3).tolist()
        [[0.931, 0.069]]
    """
    log_probabilities = {m: _log_softmax(table.logits[m]) for m in Modality}
    probabilities = {m: np.exp(values) for m, values in log_probabilities.items()}
    attributes = {m: table.attribute_outputs[m].astype(np.float64) for m in Modality}
    if view not in FUSED:
        modality = Modality(view)
        nowhere = np.zeros(len(table), np.bool_)
        present = table.present(modality)
        return ViewOutputs(probabilities[modality], attributes[modality], present, nowhere)

    a, v = STREAMS
    sound, face = table.present(a), table.present(v)
    fused = sound & face
    if view is View.AUDIOVISUAL:
        fused = table.present(Modality.AUDIOVISUAL)
        category, attribute = probabilities[Modality.AUDIOVISUAL], attributes[Modality.AUDIOVISUAL]
    elif view is View.AVERAGE:
        category = (probabilities[a] + probabilities[v]) / 2
        attribute = (attributes[a] + attributes[v]) / 2
    else:
        # A sum of logarithms: a product of small probabilities would underflow to 0 / 0.
        category = np.exp(_log_softmax(log_probabilities[a] + log_probabilities[v]))
        attribute = np.full_like(attributes[a], np.nan)
        attributes = dict.fromkeys(STREAMS, attribute)  # no fallback either
    fallback = (sound ^ face) & ~fused

    def with_fallback(both: Floats, single: Mapping[Modality, Floats]) -> Floats:
        alone = np.where(sound[:, None], single[a], single[v])
        return np.where(fallback[:, None], alone, both)

    return ViewOutputs(
        with_fallback(category, probabilities),
        with_fallback(attribute, attributes),
        fused | fallback,
        fallback,
    )


def _log_softmax(logits: NDArray[Any]) -> Floats:
    """In float64 over the last axis; rows of NaN stay NaN, and no columns stay no columns."""
    values = logits.astype(np.float64)
    if not values.shape[1]:
        return values
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values


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
        outputs: View to its outputs in the first seed, which clips it predicts among them.
        sums: ``(targets (n,), predictions (n,), groups (n,), count)`` to ``(count, ...)``: the sums
            over the clips of each group.
        scores: ``(..., sums)`` to measure to ``(...)``.
    """

    name: str
    measures: tuple[str, ...]
    compared: tuple[str, ...]
    targets: Indices | Floats
    known: Rows
    predictions: Mapping[View, Indices | Floats]
    outputs: Mapping[View, ViewOutputs]
    sums: Callable[..., Floats]
    scores: Callable[[Floats], dict[str, Floats]]

    @property
    def views(self) -> tuple[View, ...]:
        """The views that predict at least one clip whose target is known."""
        return tuple(view for view in self.predictions if self.scored(view).any())

    def scored(self, view: View) -> Rows:
        """``(N,)`` True for the clips that a view is scored on."""
        return self.known & self.outputs[view].present

    def unaided(self, view: View) -> Rows:
        """``(N,)`` True for the clips that a view predicts without falling back to one modality."""
        return self.outputs[view].present & ~self.outputs[view].fallback

    def sums_by_group(self, view: View, rows: Rows, groups: Indices, count: int) -> Floats:
        """Sums over ``rows`` within each of ``count`` groups, per seed: ``(K, count, ...)``.

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

    def group_scores(self, measure: str, view: View, rows: Rows, groups: Indices) -> Floats:
        """One score of each group, per seed: ``(K, groups)``, NaN for a group without clips."""
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
    # The product is a view of categories alone.
    outputs = {view: of_seeds for view, of_seeds in outputs.items() if view is not View.PRODUCT}
    for column in range(len(first.attributes)):
        found += _attribute(first, outputs, column)
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


_Outputs = Mapping[View, Sequence[ViewOutputs]]
"""What each view predicts, per seed."""


def _category(table: PredictionTable, outputs: _Outputs) -> Quantity:
    def labels(out: ViewOutputs) -> Indices:
        known = np.where(out.present[:, None], out.probabilities, 0.0)
        return np.argmax(known, axis=1).astype(np.int64)

    return Quantity(
        name=CATEGORY,
        measures=metrics.CATEGORY_MEASURES,
        compared=("accuracy", "uar"),
        targets=table.category_targets,
        known=table.category_targets != metrics.UNKNOWN_CATEGORY,
        predictions={v: np.stack([labels(out) for out in outs]) for v, outs in outputs.items()},
        outputs={v: outs[0] for v, outs in outputs.items()},
        sums=partial(_confusions, classes=len(table.categories)),
        scores=metrics.category_measures,
    )


def _attribute(table: PredictionTable, outputs: _Outputs, column: int) -> Iterator[Quantity]:
    """An attribute with its CCC; sentiment with the scores of its own field as well."""
    name = table.attributes[column]
    targets = table.attribute_targets[:, column].astype(np.float64)
    known = ~np.isnan(targets)
    # A shift of both leaves CCC alone; without it the sums of values far from 0 lose digits.
    shift = float(targets[known].mean()) if known.any() else 0.0

    def quantity(
        measures: tuple[str, ...],
        compared: tuple[str, ...],
        convert: Callable[[Floats], Floats],
        items: Callable[[Floats, Floats], Floats],
        scores: Callable[[Floats], dict[str, Floats]],
    ) -> Quantity:
        predictions = {
            v: np.stack([convert(out.attributes[:, column]) for out in outs])
            for v, outs in outputs.items()
        }
        return Quantity(
            name=name,
            measures=measures,
            compared=compared,
            targets=convert(targets),
            known=known,
            predictions=predictions,
            outputs={v: outs[0] for v, outs in outputs.items()},
            sums=partial(_sums_of_items, items=items),
            scores=scores,
        )

    ccc = ccc_name(name)
    yield quantity(
        measures=(ccc,),
        compared=(ccc,),
        convert=lambda values: values - shift,
        items=metrics.moments,
        scores=lambda sums: {ccc: metrics.ccc_of_moments(sums)},
    )
    if name == sentiment.ATTRIBUTE:
        yield quantity(
            measures=sentiment.SENTIMENT_MEASURES,
            compared=(),
            # Rounded, since 32 bits in [0, 1] put a rater's 0 or 0.5 a little beside it.
            convert=lambda values: np.round(SENTIMENT.from_unit(values), 4),
            items=sentiment.sentiment_items,
            scores=sentiment.measures_of_items,
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
