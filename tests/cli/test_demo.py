"""The demo, made small: from raw media to a report and predictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from vavl.cli import demo
from vavl.config.experiment import ExperimentConfig
from vavl.media.container import media_info


def test_from_videos_to_a_report_and_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = demo.demo_experiment

    def short(out: Path, seed: int) -> ExperimentConfig:
        config = whole(out, seed)
        training = config.training.model_copy(update={"epochs": 1})
        return config.model_copy(update={"training": training})

    monkeypatch.setattr(demo, "demo_experiment", short)
    monkeypatch.setattr(demo, "SPEAKERS", 6)
    monkeypatch.setattr(demo, "CLIPS_PER_SPEAKER", 3)
    monkeypatch.setattr(demo, "WORKERS", 0)
    report = demo.run_demo(tmp_path)
    assert report.read_text("utf-8").startswith("<!")
    assert (tmp_path / "prediction.png").is_file()
    assert media_info(tmp_path / "prediction.mp4").has_video
    streams = {
        path.name.split("-", 1)[1]: (media_info(path).has_audio, media_info(path).has_video)
        for path in (tmp_path / "clips").iterdir()
    }
    assert streams == {
        "both.mp4": (True, True),
        "sound-alone.wav": (True, False),
        "face-alone.mp4": (False, True),
    }
    printed = capsys.readouterr().out
    for word in ("audiovisual", "acoustic", "visual", str(report)):
        assert word in printed
