"""Predictions by segment as files of other tools: SRT, WebVTT, RTTM."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from typing import Literal, get_args

from vavl.inference.turns import rttm_field
from vavl.types import Segment

_ARROW = re.compile("-+>")
"""Of two dashes or more it would begin the times of another cue."""

CaptionFormat = Literal["srt", "vtt", "rttm"]

CAPTION_FORMATS: tuple[CaptionFormat, ...] = get_args(CaptionFormat)


def captions(segments: Iterable[Segment], form: CaptionFormat, recording: str = "") -> str:
    """The segments of a clip, one below the other.

    SRT and WebVTT have a cue for each: label and confidence in brackets, or attributes without
    categories, then the text where it is given. The speaker is a voice tag (``<v Ann>``) in WebVTT,
    and a name before a colon in SRT. A segment without a prediction and without text has no cue.

    RTTM has a line ``SPEAKER`` for each. Its name is that of the speaker, or the label where no
    speaker is given: of this line, tools read times and name alone. The label is the subtype as
    well, and the confidence stands in its field. A segment with neither name nor label has no line.

    Args:
        segments: In the order of time.
        form: ``"srt"``, ``"vtt"`` or ``"rttm"``.
        recording: The file field of RTTM.

    Example:
        >>> from vavl.types import Modality
        >>> found = Modality.ACOUSTIC, "sad", {"sad": 0.7, "happy": 0.3}, {}
        >>> said = [Segment(1.0, 2.5, *found, speaker="Ann", text="Hello")]
        >>> print(captions(said, "srt"), end="")
        1
        00:00:01,000 --> 00:00:02,500
        Ann: [sad 0.70] Hello
        >>> print(captions(said, "rttm", "talk"), end="")
        SPEAKER talk 1 1.000 1.500 <NA> sad Ann 0.700 <NA>
    """
    return _WRITERS[form](segments, recording)


def _srt(segments: Iterable[Segment], _recording: str) -> str:
    cues: list[str] = []
    for segment in segments:
        if words := _words(segment):
            # An arrow would begin another cue.
            said = f"{segment.speaker}: {words}" if segment.speaker else words
            times = f"{_stamp(segment.start_s, ',')} --> {_stamp(segment.end_s, ',')}"
            cues.append(f"{len(cues) + 1}\n{times}\n{_ARROW.sub('->', said)}\n")
    return "\n".join(cues)


def _vtt(segments: Iterable[Segment], _recording: str) -> str:
    cues = ["WEBVTT\n"]
    for segment in segments:
        if words := _words(segment):
            voice = f"<v {html.escape(segment.speaker, quote=False)}>" if segment.speaker else ""
            times = f"{_stamp(segment.start_s, '.')} --> {_stamp(segment.end_s, '.')}"
            cues.append(f"{times}\n{voice}{html.escape(words, quote=False)}\n")
    return "\n".join(cues)


def _rttm(segments: Iterable[Segment], recording: str) -> str:
    lines = []
    for segment in segments:
        if name := segment.speaker or segment.label:
            confidence = "<NA>" if segment.confidence is None else f"{segment.confidence:.3f}"
            lines.append(
                f"SPEAKER {rttm_field(recording)} 1 {segment.start_s:.3f} "
                f"{segment.end_s - segment.start_s:.3f} <NA> {rttm_field(segment.label or '')} "
                f"{rttm_field(name)} {confidence} <NA>\n"
            )
    return "".join(lines)


def _words(segment: Segment) -> str:
    """What is predicted, and what is said."""
    found = ", ".join(f"{name} {value:.2f}" for name, value in segment.attributes.items())
    if segment.confidence is not None:
        found = f"{segment.label} {segment.confidence:.2f}"
    return " ".join(filter(None, (found and f"[{found}]", segment.text)))


def _stamp(time_s: float, point: str) -> str:
    minutes, milliseconds = divmod(round(1000 * time_s), 60_000)
    seconds = f"{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds}"


_WRITERS: dict[str, Callable[[Iterable[Segment], str], str]] = {
    "srt": _srt,
    "vtt": _vtt,
    "rttm": _rttm,
}
