"""The scores of a study in one table, beside those that others published."""

from __future__ import annotations

from collections.abc import Iterator

from vavl.evaluation.summary import cell_text, markdown_row, measure_name, number
from vavl.studies.results import StudyResults


def published_rows(results: StudyResults) -> Iterator[str]:
    """Lines of Markdown: where the scores come from, and a row per variant, as in papers.

    A measure has a second column where somebody published it. Nothing is tested across the two:
    the clips' predictions of others are not at hand.
    """
    published = results.study.published
    assert published is not None
    text = (
        f"Mean ± SD over folds, seeds averaged within each fold; *published*: "
        f"{cell_text(published.source)}."
        if published.figures
        else f"Mean ± SD over folds, seeds averaged within each fold. No score of "
        f"{cell_text(published.source)} is at hand to stand beside them."
    )
    yield f"{text} {cell_text(published.note)}".rstrip()
    yield ""
    yield from markdown_row(["model", *(title for title, _ in _columns(results))])
    yield "|---|" + "---:|" * len(_columns(results))
    for variant in results.variants:
        cells = []
        for _, (measure, theirs) in _columns(results):
            score = variant.scores[measure]
            figures = {(f.variant, f.metric): (f.mean, f.sd) for f in published.figures}
            mean, sd = (
                figures.get((variant.name, measure), (None, None))
                if theirs
                else (score.fold_mean, score.fold_std)
            )
            cells.append(_cell(mean, sd))
        yield from markdown_row([variant.name, *cells])


def _columns(results: StudyResults) -> list[tuple[str, tuple[str, bool]]]:
    """Title, measure, and whether it is the published one."""
    assert results.study.published is not None
    known = {figure.metric for figure in results.study.published.figures}
    columns = []
    for measure in results.study.metrics:
        columns.append((measure_name(measure), (measure, False)))
        if measure in known:
            columns.append((f"{measure_name(measure)}, published", (measure, True)))
    return columns


def _cell(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return ""
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"
