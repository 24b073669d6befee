"""What is written as SRT, WebVTT and RTTM is read back by libraries that are not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from vavl.inference.captions import captions
from vavl.inference.turns import Turn, read_turns
from vavl.types import UNSURE, Modality, Segment

FOUND = (Modality.ACOUSTIC, "happy", {"happy": 0.75, "sad": 0.25}, {})
SEGMENTS = [
    Segment(0.5, 2.0004, *FOUND),
    Segment(
        1.0, 3.25, Modality.ACOUSTIC, UNSURE, {"happy": 0.5, "sad": 0.5}, {}, speaker="Ann Lee"
    ),
    Segment(3.0, 3.2, None, None, {}, {}),
    Segment(3723.5, 3725.0, *FOUND, speaker="B&B", text="Fish & <chips>\n1 --> 2"),
    Segment(3726.0, 3727.0, None, None, {}, {}, speaker="Ann Lee", text="Yes"),
    Segment(35_999.9999, 36_001.0, Modality.VISUAL, None, {}, {"valence": 0.5}),
]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_are_read_back(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"clip.{form}"
    path.write_text(captions(SEGMENTS, form), encoding="utf-8")
    written = [segment for segment in SEGMENTS if segment.modality or segment.text]
    if form == "srt":
        import pysubs2

        cues = pysubs2.load(str(path), format_="srt", keep_html_tags=True)
        times = [(cue.start / 1000, cue.end / 1000) for cue in cues]
        texts = [cue.text for cue in cues]
        assert texts[1] == "Ann Lee: [unsure 0.50]"
        assert texts[2] == r"B&B: [happy 0.75] Fish & <chips>\N1 -> 2"
    else:
        import webvtt

        cues = webvtt.read(str(path))
        times = [(cue.start_in_seconds, cue.end_in_seconds) for cue in cues]
        # webvtt-py has whole seconds only.
        times = [tuple(_seconds(t) for t in (cue.start, cue.end)) for cue in cues]
        assert [cue.voice for cue in cues][1] == "Ann Lee"
        texts = [cue.text for cue in cues]
    assert len(texts) == len(written) == 5
    assert texts[0] == "[happy 0.75]"
    assert texts[-1] == "[valence 0.50]"
    for (start_s, end_s), segment in zip(times, written, strict=True):
        assert (start_s, end_s) == pytest.approx((segment.start_s, segment.end_s), abs=6e-4)


def _seconds(stamp: str) -> float:
    hours, minutes, seconds = stamp.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "clip.vtt"
    path.write_text(captions(SEGMENTS, "vtt"), encoding="utf-8")
    found = read_turns(path)
    assert [turn.speaker for turn in found] == [None, "Ann Lee", "B&B", "Ann Lee", None]
    assert found[2] == Turn(3723.5, 3725, "B&B", "[happy 0.75] Fish & <chips>\n1 --> 2")


def test_rttm_is_read_back(tmp_path: Path) -> None:
    from pyannote.database.util import load_rttm

    path = tmp_path / "my talk.rttm"
    path.write_text(captions(SEGMENTS, "rttm", "my talk"), encoding="utf-8")
    annotation = load_rttm(str(path))["my_talk"]
    found = [
        (span.start, span.end, name) for span, _, name in annotation.itertracks(yield_label=True)
    ]
    expected = [
        (0.5, 2.0, "happy"),  # the label, where nobody says who speaks
        (1.0, 3.25, "Ann_Lee"),
        (3723.5, 3725.0, "B&B"),
        (3726.0, 3727.0, "Ann_Lee"),
    ]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[:2] == pytest.approx(theirs[:2], abs=2e-3)
        assert ours[2] == theirs[2]
    # What pyannote writes, we read.
    path.write_text(annotation.to_rttm(), encoding="utf-8")
    assert [turn.speaker for turn in read_turns(path)] == [name for *_, name in expected]
