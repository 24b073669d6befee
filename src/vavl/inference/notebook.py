"""A prediction as HTML for notebooks: bars, a small timeline, people, sentences, warnings.

All in one piece, without scripts or anything from elsewhere. Whatever comes from a file is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby, pairwise

from vavl.system.plotting import COLOURS
from vavl.types import SOURCES, Person, Prediction, Segment, TimedPrediction

_MOST_POINTS = 300
"""A longer timeline is drawn by the means of as many windows as make fewer points than this."""
_MOST_ROWS = 20
"""Of people, sentences and speakers; more are counted."""
_WIDTH, _HEIGHT, _FACE = 480, 96, 8
"""Of the timeline and of the strip below it that shows faces, in pixels."""
_GREY = "rgba(127,127,127,.18)"  # on light and on dark pages
_CELL = "text-align:left;padding:1px 10px 1px 0;border:0"


def prediction_html(prediction: Prediction) -> str:
    """A prediction as a piece of HTML.

    Example:
        >>> from vavl.types import Modality
        >>> found = {"sad": 0.75, "happy": 0.25}
        >>> page = prediction_html(Prediction("<b>.wav", Modality.ACOUSTIC, "sad", found, {}))
        >>> "&lt;b&gt;.wav" in page, "<b>.wav" in page, "width:75.0%" in page
        (True, False, True)
    """
    ranked = dict(sorted(prediction.probabilities.items(), key=lambda item: -item[1]))
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(prediction.probabilities)}
    people = prediction.people if len(prediction.people) > 1 else ()
    about = [f"from {SOURCES[prediction.modality]}"]
    if prediction.duration_s is not None:
        about.append(f"{prediction.duration_s:.1f} s")
    if prediction.face_share is not None:
        about.append(f"face seen {prediction.face_share:.0%}")
    parts = [
        f'<div style="font-weight:600">{escape(prediction.name)}</div>',
        f"<div>{_emotion(prediction)} <small>{', '.join(about)}</small></div>",
        _bars(ranked, colours),
        _bars(prediction.attributes, {}),
        _timeline(prediction.timeline, colours),
        _table(("person", "emotion", "seen"), map(_person, people)),
        _table(("time", "speaker", "emotion", "text"), map(_segment, prediction.segments)),
        _table(("speaker", "emotion"), ((n, s.summary) for n, s in prediction.speakers.items())),
        *(f"<div>&#9888; {escape(warning)}</div>" for warning in prediction.warnings),
    ]
    return f'<div style="max-width:{_WIDTH}px;font-size:13px">{"".join(parts)}</div>'


def _emotion(prediction: Prediction | TimedPrediction) -> str:
    if prediction.confidence is None:
        return ""
    return f"<b>{escape(prediction.label or '')}</b> {prediction.confidence:.2f}"


def _bars(values: Mapping[str, float], colours: Mapping[str, str]) -> str:
    """A bar of up to 1 for each value, with its name before it and the number behind it."""
    rows = []
    for name, value in values.items():
        colour = colours.get(name, "#7b8794")
        rows.append(
            '<div style="display:flex;align-items:center;gap:8px;line-height:1.35">'
            f'<span style="width:92px;text-align:right">{escape(name)}</span>'
            f'<span style="flex:1;background:{_GREY}"><span style="display:block;height:9px;'
            f'background:{colour};width:{100 * value:.1f}%"></span></span>'
            f'<span style="width:32px">{value:.2f}</span></div>'
        )
    return f'<div style="margin:4px 0">{"".join(rows)}</div>' if rows else ""


def _timeline(timeline: Sequence[TimedPrediction], colours: Mapping[str, str]) -> str:
    """Lines of all values over time, broken where nothing is known; below them, where faces are."""
    if len(timeline) < 2:
        return ""  # one window says what the bars say
    step = -(-len(timeline) // _MOST_POINTS)
    groups = [timeline[n : n + step] for n in range(0, len(timeline), step)]
    start_s, end_s = timeline[0].start_s, timeline[-1].end_s
    scale = _WIDTH / max(end_s - start_s, 1e-9)
    places = [((g[0].start_s + g[-1].end_s) / 2 - start_s) * scale for g in groups]
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(places)), float(_WIDTH)]
    names = list(dict.fromkeys(n for w in timeline for n in (w.probabilities or w.attributes)))
    shapes = [f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="{_GREY}"/>']
    for number, name in enumerate(names):
        colour = colours.get(name, COLOURS[number % len(COLOURS)])
        points = [
            (x, _mean(_value(w, name) for w in g)) for x, g in zip(places, groups, strict=True)
        ]
        for known, run in groupby(points, key=lambda point: point[1] is not None):
            line = [(x, 2 + (_HEIGHT - 4) * (1 - (y or 0))) for x, y in run]
            if not known:
                continue
            if len(line) == 1:  # a line of one point would not be seen
                shapes.append(_dot(*line[0], colour, name))
            else:
                drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
                shapes.append(
                    f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5">'
                    f"<title>{escape(name)}</title></polyline>"
                )
    height = _HEIGHT
    if any(window.face_share is not None for window in timeline):
        height += _FACE + 2
        for (left, right), group in zip(pairwise(edges), groups, strict=True):
            share = _mean(window.face_share for window in group) or 0
            shapes.append(
                f'<rect x="{left:.1f}" y="{_HEIGHT + 2}" width="{right - left:.1f}" '
                f'height="{_FACE}" shape-rendering="crispEdges" fill="#009e73" '
                f'opacity="{share:.2f}"><title>face seen {share:.0%}</title></rect>'
            )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" '
        f'aria-label="probabilities over time">{"".join(shapes)}</svg>'
        '<div style="display:flex;justify-content:space-between"><small>'
        f"{start_s:.1f} s</small><small>{end_s:.1f} s</small></div>"
    )


def _value(window: TimedPrediction, name: str) -> float | None:
    return window.probabilities.get(name, window.attributes.get(name))


def _dot(x: float, y: float, colour: str, name: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"><title>{escape(name)}</title>'
        "</circle>"
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _person(person: Person) -> tuple[str, ...]:
    return (
        f"{person.number}{' (main)' if person.is_main else ''}",
        person.summary,
        f"{person.face_share or 0:.0%}, {person.start_s:.1f}-{person.end_s:.1f} s",
    )


def _segment(segment: Segment) -> tuple[str, ...]:
    times = f"{segment.start_s:.1f}-{segment.end_s:.1f} s"
    return times, segment.speaker or "", segment.summary, segment.text or ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text; columns that are empty are left out, and so is a table without rows."""
    listed = list(rows)
    kept = [n for n in range(len(columns)) if any(row[n] for row in listed)]
    if not kept:
        return ""
    head = "".join(f'<th style="{_CELL}">{columns[n]}</th>' for n in kept)
    body = "".join(
        f"<tr>{''.join(f'<td style={_CELL!r}>{escape(row[n])}</td>' for n in kept)}</tr>"
        for row in listed[:_MOST_ROWS]
    )
    more = f"<small>and {len(listed) - _MOST_ROWS} more</small>" if len(listed) > _MOST_ROWS else ""
    style = "border-collapse:collapse;margin:4px 0;font-size:13px"
    return f'<table style="{style}"><tr>{head}</tr>{body}</table>{more}'
