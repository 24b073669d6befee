"""A prediction drawn: as a plot over time, and on the video with the face and the emotion."""

from __future__ import annotations

import io
import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vavl.errors import InputError
from vavl.inference.people import LONGEST_STEP_S
from vavl.media.container import media_info
from vavl.media.frames import VideoFrame
from vavl.media.writing import redraw_video
from vavl.system.atomic import atomic_write
from vavl.system.extras import extra
from vavl.system.plotting import COLOURS, LINE, SETTINGS
from vavl.types import (
    NOTHING,
    SOURCES,
    UNSURE,
    FaceBox,
    Modality,
    Person,
    Prediction,
    TimedPrediction,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_SUFFIXES = (".pdf", ".png", ".svg")
"""What a plot can be written as."""

_STYLES = ("-", "--", ":", "-.")
"""One after the other when the colours are used up."""
_SETTINGS = {**SETTINGS, "font.size": 10, "lines.markersize": 3.5}
_MARKED = 40
"""Up to this many windows are marked by points: of a clip of one window there is nothing else."""
_SHOWN_S = 0.1
"""For so long a face stays where it was seen last: until the next picture that is looked at."""
_FACE = "#9fd3c1"
"""Of the strip that shows when a face is seen."""
_INK, _PAPER = (255, 255, 255), (20, 26, 36)


def timeline_figure(prediction: Prediction) -> Figure:
    """Draws probabilities, attributes and the share of the face over time.

    Where the label is unsure, there is a grey band behind the probabilities. A single picture has
    no time, and is drawn as bars.

    Raises:
        InputError: There is no timeline.
    """
    with extra("plot", "plots"):
        import matplotlib as mpl

    timeline = _with_timeline(prediction)
    with mpl.rc_context(_SETTINGS):
        if timeline[-1].end_s - timeline[0].start_s <= _SHOWN_S:
            count = len(prediction.probabilities | prediction.attributes)
            figure = _figure_class()(figsize=(6, 0.9 + 0.3 * count), layout="constrained")
            _draw_bars(figure, prediction)
            return figure
        rows = _rows(timeline)
        figure = _figure_class()(
            figsize=(9, 0.9 + sum(row.height for row in rows)), layout="constrained"
        )
        _draw(figure, rows, prediction)
    return figure


def plot_timeline(prediction: Prediction, path: Path) -> Figure:
    """Writes what :func:`timeline_figure` draws.

    Raises:
        InputError: The path ends in none of :data:`PLOT_SUFFIXES`, or there is no timeline.

    Example:
        >>> import tempfile
        >>> from vavl.types import Modality
        >>> found = (Modality.ACOUSTIC, "sad", {"sad": 0.7, "happy": 0.3}, {})
        >>> windows = tuple(TimedPrediction(k / 2, k / 2 + 2, *found) for k in range(3))
        >>> path = Path(tempfile.mkdtemp()) / "clip.svg"
        >>> _ = plot_timeline(Prediction("clip.wav", *found, duration_s=3, timeline=windows), path)
        >>> "clip.wav: sad 0.70, from sound" in path.read_text(encoding="utf-8")
        True
    """
    check_plot(path)
    figure = timeline_figure(prediction)
    with atomic_write(path) as temporary:
        _save(figure, temporary, path.suffix[1:].lower())
    return figure


def _save(figure: Figure, file: Path | BinaryIO, form: str) -> None:
    with extra("plot", "plots"):
        import matplotlib as mpl

    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        metadata = {"Date": None} if form == "svg" else {}
        figure.savefig(file, format=form, dpi=150, metadata=metadata)


@cache
def _figure_class() -> type[Figure]:
    """A figure that a notebook shows without pyplot, which would bring a window system along."""
    with extra("plot", "plots"):
        from matplotlib.figure import Figure

    class TimelineFigure(Figure):
        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            _save(self, picture, "png")
            return picture.getvalue()

    return TimelineFigure


class _Row(NamedTuple):
    """One of the plots above each other."""

    label: str
    height: float
    series: dict[str, list[float]]


def _rows(timeline: Sequence[TimedPrediction]) -> list[_Row]:
    rows = []
    for label, values in (
        ("probability", [window.probabilities for window in timeline]),
        ("attributes", [window.attributes for window in timeline]),
    ):
        names = list(dict.fromkeys(name for window in values for name in window))
        if names:
            # A window with nothing to go by is a gap.
            series = {name: [row.get(name, np.nan) for row in values] for name in names}
            rows.append(_Row(label, max(2.0, 0.22 * len(names)), series))
    shares = [window.face_share for window in timeline]
    if any(share is not None for share in shares):
        rows.append(_Row("face", 0.35, {"face": [share or 0.0 for share in shares]}))
    return rows or [_Row("probability", 2.0, {})]


def _draw(figure: Figure, rows: Sequence[_Row], prediction: Prediction) -> None:
    heights = [row.height for row in rows]
    timeline = prediction.timeline
    centres = [(window.start_s + window.end_s) / 2 for window in timeline]
    end_s = max(prediction.duration_s or 0.0, timeline[-1].end_s)
    column = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(centres)), end_s]
    for axes, row in zip(column, rows, strict=True):
        if row.label == "face":
            _strip(axes, edges, row.series["face"], prediction.face_share)
        else:
            _lines(axes, centres, row, prediction.probabilities | prediction.attributes)
        if row.label == "probability":
            _bands(axes, edges, [window.label == UNSURE for window in timeline])
    column[0].set_title(_title(prediction))
    column[-1].set_xlim(0, end_s)
    column[-1].set_xlabel("time (s)")


def _lines(axes: Axes, centres: Sequence[float], row: _Row, of_clip: Mapping[str, float]) -> None:
    """A line for each value; beside its name stands what is predicted of the whole clip."""
    for number, (name, values) in enumerate(row.series.items()):
        axes.plot(
            centres,
            values,
            color=COLOURS[number % len(COLOURS)],
            linestyle=_STYLES[number // len(COLOURS) % len(_STYLES)],
            marker="o" if len(centres) <= _MARKED else None,
            label=f"{_readable(name)} {of_clip[name]:.2f}" if name in of_clip else _readable(name),
        )
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(row.label)
    handles, labels = axes.get_legend_handles_labels()
    names = list(row.series)
    order = sorted(range(len(names)), key=lambda n: -of_clip.get(names[n], 0.0))
    axes.legend(
        [handles[n] for n in order],
        [labels[n] for n in order],
        title="whole clip",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        labelspacing=0.25,
    )


def _draw_bars(figure: Figure, prediction: Prediction) -> None:
    """Of a single picture, which has no time: a bar for each value."""
    values = prediction.probabilities | prediction.attributes
    names = sorted(values, key=values.__getitem__)
    names = [n for n in names if n in prediction.attributes] + [
        n for n in names if n in prediction.probabilities
    ]
    axes = figure.subplots()
    places = range(len(names))
    colours = [COLOURS[list(values).index(name) % len(COLOURS)] for name in names]
    bars = axes.barh(places, [values[name] for name in names], color=colours)
    axes.bar_label(bars, [f"{values[name]:.2f}" for name in names], padding=3)
    axes.set_yticks(places, [_readable(name) for name in names])
    axes.set_xlim(0, 1.08)
    axes.grid(visible=False, axis="y")
    axes.set_title(_title(prediction))


def _bands(axes: Axes, edges: Sequence[float], unsure: Sequence[bool]) -> None:
    """Grey behind the windows that are unsure, with their name where the first one begins."""
    for (start_s, end_s), is_unsure in zip(pairwise(edges), unsure, strict=True):
        if is_unsure:
            axes.axvspan(start_s, end_s, color=LINE, linewidth=0, zorder=0)
    if any(unsure):
        axes.text(edges[unsure.index(True)], 1.0, f" {UNSURE}", va="top", fontsize=8)


def _strip(
    axes: Axes, edges: Sequence[float], shares: Sequence[float], overall: float | None
) -> None:
    axes.stairs(shares, edges, fill=True, color=_FACE)
    axes.set_ylim(0, 1.6)  # a face that is always there is a line below, not a slab
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylabel("face", rotation=0, ha="right", va="center")
    overall = float(np.mean(shares)) if overall is None else overall
    axes.text(1.01, 0.5, f"{overall:.0%}", transform=axes.transAxes, va="center")


def _title(prediction: Prediction) -> str:
    title = _readable(prediction.name, 60)
    if prediction.label is not None:
        title += f": {_said(prediction)}"
    return f"{title}, from {SOURCES[prediction.modality]}"


def _readable(text: str, longest: int = 24) -> str:
    """A name without characters that XML cannot hold, and not too long."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def draw_overlay(source: Path, path: Path, prediction: Prediction) -> None:
    """Writes the video again with every face framed and the emotion written beside it.

    Each frame shows what holds at its time: the prediction of the window with the nearest centre.
    Where nothing is known it says so, and "no face" where the face has gone from which that window
    was predicted. Beside a single person stands the prediction of the clip; of several beside each
    what the face says, with the number before it, and that of the clip in the corner. The file
    appears when it is complete; for times, sound and size see
    :func:`vavl.media.writing.redraw_video`.

    Args:
        source: Video file, or folder of frames (25 a second).
        path: Where to write; ends in ``.mp4``.
        prediction: Of this video, with its timeline; without people, only the text is drawn.

    Raises:
        InputError: The source has no picture or is the file to write, the path has another ending,
            or the prediction has no timeline.
        MediaError: The source cannot be read, or the file cannot be written.
    """
    check_overlay(source, path)
    drawing = Overlay(_with_timeline(prediction), prediction.people)
    with atomic_write(path) as temporary:
        redraw_video(source, temporary, drawing.draw, prediction.audio_track)


class Overlay:
    """What is drawn on the frames of a video, by its timeline and the people in it.

    Args:
        timeline: Predictions of the clip, at least one; shown beside a single person.
        people: Everybody who is framed, with their own timelines.
    """

    def __init__(self, timeline: Sequence[TimedPrediction], people: Sequence[Person] = ()) -> None:
        self._clip = _Texts(timeline)
        self._people = [
            _Drawn(
                _Texts(person.timeline if len(people) > 1 else timeline),
                f"{person.number}: " if len(people) > 1 else "",
                _colour(person.number - 1),
                person.track,
            )
            for person in people
        ]

    def draw(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The ``(H, W, 3)`` pixels of a frame with boxes and text; the frame is left as it is."""
        picture = Image.fromarray(frame.pixels)
        height, width = frame.pixels.shape[:2]
        draw = ImageDraw.Draw(picture)
        nobody = True
        for person in self._people:
            box = box_at(person.track, frame.time_s)
            if box is None:
                continue
            nobody = False
            x0, y0, x1, y1 = (v * size for v, size in zip(box, (width, height) * 2, strict=True))
            if x1 > x0 and y1 > y0:
                draw.rectangle((x0, y0, x1, y1), outline=person.colour, width=max(2, height // 200))
            _write(draw, person.name + person.texts.at(frame.time_s), (x0, y0), (width, height))
        if nobody or len(self._people) > 1:
            text = self._clip.at(frame.time_s, without_face=nobody and bool(self._people))
            _write(draw, text, (0.0, 0.0), (width, height))
        return np.asarray(picture)


class _Drawn(NamedTuple):
    """A person as drawn."""

    texts: _Texts
    name: str
    colour: str
    track: Sequence[FaceBox]


class _Texts:
    """What is written at a time: of the window that it lies in and whose centre is nearest."""

    def __init__(self, timeline: Sequence[TimedPrediction]) -> None:
        self._timeline = timeline
        self._centres_s = [(window.start_s + window.end_s) / 2 for window in timeline]

    def at(self, time_s: float, *, without_face: bool = False) -> str:
        """Says so where nothing is known.

        Args:
            time_s: The time.
            without_face: Whether it is known that no face is in sight at that time, so that what
                the face said a moment before does not hold.
        """
        after = bisect_left(self._centres_s, time_s)
        nearby = range(max(0, after - 1), min(after + 1, len(self._centres_s)))
        nearest = min(nearby, key=lambda n: abs(self._centres_s[n] - time_s), default=None)
        if nearest is None:
            return NOTHING
        window = self._timeline[nearest]
        if not window.start_s - _SHOWN_S <= time_s <= window.end_s + _SHOWN_S:
            return NOTHING
        if without_face and window.modality is Modality.VISUAL:
            return "no face"
        return _text(window)


def box_at(track: Sequence[FaceBox], time_s: float) -> tuple[float, float, float, float] | None:
    """Where a face is at a time, in shares of the picture; None where it is out of sight.

    Example:
        >>> track = [FaceBox(0.0, (0, 0, 0.2, 0.2)), FaceBox(0.4, (0.2, 0, 0.4, 0.2))]
        >>> box_at(track, 0.1)
        (0.05, 0.0, 0.25, 0.2)
        >>> box_at(track, 0.8) is None
        True
    """
    after = bisect_left(track, time_s, key=lambda place: place.time_s)
    before = track[after - 1] if after else None
    if after == len(track):
        # A face is on show until the next picture.
        return before.box if before and time_s - before.time_s < _SHOWN_S else None
    following = track[after]
    if before is None or following.time_s - before.time_s > LONGEST_STEP_S:
        if following.time_s <= time_s:
            return following.box
        return before.box if before and time_s - before.time_s < _SHOWN_S else None
    share = (time_s - before.time_s) / (following.time_s - before.time_s)
    x0, y0, x1, y1 = (
        round(a + share * (b - a), 6) for a, b in zip(before.box, following.box, strict=True)
    )
    return x0, y0, x1, y1


def _colour(number: int) -> str:
    """Of the n-th person; those of the plots, one after the other."""
    return COLOURS[number % len(COLOURS)]


def _said(prediction: Prediction | TimedPrediction) -> str:
    """The label and its probability; a label that is unsure stands alone."""
    if prediction.label == UNSURE:
        return UNSURE
    return f"{_readable(prediction.label or '')} {prediction.confidence:.2f}"


def _text(window: TimedPrediction) -> str:
    """What a window says, and that it is from sound alone, where it stands beside a face."""
    if window.modality is None:
        return NOTHING
    found = [f"{name} {value:.2f}" for name, value in window.attributes.items()]
    text = ", ".join(found) if window.label is None else _said(window)
    return f"{text}, from sound" if window.modality is Modality.ACOUSTIC else text


def _write(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], size: tuple[int, int]
) -> None:
    """Writes above a corner, moved as far as it must be to be seen."""
    font = _font(max(10, size[1] // 24))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = max(0.0, min(corner[0], size[0] - right))
    y = max(0.0, min(corner[1] - bottom - 2, size[1] - bottom))
    draw.rectangle((x + left - 2, y + top - 2, x + right + 2, y + bottom + 2), fill=_PAPER)
    draw.text((x, y), text, fill=_INK, font=font)


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _with_timeline(prediction: Prediction) -> Sequence[TimedPrediction]:
    if not prediction.timeline:
        raise InputError(
            f"prediction: expected one with a timeline, got none for {prediction.name!r}; predict "
            "with timeline=True"
        )
    return prediction.timeline


def check_plot(path: Path) -> None:
    """Raises InputError for an ending that no plot has, and where matplotlib is missing."""
    with extra("plot", "plots"):
        import matplotlib  # noqa: F401
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(
            f"plot: expected a file that ends in {', '.join(PLOT_SUFFIXES)}, got {path.name!r}"
        )


def check_overlay_name(path: Path) -> None:
    """Raises InputError for an ending that no overlay has."""
    if path.suffix.lower() != ".mp4":
        raise InputError(f"overlay: expected a file that ends in .mp4, got {path.name!r}")


def check_overlay(source: Path, path: Path) -> None:
    """Raises InputError where a clip has no picture, or its overlay cannot be written there."""
    check_overlay_name(path)
    if path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"overlay: expected another file than the clip itself, got {path}")
    if not source.is_dir() and not media_info(source).has_video:
        raise InputError(f"overlay: {source} has no picture; plot= draws predictions from sound")
