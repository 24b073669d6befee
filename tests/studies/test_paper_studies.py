"""The paper's studies, from miniatures of the corpora to the table, by the one command."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniatures
import pytest
from pretend_faces import pretend_face_features

from vavl import cli
from vavl.config.shipped import shipped
from vavl.features.registry import Extractor, build_extractor
from vavl.studies import probe, run

CONFIGS = shipped("studies")["ravdess"].parent
QUICK = ("model.preset=small", "training.epochs=1", "training.alpha=1.0")


def small_extractor(modality: str, name: str, **parameters: Any) -> Extractor:
    """In place of the large networks: log-mel with the same conditioning, and made-up faces."""
    if name == "wav2vec2-large-robust-12":
        assert parameters["corpus_std"] > 0
        return build_extractor(modality, "logmel", **parameters)
    if name == "efficientnet-b2-affectnet":
        assert parameters == {"frame_rate_hz": 30.0, "detect_every": 1}
        return pretend_face_features()
    return build_extractor(modality, name, **parameters)


@pytest.mark.parametrize(
    ("study", "make", "partition", "expected"),
    [
        ("paper-crema-d", miniatures.crema_d, "published-1", "0.779 ± 0.025"),
        ("paper-msp-improv", miniatures.msp_improv, "session-1", "| 0.856 |"),
        ("paper-cmu-mosei", miniatures.cmu_mosei, "standard", "7-class accuracy"),
        ("paper-cmu-mosei-emotions", miniatures.cmu_mosei, "standard", "fear_presence CCC"),
    ],
)
def test_one_command_from_the_corpus_to_the_table(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    study: str,
    make: Callable[[Path], Path],
    partition: str,
    expected: str,
) -> None:
    name = make.__name__
    if name == "cmu_mosei":
        pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    for module in (run, probe):
        monkeypatch.setattr(module, "build_extractor", small_extractor)
    # The miniatures have the speakers of one fold.
    text = (CONFIGS / f"{study}.toml").read_text("utf-8").replace('base = "..', 'base = "base')
    lines = [line for line in text.splitlines() if not line.startswith("folds =")]
    Path("study.toml").write_text(
        "\n".join([f'folds = ["{partition}"]', "replicates = 100", *lines]), "utf-8"
    )
    shutil.copy(CONFIGS / "paper-crema-d.toml", ".")  # what the others are like
    Path("base/experiments").mkdir(parents=True)
    shutil.copy(
        CONFIGS.parent / "experiments" / f"paper-{name.replace('_', '-')}.toml", "base/experiments"
    )
    command = ["study", "study.toml", "--root", str(make(tmp_path / "corpus")), "--seeds", "0"]
    files = f"data.partition_files=['data/{name}/partitions/{partition}.json']"
    command += ["--workers", "0", "--set", files, *QUICK]
    before = sorted(tmp_path.rglob("*"))
    assert cli.run([*command, "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    shown = capsys.readouterr().out
    assert re.search(r"^stores/\S+/acoustic: (\d+) of \1 clips left; about .* of one", shown)
    assert "Training: the same command says how long it takes" in shown
    assert cli.run(command) == 0
    report = (tmp_path / "studies" / study / "results.md").read_text("utf-8")
    table = report.partition("## Beside published scores")[2].partition("\n## ")[0]
    assert expected in table
    for model in ("vavl", "uavm", "mult", "auxformer, face", "acoustic-conformer"):
        assert f"\n| {model} |" in table
    assert "| VAVL beats UAVM. |" in report
    # Made once: the same command finds everything there.
    monkeypatch.setattr(run, "prepare", lambda *_, **__: pytest.fail("prepared again"))
    capsys.readouterr()
    assert cli.run([*command, "--dry-run"]) == 0
    assert "Nothing is left to train." in capsys.readouterr().out
