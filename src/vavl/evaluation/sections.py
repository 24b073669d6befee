"""The sections of the report as plain values and pictures, ready for its template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vavl.evaluation import plots
from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.results import Evaluation, Score
from vavl.evaluation.summary import difference_sentence, score_tables
from vavl.evaluation.views import View, available_views, view_outputs

TRAINED_VIEWS = (View.ACOUSTIC, View.VISUAL, View.AUDIOVISUAL)
"""The views that are outputs of the model, not computed from others."""


def score_sections(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Score tables with their interval plots: one for categories, one for attributes."""
    found = []
    for table in score_tables(evaluation):
        rows = []
        for view in table.views:
            scores = [table.scores.get((view, measure)) for measure in table.measures]
            there = [score for score in scores if score]
            rows.append(
                {
                    "view": str(view),
                    "scores": scores,
                    "clips": f"{max(score.clips for score in there):,}",
                    "fallbacks": max(score.fallbacks for score in there),
                }
            )
        drawn = [m for m in table.measures if m in {"accuracy", "uar"} or m.endswith("_ccc")]
        found.append(
            {
                "title": table.title,
                "measures": table.measures,
                "rows": rows,
                "any_fallback": any(row["fallbacks"] for row in rows),
                "pictures": [
                    Markup(
                        plots.intervals(
                            {
                                view: table.scores[view, measure].pooled
                                for view in table.views
                                if (view, measure) in table.scores
                            },
                            measure,
                        )
                    )
                    for measure in drawn
                ],
            }
        )
    return found


def folds(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Scores of every fold by measure; none with a single fold."""
    if len(evaluation.partitions) < 2:
        return []
    by_measure: dict[str, list[Score]] = {}
    for score in evaluation.scores:
        by_measure.setdefault(score.measure, []).append(score)
    return [
        {"measure": measure, "scores": scores, "open": not measure.startswith("f1_")}
        for measure, scores in by_measure.items()
    ]


def recalls(evaluation: Evaluation) -> dict[str, Any] | None:
    """Recall of every category as a picture and as a table; None without categories."""
    if not evaluation.confusions:
        return None
    by_view = {confusion.view: confusion.recalls for confusion in evaluation.confusions}
    counts = [[sum(row) for row in confusion.counts] for confusion in evaluation.confusions]
    return {
        "picture": Markup(plots.recall_bars(by_view, evaluation.categories)),
        "views": [str(view) for view in by_view],
        "rows": [
            {
                "name": name,
                "recalls": [per_class[index].estimate for per_class in by_view.values()],
                # Unimodal views may lack some of the clips.
                "clips": f"{max(count[index] for count in counts):,.0f}",
            }
            for index, name in enumerate(evaluation.categories)
        ],
    }


def confusions(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Row-normalised confusion matrices of the trained views."""

    def entry(count: float, total: float) -> dict[str, Any]:
        share = count / total if total else 0.0
        # Shades stay light enough for the ink of either colour scheme to be read on them.
        return {
            "share": share,
            "shade": round(62 * share),
            "count": f"{count:.1f}".removesuffix(".0") if count else "",
        }

    return [
        {
            "view": str(confusion.view),
            "rows": [
                {"name": name, "index": i, "entries": [entry(count, sum(row)) for count in row]}
                for i, (name, row) in enumerate(
                    zip(evaluation.categories, confusion.counts, strict=True)
                )
            ],
        }
        for confusion in evaluation.confusions
        if confusion.view in TRAINED_VIEWS
    ]


def agreements(evaluation: Evaluation, tables: Sequence[PredictionTable]) -> list[dict[str, Any]]:
    """Predicted against true values of every attribute and trained view."""
    found = []
    outputs = [
        (table, {v: view_outputs(table, v).attributes for v in available_views(table)})
        for table in tables
        if table.attributes
    ]
    for column, attribute in enumerate(evaluation.attributes):
        pairs: dict[View, tuple[NDArray[Any], NDArray[Any]]] = {}
        for view in TRAINED_VIEWS:
            mine = [(t, views[view]) for t, views in outputs if view in views]
            if mine:
                targets = np.concatenate([table.attribute_targets[:, column] for table, _ in mine])
                values = np.concatenate([array[:, column] for _, array in mine])
                known = ~np.isnan(targets) & ~np.isnan(values)
                if known.any():
                    pairs[view] = targets[known], values[known]
        if not pairs:
            continue
        # The same axes for all views, wide enough for the few that leave the range of the targets.
        everything = np.concatenate([array for pair in pairs.values() for array in pair])
        low, high = min(0.0, float(everything.min())), max(1.0, float(everything.max()))
        pictures = [
            {
                "view": str(view),
                "ccc": evaluation.score(view, f"{attribute}_ccc").pooled.estimate,
                "svg": Markup(plots.agreement(targets, values, view, (low, high))),
            }
            for view, (targets, values) in pairs.items()
        ]
        found.append({"name": attribute, "pictures": pictures})
    return found


def missing(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Curves of missing modalities by measure."""
    groups = []
    for measure in dict.fromkeys(curve.measure for curve in evaluation.missing_curves):
        mine = [curve for curve in evaluation.missing_curves if curve.measure == measure]
        values = [value for curve in mine for value in curve.values]
        margin = 0.06 * (max(values) - min(values)) or 0.01
        limits_shared = min(values) - margin, max(values) + margin
        pictures = [
            Markup(plots.missing_lines([c for c in mine if c.missing == missing], limits_shared))
            for missing in dict.fromkeys(curve.missing for curve in mine)
        ]
        groups.append({"measure": measure, "pictures": pictures})
    return groups


def differences(evaluation: Evaluation) -> dict[str, Any] | None:
    """Paired differences as pictures, and as sentences with what they come to; None without any."""
    by_measure: dict[str, dict[View, Interval]] = {}
    sentences = []
    for difference in evaluation.differences:
        by_measure.setdefault(difference.measure, {})[difference.baseline] = difference.pooled
        verdict = "level"
        if difference.distinguishable:
            verdict = "better" if difference.pooled.low > 0 else "worse"
        sentences.append((difference_sentence(difference, evaluation.confidence), verdict))
    if not sentences:
        return None
    pictures = [Markup(plots.differences(*item)) for item in by_measure.items()]
    return {"pictures": pictures, "sentences": sentences}
