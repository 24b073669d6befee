"""An evaluation as one page that needs nothing but itself, and as data beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from vavl.errors import InputError
from vavl.evaluation import learning, sections
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.results import Evaluation
from vavl.evaluation.sections import TRAINED_VIEWS
from vavl.evaluation.summary import (
    limits,
    measure_name,
    notes,
    number,
    score_tables,
    to_csv,
    to_markdown,
)
from vavl.system.atomic import atomic_write
from vavl.training.run_folder import package_versions


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
        tables: The tables that were evaluated; attribute plots show their clips.
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
    files = {
        "scores.json": json.dumps(evaluation.to_dict(), indent=2, allow_nan=False) + "\n",
        "scores.csv": to_csv(evaluation),
        "scores.md": to_markdown(evaluation, title),
        "report.html": _page(evaluation, tables, histories, config_text, title),
    }
    for name, text in files.items():
        with atomic_write(out_dir / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return out_dir / "report.html"


def _page(
    evaluation: Evaluation,
    tables: Sequence[PredictionTable],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    config_text: str,
    title: str,
) -> str:
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
        "measure": measure_name,
        "typographic": _typographic,
    }
    environment.filters.update(filters)
    source = resources.files("vavl.evaluation").joinpath("report.html").read_text("utf-8")
    missing = sections.missing(evaluation)
    content: dict[str, Any] = {
        "title": title,
        "headline": _headline(evaluation),
        "notes": notes(evaluation),
        "confidence": _typographic(f"{evaluation.confidence * 100:g} %"),
        "replicates": f"{evaluation.replicates:,}",
        "draws": evaluation.draws,
        "seeds": len(evaluation.seeds),
        "partitions": evaluation.partitions,
        "categories": evaluation.categories,
        "attributes": evaluation.attributes,
        "tables": sections.score_sections(evaluation),
        "differences": sections.differences(evaluation),
        "folds": sections.folds(evaluation),
        "recalls": sections.recalls(evaluation),
        "confusions": sections.confusions(evaluation),
        "agreements": sections.agreements(evaluation, tables),
        "missing": missing,
        "missing_clips": f"{max((c.clips for c in evaluation.missing_curves), default=0):,}",
        "learning": learning.learning_section(histories),
        "config_text": config_text.strip(),
        "versions": package_versions(),
    }
    shown_sections = {
        "scores": ("Scores", True),
        "fusion": ("Learned fusion", content["differences"]),
        "folds": ("Folds", content["folds"]),
        "categories": ("Categories", content["confusions"]),
        "attributes": ("Attributes", content["agreements"]),
        "missing": ("Missing modality", missing),
        "learning": ("Learning curves", content["learning"]),
        "reading": ("How to read", True),
        "setup": ("Configuration", True),
    }
    content["contents"] = [
        (anchor, name) for anchor, (name, shown) in shown_sections.items() if shown
    ]
    return environment.from_string(source).render(content)


def _headline(evaluation: Evaluation) -> str:
    """The one sentence to take away: the best trained view, in its first measure."""
    sentences: list[str] = []
    for table in score_tables(evaluation):
        for measure in table.measures if table.measures[0].endswith("_ccc") else ("accuracy",):
            trained = [v for v in reversed(TRAINED_VIEWS) if (v, measure) in table.scores]
            if trained:
                score = table.scores[trained[0], measure]
                shown = f" ({limits(score.pooled)})" if limits(score.pooled) else ""
                sentences.append(
                    f"{measure_name(measure)} {number(score.pooled.estimate)}{shown}"
                    if sentences
                    else f"The {trained[0]} prediction reaches {measure_name(measure)} "
                    f"{number(score.pooled.estimate)}{shown}"
                )
    return _typographic(", ".join(sentences) + ".") if sentences else ""


def _typographic(text: str) -> str:
    """With the minus signs and unbreakable spaces that a page can show, a terminal maybe not."""
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
