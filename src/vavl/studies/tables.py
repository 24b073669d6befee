"""The results of a study as Markdown, LaTeX, CSV and pictures. The same results, the same bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from vavl.errors import counted
from vavl.evaluation import plots
from vavl.evaluation.bootstrap import CONFIDENCE
from vavl.evaluation.compare import Comparison
from vavl.evaluation.diagnosis import Diagnosis
from vavl.evaluation.wording import (
    cell_text,
    csv_table,
    markdown_table,
    measure_name,
    number,
    p_value,
    percent,
    signed,
    speakers_notes,
    with_limits,
    with_spread,
    write_texts,
)
from vavl.studies.config import SweepConfig
from vavl.studies.results import HypothesisResult, StudyResults, VariantResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READING = f"""\
- *mean ± SD*: over folds, seeds averaged within each fold; *SD seeds*: of the pooled score, over
  seeds.
- *pooled*: over the clips of all folds together, with the {percent(CONFIDENCE)} interval of a
  bootstrap over speakers; seeds are averaged within each resample.
- *difference*: pooled, variant minus reference, from the same resamples of speakers for both; *p*:
  two-sided, from these resamples, after Holm's correction over the variants.
- *p folds*: corrected resampled t-test over the folds (Nadeau and Bengio 2003), after Holm's
  correction. With few folds it has little power; it stands beside the interval as a check.
- *d*: mean difference over speakers in standard deviations of it; *ahead*: share of the speakers
  for whom the variant is ahead, ties counted half.
- Folds share training clips and seeds share everything: no test here counts either as new samples.
"""


def write_study(results: StudyResults, folder: Path) -> Path:
    """Writes ``results.md``, ``results.tex``, ``results.csv``, ``folds.csv`` and the pictures.

    Returns:
        The path of ``results.md``.
    """
    drawn = pictures(results)
    texts = {
        "results.md": to_markdown(results, [name for name, _ in drawn]),
        "results.tex": to_latex(results),
        "results.csv": to_csv(results),
        "folds.csv": folds_csv(results),
    }
    write_texts(folder, texts)
    for name, figure in drawn:
        plots.save(figure, folder / name)
    return folder / "results.md"


def to_markdown(results: StudyResults, pictures: Sequence[str]) -> str:
    """The report in Markdown, with pictures that lie beside it (their names without ending)."""
    study = results.study
    lines = [f"# {cell_text(study.title or study.name)}", ""]
    if study.question:
        lines += [cell_text(study.question), ""]
    lines += [" ".join(_notes(results)), ""]
    described = [(v.name, v.about) for v in results.variants if v.about]
    if described:
        lines += [*(f"- *{cell_text(name)}*: {cell_text(about)}" for name, about in described), ""]
    if study.published is not None:
        lines += ["## Beside published scores", "", *_published_lines(results), ""]
    if results.hypotheses:
        lines += ["## Hypotheses", "", *_hypothesis_lines(results), ""]
    for measure in study.metrics:
        lines += [f"## {measure_name(measure)}", "", *_variant_lines(results, measure), ""]
    for name in pictures:
        lines += [f"![{name}]({name}.svg)", ""]
    if results.diagnosis is not None:
        title = f"## Diagnosis of {cell_text(results.study.reference)}"
        lines += [title, "", *_diagnosis_lines(results.diagnosis), ""]
    if results.incomplete:
        lines += ["## Not complete", ""]
        lines += [f"- {cell_text(f'{name}: {why}')}" for name, why in results.incomplete.items()]
        lines += [""]
    lines += ["## How to read", "", READING]
    if results.made_with:
        lines += ["## Made with", "", *(f"- {cell_text(line)}" for line in results.made_with), ""]
    return "\n".join(lines)


def _notes(results: StudyResults) -> list[str]:
    """What a reader has to know first, in sentences."""
    study = results.study
    found = [
        f"{counted(len(results.variants), 'variant')}, {counted(len(results.folds), 'fold')}, "
        f"{counted(len(study.seeds), 'seed')} ({', '.join(map(str, study.seeds))}), "
        f"{counted(results.models, 'model')}; {counted(results.clips, 'test clip')} of "
        f"{counted(results.speakers, 'speaker')}; {study.replicates:,} resamples of speakers. "
        f"The reference is *{cell_text(study.reference)}*."
    ]
    found += speakers_notes(results.speakers)
    if results.incomplete:
        variants = counted(len(results.incomplete), "variant")
        found.append(f"Not complete, and without scores: {variants}.")
    if results.changes:
        changes = "; ".join(cell_text(change) for change in results.changes)
        found.append(f"**The analysis was changed after the study was begun**: {changes}.")
    return found


def _published_lines(results: StudyResults) -> Iterator[str]:
    """All scores in one table, as in papers, beside those that others published.

    A measure has a second column where somebody published it. Nothing is tested across the two:
    the clips' predictions of others are not at hand.
    """
    published = results.study.published
    assert published is not None
    source = cell_text(published.source)
    yield (
        "Mean ± SD over folds, seeds averaged within each fold"
        + (
            f"; *published*: {source}. "
            if published.figures
            else f". No score of {source} is at hand to stand beside them. "
        )
        + cell_text(published.note)
    ).rstrip()
    yield ""
    theirs = {(f.variant, f.metric): with_spread(f.mean, f.sd) for f in published.figures}
    names, rows = ["model"], [[variant.name] for variant in results.variants]
    for measure in results.study.metrics:
        names.append(measure_name(measure))
        for row, variant in zip(rows, results.variants, strict=True):
            score = variant.scores[measure]
            row.append(with_spread(score.fold_mean, score.fold_std))
        if any(metric == measure for _, metric in theirs):
            names.append(f"{measure_name(measure)}, published")
            for row, variant in zip(rows, results.variants, strict=True):
                row.append(theirs.get((variant.name, measure), ""))
    yield from markdown_table(names, rows)


def _hypothesis_lines(results: StudyResults) -> Iterator[str]:
    study = results.study
    names = ["claim", "comparison", "expected", "difference", "p", "p folds", "verdict"]
    rows = []
    for result in results.hypotheses:
        hypothesis, comparison = result.hypothesis, result.comparison
        measure = measure_name(hypothesis.metric or study.metrics[0])
        rows.append(
            [
                hypothesis.claim,
                f"{hypothesis.variant} - {hypothesis.against or study.reference}, {measure}",
                hypothesis.expect,
                *(_decided(comparison) if comparison else ["", "", ""]),
                str(result.verdict),
            ]
        )
    yield from markdown_table(names, rows, texts=(0, 1, 2, 3, 6))
    yield ""
    yield (
        "Confirmed: the difference is on the expected side, and both p, of speakers and of folds, "
        "are below 0.05 after Holm's correction over the hypotheses. Likely: that of speakers "
        "alone is, so it holds for these models, and perhaps not for models trained anew. Refuted "
        "and unlikely: the same on the other side. Open: the data cannot tell. Variants with the "
        "same predictions confirm nothing."
    )


def _decided(comparison: Comparison) -> list[str]:
    return [
        signed(comparison.difference),
        p_value(comparison.p_adjusted),
        p_value(comparison.test_adjusted),
    ]


def _variant_lines(results: StudyResults, measure: str) -> Iterator[str]:
    names = ["variant", "mean ± SD", "SD seeds", "pooled", "difference", "p", "p folds", "d"]
    rows = [[variant.name, *_cells(results, variant, measure)] for variant in results.variants]
    return markdown_table([*names, "ahead"], rows)


def _cells(results: StudyResults, variant: VariantResult, measure: str) -> list[str]:
    score = variant.scores[measure]
    cells = [
        with_spread(score.fold_mean, score.fold_std),
        number(score.seed_std),
        with_limits(score.pooled),
    ]
    comparison = variant.comparisons.get(measure)
    if comparison is None:
        same = results.variant(results.study.reference) is not None
        return [*cells, "reference" if same else "", "", "", "", ""]
    return [*cells, *_decided(comparison), f"{comparison.effect:.2f}", percent(comparison.ahead)]


def _diagnosis_lines(found: Diagnosis) -> Iterator[str]:
    name = measure_name(found.measure)
    if found.signs:
        yield from (f"- **{cell_text(sign)}**" for sign in found.signs)
    else:
        yield "- None of the signs that are looked for was found."
    if found.views:
        scores = ", ".join(f"{view} {number(score)}" for view, score in found.views.items())
        yield f"- {name} on the clips that have both modalities: {scores}."
    yield (
        f"- {name} on the training clips {number(found.training)}, on held-out speakers "
        f"{number(found.held_out)} (first seed, mean over folds)."
    )
    if found.sides is not None:
        sides = ", ".join(f"{side} {percent(share)}" for side, share in found.sides.shares.items())
        yield (
            "- The two modalities name different categories in "
            f"{percent(found.sides.disagreements)} of the clips; there the fusion sides with: "
            f"{sides or 'neither'}."
        )
    if found.groups:
        yield ""
        rows = [
            [f"{g.field}: {g.group}", with_limits(g.score), str(g.speakers), str(g.clips)]
            for g in found.groups
        ]
        yield from markdown_table(["speakers", name, "speakers", "clips"], rows)


def verdict_sentence(result: HypothesisResult, reference: str) -> str:
    """A claim, its figures and its verdict in one line."""
    hypothesis, comparison = result.hypothesis, result.comparison
    start = f"{result.verdict}: {hypothesis.claim}"
    if comparison is None:
        return start
    difference, p, folds = _decided(comparison)
    return (
        f"{start} [{measure_name(comparison.measure)}: {hypothesis.variant} - "
        f"{hypothesis.against or reference} {difference}, expected {hypothesis.expect}, p {p}, "
        f"p folds {folds}]"
    )


def to_latex(results: StudyResults) -> str:
    """One table per metric, for LaTeX with the package booktabs."""
    lines = [
        f"% {_latex(results.study.title or results.study.name)}; needs \\usepackage{{booktabs}}"
    ]
    for measure in results.study.metrics:
        lines += [
            r"\begin{tabular}{lrrrrrr}",
            r"\toprule",
            rf"variant & {_latex(measure_name(measure))} & pooled (95\,\%) & difference (95\,\%) & "
            r"$p$ & $p_\mathrm{folds}$ & $d$ \\",
            r"\midrule",
        ]
        for variant in results.variants:
            mean, _, pooled, difference, p, folds, effect, _ = _cells(results, variant, measure)
            cells = (variant.name, mean, pooled, difference, p, folds, effect)
            lines.append(" & ".join(map(_latex, cells)) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


_LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: rf"\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)  # a minus, not a hyphen


def to_csv(results: StudyResults) -> str:
    """One row per variant and metric; what does not apply is empty."""
    rows = (_result_row(v, m) for m in results.study.metrics for v in results.variants)
    names = ("variant", "view", "metric", *_SCORE_COLUMNS, *_COMPARISON_COLUMNS)
    return csv_table(names, rows)


def folds_csv(results: StudyResults) -> str:
    """The score of every single model: variant, metric, seed, fold, score."""
    return csv_table(
        ("variant", "metric", "seed", "fold", "score"),
        (
            {"variant": v.name, "metric": m, "seed": seed, "fold": fold, "score": f"{score:.6f}"}
            for m in results.study.metrics
            for v in results.variants
            for (seed, fold), score in v.by_seed[m].items()
        ),
    )


# Columns of results.csv, and where their numbers stand.
_SCORE_COLUMNS = {
    "fold_mean": "fold_mean",
    "fold_std": "fold_std",
    "seed_std": "seed_std",
    "pooled": "pooled.estimate",
    "low": "pooled.low",
    "high": "pooled.high",
    "clips": "clips",
}
_COMPARISON_COLUMNS = {
    "difference": "difference.estimate",
    "difference_low": "difference.low",
    "difference_high": "difference.high",
    "p": "p",
    "p_holm": "p_adjusted",
    "t": "test.t",
    "p_folds": "test.p",
    "p_folds_holm": "test_adjusted",
    "effect": "effect",
    "ahead": "ahead",
    "compared_clips": "clips",
}


def _result_row(variant: VariantResult, measure: str) -> dict[str, object]:
    row: dict[str, object] = {"variant": variant.name, "view": variant.view, "metric": measure}
    for columns, found in (
        (_SCORE_COLUMNS, variant.scores[measure]),
        (_COMPARISON_COLUMNS, variant.comparisons.get(measure)),
    ):
        for column, place in columns.items() if found else ():
            value = attrgetter(place)(found)
            row[column] = "" if math.isnan(value) else f"{value:.6g}"
    return row


def pictures(results: StudyResults) -> list[tuple[str, Figure]]:
    """All pictures by file name, without ending: differences to the reference, and sweeps."""
    drawn: list[tuple[str, Figure]] = []
    by_key: dict[str, list[SweepConfig]] = {}  # sweeps of one setting share a picture
    for sweep in results.study.sweeps:
        by_key.setdefault(sweep.key, []).append(sweep)
    for measure in results.study.metrics:
        name = measure_name(measure)
        compared = {
            v.name: v.comparisons[measure].difference
            for v in results.variants
            if measure in v.comparisons
        }
        if compared:
            label = f"{name}: variant minus {results.study.reference}"
            drawn.append((f"differences-{measure}", plots.difference_figure(compared, label)))
        for place, sweeps in enumerate(by_key.values()):
            curves = {}
            for sweep in sweeps:
                found = [(value, results.variant(n)) for n, value in sweep.variants().items()]
                points = [(value, v.scores[measure].pooled) for value, v in found if v]
                if points:
                    curves[sweep.name] = points
            if curves:
                label = sweeps[0].label or sweeps[0].key.partition(".")[2]
                drawn.append((f"curve-{place}-{measure}", plots.curve_figure(curves, label, name)))
    return drawn
