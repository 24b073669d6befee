"""An evaluation as one page that needs nothing but itself, and as JSON, CSV and Markdown beside it.

Each section of the page is a function here, which gives its template (``report.html``) plain values
and pictures, or nothing where there is nothing to show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, counted
from vavl.evaluation import plots
from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import Difference, Evaluation, GroupScore, MissingCurve, Score
from vavl.evaluation.views import (
    CATEGORY,
    TRAINED_VIEWS,
    View,
    available_views,
    ccc_name,
    view_outputs,
)
from vavl.evaluation.wording import (
    cell_text,
    csv_table,
    difference_sentence,
    group_table,
    limits,
    markdown_table,
    measure_name,
    number,
    speakers_notes,
    with_limits,
    with_spread,
    write_texts,
)
from vavl.metrics import UNKNOWN_CATEGORY, RiskCoverage, risk_coverage
from vavl.metrics.sentiment import SENTIMENT_MEASURES
from vavl.system.extras import extra
from vavl.training.run_folder import package_versions
from vavl.types import Modality

with extra("train", "reports"):
    from markupsafe import Markup

GROUPS_NOTE = (
    "The score of each group, and in brackets its difference to all other clips, with an asterisk "
    "where the interval of the difference does not hold 0. Groups are compared one by one: of "
    "twenty, one may differ by chance."
)

_RUNS_SHOWN = 20
"""Beyond this many runs their single learning curves would make the page unwieldy."""

_TABLES = ("Categories", "Attributes (CCC)", "Sentiment (-3 to 3)")
_CSV_COLUMNS = (
    *("kind", "quantity", "view", "baseline", "measure", "scope", "partition", "missing", "share"),
    *("column", "group"),
    *("estimate", "low", "high", "std", "clips"),
)


def write_report(
    evaluation: Evaluation,
    tables: Sequence[PredictionTable],
    out_dir: Path,
    *,
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    config_text: str,
    title: str,
) -> Path:
    """Writes ``report.html``, ``scores.json``, ``scores.csv`` and ``scores.md``.

    The page is self-contained: no scripts, no fonts, nothing is fetched. The same arguments give
    the same bytes. Each file is replaced in one step.

    Args:
        evaluation: What :func:`vavl.evaluation.scores.evaluate_tables` returned for ``tables``.
        tables: The tables that were evaluated; plots of attributes and of risk show their clips.
        out_dir: Folder to write to; made where missing.
        histories: Name of a run to the lines of its ``metrics.jsonl``; may be empty.
        config_text: The configuration as TOML; empty = not shown.
        title: Heading of the page.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: ``tables`` are not those that were evaluated.
    """
    out_dir = Path(out_dir)
    # Drawn and formatted first: where anything fails, the files of an earlier report stay whole.
    texts = {
        "scores.json": json.dumps(evaluation.to_dict(), indent=2, allow_nan=False) + "\n",
        "scores.csv": to_csv(evaluation),
        "scores.md": to_markdown(evaluation, title),
        "report.html": _page(evaluation, tables, histories, config_text, title),
    }
    write_texts(out_dir, texts)
    return out_dir / "report.html"


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one kind of quantity, with views as rows.

    Attributes:
        title: What is scored.
        measures: Names of the columns' measures.
        views: Views that are scored.
        scores: ``(view, measure)`` to the score; a view need not have all measures.
    """

    title: str
    measures: tuple[str, ...]
    views: tuple[View, ...]
    scores: dict[tuple[View, str], Score]

    def rows(self) -> Iterator[tuple[View, list[Score | None]]]:
        """Each view with one score per measure, None where the view has none."""
        for view in self.views:
            yield view, [self.scores.get((view, measure)) for measure in self.measures]

    def of_measure(self, measure: str) -> list[Score]:
        """A column: the scores of all views that have one."""
        return [self.scores[v, measure] for v in self.views if (v, measure) in self.scores]


def score_tables(evaluation: Evaluation) -> tuple[ScoreTable, ...]:
    """The scores as up to three tables: categories, attributes, and sentiment."""
    scores = {title: [s for s in evaluation.scores if _table_of(s) == title] for title in _TABLES}
    return tuple(
        ScoreTable(
            title,
            tuple(dict.fromkeys(score.measure for score in mine)),
            tuple(view for view in View if any(score.view is view for score in mine)),
            {(score.view, score.measure): score for score in mine},
        )
        for title, mine in scores.items()
        if mine
    )


def _table_of(score: Score) -> str:
    if score.quantity == CATEGORY:
        return _TABLES[0]
    return _TABLES[2] if score.measure in SENTIMENT_MEASURES else _TABLES[1]


def notes(evaluation: Evaluation) -> tuple[str, ...]:
    """What a reader has to know before trusting the numbers."""
    found = [
        f"{counted(evaluation.clips, 'clip')} of {counted(evaluation.speakers, 'speaker')} in "
        f"{counted(len(evaluation.partitions), 'partition')}."
    ]
    if len(evaluation.seeds) > 1:
        found.append(
            f"Scores are means over {len(evaluation.seeds)} seeds ({', '.join(evaluation.seeds)}), "
            "averaged within each resample."
        )
    for modality, lack in ((Modality.ACOUSTIC, "no sound"), (Modality.VISUAL, "no face")):
        count = evaluation.without.get(modality, 0)
        if count == evaluation.clips:
            found.append(f"There is {lack} prediction for any clip.")
        elif count:
            verb = "has" if count == 1 else "have"
            found.append(
                f"{counted(count, 'clip')} {verb} {lack}: for them the fused views use the other "
                "modality alone."
            )
    return (*found, *speakers_notes(evaluation.speakers), *evaluation.remarks)


def to_markdown(evaluation: Evaluation, title: str) -> str:
    """Score tables, folds and paired differences as Markdown."""
    folds = evaluation.partitions
    lines = [f"# {cell_text(title)}", "", " ".join(map(cell_text, notes(evaluation)))]
    for table in score_tables(evaluation):
        rows = [
            [str(view), *(with_limits(found.pooled) if found else "" for found in row)]
            for view, row in table.rows()
        ]
        lines += ["", f"## {table.title}, pooled", ""]
        lines += markdown_table(["view", *map(measure_name, table.measures)], rows)
        if len(folds) < 2:
            continue
        lines += ["", f"## {table.title}, by fold"]
        for measure in table.measures:
            names = [measure_name(measure), *folds, "mean ± SD"]
            rows = [
                [
                    str(score.view),
                    *(number(score.folds[f].estimate) if f in score.folds else "" for f in folds),
                    with_spread(score.fold_mean, score.fold_std),
                ]
                for score in table.of_measure(measure)
            ]
            lines += ["", *markdown_table(names, rows)]
    for column in group_columns(evaluation):
        lines += ["", f"## By {cell_text(column)}", "", GROUPS_NOTE, ""]
        lines += markdown_table(*group_table(evaluation.groups, column))
    if evaluation.differences:
        lines += ["", "## Paired differences", ""]
        lines += [
            f"- {cell_text(difference_sentence(difference, evaluation.confidence))}"
            for difference in evaluation.differences
        ]
    return "\n".join(lines) + "\n"


def group_columns(evaluation: Evaluation) -> tuple[str, ...]:
    """The columns of the utterance table whose groups are scored."""
    return tuple(dict.fromkeys(found.column for found in evaluation.groups))


def to_csv(evaluation: Evaluation) -> str:
    """Every number of the evaluation in one long table.

    Columns: ``kind`` (score, difference, missing, group, group_difference), ``quantity``, ``view``,
    ``baseline``, ``measure``, ``scope`` (pooled, fold, fold_mean), ``partition``, ``missing``,
    ``share``, ``column``, ``group``, ``estimate``, ``low``, ``high``, ``std``, ``clips``. Empty
    where a column does not apply.
    """
    return csv_table(_CSV_COLUMNS, _rows(evaluation))


def _rows(evaluation: Evaluation) -> Iterator[dict[str, object]]:
    def same(
        kind: str, found: Score | Difference | MissingCurve | GroupScore, *names: str
    ) -> dict[str, object]:
        return {"kind": kind} | {n: getattr(found, n) for n in ("quantity", "measure", *names)}

    for score in evaluation.scores:
        row = same("score", score, "view")
        counts = {"std": score.seed_std, "clips": score.clips}
        yield row | {"scope": "pooled"} | counts | vars(score.pooled)
        for partition, interval in score.folds.items():
            yield row | {"scope": "fold", "partition": partition} | vars(interval)
        yield row | {"scope": "fold_mean", "estimate": score.fold_mean, "std": score.fold_std}
    for found in evaluation.differences:
        row = same("difference", found, "clips") | {"scope": "pooled"} | vars(found.difference)
        yield row | {"view": found.variant, "baseline": found.against}
    for group in evaluation.groups:
        row = same("group", group, "view", "clips", "column", "group") | {"scope": "pooled"}
        yield row | vars(group.score)
        yield row | {"kind": "group_difference", "baseline": "rest"} | vars(group.above_rest)
    for curve in evaluation.missing_curves:
        row = same("missing", curve, "view", "missing", "clips") | {"scope": "pooled"}
        for share, value in zip(curve.shares, curve.values, strict=True):
            yield row | {"share": share, "estimate": value}


def _page(
    evaluation: Evaluation,
    tables: Sequence[PredictionTable],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    config_text: str,
    title: str,
) -> str:
    with extra("train", "reports"):
        from jinja2 import Environment, StrictUndefined

    names = {(table.categories, table.attributes) for table in tables}
    if names != {(evaluation.categories, evaluation.attributes)}:
        raise InputError(
            "tables: expected those that were evaluated, with categories "
            f"{list(evaluation.categories)} and attributes {list(evaluation.attributes)}, "
            f"got {sorted(map(str, names))}"
        )
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    filters: dict[str, Callable[[Any], str]] = {
        "number": lambda value: _typographic(number(value)),
        "limits": lambda interval: _typographic(limits(interval)),
        "count": lambda value: f"{value:,.0f}",
        "measure": measure_name,
        "typographic": _typographic,
    }
    environment.filters |= filters
    source = resources.files("vavl.evaluation").joinpath("report.html").read_text("utf-8")
    tables_of_scores = score_tables(evaluation)
    content: dict[str, Any] = {
        "title": title,
        "headline": _headline(evaluation),
        "notes": notes(evaluation),
        "confidence": _typographic(f"{evaluation.confidence * 100:g} %"),
        "evaluation": evaluation,
        "tables": [(table, _interval_pictures(table)) for table in tables_of_scores],
        "differences": _differences(evaluation),
        "folds": {
            measure: table.of_measure(measure)
            for table in tables_of_scores
            for measure in table.measures
            if len(evaluation.partitions) > 1
        },
        "groups": [group_table(evaluation.groups, c) for c in group_columns(evaluation)],
        "groups_note": GROUPS_NOTE,
        "recalls": _recalls(evaluation),
        "risks": _risks(tables),
        "confusions": [c for c in evaluation.confusions if c.view in TRAINED_VIEWS],
        "agreements": _agreements(evaluation, tables),
        "missing": _missing(evaluation),
        "missing_clips": max((curve.clips for curve in evaluation.missing_curves), default=0),
        "learning": learning_section(histories),
        "config_text": config_text.strip(),
        "versions": package_versions(),
    }
    shown_sections = {
        "scores": ("Scores", True),
        "fusion": ("Learned fusion", content["differences"]),
        "folds": ("Folds", content["folds"]),
        "groups": ("Groups", content["groups"]),
        "categories": ("Categories", content["confusions"]),
        "attributes": ("Attributes", content["agreements"]),
        "missing": ("Missing modality", content["missing"]),
        "learning": ("Learning curves", content["learning"]),
        "reading": ("How to read", True),
        "setup": ("Configuration", True),
    }
    content["contents"] = [
        (anchor, name) for anchor, (name, shown) in shown_sections.items() if shown
    ]
    return environment.from_string(source).render(content)


def _headline(evaluation: Evaluation) -> str:
    """The one sentence to take away: the score of the best view that was trained."""
    parts: list[str] = []
    for table in score_tables(evaluation):
        for measure in table.measures if table.measures[0].endswith("_ccc") else ("accuracy",):
            trained = [v for v in reversed(TRAINED_VIEWS) if (v, measure) in table.scores]
            if trained:
                score = with_limits(table.scores[trained[0], measure].pooled)
                start = "" if parts else f"The {trained[0]} prediction reaches "
                parts.append(f"{start}{measure_name(measure)} {score}")
    return _typographic(", ".join(parts) + ".") if parts else ""


def _typographic(text: str) -> str:
    """With the minus signs and unbreakable spaces that a page can show, a terminal maybe not."""
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)


def _interval_pictures(table: ScoreTable) -> list[Markup]:
    drawn = [m for m in table.measures if m in {"accuracy", "uar"} or m.endswith("_ccc")]
    return [
        Markup(plots.intervals({s.view: s.pooled for s in table.of_measure(measure)}, measure))
        for measure in drawn
    ]


def _differences(evaluation: Evaluation) -> dict[str, Any] | None:
    """Paired differences as pictures, and as sentences with what they come to."""
    by_measure: dict[str, dict[View, Interval]] = {}
    sentences = []
    for found in evaluation.differences:
        by_measure.setdefault(found.measure, {})[View(found.against)] = found.difference
        verdict = "level"
        if found.distinguishable:
            verdict = "better" if found.difference.low > 0 else "worse"
        sentences.append((difference_sentence(found, evaluation.confidence), verdict))
    if not sentences:
        return None
    pictures = [Markup(plots.differences(*item)) for item in by_measure.items()]
    return {"pictures": pictures, "sentences": sentences}


def _recalls(evaluation: Evaluation) -> dict[str, Any] | None:
    """Recall of every category as a picture and as a table."""
    if not evaluation.confusions:
        return None
    by_view = {confusion.view: confusion.recalls for confusion in evaluation.confusions}
    counts = [[sum(row) for row in confusion.counts] for confusion in evaluation.confusions]
    # Unimodal views may lack some of the clips.
    rows = [
        (name, [found.estimate for found in recalls], max(clips))
        for name, recalls, clips in zip(
            evaluation.categories,
            zip(*by_view.values(), strict=True),
            zip(*counts, strict=True),
            strict=True,
        )
    ]
    picture = Markup(plots.recall_bars(by_view, evaluation.categories))
    return {"picture": picture, "views": list(by_view), "rows": rows}


def _risks(tables: Sequence[PredictionTable]) -> dict[str, Any] | None:
    """Risk against coverage of every trained view, all folds and seeds together."""
    curves: dict[View, RiskCoverage] = {}
    for view in TRAINED_VIEWS:
        mine = [t for t in tables if t.categories and view in available_views(t)]
        outputs = [(t.category_targets, view_outputs(t, view)) for t in mine]
        if any((targets != UNKNOWN_CATEGORY)[out.present].any() for targets, out in outputs):
            curves[view] = risk_coverage(
                np.concatenate([targets[out.present] for targets, out in outputs]),
                np.concatenate([out.probabilities[out.present] for _, out in outputs]),
            )
    areas = [(view, curve.aurc) for view, curve in curves.items()]
    return {"picture": Markup(plots.risk_lines(curves)), "areas": areas} if curves else None


def _agreements(evaluation: Evaluation, tables: Sequence[PredictionTable]) -> list[dict[str, Any]]:
    """Predicted against true values of every attribute and trained view."""
    found = []
    for column, attribute in enumerate(evaluation.attributes):
        pairs = {view: _known_pairs(tables, view, column) for view in TRAINED_VIEWS}
        pairs = {view: pair for view, pair in pairs.items() if pair.size}
        if not pairs:
            continue
        # The same axes for all views, wide enough for the few that leave the range of the targets.
        low = min(0.0, *(float(pair.min()) for pair in pairs.values()))
        high = max(1.0, *(float(pair.max()) for pair in pairs.values()))
        pictures = [
            {
                "view": view,
                "ccc": evaluation.score(view, ccc_name(attribute)).pooled.estimate,
                "svg": Markup(plots.agreement(pair[0], pair[1], view, (low, high))),
            }
            for view, pair in pairs.items()
        ]
        found.append({"name": attribute, "pictures": pictures})
    return found


def _known_pairs(
    tables: Sequence[PredictionTable], view: View, column: int
) -> NDArray[np.floating[Any]]:
    """``(2, N)`` targets and predictions of an attribute, where both are known."""
    pairs = [
        (table.attribute_targets[:, column], view_outputs(table, view).attributes[:, column])
        for table in tables
        if view in available_views(table)
    ]
    both = np.concatenate([np.empty((2, 0)), *pairs], axis=1)
    return both[:, ~np.isnan(both).any(axis=0)]


def _missing(evaluation: Evaluation) -> list[dict[str, Any]]:
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


def learning_section(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """Learning curves of all runs together, and of each; None where no run logged anything."""
    runs = {name: series for name, lines in histories.items() if (series := _series(lines))}
    if not runs:
        return None
    few = len(runs) <= _RUNS_SHOWN

    def pictures(chosen: Sequence[Mapping[str, Any]]) -> list[Any]:
        scores = dict.fromkeys(score for run in chosen for score in run)
        return [
            Markup(plots.learning_curves([run[s] for run in chosen if s in run], s)) for s in scores
        ]

    return {
        "count": len(runs),
        "overview": pictures(list(runs.values())) if len(runs) > 1 else [],
        "runs": [{"name": n, "pictures": pictures([run])} for n, run in runs.items() if few],
        "left_out": not few,
    }


def _series(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The series of one run by the score that they are drawn with."""
    if not lines:
        return {}

    def series(*keys: str) -> NDArray[np.float64]:
        return np.array([_value(line, keys) for line in lines])

    losses = {
        "epoch": series("epoch"),
        "train": series("train", "loss"),
        "development": series("development", "loss"),
    }
    views = [str(view) for view in TRAINED_VIEWS]
    accuracy = {view: series("development", view, "accuracy") for view in views}
    concordance = {view: np.array([_mean_ccc(line, view) for line in lines]) for view in views}
    found = {
        name: losses | scores
        for name, scores in (("accuracy", accuracy), ("mean CCC", concordance))
        if any(np.isfinite(values).any() for values in scores.values())
    }
    return found or {"score": losses}


def _value(line: Mapping[str, Any], keys: Sequence[str]) -> float:
    """A number deep in a line of ``metrics.jsonl``; NaN where anything on the way is missing."""
    found: Any = line
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else float("nan")


def _mean_ccc(line: Mapping[str, Any], view: str) -> float:
    """Mean over the attributes of an epoch's development scores."""
    names = (line.get("development") or {}).get(view) or {}
    values = [_value(line, ("development", view, name)) for name in names if name.endswith("_ccc")]
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
