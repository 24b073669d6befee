"""Views: the ways to read one prediction off a clip's outputs, from one modality or from both.

===============  ==================================================================================
acoustic         the output made from sound
visual           the output made from the face
audiovisual      the output of the learned fusion
average          mean of the two unimodal probability vectors; of the two outputs for attributes
product          normalised product of the two unimodal probability vectors; categories only
===============  ==================================================================================

A clip that lacks a modality has no unimodal prediction from it. The three fused views then *fall
back* to the one that is there, so they cover every clip; :attr:`ViewOutputs.fallback` marks where.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.evaluation.predictions import PredictionTable
from vavl.types import STREAMS, Modality


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

    probabilities: NDArray[np.float64]
    attributes: NDArray[np.float64]
    present: NDArray[np.bool_]
    fallback: NDArray[np.bool_]


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
    """The view that a table is read by.

    A fused view of clips that have all lost the same modality is that of the other modality.

    Args:
        table: N clips.
        view: The view that is asked for; None is what the model answers: the fusion where there is
            one, else the average of the two modalities, else the modality that there is.

    Raises:
        InputError: The table lacks it.
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
    """Reads a view off a table.

    Args:
        table: N clips.
        view: Which prediction to read.

    Returns:
        The view's outputs, in the order of the table.

    Raises:
        InputError: ``view`` is no view.

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
    if view not in set(View):
        raise InputError(f"view: expected one of {[str(v) for v in View]}, got {view!r}")
    log_probabilities = {m: _log_softmax(table.logits[m]) for m in Modality}
    probabilities = {m: np.exp(values) for m, values in log_probabilities.items()}
    attributes = {m: table.attribute_outputs[m].astype(np.float64) for m in Modality}
    acoustic, visual = (table.present(modality) for modality in STREAMS)
    one = acoustic ^ visual
    a, v = STREAMS

    if view not in FUSED:
        modality = Modality(view)
        present = table.present(modality)
        nowhere = np.zeros(len(table), np.bool_)
        return ViewOutputs(probabilities[modality], attributes[modality], present, nowhere)

    nothing = np.full_like(attributes[a], np.nan)
    if view is View.AUDIOVISUAL:
        fused = table.present(Modality.AUDIOVISUAL)
        category, attribute = probabilities[Modality.AUDIOVISUAL], attributes[Modality.AUDIOVISUAL]
    elif view is View.AVERAGE:
        fused = acoustic & visual
        category = (probabilities[a] + probabilities[v]) / 2
        attribute = (attributes[a] + attributes[v]) / 2
    else:
        fused = acoustic & visual
        # A sum of logarithms: a product of small probabilities would underflow to 0 / 0.
        category = np.exp(_log_softmax(log_probabilities[a] + log_probabilities[v]))
        attribute = nothing
    fallback = one & ~fused

    def with_fallback(
        both: NDArray[np.float64], single: dict[Modality, NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        alone = np.where(acoustic[:, None], single[a], single[v])
        return np.where(fallback[:, None], alone, both)

    return ViewOutputs(
        with_fallback(category, probabilities),
        nothing if view is View.PRODUCT else with_fallback(attribute, attributes),
        fused | fallback,
        fallback,
    )


def _log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """In float64 over the last axis; rows of NaN stay NaN, and no columns stay no columns."""
    values = logits.astype(np.float64)
    if not values.shape[1]:
        return values
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values
