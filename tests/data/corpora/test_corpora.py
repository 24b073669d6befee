"""Each corpus the whole way, on miniatures with the real folder trees and file formats."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import miniatures
import numpy as np
import pytest
from pretend_faces import pretend_face_features

from vavl import cli
from vavl.data.manifest import Manifest
from vavl.data.store import FeatureStore
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.media.video import video_frames


def configuration(partition: str, targets: str) -> str:
    return f"""
name = "mini"
[data]
manifest = "data/manifest.parquet"
acoustic = "stores/acoustic"
visual = "stores/visual"
partition = "file"
partition_files = ["data/partitions/{partition}.json"]
{targets}
[model]
width = 16
heads = 2
kernel = 5
projection_channels = 8
head_widths = [12, 8]
[training]
epochs = 1
threads = 1
"""


def measures(run: Path) -> set[tuple[str, str]]:
    """View and measure of every score that is a number."""
    scores = json.loads((run / "evaluation" / "scores.json").read_text())["scores"]
    return {(s["view"], s["measure"]) for s in scores if s["pooled"]["estimate"] is not None}


def train_and_evaluate(text: str) -> set[tuple[str, str]]:
    Path("mini.toml").write_text(text)
    assert cli.run(["train", "mini.toml"]) == 0
    assert cli.run(["evaluate", "runs/mini", "--replicates", "20"]) == 0
    return measures(Path("runs/mini"))


def extract_media() -> Manifest:
    """Log-mel of the sound; the real decoding of the pictures, with made-up faces in them."""
    table = "data/manifest.parquet"
    assert cli.run(["extract", table, "--out", "stores", "--acoustic", "logmel"]) == 0
    manifest = Manifest.load(Path(table))
    report = extract(manifest, pretend_face_features(), "stores/visual", progress=False)
    assert report.failed == {}
    assert report.done == len(manifest)
    return manifest


def test_crema_d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    miniatures.crema_d(Path("CREMA-D"))
    assert cli.run(["prepare", "crema_d", "CREMA-D", "--out", "data", "--seeds", "0", "1"]) == 0
    extract_media()
    found = train_and_evaluate(configuration("published-1", 'category_targets = "votes"'))
    assert {("audiovisual", "f1_macro"), ("acoustic", "uar"), ("visual", "f1_micro")} <= found
    # The same stores with what was heard alone.
    voice = configuration("seed-1", "").replace('"data/', '"data/voice/').replace('"mini"', '"v"')
    Path("voice.toml").write_text(voice)
    assert cli.run(["train", "voice.toml"]) == 0


def test_msp_improv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    miniatures.msp_improv(Path("MSP-IMPROV"))
    assert cli.run(["prepare", "msp_improv", "MSP-IMPROV", "--out", "data"]) == 0
    extract_media()
    targets = 'categories = []\nattributes = ["arousal", "valence", "dominance"]'
    found = train_and_evaluate(configuration("session-4", targets))
    assert {("audiovisual", "arousal_ccc"), ("visual", "dominance_ccc")} <= found
    assert not any(measure.startswith("sentiment") for _, measure in found)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "codec"), [("clip.flv", "flv"), ("clip.avi", "mpeg4")])
def test_a_real_face_in_the_formats_of_the_corpora(
    shared: Path, tmp_path: Path, name: str, codec: str
) -> None:
    """Flash video and AVI of a face give about the features of the film they were made of."""
    film = shared / "samples" / "single_face.mp4"
    shots = itertools.islice(video_frames(film, max_side=480), 12)
    frames = np.stack([shot.pixels for shot in shots])
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    miniatures.write_film(tmp_path / name, frames, codec)
    extractor = build_extractor("visual", "compact-face")
    expected = extractor.extract_file(film)[:5].mean(axis=0)
    found = extractor.extract_file(tmp_path / name)[:5].mean(axis=0)
    assert np.corrcoef(found, expected)[0, 1] > 0.9


def test_cmu_mosei(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    miniatures.cmu_mosei(Path("mosei"))
    assert cli.run(["prepare", "cmu_mosei", "mosei", "--out", "data"]) == 0
    arrays = ["--acoustic", "arrays", "--visual", "arrays"]
    assert cli.run(["extract", "data/manifest.parquet", "--out", "stores", *arrays]) == 0
    assert FeatureStore.open(Path("stores/acoustic")).spec.dim == 74
    assert FeatureStore.open(Path("stores/visual")).spec.dim == 35
    targets = 'categories = []\nattributes = ["sentiment", "happy_presence"]'
    capsys.readouterr()
    found = train_and_evaluate(configuration("standard", targets))
    printed = capsys.readouterr().out
    assert "Sentiment (-3 to 3)" in printed
    assert "7-class accuracy" in printed
    for measure in ("mae", "correlation", "accuracy_7", "accuracy_2", "f1_2", "ccc"):
        assert ("audiovisual", f"sentiment_{measure}") in found
    assert ("acoustic", "happy_presence_ccc") in found
    assert not any(measure.startswith("happy_presence_m") for _, measure in found)
    assert "Sentiment" in Path("runs/mini/evaluation/report.html").read_text(encoding="utf-8")
