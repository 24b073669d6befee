"""Pictures of a study: differences to the reference, and curves of the sweeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vavl.evaluation.summary import measure_name
from vavl.studies.config import SweepConfig, value_text
from vavl.studies.results import StudyResults, VariantResult
from vavl.system.atomic import atomic_write
from vavl.system.plotting import COLOURS, INK, MUTED, SETTINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "D", "^", "v", "P")
ENDINGS = (".svg", ".pdf")


def pictures(results: StudyResults) -> list[tuple[str, Figure]]:
    """All pictures of a study by file name (without ending); none where nothing is complete."""
    import matplotlib as mpl

    drawn: list[tuple[str, Figure]] = []
    with mpl.rc_context(SETTINGS):
        for measure in results.study.metrics:
            compared = [v for v in results.variants if measure in v.comparisons]
            if compared:
                figure = differences(compared, measure, results.study.reference)
                drawn.append((f"differences-{measure}", figure))
            for number, sweeps in enumerate(_by_key(results.study.sweeps)):
                figure_of_curves = curves(results, sweeps, measure)
                if figure_of_curves is not None:
                    drawn.append((f"curve-{number}-{measure}", figure_of_curves))
    return drawn


def differences(variants: Sequence[VariantResult], measure: str, reference: str) -> Figure:
    """Each variant's difference to the reference, with its interval; the line is no difference."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.1 + 0.3 * len(variants)), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", visible=False)
    axes.axvline(0, color=MUTED, linewidth=1.2)
    for row, variant in enumerate(variants):
        found = variant.comparisons[measure].difference
        if math.isfinite(found.low):
            axes.plot([found.low, found.high], [row, row], color=COLOURS[0], linewidth=2.2)
        axes.plot(found.estimate, row, "o", color=COLOURS[0])
    axes.set_yticks(range(len(variants)), [variant.name for variant in variants])
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{measure_name(measure)}: variant minus {reference}")
    return figure


def curves(results: StudyResults, sweeps: Sequence[SweepConfig], measure: str) -> Figure | None:
    """Score against the value of one setting, a curve with its interval for each sweep."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    places = _places(sweeps)
    anything = False
    for sweep, colour, marker in zip(sweeps, _cycle(COLOURS), _cycle(MARKERS), strict=False):
        points = [
            (places[value], variant.scores[measure].pooled)
            for name, value in sweep.variants().items()
            if (variant := results.variant(name)) is not None
        ]
        if not points:
            continue
        anything = True
        across = [place for place, _ in points]
        axes.plot(
            across,
            [interval.estimate for _, interval in points],
            f"{marker}-",
            color=colour,
            label=sweep.name,
        )
        lows, highs = ([getattr(i, end) for _, i in points] for end in ("low", "high"))
        axes.fill_between(across, lows, highs, color=colour, alpha=0.12, linewidth=0)
    if not anything:
        return None
    if any(isinstance(value, str) for value in places):
        axes.set_xticks(list(places.values()), [value_text(value) for value in places])
    axes.set_xlabel(sweeps[0].label or sweeps[0].key.partition(".")[2])
    axes.set_ylabel(measure_name(measure), color=INK)
    axes.legend()
    return figure


def _places(sweeps: Sequence[SweepConfig]) -> dict[float | str, float]:
    """Where the values of the sweeps lie on the axis: evenly apart where one of them is a name."""
    values = [value for sweep in sweeps for value in sweep.values]
    numbers = sorted({value for value in values if not isinstance(value, str)})
    names = list(dict.fromkeys(value for value in values if isinstance(value, str)))
    places = range(len(numbers) + len(names)) if names else numbers
    return dict(zip([*numbers, *names], places, strict=True))


def save(figure: Figure, path: Path) -> None:
    """Writes a picture as SVG and as PDF, for pages and for papers; the same data, the same bytes.

    Args:
        figure: What was drawn.
        path: Without ending.
    """
    import matplotlib as mpl

    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with mpl.rc_context(SETTINGS):
        for ending in ENDINGS:
            with atomic_write(path.parent / f"{path.name}{ending}") as temporary:
                figure.savefig(temporary, metadata=metadata[ending])


def _by_key(sweeps: Sequence[SweepConfig]) -> list[list[SweepConfig]]:
    """Sweeps of one setting share a picture."""
    groups: dict[str, list[SweepConfig]] = {}
    for sweep in sweeps:
        groups.setdefault(sweep.key, []).append(sweep)
    return list(groups.values())


def _cycle(items: Sequence[str]) -> list[str]:
    return [*items] * 4
