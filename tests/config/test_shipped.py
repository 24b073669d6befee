"""Experiments and studies of the package: found by name from anywhere, and part of a wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import vavl
from vavl import cli
from vavl.config.experiment import load_experiment
from vavl.config.shipped import commands_of, find_toml, shipped
from vavl.errors import InputError
from vavl.studies.config import load_study

PACKAGE = Path(vavl.__file__).parent
EXPERIMENTS = shipped("experiments")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_names_are_found_in_an_empty_folder() -> None:
    assert load_experiment("folder").name == "mine"
    assert load_experiment("crema_d") == load_experiment("paper-crema-d")
    study = load_study("ablation")
    assert study.base.samefile(EXPERIMENTS["ravdess-study"])
    assert study.name == "ablation"


@pytest.mark.parametrize("name", ["folder.toml", "folder"])
def test_a_file_of_that_name_in_the_working_directory_comes_first(name: str) -> None:
    Path("folder.toml").write_text('name = "own"\n[data]\nmanifest = "m"\n')
    assert load_experiment(name).name == "own"


def test_an_experiment_that_init_has_written_is_no_study() -> None:
    assert cli.run(["init", "ravdess"]) == 0
    assert load_study("ravdess").name == "ravdess"
    Path("ablation.toml").write_text('like = "pairing"\nname = "own"\n')
    assert load_study("ablation").name == "own"


def test_a_study_of_ones_own_starts_from_what_is_shipped() -> None:
    Path("mine.toml").write_text(
        'like = "ablation"\nname = "mine"\nbase = "ravdess"\n[set.training]\nepochs = 1\n'
    )
    study = load_study("mine")
    assert study.base.samefile(EXPERIMENTS["ravdess"])
    assert study.reference == load_study("ablation").reference
    assert study.set == {"training.epochs": 1}


def test_unknown_names_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"one of folder, .*; did you mean 'ravdess'"):
        find_toml("ravdes", "experiments", "config")
    with pytest.raises(InputError, match="study: expected a TOML file, or one of ablation"):
        load_study("abc")


@pytest.mark.parametrize("what", [*EXPERIMENTS, "crema_d", "msp_improv", "cmu_mosei"])
def test_init_writes_an_experiment_that_names_the_next_commands(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["init", what, "--out", "new/mine.toml"]) == 0
    written = Path("new/mine.toml").read_text("utf-8")
    assert load_experiment("new/mine.toml") == load_experiment(what)
    commands = commands_of(written)
    assert "vavl train new/mine.toml" in commands
    assert all(f"  {command}" in capsys.readouterr().out for command in commands[:1])
    known = {command.__name__ for commands in cli.GROUPS.values() for command in commands}
    assert {command.split()[1] for command in commands} <= known


def test_init_overwrites_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["init"]) == 0
    before = Path("folder.toml").read_bytes()
    assert cli.run(["init", "folder"]) == 2
    assert "expected a new file, got folder.toml" in capsys.readouterr().err
    assert Path("folder.toml").read_bytes() == before
    assert cli.run(["init", "ravdes"]) == 2
    assert "did you mean 'ravdess'" in capsys.readouterr().err


def test_a_name_may_stand_behind_options_of_several_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["--folds", "fold-0", "folder"], ["folder", "--name", "ravdess"]):
        assert cli.run(["train", *arguments]) == 2
        assert "data/mine/manifest.parquet" in capsys.readouterr().err


def test_the_wheel_holds_them_all() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["vavl"]
    packaged = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    assert len(EXPERIMENTS) >= 7
    assert len(shipped("studies")) >= 14
    assert {*EXPERIMENTS.values(), *shipped("studies").values()} <= packaged
