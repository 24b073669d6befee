"""The results of a study as Markdown, LaTeX, CSV and pictures. The same results, the same bytes."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vavl.evaluation.bootstrap import CONFIDENCE, Interval
from vavl.evaluation.results import Score
from vavl.evaluation.summary import (
    FEW_SPEAKERS,
    cell_text,
    counted,
    few_speakers,
    limits,
    markdown_row,
    measure_name,
    number,
    percent,
    with_limits,
)
from vavl.studies import plots
from vavl.studies.comparison import Comparison
from vavl.studies.diagnosis import Diagnosis
from vavl.studies.published import published_rows
from vavl.studies.results import HypothesisResult, StudyResults, VariantResult
from vavl.system.atomic import atomic_write

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

    Args:
        results: What :func:`vavl.studies.results.collect` returned.
        folder: Where they go; made where missing.

    Returns:
        The path of ``results.md``.
    """
    pictures = plots.pictures(results)
    files = {
        "results.md": to_markdown(results, [name for name, _ in pictures]),
        "results.tex": to_latex(results),
        "results.csv": to_csv(results),
        "folds.csv": folds_csv(results),
    }
    for name, text in files.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    for name, figure in pictures:
        plots.save(figure, folder / name)
    return folder / "results.md"


def to_markdown(results: StudyResults, pictures: Sequence[str] = ()) -> str:
    """The report in Markdown.

    Args:
        results: What came out.
        pictures: Names of pictures beside it, without ending.
    """
    study = results.study
    lines = [f"# {cell_text(study.title or study.name)}", ""]
    if study.question:
        lines += [cell_text(study.question), ""]
    lines += [" ".join(notes(results)), ""]
    told = [v for v in results.variants if v.about]
    if told:
        lines += [*(f"- *{cell_text(v.name)}*: {cell_text(v.about)}" for v in told), ""]
    if study.published is not None:
        lines += ["## Beside published scores", "", *published_rows(results), ""]
    if results.hypotheses:
        lines += ["## Hypotheses", "", *_hypothesis_rows(results), ""]
    for measure in study.metrics:
        lines += [f"## {measure_name(measure)}", "", *_variant_rows(results, measure), ""]
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


def notes(results: StudyResults) -> list[str]:
    """What a reader has to know first, in sentences."""
    study = results.study
    found = [
        f"{counted(len(results.variants), 'variant')}, {counted(len(results.folds), 'fold')}, "
        f"{counted(len(study.seeds), 'seed')} ({', '.join(map(str, study.seeds))}), "
        f"{counted(results.models, 'model')}; {counted(results.clips, 'test clip')} of "
        f"{counted(results.speakers, 'speaker')}; {study.replicates:,} resamples of speakers. "
        f"The reference is *{cell_text(study.reference)}*."
    ]
    if results.speakers < FEW_SPEAKERS:
        found.append(few_speakers(results.speakers))
    if results.incomplete:
        variants = counted(len(results.incomplete), "variant")
        found.append(f"Not complete, and without scores: {variants}.")
    if results.changes:
        changes = "; ".join(cell_text(change) for change in results.changes)
        found.append(f"**The analysis was changed after the study was begun**: {changes}.")
    return found


def _hypothesis_rows(results: StudyResults) -> Iterator[str]:
    yield from markdown_row(
        ["claim", "comparison", "expected", "difference", "p", "p folds", "verdict"]
    )
    yield "|---|---|---|---|---:|---:|---|"
    for result in results.hypotheses:
        hypothesis, comparison = result.hypothesis, result.comparison
        yield from markdown_row(
            [
                hypothesis.claim,
                f"{hypothesis.variant} - {hypothesis.against or results.study.reference}, "
                f"{measure_name(hypothesis.metric or results.study.metrics[0])}",
                hypothesis.expect,
                *(_decided(comparison) if comparison else ["", "", ""]),
                str(result.verdict),
            ]
        )
    yield ""
    yield (
        "Confirmed: the difference is on the expected side, and p, after Holm's correction over "
        "the hypotheses, is below 0.05; refuted: it is on the other side, likewise; open: the data "
        "cannot tell."
    )


def _decided(comparison: Comparison) -> list[str]:
    return [
        signed(comparison.difference),
        p_value(comparison.p_adjusted),
        p_value(comparison.test_adjusted),
    ]


def _variant_rows(results: StudyResults, measure: str) -> Iterator[str]:
    names = ["variant", "mean ± SD", "SD seeds", "pooled", "difference", "p", "p folds", "d"]
    yield from markdown_row([*names, "ahead"])
    yield "|---|" + "---:|" * len(names)
    for variant in results.variants:
        yield from markdown_row([variant.name, *_cells(results, variant, measure)])


def _cells(results: StudyResults, variant: VariantResult, measure: str) -> list[str]:
    score = variant.scores[measure]
    cells = [
        f"{number(score.fold_mean)} ± {number(score.fold_std)}",
        number(score.seed_std),
        with_limits(score.pooled),
    ]
    comparison = variant.comparisons.get(measure)
    if comparison is None:
        same = results.variant(results.study.reference) is not None
        return [*cells, "reference" if same else "", "", "", "", ""]
    return [
        *cells,
        *_decided(comparison),
        f"{comparison.effect:.2f}",
        percent(comparison.ahead),
    ]


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
        yield from markdown_row(["speakers", name, "speakers", "clips"])
        yield "|---|---:|---:|---:|"
        for group in found.groups:
            counts = (str(group.speakers), str(group.clips))
            label = f"{group.field}: {group.group}"
            yield from markdown_row([label, with_limits(group.score), *counts])


def p_value(p: float) -> str:
    """Three decimals; ``<0.001`` below that, ``n/a`` where there is none."""
    if math.isnan(p):
        return "n/a"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def signed(interval: Interval) -> str:
    """A difference with its sign and its interval."""
    ends = f" ({interval.low:+.3f} to {interval.high:+.3f})" if limits(interval) else ""
    return f"{interval.estimate:+.3f}{ends}"


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
    return _csv(
        _result_row(variant, m) for m in results.study.metrics for variant in results.variants
    )


def folds_csv(results: StudyResults) -> str:
    """The score of every single model: variant, metric, seed, fold, score."""
    return _csv(
        {"variant": v.name, "metric": measure, "seed": seed, "fold": fold, "score": f"{score:.6f}"}
        for measure in results.study.metrics
        for v in results.variants
        for (seed, fold), score in v.by_seed[measure].items()
    )


def _result_row(variant: VariantResult, measure: str) -> dict[str, str]:
    score: Score = variant.scores[measure]
    comparison = variant.comparisons.get(measure)
    numbers: dict[str, float] = {
        "fold_mean": score.fold_mean,
        "fold_std": score.fold_std,
        "seed_std": score.seed_std,
        "pooled": score.pooled.estimate,
        "low": score.pooled.low,
        "high": score.pooled.high,
        "clips": score.clips,
    }
    names = (
        *("difference", "difference_low", "difference_high", "p", "p_holm", "t", "p_folds"),
        *("p_folds_holm", "effect", "ahead", "compared_clips"),
    )
    numbers |= dict.fromkeys(names, math.nan)
    if comparison is not None:
        c, d = comparison, comparison.difference
        values = (d.estimate, d.low, d.high, c.p, c.p_adjusted, c.test.t, c.test.p)
        numbers |= dict(
            zip(names, (*values, c.test_adjusted, c.effect, c.ahead, c.clips), strict=True)
        )
    row = {"variant": variant.name, "view": str(variant.view), "metric": measure}
    return row | {k: "" if math.isnan(v) else f"{v:.6g}" for k, v in numbers.items()}


def _csv(rows: Iterator[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue()
