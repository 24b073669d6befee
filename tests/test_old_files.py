"""Files of earlier revisions are opened, and give what they gave then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from old_files import ANSWERS

FIXTURES = Path(__file__).with_name("fixtures")


def close(now: Any, before: Any) -> None:
    """Equal, and numbers within 1e-5."""
    if isinstance(before, dict):
        assert now.keys() == before.keys()
        now, before = list(now.values()), list(before.values())
    if isinstance(before, list):
        assert len(now) == len(before)
        for pair in zip(now, before, strict=True):
            close(*pair)
    else:
        assert now == pytest.approx(before, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("version", sorted(path.name for path in FIXTURES.glob("v*")))
def test_old_files(
    version: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "exported":
        pytest.importorskip("onnxruntime", reason="needs vavl[onnx]")
    folder = shutil.copytree(FIXTURES / version, tmp_path / version)
    monkeypatch.chdir(folder)
    expected = json.loads(Path("answers.json").read_text("utf-8"))[name]
    close(json.loads(json.dumps(ANSWERS[name]())), expected)
