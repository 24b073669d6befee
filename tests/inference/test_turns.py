"""Transcripts and diarisations of other tools: what is read, and what is refused, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from vavl.errors import InputError, MediaError
from vavl.inference.turns import MOST_TURNS, Turn, check_turns, clock_s, read_turns


def turns(folder: Path, name: str, text: str, recording: str = "") -> list[Turn]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_turns(path, recording)


SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i>
you

2
01:02:03,4 --> 01:02:04,000 X1:40
A colon: is no name
3
01:02:05,000 --> 01:02:06,000

4
01:02:05.500 --> 01:02:06.000
[SPEAKER_01]: and so on
"""


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_srt(tmp_path: Path, start: str, end: str) -> None:
    path = tmp_path / "talk.srt"
    path.write_bytes((start + SRT).replace("\n", end).encode())
    assert read_turns(path) == [
        Turn(1.0, 2.5, None, "Hello\nyou"),
        Turn(3723.4, 3724.0, None, "A colon: is no name"),
        Turn(3725.0, 3726.0, None, None),
        Turn(3725.5, 3726.0, "SPEAKER_01", "and so on"),
    ]


def test_names_before_colons_count_where_every_cue_has_one(tmp_path: Path) -> None:
    cue = "00:01.000 --> 00:02.000\n{}\n\n"
    said = cue.format("Ann Lee: Hello") + cue.format("Bob: That is: fine") + cue.format("")
    assert [turn[2:] for turn in turns(tmp_path, "a.srt", said)] == [
        ("Ann Lee", "Hello"),
        ("Bob", "That is: fine"),
        (None, None),
    ]
    mixed = turns(tmp_path, "a.srt", said + cue.format("at 10:30"))
    assert [turn.speaker for turn in mixed] == [None] * 4
    assert mixed[0].text == "Ann Lee: Hello"


def test_webvtt(tmp_path: Path) -> None:
    text = """WEBVTT - of a talk

NOTE times --- are those of the tape

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Ann Lee>Fish &amp; <c.red>chips</c> &lt;3

01:00:00.000 --> 01:00:01.000
<v Ann>Hello<v Bob>Hey</v>

01:00:02.000 --> 01:00:03.000
<00:00:02.500>nobody
"""
    assert turns(tmp_path, "talk.vtt", text) == [
        Turn(1.0, 2.5, "Ann Lee", "Fish & chips <3"),
        Turn(3600, 3601, "Ann", "Hello"),
        Turn(3600, 3601, "Bob", "Hey"),
        Turn(3602, 3603, None, "nobody"),
    ]


RTTM = """;; a comment
SPKR-INFO a 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER a 1 3.5 1.25 <NA> <NA> ann <NA> <NA>
SPEAKER a 1 0 5 <NA> <NA> bob 0.9

SPEAKER a 1 9 1 <NA> <NA> <NA> <NA> <NA>
"""


def test_rttm(tmp_path: Path) -> None:
    found = turns(tmp_path, "x.rttm", RTTM)
    assert found == [Turn(3.5, 4.75, "ann"), Turn(0, 5, "bob"), Turn(9, 10)]
    two = RTTM + "SPEAKER b_c 1 7 1 <NA> <NA> cid <NA> <NA>\n"
    assert turns(tmp_path, "x.rttm", two, "a") == found
    assert turns(tmp_path, "x.rttm", two, "b c") == [Turn(7, 8, "cid")]
    with pytest.raises(InputError, match="turns of 'd', got those of 2 recordings: a, b_c"):
        turns(tmp_path, "x.rttm", two, "d")


def test_csv(tmp_path: Path) -> None:
    text = 'Start,id,END,text,speaker\n1.5,7,2,"Hello, ""you""",Ann\n\n0:01:02.5,8,63\n'
    assert turns(tmp_path, "a.csv", text) == [
        Turn(1.5, 2.0, "Ann", 'Hello, "you"'),
        Turn(62.5, 63.0),
    ]
    assert turns(tmp_path, "a.csv", "start_s,end_s\n0,1\n") == [Turn(0, 1)]


def test_words_of_others_cannot_steer_a_terminal(tmp_path: Path) -> None:
    text = "start_s,end_s,speaker,text\n0,1,\x1b[31mAnn\x07,a\x1b]0;x\x07b\n"
    assert turns(tmp_path, "a.csv", text) == [Turn(0, 1, "[31mAnn", "a]0;xb")]


CUE = "WEBVTT\n\n{} --> {}\nwords\n"
LINE = "SPEAKER a 1 {} {} <NA> <NA> ann <NA> <NA>\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.vtt",
            CUE.format("00:02.000", "00:01.000"),
            r"line 3: expected an end not before .* 2 s",
        ),
        ("a.vtt", CUE.format("-00:02.000", "00:03.000"), r"line 3: expected 00:00:01.000 -->"),
        ("a.vtt", CUE.format("00:99.000", "00:03.000"), r"line 3: expected 00:00:01.000 -->"),
        ("a.srt", "1\n", "at least one turn, found none"),
        ("a.srt", "", "at least one turn, found none"),
        ("a.rttm", LINE.format("nan", "1"), r"line 1: expected a start of 0 s or later, got nan"),
        ("a.rttm", LINE.format("-1", "2"), r"line 1: .* got -1 s"),
        ("a.rttm", LINE.format("1", "inf"), r"line 1: .* got inf s"),
        ("a.rttm", LINE.format("1", "-1"), "line 1: expected an end not before the start at 1 s"),
        ("a.rttm", LINE.format("1", "x"), "line 1: expected SPEAKER recording channel"),
        ("a.rttm", ";;\nSPEAKER a 1 2\n", "line 2: expected SPEAKER recording channel"),
        ("a.csv", "start_s,stop\n1,2\n", "line 1: expected columns start_s,end_s"),
        ("a.csv", "start,end\n1,2\n3,x\n5\n", r"line 3: .*'3' and 'x'[\s\S]*line 4: .*'5' and ''"),
        ("a.csv", "start,end\n1e400,2\n", "line 2: expected a start"),
        ("a.csv", 'start,end\n"' + "1\n" * 90_000, "field larger than field limit"),
        ("a.csv", "x" * 20_000, "line 1: expected at most 10000 characters"),
        ("a.txt", "", "expected a file that ends in .srt, .vtt, .rttm, .csv"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        turns(tmp_path, name, text)


def test_all_problems_at_once_but_not_without_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="50 problems") as caught:
        turns(tmp_path, "a.csv", "start,end\n" + "2,1\n" * 10_000)
    assert len(str(caught.value)) < 5_000


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="found none"):
        read_turns(tmp_path / "none.srt")
    (tmp_path / "latin.srt").write_bytes("00:01.000 --> 00:02.000\ncafé".encode("latin-1"))
    with pytest.raises(MediaError, match="expected text in UTF-8"):
        read_turns(tmp_path / "latin.srt")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(MediaError, match="at most 64 MiB"):
        read_turns(tmp_path / "large.csv")


def test_a_hundred_thousand_lines_are_read_and_more_are_refused(tmp_path: Path) -> None:
    text = "start,end\n" + "1,2\n" * MOST_TURNS
    assert len(turns(tmp_path, "a.csv", text)) == MOST_TURNS
    with pytest.raises(InputError, match=f"line {MOST_TURNS + 2}: expected at most {MOST_TURNS}"):
        turns(tmp_path, "a.csv", text + "1,2\n")


def test_turns_in_python() -> None:
    found = check_turns([(0, 1), Turn(1, 2, "Ann", "Hello\n\nyou"), (0.5, 3, None)])
    assert found == [Turn(0.0, 1.0), Turn(1, 2, "Ann", "Hello\nyou"), Turn(0.5, 3)]
    with pytest.raises(InputError, match=r"1: expected an end[\s\S]*2: expected \(start_s, end_s"):
        check_turns([(0, 1), (1, 0.5), (1,)])


@pytest.mark.parametrize("text", ["", "1:2:3:4", "1:75", "one", "1:-2", "1:", "1:0\u0661"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        clock_s(text)
