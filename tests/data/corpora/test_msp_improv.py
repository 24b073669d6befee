from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from miniatures import missing_media, msp_improv

from vavl.data.corpora.msp_improv import SCALES, leave_one_session_out, prepare_msp_improv
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.errors import InputError

LABELS = """\
UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:1.000000; V:2.500000; D:NaN ; N:3.500000;
ann; Neutral; Neutral; A:1.0; V:2.0; D:NaN; N:3.0;
bob; Sad; Sad; and "bored"; A:1.0; V:3.0; D:NaN; N:4.0;
cem; Bored; Bored; A:1.0; V:3.0; D:NaN; N:4.0;
ann; Neutral; Neutral; A:1.0; V:2.0; D:NaN; N:3.0;

UTD-IMPROV-S02S-M02-R-MF07.avi; X; A:5.000000; V:1.000000; D:3.000000 ; N:NaN;

UTD-IMPROV-S02S-M02-T-MF08.avi; O; A:4.000000; V:1.000000; D:3.000000 ; N:2.000000;

UTD-IMPROV-S02S-M02-T-MF09.avi; X; A:NaN; V:NaN; D:NaN ; N:NaN;
"""


@pytest.fixture
def two_sessions(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    for place in (
        "Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav",
        "Video/session1/S01A/P/UTD-IMPROV-S01A-F01-P-FM01.avi",
        "Video/session2/S02S/R/UTD-IMPROV-S02S-M02-R-MF07.avi",
        "Video/session2/S02S/R/whole-dialogue.avi",
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    (root / "Evaluation.txt").write_text(LABELS, encoding="utf-8")
    return root


def test_labels(two_sessions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = prepare_msp_improv(two_sessions, tmp_path / "out")
    assert Manifest.load(tmp_path / "out" / "manifest.parquet") == manifest
    assert missing_media(manifest) == []
    first, second = manifest
    assert first.utterance_id == "MSP-IMPROV-S01A-F01-P-FM01"
    assert (first.speaker, first.category, first.fold) == ("F01", "neutral", 1)
    # Activation 1 is the most active; what the raters did not say is unknown.
    assert first.attributes == {"arousal": 1.0, "valence": 0.375}
    assert first.votes == {"angry": 0, "happy": 0, "neutral": 1, "other": 1, "sad": 1}
    assert "count as 'other': {'bored': 1}" in caplog.text
    assert first.metadata == {
        "sex": "female",
        "session": "1",
        "scenario": "natural",
        "sentence": "01",
        "target": "angry",
        "naturalness": "3.5",
    }
    assert (second.speaker, second.category, second.votes) == ("M02", None, None)
    assert second.attributes == {"arousal": 0.0, "valence": 0.0, "dominance": 0.5}
    assert second.audio_path is None
    assert (tmp_path / "out" / "left_out.csv").read_text().split() == [
        "utterance_id,reason",
        "MSP-IMPROV-S02S-M02-T-MF08,no",
        "media",
        "MSP-IMPROV-S02S-M02-T-MF09,no",
        "labels",
    ]
    assert "too few sessions" in caplog.text


def test_activation_is_turned_round_once_and_back(tmp_path: Path) -> None:
    root = msp_improv(tmp_path / "corpus")
    labels = (root / "Evalution.txt").read_text(encoding="utf-8")
    for _ in range(2):  # preparing again does not turn it again
        manifest = prepare_msp_improv(root, tmp_path / "out")
    for clip in manifest:
        line = next(x for x in labels.splitlines() if clip.utterance_id[3:] in x)
        activation = float(line.split("A:")[1].split(";")[0])
        assert SCALES["arousal"].from_unit(clip.attributes["arousal"]) == pytest.approx(activation)
        assert clip.attributes["arousal"] == pytest.approx((6 - activation - 1) / 4)
        assert clip.votes[clip.category] == 2


def test_one_session_after_the_other(tmp_path: Path) -> None:
    manifest = prepare_msp_improv(msp_improv(tmp_path / "corpus"), tmp_path / "out")
    assert len(manifest) == 36
    assert len(manifest.speakers) == 12
    for part in leave_one_session_out(manifest):
        assert Partition.load(tmp_path / "out" / "partitions" / f"{part.name}.json") == part
        session = int(part.name.removeprefix("session-"))
        tested = {manifest.by_id[i].speaker for i in part.test}
        chosen = {manifest.by_id[i].speaker for i in part.development}
        assert tested == {f"F0{session}", f"M0{session}"}
        assert chosen == {f"{sex}0{session - 1 or 6}" for sex in "FM"}
        assert len(part.train) == 24
    assert session == 6


def test_every_problem_in_one_error(two_sessions: Path, tmp_path: Path) -> None:
    (two_sessions / "Evaluation.txt").write_text(
        "ann; Neutral; Neutral; A:1.0;\n"
        "UTD-IMPROV-S01A-F01-P-FM01.avi; Q; A:1.0;\n"
        "bob; Happy; Happy; A:1.0;\n"
        "UTD-IMPROV-S01A-F01-P-FM02.avi; N; A:6.0; V:high;\n"
        "UTD-IMPROV-S01A-F01-P-FM02.avi; N; A:2.0;\n"
        "holiday.avi; N; A:2.0;\n",
        encoding="utf-8",
    )
    clip = two_sessions / "Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav"
    shutil.copy(clip, two_sessions / "Audio")
    with pytest.raises(InputError) as caught:
        prepare_msp_improv(two_sessions, tmp_path / "out")
    text = str(caught.value)
    assert "line 1: expected the labels of a clip or of a rater, got 'ann; Neutral" in text
    assert "line 2: expected one of A, H, N, O, S, X" in text
    assert "line 3" not in text  # nothing is wrong with that rater
    assert "line 4: A: expected 1 to 5, got 6" in text
    assert "line 4: expected a letter and a number like A:3.2, got 'V:high'" in text
    assert "line 5: 'UTD-IMPROV-S01A-F01-P-FM02.avi' occurs twice" in text
    assert "line 6: 'holiday.avi' is no name of a clip" in text
    assert "are the same clip; remove one" in text
    assert not (tmp_path / "out").exists()


def test_not_the_corpus(tmp_path: Path, two_sessions: Path) -> None:
    with pytest.raises(InputError, match=r"Evalution\.txt does not exist"):
        prepare_msp_improv(tmp_path, tmp_path / "out")
    shutil.rmtree(two_sessions / "Audio")
    shutil.rmtree(two_sessions / "Video")
    with pytest.raises(InputError, match="none of the 4 labelled clips has media"):
        prepare_msp_improv(two_sessions, tmp_path / "out")


@pytest.mark.shared
def test_published_partitions(shared: Path, tmp_path: Path) -> None:
    """A label file made of the published labels gives the published partitions and labels.

    In the published tables activation is turned round already, in the label file it is not.
    """
    folder = shared / "data" / "msp_improv" / "partitions"
    published = {}
    for number in range(1, 6):
        with (folder / f"labels_consensus_{number}.csv").open(encoding="utf-8") as file:
            published[number] = {row["FileName"][:-4]: row for row in csv.DictReader(file)}
    root = tmp_path / "corpus"
    root.mkdir()
    lines = []
    for name, row in published[1].items():
        (root / f"{name}.wav").touch()
        activation = 6 - float(row["EmoAct"])
        means = f"A:{activation:f}; V:{row['EmoVal']}; D:{row['EmoDom']} ; N:3.0;"
        lines.append(f"{name.replace('MSP', 'UTD')}.avi; N; {means}\n\n")
    (root / "Evalution.txt").write_text("".join(lines), encoding="utf-8")

    manifest = prepare_msp_improv(root, tmp_path / "out")
    assert len(manifest) == 8385
    for clip in manifest:
        row = published[1][clip.utterance_id]
        wanted = {
            "arousal": (float(row["EmoAct"]) - 1) / 4,
            "valence": (float(row["EmoVal"]) - 1) / 4,
            "dominance": (float(row["EmoDom"]) - 1) / 4,
        }
        assert clip.attributes == pytest.approx(wanted, abs=1e-6)
        assert clip.metadata["sex"] == row["Gender"].lower()
        assert int(clip.metadata["session"]) == int(row["SpkrID"])
    # The right way round: what was to be read angrily or happily is the more aroused.
    mean = {
        target: np.mean(
            [
                clip.attributes["arousal"]
                for clip in manifest
                if (clip.metadata["target"], clip.metadata["scenario"]) == (target, "target-read")
            ]
        )
        for target in ("angry", "happy", "neutral", "sad")
    }
    assert min(mean["angry"], mean["happy"]) > max(mean["neutral"], mean["sad"]) + 0.15
    ours = {part.test: part for part in leave_one_session_out(manifest)}
    assert len(ours) == 6
    tested = set()
    for rows in published.values():
        splits = {
            split: {name for name, row in rows.items() if row["Split_Set"].lower() == split}
            for split in ("train", "development", "test")
        }
        [part] = [part for part in ours.values() if set(part.test) == splits["test"]]
        assert set(part.train) == splits["train"]
        assert set(part.development) == splits["development"]
        tested.add(part.name)
    assert tested == {f"session-{number}" for number in (1, 2, 3, 5, 6)}
