"""The golden record notices what changes, and nothing else; only its quick sections are run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden import main

QUICK = ["names", "model", "exit-codes"]


def test_a_record_is_met_again_and_a_change_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record.json"
    assert main(["write", str(record), *QUICK]) == 0
    assert main(["check", str(record), *QUICK]) == 0
    assert "no difference" in capsys.readouterr().out
    content = json.loads(record.read_text())
    assert str(tmp_path) not in record.read_text()
    content["model"]["eval"]["prediction"]["sha256"] = "another"
    del content["names"]["all"]
    record.write_text(json.dumps(content))
    assert main(["check", str(record), *QUICK]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "names/all: is new"
    assert said[1].startswith("model/eval/prediction: was {")
    assert len(said) == 2


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["write", "record.json", "everything"]) == 2
    assert "exit-codes" in capsys.readouterr().out
