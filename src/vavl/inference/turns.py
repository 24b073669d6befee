"""Turns of speakers and lines of transcripts, as other tools write them: SRT, WebVTT, RTTM, CSV.

Files are read line by line and trusted in nothing: each problem is named with its line.

Source: W3C, "WebVTT: The Web Video Text Tracks Format", 2019; NIST, "RT-09 Evaluation Plan",
appendix A (RTTM).
"""

from __future__ import annotations

import csv
import html
import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vavl.errors import InputError, MediaError, all_problems

MOST_TURNS = 100_000
"""More than a day of sentences."""
_MOST_BYTES = 64 * 2**20
_LONGEST_LINE = 10_000
"""Characters: nobody reads more at once."""
_LONGEST_TEXT = 2_000
"""Characters of a text that are kept."""
_MOST_PROBLEMS = 50
"""After so many, the rest of a file is not read."""


class Turn(NamedTuple):
    """A span of a recording that somebody has marked.

    Attributes:
        start_s: Its beginning, in seconds from the beginning of the recording.
        end_s: Its end.
        speaker: Who speaks, or None.
        text: What is said, or None.
    """

    start_s: float
    end_s: float
    speaker: str | None = None
    text: str | None = None


class _Line(NamedTuple):
    number: int
    text: str


class _Found(NamedTuple):
    """A turn, or what is wrong instead, and the line where it is."""

    line: int
    turn: Turn | str


def read_turns(path: Path | str, recording: str = "") -> list[Turn]:
    r"""Reads turns of a file: ``.srt``, ``.vtt``, ``.rttm``, or ``.csv`` by its ending.

    SRT and WebVTT: a turn for each cue; for each voice where a cue has several. The speaker is that
    of a voice tag (``<v Ann>``), of a name in brackets before the text (``[Ann]: Hello``), or,
    where every cue of the file begins so, of a name before a colon (``Ann: Hello``): where some
    cues have no name, a colon may mean anything. Markup is left out.

    RTTM: the lines ``SPEAKER``. Where they are of several recordings, those of ``recording`` count.

    CSV: columns ``start_s`` and ``end_s`` (or ``start`` and ``end``), ``speaker`` and ``text`` if
    they are there, and others, which are passed over. Times are seconds or clock times such as
    ``1:02:03.5``.

    Args:
        path: The file, in UTF-8.
        recording: Name of the recording as RTTM files have it, without its ending.

    Returns:
        The turns in the order of the file; they may overlap.

    Raises:
        InputError: Another ending, a line that cannot be read, times that are negative, not finite
            or end before they begin, more than 100,000 turns, or none.
        MediaError: The file is missing, larger than 64 MiB, or not UTF-8.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "talk.vtt"
        >>> _ = path.write_text("WEBVTT\n\n00:01.000 --> 00:02.500\n<v Ann>Hello <i>you</i>\n")
        >>> read_turns(path)
        [Turn(start_s=1.0, end_s=2.5, speaker='Ann', text='Hello you')]
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: expected a file that ends in {', '.join(TURN_SUFFIXES)}")
    if not path.is_file():
        raise MediaError(f"{path}: expected a file with turns, found none")
    if path.stat().st_size > _MOST_BYTES:
        raise MediaError(f"{path}: expected at most {_MOST_BYTES // 2**20} MiB of turns")
    problems: list[str] = []
    turns: list[Turn] = []
    for line, turn in reader(_lines(path), rttm_field(recording)):
        if isinstance(turn, Turn):
            turns.append(turn)
            problems += [f"line {line}: {wrong}" for wrong in _wrong_times(turn)]
        else:
            problems.append(f"line {line}: {turn}")
        if len(turns) > MOST_TURNS:
            raise InputError(f"{path}: line {line}: expected at most {MOST_TURNS} turns")
        if len(problems) >= _MOST_PROBLEMS:
            break
    if problems:
        raise InputError(all_problems(str(path), problems))
    if not turns:
        raise InputError(f"{path}: expected at least one turn, found none")
    return turns


def check_turns(turns: Iterable[Turn | tuple[object, ...]]) -> list[Turn]:
    """Turns, from tuples ``(start_s, end_s[, speaker[, text]])``; InputError if times are wrong.

    Example:
        >>> check_turns([(0, 1.5), (1, 2, "Ann")])[1].speaker
        'Ann'
    """
    checked: list[Turn] = []
    problems: list[str] = []
    for number, given in enumerate(turns):
        if number >= MOST_TURNS:
            raise InputError(f"segments: expected at most {MOST_TURNS}, got more")
        try:
            start_s, end_s, speaker, text = Turn(*given)  # type: ignore[arg-type]
            turn = Turn(float(start_s), float(end_s), _name(speaker), _plain(text))
        except (TypeError, ValueError):
            wrong = [f"expected (start_s, end_s[, speaker[, text]]), got {str(given)[:60]}"]
        else:
            wrong = _wrong_times(turn)
            checked.append(turn)
        problems += [f"{number}: {what}" for what in wrong]
    if problems:
        raise InputError(all_problems("segments", problems))
    return checked


def clock_s(text: str) -> float:
    """Seconds of ``"75.5"``, ``"1:15.5"`` or ``"0:01:15.5"``; ValueError for anything else.

    Example:
        >>> clock_s("1:02:03.5")
        3723.5
    """
    found = _CLOCK.fullmatch(text.strip())
    if found is None:
        return float(text)
    hours, minutes, seconds = found.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)


_CLOCK = re.compile(r"(?:(\d{1,5}):)?([0-5]?\d):([0-5]?\d(?:\.\d{1,9})?)", re.ASCII)


def _wrong_times(turn: Turn) -> list[str]:
    start_s, end_s = turn.start_s, turn.end_s
    if not (math.isfinite(start_s) and start_s >= 0):
        return [f"expected a start of 0 s or later, got {start_s:g} s"]
    if not (math.isfinite(end_s) and end_s >= start_s):  # some tools write words without length
        return [f"expected an end not before the start at {start_s:g} s, got {end_s:g} s"]
    return []


def _lines(path: Path) -> Iterator[_Line]:
    """Lines without their ends."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            number = 0
            while text := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(text) > _LONGEST_LINE:
                    raise InputError(
                        f"{path}: line {number}: expected at most {_LONGEST_LINE} characters"
                    )
                yield _Line(number, text.rstrip("\n"))
    except UnicodeDecodeError:
        raise MediaError(f"{path}: expected text in UTF-8; save it again as that") from None


def _plain(text: str | None) -> str | None:
    """Without control characters, which could steer a terminal; None for nothing."""
    kept = "".join(c for c in (text or "")[:_LONGEST_TEXT] if c.isprintable() or c == "\n")
    return "\n".join(filter(None, (line.strip() for line in kept.split("\n")))) or None


def _name(text: str | None) -> str | None:
    """A name, which is one line."""
    return " ".join((_plain(text) or "").split()) or None


# --- SRT and WebVTT ------------------------------------------------------------------------------

_ARROW = "-->"
_STAMP = r"((?:\d{1,5}:)?[0-5]?\d:[0-5]?\d[.,]\d{1,3})"
_TIMES = re.compile(rf"\s*{_STAMP}\s*{_ARROW}\s*{_STAMP}(?:\s.*)?", re.ASCII)
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s([^<>]*)>")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>")
_BRACKETED = re.compile(r"\s*\[([^\]\n]{1,80})\]:\s*(.*)", re.DOTALL)
_NAMED = re.compile(r"\s*([^\W_][^:<>\n]{0,39}):\s+(\S.*)", re.DOTALL)


def _cues(lines: Iterator[_Line], _recording: str) -> Iterator[_Found]:
    """A turn for each cue or voice of SRT or WebVTT."""
    found = list(islice(_voices(_timed(lines)), MOST_TURNS + 1))
    spoken = [turn for _, turn in found if isinstance(turn, Turn) and turn.text]
    named = all(turn.speaker or _NAMED.fullmatch(turn.text or "") for turn in spoken)
    for line, turn in found:
        if isinstance(turn, Turn):
            match = _NAMED.fullmatch(turn.text or "") if named and not turn.speaker else None
            speaker, text = match.groups() if match else (turn.speaker, turn.text)
            turn = turn._replace(speaker=_name(speaker), text=_plain(text))
        yield _Found(line, turn)


def _timed(lines: Iterator[_Line]) -> Iterator[_Found]:
    """Cues with their text as it is written; what belongs to no cue is passed over."""
    begun: tuple[int, float, float] | None = None
    text: list[str] = []
    for number, line in lines:
        if _ARROW in line:
            if begun:  # without an empty line between two cues, the last line is a number
                yield _cue(begun, text[:-1] if text and text[-1].isdigit() else text)
            begun, text = None, []
            if times := _TIMES.fullmatch(line):
                start_s, end_s = (clock_s(stamp.replace(",", ".")) for stamp in times.groups())
                begun = number, start_s, end_s
            else:
                wrong = f"expected 00:00:01.000 {_ARROW} 00:00:02.000, got {line[:60]!r}"
                yield _Found(number, wrong)
        elif begun and line.strip():
            text.append(line.strip())
        elif begun:
            yield _cue(begun, text)
            begun = None
    if begun:
        yield _cue(begun, text)


def _cue(begun: tuple[int, float, float], text: list[str]) -> _Found:
    number, start_s, end_s = begun
    return _Found(number, Turn(start_s, end_s, text="\n".join(text)[:_LONGEST_TEXT]))


def _voices(cues: Iterator[_Found]) -> Iterator[_Found]:
    """A turn for each voice tag in the text of a cue, or one without any."""
    for line, cue in cues:
        if isinstance(cue, str):
            yield _Found(line, cue)
            continue
        before, *voices = _VOICE.split(cue.text or "")
        text = _without_markup(before)
        if text.strip() or not voices:
            match = _BRACKETED.fullmatch(text)
            speaker, text = match.groups() if match else (None, text)
            yield _Found(line, cue._replace(speaker=speaker, text=text))
        for name, said in zip(voices[::2], voices[1::2], strict=True):
            turn = cue._replace(speaker=html.unescape(name), text=_without_markup(said))
            yield _Found(line, turn)


def _without_markup(text: str) -> str:
    return html.unescape(_TAG.sub("", text))


# --- RTTM and CSV --------------------------------------------------------------------------------


def _speaker_lines(lines: Iterator[_Line], recording: str) -> Iterator[_Found]:
    """``SPEAKER recording channel start duration <NA> <NA> speaker <NA> <NA>``."""
    found: dict[str, list[_Found]] = {}
    for number, line in lines:
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue  # comments, and lines that say other things of a recording
        try:
            name, start_s, duration_s, speaker = (fields[k] for k in (1, 3, 4, 7))
            turn = Turn(float(start_s), float(start_s) + float(duration_s), _name(speaker))
        except (IndexError, ValueError):
            wrong = "expected SPEAKER recording channel start duration <NA> <NA> speaker"
            yield _Found(number, f"{wrong} <NA> <NA>, got {line[:80]!r}")
            continue
        if turn.speaker == "<NA>":
            turn = turn._replace(speaker=None)
        turns = found.setdefault(name, [])
        turns.append(_Found(number, turn))
        if len(turns) > MOST_TURNS or len(found) > MOST_TURNS:
            break
    if len(found) > 1 and recording not in found:
        names = ", ".join(sorted(found)[:5])
        wrong = f"expected turns of {recording!r}, got those of {len(found)} recordings: {names}"
        yield _Found(next(iter(found.values()))[0].line, wrong)
    elif found:
        yield from found[recording] if len(found) > 1 else next(iter(found.values()))


def _rows(lines: Iterator[_Line], _recording: str) -> Iterator[_Found]:
    """Rows of a CSV with a header."""
    reader = csv.reader(line.text + "\n" for line in lines)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        places = [next((header.index(n) for n in names if n in header), None) for names in _COLUMNS]
        if None in places[:2]:
            wrong = "expected columns start_s,end_s (or start,end) and, if known, speaker,text, got"
            yield _Found(1, f"{wrong} {','.join(header)[:80]!r}")
            return
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            start, end, speaker, text = (
                row[place] if place is not None and place < len(row) else "" for place in places
            )
            try:
                turn = Turn(clock_s(start), clock_s(end), _name(speaker), _plain(text))
            except ValueError:
                wrong = f"expected times in seconds, got {start[:30]!r} and {end[:30]!r}"
                yield _Found(reader.line_num, wrong)
            else:
                yield _Found(reader.line_num, turn)
    except csv.Error as error:
        yield _Found(reader.line_num, str(error))


_COLUMNS = (("start_s", "start"), ("end_s", "end"), ("speaker",), ("text",))

_READERS: dict[str, Callable[[Iterator[_Line], str], Iterator[_Found]]] = {
    ".srt": _cues,
    ".vtt": _cues,
    ".rttm": _speaker_lines,
    ".csv": _rows,
}


TURN_SUFFIXES = tuple(_READERS)
"""Endings of the files that :func:`read_turns` reads."""


def rttm_field(text: str) -> str:
    """As a field of RTTM, which has no spaces in it.

    Example:
        >>> rttm_field("Ann Lee"), rttm_field("")
        ('Ann_Lee', '<NA>')
    """
    return re.sub(r"\s+", "_", text.strip()) or "<NA>"
