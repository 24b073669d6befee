"""Pictures of results: SVG markup for the page of an evaluation, files for the report of a study.

Markup takes its colours from the page it stands on; files come as SVG for pages and as PDF for
papers. Both are drawn by the same means, and the same numbers give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.scores import MissingCurve
from vavl.evaluation.views import View
from vavl.evaluation.wording import measure_name
from vavl.metrics import RiskCoverage
from vavl.system.atomic import atomic_write
from vavl.system.extras import extra
from vavl.system.plotting import COLOURS, INK, LINE, MUTED, SETTINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each stands for a CSS variable of the page, so that one picture serves light and dark.
_COLOURS = {
    View.ACOUSTIC: COLOURS[0],
    View.VISUAL: COLOURS[1],
    View.AUDIOVISUAL: COLOURS[2],
    View.AVERAGE: COLOURS[6],
    View.PRODUCT: COLOURS[3],
}
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    **{c: f"--{v}" for v, c in _COLOURS.items()},
}
MARKERS = ("o", "s", "D", "^", "v", "P")
_MARKERS = dict(zip(View, MARKERS, strict=False))
_FILE_WIDTH_INCHES = 6.4
_UNITS_PER_INCH = 72
_WIDTH = 460
"""Width of a picture in SVG units, which are pixels where the page has room for them."""
_MOST_POINTS = 200

_SETTINGS = {
    **SETTINGS,
    "font.size": 11,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.fontsize": 10.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def intervals(scores: Mapping[View, Interval], measure: str) -> str:
    """Each view's score as a point with its interval, as markup."""
    rows = [(str(v), i, _COLOURS[v], _MARKERS[v]) for v, i in scores.items()]
    with _figure(58 + 26 * len(scores)) as (figure, svg):
        _interval_rows(figure.subplots(), rows, _label(measure_name(measure)))
    return svg(f"{measure_name(measure)} of each view with its interval")


def differences(measure: str, baselines: Mapping[View, Interval]) -> str:
    """How far the learned fusion is above each other view, as markup; the line is no difference."""
    rows = [(f"minus {v}", i, _COLOURS[v], _MARKERS[v]) for v, i in baselines.items()]
    label = f"{_label(measure_name(measure))}: audiovisual minus the other"
    with _figure(58 + 26 * len(baselines)) as (figure, svg):
        _interval_rows(figure.subplots(), rows, label, differences=True)
    return svg(f"Difference in {measure_name(measure)} between the learned fusion and each view")


def difference_figure(found: Mapping[str, Interval], label: str) -> Figure:
    """The difference of each variant to the reference, for a file; the line is no difference."""
    rows = [(name, interval, COLOURS[0], MARKERS[0]) for name, interval in found.items()]
    with _file_figure(1.1 + 0.3 * len(found)) as figure:
        _interval_rows(figure.subplots(), rows, label, differences=True)
    return figure


def curve_figure(
    curves: Mapping[str, Sequence[tuple[float | str, Interval]]], x_label: str, y_label: str
) -> Figure:
    """Scores against the values of a setting, for a file: a line with its interval for each curve.

    Args:
        curves: Name of a curve to its points. Where a value is a name, e.g. ``"all"``, all values
            stand evenly apart, numbers first.
        x_label: What the setting is called.
        y_label: What the score is called.
    """
    with _file_figure(4.0) as figure:
        axes = figure.subplots()
        values = [value for points in curves.values() for value, _ in points]
        numbers = sorted({value for value in values if not isinstance(value, str)})
        names = list(dict.fromkeys(value for value in values if isinstance(value, str)))
        ticks = [f"{value:g}" for value in numbers] + names
        places = dict(zip([*numbers, *names], range(len(ticks)) if names else numbers, strict=True))
        for number, (name, points) in enumerate(curves.items()):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            across = [places[value] for value, _ in points]
            estimates = [interval.estimate for _, interval in points]
            axes.plot(across, estimates, f"{marker}-", color=colour, label=name)
            lows, highs = ([getattr(i, end) for _, i in points] for end in ("low", "high"))
            axes.fill_between(across, lows, highs, color=colour, alpha=0.12, linewidth=0)
        if names:
            axes.set_xticks(list(places.values()), ticks)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label, color=INK)
        axes.legend()
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a picture as SVG and as PDF; ``path`` has no ending."""
    with extra("plot", "plots"):
        import matplotlib as mpl

    with mpl.rc_context(SETTINGS):
        for ending, undated in ((".svg", {"Date": None}), (".pdf", {"CreationDate": None})):
            with atomic_write(path.parent / f"{path.name}{ending}") as temporary:
                figure.savefig(temporary, metadata=undated)


def recall_bars(recalls: Mapping[View, Sequence[Interval]], categories: Sequence[str]) -> str:
    """Recall of every category, one bar per view, with intervals."""
    height = 0.84 / len(recalls)
    with _figure(80 + len(categories) * (9 * len(recalls) + 12)) as (figure, svg):
        axes = figure.subplots()
        axes.grid(axis="y", visible=False)
        for number, (view, per_class) in enumerate(recalls.items()):
            rows = np.arange(len(categories)) + (number - (len(recalls) - 1) / 2) * height
            values = [0.0 if np.isnan(i.estimate) else i.estimate for i in per_class]
            axes.barh(rows, values, height * 0.86, color=_COLOURS[view], label=str(view))
            for row, interval in zip(rows, per_class, strict=True):
                _whisker(axes, interval, float(row), colour=INK, width=0.9)
        axes.set_yticks(range(len(categories)), [_label(name) for name in categories])
        axes.set_ylim(len(categories) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("recall")
        _legend(figure, axes)
    return svg("Recall of every category for each view")


def risk_lines(curves: Mapping[View, RiskCoverage]) -> str:
    """Share of wrong predictions among the surest ones, against how many these are, as markup."""
    with _figure(300) as (figure, svg):
        axes = figure.subplots()
        for view, curve in curves.items():
            # More points than pixels would only make the page larger.
            shown = np.unique(np.linspace(0, len(curve.risk) - 1, _MOST_POINTS).round().astype(int))
            coverage, risk = 100 * curve.coverage[shown], curve.risk[shown]
            axes.plot(coverage, risk, color=_COLOURS[view], label=str(view))
        axes.set_xlabel("coverage (% of the clips)")
        axes.set_ylabel("risk")
        axes.set_xlim(0, 101)
        axes.set_ylim(bottom=-0.01)
        _legend(figure, axes)
    return svg("Risk against coverage for each view")


def missing_lines(curves: Sequence[MissingCurve], limits: tuple[float, float]) -> str:
    """Score against the share of clips that lack a modality; curves of one modality and measure."""
    what = {"acoustic": "sound", "visual": "a face"}[curves[0].missing]
    with _figure(300) as (figure, svg):
        axes = figure.subplots()
        for curve in curves:
            axes.plot(
                [100 * share for share in curve.shares],
                curve.values,
                _MARKERS[curve.view] + "-",
                color=_COLOURS[curve.view],
                label=str(curve.view),
            )
        axes.set_xlabel(f"clips without {what} (%)")
        axes.set_ylabel(measure_name(curves[0].measure))
        axes.set_ylim(*limits)
        _legend(figure, axes)
    return svg(f"{measure_name(curves[0].measure)} against the share of clips without {what}")


def learning_curves(runs: Sequence[Mapping[str, NDArray[np.float64]]], score: str) -> str:
    """Loss and development score by epoch: thin lines for runs, bold ones for their mean.

    Args:
        runs: For each run its series by name: ``epoch``, ``train``, ``development`` (losses), and
            the names of views (scores); NaN where a value is missing.
        score: What the score is called.
    """
    with extra("plot", "plots"):
        from matplotlib.ticker import MaxNLocator

    losses = {"train": (MUTED, "--"), "development": (INK, "-")}
    scores = {str(view): (_COLOURS[view], "-") for view in _COLOURS}
    with _figure(250) as (figure, svg):
        left, right = figure.subplots(1, 2)
        for axes, series, title in ((left, losses, "loss"), (right, scores, score)):
            for name, (colour, style) in series.items():
                _runs(axes, runs, name, colour, style)
            axes.set_title(_label(title))
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            handles, labels = axes.get_legend_handles_labels()
            if handles:
                axes.legend(handles, labels, loc="best", handlelength=1.6, labelspacing=0.3)
    return svg(f"Loss and development {score} by epoch")


def agreement(
    targets: NDArray[Any], values: NDArray[Any], view: View, limits: tuple[float, float]
) -> str:
    """Predicted against true values: points, or hexagons where there are many."""
    with extra("plot", "plots"):
        from matplotlib.colors import to_rgba

    with _figure(340, width=340) as (figure, svg):
        axes = figure.subplots()
        axes.plot(limits, limits, "--", color=MUTED, linewidth=1)
        if len(targets) <= 250:
            axes.plot(targets, values, "o", color=_COLOURS[view], alpha=0.45, markersize=4)
        else:
            cells = axes.hexbin(
                targets, values, gridsize=22, extent=(*limits, *limits), mincnt=1, linewidths=0.0
            )
            counts = np.asarray(cells.get_array(), dtype=np.float64)
            opacity = 0.12 + 0.88 * np.log1p(counts) / np.log1p(counts.max())
            cells.set_array(None)  # one colour in many strengths, so that it follows the page's
            cells.set_facecolor([to_rgba(_COLOURS[view], round(float(o), 2)) for o in opacity])
        axes.set_xlim(*limits)
        axes.set_ylim(*limits)
        axes.set_aspect("equal")
        axes.set_xlabel("target")
        axes.set_ylabel("prediction")
    return svg(f"Predicted against true values, {view}")


def _interval_rows(
    axes: Axes,
    rows: Sequence[tuple[str, Interval, str, str]],
    x_label: str,
    *,
    differences: bool = False,
) -> None:
    """Points with intervals below each other: label, interval, colour and marker of each."""
    if differences:
        axes.axvline(0, color=MUTED, linewidth=1.2)
    axes.grid(axis="y", visible=False)
    for row, (_, interval, colour, marker) in enumerate(rows):
        _whisker(axes, interval, row, colour=colour)
        axes.plot(interval.estimate, row, marker, color=colour, markersize=7)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x_label)


def _whisker(
    axes: Axes, interval: Interval, row: float, *, colour: str, width: float = 2.4
) -> None:
    if np.isfinite(interval.low):
        axes.plot([interval.low, interval.high], [row, row], "-", color=colour, linewidth=width)


def _runs(
    axes: Axes, runs: Sequence[Mapping[str, NDArray[Any]]], name: str, colour: str, style: str
) -> None:
    present = [run for run in runs if name in run and np.isfinite(run[name]).any()]
    if not present:
        return
    if len(present) == 1:
        axes.plot(present[0]["epoch"], present[0][name], style, color=colour, label=name)
        return
    by_epoch: dict[float, list[float]] = {}
    for run in present:
        axes.plot(run["epoch"], run[name], style, color=colour, linewidth=0.7, alpha=0.3)
        for epoch, value in zip(run["epoch"], run[name], strict=True):
            if np.isfinite(value):
                by_epoch.setdefault(float(epoch), []).append(float(value))
    # Runs stop early at different epochs: a mean over the few that went on would jump.
    epochs = sorted(epoch for epoch, values in by_epoch.items() if 2 * len(values) >= len(present))
    means = [float(np.mean(by_epoch[epoch])) for epoch in epochs]
    axes.plot(epochs, means, style, color=colour, label=name)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    spacing = {"columnspacing": 1.2, "handlelength": 1.2, "handletextpad": 0.5}
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), **spacing)


@contextmanager
def _figure(height: float, width: float = _WIDTH) -> Iterator[tuple[Figure, Callable[[str], str]]]:
    """An empty figure, and what turns it into markup with the given description afterwards."""
    with extra("plot", "plots"):
        import matplotlib as mpl
        from matplotlib.figure import Figure

    size = width / _UNITS_PER_INCH, height / _UNITS_PER_INCH
    # A Figure of its own, not pyplot: no window system, no global state, nothing to close.
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        drawn = io.StringIO()
        yield figure, lambda description: _page_markup(drawn.getvalue(), description)
        with warnings.catch_warnings():
            # Widths are measured in matplotlib's font, letters are drawn by the browser.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(drawn, format="svg", transparent=True, metadata=metadata)


@contextmanager
def _file_figure(height_inches: float) -> Iterator[Figure]:
    """An empty figure for a file, and the settings that it is drawn with."""
    with extra("plot", "plots"):
        import matplotlib as mpl
        from matplotlib.figure import Figure

    with mpl.rc_context(SETTINGS):
        yield Figure(figsize=(_FILE_WIDTH_INCHES, height_inches), layout="constrained")


def _page_markup(svg: str, description: str) -> str:
    """Fits matplotlib's file into a page: no prologue, the page's colours and font, ids of its own.

    Only attributes are touched, never texts, so that no name can be mistaken for markup.
    """
    # Parsed is what matplotlib wrote a moment ago, not a file from elsewhere.
    root = ElementTree.fromstring(svg)
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    for parent in root.iter():
        parent.tag = parent.tag.rpartition("}")[2]
        for child in list(parent):
            # The style rule would hold for the whole page, which has it in its own sheet.
            if child.tag.rpartition("}")[2] in {"metadata", "style"}:
                parent.remove(child)
        attributes = {name.rpartition("}")[2]: text for name, text in parent.attrib.items()}
        parent.attrib.clear()
        for name, text in attributes.items():
            if name == "id" and parent.tag == "g":
                continue  # matplotlib names groups and refers to none of them
            if name == "id":
                text = f"{own}-{text}"
            elif name == "style":
                text = _FONT_FAMILY.sub("", text)
                for colour, variable in _VARIABLES.items():
                    text = text.replace(colour, f"var({variable})")
            if name in {"d", "x", "y", "transform"}:
                # A hundredth of a pixel is enough, and a third of the page's size less.
                text = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", text)
            parent.set(name, text.replace("#", f"#{own}-") if _REFERENCE.match(text) else text)
    width = root.get("viewBox", f"0 0 {_WIDTH} 0").split()[2]
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", description)
    root.set("style", f"max-width: {width}px")
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"(?:url\()?#[\w-]+\)?$")


def _label(text: str) -> str:
    """A name as an axis shows it: without characters that XML does not have, and not too long."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean if len(clean) <= 24 else clean[:23] + "…"
