"""What the command line prints."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from evaluation.conftest import make_table
from rich.console import Console

from vavl.cli import display
from vavl.cli.display import (
    print_estimates,
    print_predictions,
    print_scores,
    print_timelines,
    window_printer,
)
from vavl.evaluation.scores import evaluate_tables
from vavl.evaluation.wording import number
from vavl.studies.run import Estimate
from vavl.types import UNSURE, Modality, Prediction, Segment, TimedPrediction


def test_in_a_file_every_clip_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a_folder_with_a_long_name/{'and_a_long_file_name_' * 6}{k}.mp4" for k in range(3)]
    clips = [
        Prediction(
            name=name,
            modality=Modality.ACOUSTIC,
            label="happy",
            probabilities={"happy": 0.9, "sad": 0.1},
            attributes={},
            warnings=("the sound is very quiet", "no face in most of the clip") * 3,
        )
        for name in names
    ]
    print_predictions(clips, "table")
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["clip", "emotion", "confidence", "others", "from", "notes"]
    assert [line.split()[0] for line in lines] == names


def test_of_no_predictions_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_predictions([], "table", timeline=True, segments=True)
    print_predictions([], "csv", timeline=True)
    assert capsys.readouterr().out == ""


def test_at_80_columns_no_name_is_cut_and_no_column_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = io.StringIO()
    monkeypatch.setattr(display, "output", lambda: Console(file=text, width=80))
    found = (Modality.AUDIOVISUAL, "disgust", {"disgust": 0.998, "sad": 0.002}, {})
    name = "02-01-06-01-02-01-12-recorded-in-the-second-session"
    windows = (TimedPrediction(0.0, 2.0, *found, face_share=1.0),)
    warnings = ("the sound is very quiet", "no face in most of the clip")
    said = Segment(0.5, 2.0, *found, speaker="Speaker number two of the panel", text="Hello " * 20)
    clip = Prediction(name, *found, warnings=warnings, timeline=windows, segments=(said,))
    print_predictions([clip], "table", timeline=True, segments=True)
    shown = text.getvalue()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    heads = [line.split() for line in shown.splitlines() if "emotion" in line]
    assert heads == [
        ["clip", "emotion", "confidence", "from", "notes"],
        ["start", "end", "emotion", "confidence", "from", "face"],
        ["start", "end", "speaker", "emotion", "confidence", "from", "text"],
    ]
    table = shown.splitlines()[1 : shown.splitlines().index(name)]
    assert "".join(line[: line.find("  ", 2)].strip() for line in table) == name


def test_unsure_is_shown_with_its_confidence_and_what_it_may_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = (Modality.ACOUSTIC, UNSURE, {"happy": 0.30, "sad": 0.45, "angry": 0.25}, {})
    windows = (TimedPrediction(0.0, 2.0, *found), TimedPrediction(0.5, 2.5, None, None, {}, {}))
    clip = Prediction("a", *found, timeline=windows)
    print_predictions([clip], "table")
    assert "unsure 0.45 sad 0.45, happy 0.30 acoustic" in _words(capsys)
    print_timelines([clip])
    assert "0.0 s 2.0 s unsure 0.450 acoustic" in _words(capsys)
    print_predictions([clip], "json")
    [shown] = json.loads(capsys.readouterr().out)
    assert shown["schema_version"] == 1
    assert shown["path"] is None
    for part in (shown, shown["timeline"][0]):
        assert (part["label"], part["confidence"]) == ("unsure", 0.45)
        assert part["probabilities"] == found[2]
    assert shown["timeline"][1]["confidence"] is None
    print_predictions([clip], "csv")
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["label"], row["confidence"], row["sad"]) == ("unsure", "0.450000", "0.450000")
    print_predictions([clip], "csv", timeline=True)
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["name"], first["person"], first["start_s"]) == ("a", "", "0.000")
    assert (first["label"], first["sad"], second["sad"]) == ("unsure", "0.450000", "")
    window_printer("table")(windows[0], 0.1)
    assert "2.0s unsure 0.450 acoustic" in _words(capsys)
    window_printer("json")(windows[0], 0.1)
    assert json.loads(capsys.readouterr().out)["confidence"] == 0.45


def test_segments_and_speakers_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = (Modality.ACOUSTIC, "happy", {"happy": 0.7, "sad": 0.3}, {})
    said = Segment(0.5, 2.0, *found, face_share=0.5, speaker="[bold]", text="one\ntwo")
    silent = Segment(3.0, 3.2, None, None, {}, {})
    speaker = Prediction("[bold]", *found, duration_s=1.5)
    clip = Prediction("talk.wav", *found, segments=(said, silent), speakers={"[bold]": speaker})
    print_predictions([clip], "table", segments=True)
    shown = _words(capsys)
    assert "0.50 s 2.00 s [bold] happy 0.700 acoustic one two" in shown
    assert "3.00 s 3.20 s nothing to go by" in shown
    assert "[bold] happy 0.700 acoustic 1.5 s" in shown
    print_predictions([clip], "json", segments=True)
    [record] = json.loads(capsys.readouterr().out)
    assert record["segments"][0]["speaker"] == "[bold]"
    assert record["segments"][0]["probabilities"] == found[2]
    assert record["speakers"]["[bold]"]["label"] == "happy"
    print_predictions([clip, clip], "csv", segments=True)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 4
    assert (rows[0]["start_s"], rows[0]["text"], rows[0]["happy"]) == (
        "0.500",
        "one\ntwo",
        "0.700000",
    )
    assert (rows[1]["label"], rows[1]["confidence"], rows[1]["happy"]) == ("", "", "")
    print_predictions([clip], "srt", segments=True)
    assert "00:00:00,500 --> 00:00:02,000" in capsys.readouterr().out
    print_predictions([clip, clip], "rttm", segments=True)
    assert capsys.readouterr().out.count("SPEAKER talk.wav 1 0.500 1.500 <NA> happy [bold]") == 2
    print_predictions([Prediction("empty", *found)], "table", segments=True)
    assert "empty" in _words(capsys)


def _words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_estimates_are_said_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    sure = Estimate(("vavl", "vavl", "average"), 15, 10, 30.0, measured=True)
    done = Estimate(("mult",), 1, 0, math.nan, measured=True)
    wrong = Estimate(("uavm",), 2, 2, math.nan, measured=False, problem="no sound")
    print_estimates([sure, done, wrong], workers=2)
    assert capsys.readouterr().out.splitlines() == [
        "vavl, average: 10 of 15 models to train, about 30 s each, going by the models before",
        "mult: 1 model, all trained",
        "uavm: cannot be trained: no sound",
        "Together 10 models in about 2 min, 2 at a time; without those that cannot be trained.",
    ]
    print_estimates([done], workers=2)
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing is left to train."


@pytest.mark.parametrize("width", [80, 120])
def test_the_console_shows_every_score_in_80_columns(width: int) -> None:
    table = make_table(
        attributes=("arousal", "valence"), unknown=0.1, without_sound=0.15, without_face=0.1
    )
    evaluation = evaluate_tables([table], replicates=20)
    text = io.StringIO()
    print_scores(evaluation, Console(file=text, width=width))
    shown = text.getvalue()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    for score in evaluation.scores:
        assert number(score.pooled.estimate) in shown
        assert f"{number(score.pooled.low)}-{number(score.pooled.high)}" in shown
    assert shown.count("learned fusion is") == len(evaluation.differences)


@pytest.mark.parametrize(
    "attributes", [tuple(f"emotion-{number}" for number in range(7)), ("sentiment",)]
)
def test_many_attributes_are_shown_in_several_tables(attributes: tuple[str, ...]) -> None:
    evaluation = evaluate_tables([make_table(categories=(), attributes=attributes)], replicates=5)
    text = io.StringIO()
    print_scores(evaluation, Console(file=text, width=80))
    assert "…" not in text.getvalue()
    for score in evaluation.scores:
        assert number(score.pooled.estimate) in text.getvalue()


def test_names_are_printed_as_they_are() -> None:
    table = make_table(categories=(), attributes=("[bold]x[/bold]",))
    text = io.StringIO()
    print_scores(evaluate_tables([table], replicates=5), Console(file=text, width=120))
    assert "[bold]x[/bold] CCC" in text.getvalue()
