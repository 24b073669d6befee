"""`vavl extract`: every parameter is an option, and the documentation has the studies' recipes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vavl import cli
from vavl.data.manifest import Manifest
from vavl.features import extract, registry
from vavl.studies.config import load_study

CORPORA = Path(__file__).parents[2] / "docs" / "corpora"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, dict[str, Any]]]:
    """What `vavl extract` would build, by modality; nothing is read or extracted."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}

    def build(modality: str, name: str, *, device: str, **parameters: Any) -> None:
        found[str(modality)] = (name, parameters)

    report = SimpleNamespace(failed=(), summary=lambda: "nothing")
    monkeypatch.setattr(registry, "build_extractor", build)
    monkeypatch.setattr(extract, "extract", lambda *_, **__: report)
    monkeypatch.setattr(extract, "training_statistics", lambda *_: {})
    monkeypatch.setattr(Manifest, "load", lambda *_: ())
    return found


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (["--visual.frame-rate-hz", "30"], {"frame_rate_hz": 30}),
        (["--visual.frame_rate_hz=30"], {"frame_rate_hz": 30}),
        (["--set", "visual.frame_rate_hz=30"], {"frame_rate_hz": 30}),
        (["--visual.mirrored", "false", "--visual.detect-every=2"],
         {"mirrored": False, "detect_every": 2}),
        (["--visual.weights", "some.onnx"], {"weights": "some.onnx"}),
    ],
)  # fmt: skip
def test_parameters_are_options_wherever_they_stand(
    options: list[str], parameters: dict[str, Any], built: dict[str, Any]
) -> None:
    rest = ["table.parquet", "--out", "stores", "--visual", "compact-face"]
    for arguments in ([*options, *rest], [*rest, *options]):
        assert cli.run(["extract", *arguments]) == 0
        assert built == {"visual": ("compact-face", parameters)}


def test_mistakes_are_named(built: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["extract", "table.parquet", "--out", "stores", "--acoustic", "logmel"]
    for options, message in (
        (["--acoustic.speed"], "--acoustic.speed: expected a value after it"),
        (["--set", "speed=2"], "expected acoustic.PARAMETER=VALUE or visual.PARAMETER=VALUE"),
    ):
        assert cli.run([*command, *options]) == 2
        assert message in capsys.readouterr().err


def test_an_option_of_a_modality_that_is_not_extracted(
    built: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["extract", "table.parquet", "--out", "s", "--acoustic", "logmel"]
    assert cli.run([*command, "--visual.mirrored", "true"]) == 2
    assert "--visual.mirrored: expected --visual with it" in capsys.readouterr().err


@pytest.mark.parametrize("corpus", ["crema_d", "msp_improv"])
def test_the_commands_of_a_corpus_make_the_features_of_its_study(
    corpus: str, built: dict[str, tuple[str, dict[str, Any]]]
) -> None:
    page = (CORPORA / f"{corpus}.md").read_text("utf-8").replace("\\\n", " ")
    [command] = re.findall(r"^vavl (extract .*wav2vec2-large-robust-12.*)$", page, re.MULTILINE)
    assert cli.run(shlex.split(command)) == 0
    study = load_study(f"paper-{corpus.replace('_', '-')}")
    assert built == {s.modality: (s.extractor, dict(s.parameters)) for s in study.stores}
    partition = re.search(r"--partition (\S+)", command)
    assert partition is not None
    assert partition[1] == str(study.stores[0].statistics_of)
    assert command.split()[command.split().index("--out") + 1] == str(study.stores[0].out.parent)
