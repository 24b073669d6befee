"""The keys of an experiment on the command line: whole and short, before and after the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vavl import cli
from vavl.cli.options import known_keys, parse_assignments
from vavl.config.experiment import MODEL_CONFIGS, ExperimentConfig
from vavl.config.models import GIVEN_BY_DATA
from vavl.errors import InputError
from vavl.evaluation import card
from vavl.training import experiment as training

GOOD = 'name = "x"\n[data]\nmanifest = "m.parquet"\nacoustic = "a"\n[training]\nepochs = 7\n'


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `vavl train` would train, in order; there is a file c.toml."""
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(GOOD, encoding="utf-8")
    configs: list[Any] = []

    def train(config: ExperimentConfig, **options: Any) -> None:
        configs.append((config, options["only"]))

    monkeypatch.setattr(training, "train_experiment", train)
    monkeypatch.setattr(card, "write_cards", lambda _: None)
    return configs


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ([], "training.epochs", 7),
        (["--training.epochs", "5"], "training.epochs", 5),
        (["--epochs", "5"], "training.epochs", 5),
        (["--epochs=5"], "training.epochs", 5),
        (["--set", "epochs=5"], "training.epochs", 5),
        (["--epochs", "4", "--epochs", "5"], "training.epochs", 5),
        (["--learning_rate", "1e-3"], "training.learning_rate", 1e-3),
        (["--training.learning-rate", "1e-3"], "training.learning_rate", 1e-3),
        (["--training.patience=none"], "training.patience", None),
        (["--compile", "true"], "training.compile", True),
        (["--training.betas", "[0.9, 0.99]"], "training.betas", (0.9, 0.99)),
        (["--data.acoustic", "none"], "data.acoustic", None),
        (["--data.attributes", "['arousal']"], "data.attributes", ("arousal",)),
        (["--name", "2024"], "name", "2024"),
        (["--set", "name=2024"], "name", "2024"),
        (["--selection", "last"], "training.selection", "last"),
        (["--selection", "'last'"], "training.selection", "last"),
        (["--fusion-base", "none", "--model", "vavl+"], "model.fusion_base", "none"),
        (["--model", "mult"], "model.name", "mult"),
        (["--set", "model=mult"], "model.name", "mult"),
        (["--width", "64"], "model.width", 64),
        (["--model.kernel", "5", "--preset", "paper"], "model.kernel", 5),
        (["--set", "a-b=1", "--epochs", "3"], "a-b", InputError),
    ],
)
def test_every_key_is_an_option(
    options: list[str],
    key: str,
    value: Any,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["c.toml", *options], [*options, "c.toml"]):
        code = cli.run(["train", *arguments])
        if value is InputError:
            assert (code, trained) == (2, [])
            assert f"unknown name {key!r}" in capsys.readouterr().err
            continue
        assert code == 0
        found, only = trained.pop()
        for name in key.split("."):
            found = getattr(found, name)
        assert (found, only) == (value, ())


def test_options_go_together_in_any_order(trained: list[Any]) -> None:
    words = ["--set", "training.patience=3", "seed=1", "--epochs", "5", "--set", "width=64"]
    for arguments in (["c.toml", *words], [*words, "c.toml"]):
        assert cli.run(["train", *arguments, "--folds", "fold-0", "fold-1"]) == 0
        config, only = trained.pop()
        assert only == ("fold-0", "fold-1")
        settings = config.training
        assert (settings.patience, settings.seed, settings.epochs) == (3, 1, 5)
        assert config.model.as_table() == {"width": 64}


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--epoch", "5"], ["--epoch: `vavl train` has no such option", "'--epochs'"]),
        (["--training.epoch", "5"], ["--training.epoch: ", "mean '--training.epochs'"]),
        (["--lr", "5"], ["did you mean '--learning-rate'?", "`vavl train --help`"]),
        (["--epochs"], ["--epochs or --training.epochs: expected a value behind it, got nothing"]),
        (["--set", "epoch=5"], ["unknown name 'epoch'; did you mean 'epochs'?"]),
        (["--set", "training.epoch=5"], ["did you mean 'training.epochs'?"]),
        (["--set", "epochs"], ["--set: expected KEY=VALUE, got 'epochs'"]),
        (["--epochs", "0", "--width", "wide"], ["2 problems", "training.epochs", "model.width"]),
    ],
)
def test_bad_options_are_named(
    arguments: list[str],
    messages: list[str],
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["train", "c.toml", *arguments]) == 2
    shown = capsys.readouterr().err
    for message in messages:
        assert message in shown
    assert not trained


def test_a_short_form_stands_for_one_key() -> None:
    keys = known_keys()
    shorts = [key.short for key in keys.values() if key.short]
    assert len(set(shorts)) == len(shorts)
    assert keys["name"].short == "name"
    assert parse_assignments(["epochs=5", "data.categories=['a', 'b']"]) == {
        "training.epochs": 5,
        "data.categories": ["a", "b"],
    }


def test_every_key_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    keys = known_keys()
    assert {"name", "data.manifest", "model.width", "training.alpha"} <= set(keys)
    assert all(key.meaning for key in keys.values())
    tables = {"data", "model", "training", "acoustic_encoder"}
    assert set(ExperimentConfig.model_fields) - tables <= set(keys)
    assert all(any(key.startswith(f"{table}.") for key in keys) for table in tables)
    sizes = {name for cls in MODEL_CONFIGS.values() for name in cls.model_fields}
    assert {f"model.{size}" for size in sizes - set(GIVEN_BY_DATA)} <= set(keys)
    assert cli.run(["keys"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {key.rpartition('.')[2]} " in listed for key in keys)
    assert "[auxformer]" in listed
    assert cli.run(["train", "--help"]) == 0
    helped = capsys.readouterr().out.replace("-", "_")
    assert all(f"__{key.short or name} " in helped for name, key in keys.items())
