"""How results are worded: numbers and intervals in cells, sentences, Markdown and CSV tables.

All that is shown of an evaluation or of a study goes through here, so that a number looks the same
wherever it stands.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vavl.errors import counted
from vavl.evaluation.bootstrap import FEWEST_SPEAKERS, Interval, smallest_p
from vavl.evaluation.scores import Difference, GroupScore
from vavl.evaluation.views import View
from vavl.system.atomic import atomic_write

_FEW_SPEAKERS = 20
"""Below this many speakers a percentile interval is a rough guide."""

_VIEW_PHRASES: dict[str, str] = {
    View.ACOUSTIC: "the acoustic prediction",
    View.VISUAL: "the visual prediction",
    View.AUDIOVISUAL: "the learned fusion",
    View.AVERAGE: "the average of the two",
    View.PRODUCT: "the product of the two",
}
_MEASURE_NAMES = {
    "accuracy": "accuracy",
    "uar": "UAR",
    "f1_macro": "F1-macro",
    "f1_micro": "F1-micro",
    "sentiment_mae": "MAE",
    "sentiment_correlation": "correlation",
    "sentiment_accuracy_7": "7-class accuracy",
    "sentiment_accuracy_2": "2-class accuracy",
    "sentiment_f1_2": "2-class F1",
    "sentiment_accuracy_2_with_neutral": "2-class accuracy with neutral",
    "sentiment_f1_2_with_neutral": "2-class F1 with neutral",
}


def measure_name(measure: str) -> str:
    """What a measure is called in tables."""
    return _MEASURE_NAMES.get(measure) or f"{measure.removesuffix('_ccc')} CCC"


def number(value: float) -> str:
    """Three decimals, never ``-0.000``; ``n/a`` for what is not a number."""
    if not math.isfinite(value):
        return "n/a"
    text = f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text


def percent(share: float) -> str:
    """``53 %``."""
    return f"{100 * share:.0f} %"


def limits(interval: Interval) -> str:
    """``0.780 to 0.852``, or an empty text where there is no interval."""
    if not math.isfinite(interval.low):
        return ""
    return f"{number(interval.low)} to {number(interval.high)}"


def with_limits(interval: Interval) -> str:
    """``0.816 (0.780 to 0.852)``, or the estimate alone where there is no interval."""
    ends = limits(interval)
    return number(interval.estimate) + (f" ({ends})" if ends else "")


def signed(interval: Interval) -> str:
    """A difference with its sign and its interval: ``+0.021 (-0.005 to +0.047)``."""
    ends = f" ({interval.low:+.3f} to {interval.high:+.3f})" if limits(interval) else ""
    return f"{interval.estimate:+.3f}{ends}"


def with_spread(mean: float, std: float | None) -> str:
    """``0.816 ± 0.021``, or the mean alone where its deviation is not known."""
    return number(mean) if std is None else f"{number(mean)} ± {number(std)}"


def group_table(groups: Sequence[GroupScore], column: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of groups: the score of each, and how far it is from the rest.

    Differences have a sign, and an asterisk where their interval does not hold 0.
    """
    mine = [found for found in groups if found.column == column]
    measures = list(dict.fromkeys((found.view, found.measure) for found in mine))
    by_cell = {(found.group, found.view, found.measure): found for found in mine}
    rows = []
    for group in dict.fromkeys(found.group for found in mine):
        cells = [by_cell.get((group, *key)) for key in measures]
        known = [found for found in cells if found is not None]
        rows.append(
            [
                group,
                str(max(found.clips for found in known)),
                str(max(found.speakers for found in known)),
                *("" if found is None else _group_cell(found) for found in cells),
            ]
        )
    names = [f"{view} {measure_name(measure)}" for view, measure in measures]
    return [column, "clips", "speakers", *names], rows


def _group_cell(found: GroupScore) -> str:
    above = found.above_rest
    if not math.isfinite(above.estimate):
        return with_limits(found.score)
    mark = "*" if above.low > 0 or above.high < 0 else ""
    return f"{number(found.score.estimate)} ({above.estimate:+.3f}{mark})"


def p_value(p: float) -> str:
    """Three decimals; ``<0.001`` below that, ``n/a`` where there is none."""
    if math.isnan(p):
        return "n/a"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def difference_sentence(difference: Difference, confidence: float) -> str:
    """Says in plain words how two predictions compare, and whether the clips can tell them apart.

    Example:
        >>> difference_sentence(
        ...     Difference("category", View.AUDIOVISUAL, View.AVERAGE, "uar",
        ...                Interval(0.012, -0.003, 0.027), clips=100), 0.95)
        'UAR: the learned fusion is 0.012 above the average of the two (95 % interval -0.003 to \
0.027): not distinguishable.'
    """
    found = difference.difference
    name = measure_name(difference.measure)
    subject, other = (_VIEW_PHRASES.get(n, n) for n in (difference.variant, difference.against))
    size = number(abs(found.estimate))
    if float(size) == 0:
        relation = f"level with {other}"
    else:
        relation = f"{size} {'above' if found.estimate > 0 else 'below'} {other}"
    # Not str.capitalize, which would make "Uar" of "UAR".
    start = f"{name[0].upper()}{name[1:]}: {subject} is {relation}"
    if not limits(found):
        return f"{start} (no interval: it takes at least {FEWEST_SPEAKERS} speakers)."
    verdict = "not distinguishable"
    if difference.distinguishable:
        verdict = "distinguishably better" if found.low > 0 else "distinguishably worse"
    of = "" if found.estimate >= 0 else " of the difference"
    return f"{start} ({confidence * 100:g} % interval{of} {limits(found)}): {verdict}."


def speakers_notes(speakers: int) -> list[str]:
    """What to say about intervals over so few speakers; nothing where there are enough."""
    if 1 <= speakers < FEWEST_SPEAKERS:
        return [
            f"{counted(speakers, 'speaker')} can say nothing about others: an exact test of so few "
            f"cannot give a p below {smallest_p(speakers):.3g}, so there are neither intervals nor "
            f"verdicts. They take at least {FEWEST_SPEAKERS} speakers."
        ]
    if FEWEST_SPEAKERS <= speakers < _FEW_SPEAKERS:
        return [f"With only {speakers} speakers percentile intervals tend to be too narrow."]
    return []


def cell_text(text: str) -> str:
    """Text that cannot end a table cell or a line, nor start markup."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())


def markdown_table(
    names: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[int] = (0,)
) -> Iterator[str]:
    """The lines of a Markdown table; columns that are not among ``texts`` are set to the right."""
    rules = ["---" if column in texts else "---:" for column in range(len(names))]
    lines = [f"| {' | '.join(map(cell_text, cells))} |" for cells in (names, *rows)]
    yield from (lines[0], f"|{'|'.join(rules)}|", *lines[1:])


def csv_table(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV table; what is not a number (NaN), and what a row lacks, is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        known = {k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))}
        writer.writerow(known)
    return text.getvalue()


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes texts by file name into a folder, each in one step; it is made where missing."""
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
