"""Commands from functions: what is typed, what the function gets, and how help looks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from vavl import cli
from vavl.cli import GROUPS
from vavl.cli.commands import Command, arg
from vavl.cli.options import keys_as_markdown, keys_by_table, known_keys
from vavl.errors import InputError

SNAPSHOTS = Path(__file__).parent / "snapshots"
"""Made again by UPDATE_SNAPSHOTS=1 in the environment."""

COMMANDS = {
    "vavl": ["--help"],
    "predict": ["predict", "--help"],
    "train": ["train", "--help"],
    "evaluate": ["evaluate", "--help"],
    "study": ["study", "--help"],
    "keys": ["keys"],
}

got: dict[str, Any] = {}


def some(
    files: tuple[Path, ...],
    /,
    kind: Literal["a", "b"] = "a",
    size: Annotated[int | None, arg(metavar="SIZE", aliases=["-s"])] = None,
    layer: Annotated[tuple[int, ...], arg(repeated=True)] = (),
    names: tuple[str, ...] = (),
    quick: bool = False,
    video: bool = True,
    rate_hz: float = 1.5,
    limits: tuple[float, float] = (0.0, 1.0),
) -> int:
    """Do something.

    Args:
        files: Whatever there is.
        kind: Of what.
        names: Of others,
            which may be many.
    """
    got.clear()
    got.update(locals())
    return 0


RUN = Command("vavl some", some)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", {"files": (), "size": None, "layer": (), "names": (), "video": True}),
        ("a b", {"files": (Path("a"), Path("b"))}),
        ("a --kind b c", {"files": (Path("a"), Path("c")), "kind": "b"}),
        ("-s 3", {"size": 3}),
        ("--size=-3", {"size": -3}),
        ("--size -3", {"size": -3}),
        ("--layer 2 --layer 3", {"layer": (2, 3)}),
        ("--names x y --quick", {"names": ("x", "y"), "quick": True, "video": True}),
        ("--no-video", {"video": False}),
        ("--limits 1 5", {"limits": (1.0, 5.0)}),
        ("--rate_hz 25", {"rate_hz": 25.0}),
        ("--rate-hz=1e-3", {"rate_hz": 0.001}),
    ],
)
def test_what_is_typed_is_what_the_function_gets(typed: str, expected: dict[str, Any]) -> None:
    assert RUN(typed.split()) == 0
    assert {name: got[name] for name in expected} == expected


def test_help_says_what_is_typed_and_hides_what_means_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    shown = RUN.help()
    for line in (
        "usage: vavl some [OPTIONS] FILE ...",
        "  -s, --size SIZE",
        "  --names TEXT ...        Of others, which may be many.",
        "  --no-video",
        "  --limits NUMBER NUMBER  (default: 0.0 1.0)",
        "  --kind {a,b}            Of what. (default: a)",
    ):
        assert line in shown.splitlines()
    assert max(map(len, shown.splitlines())) <= 60
    for noise in ("None", "()", "default: )", "False"):
        assert noise not in shown


def test_an_option_of_two_values_takes_two() -> None:
    with pytest.raises(InputError, match="--limits: expected 2 values behind it"):
        RUN(["--limits", "1"])
    with pytest.raises(InputError, match="expected no further word, got '3'"):
        Command("vavl one", one)(["--limits", "1", "2", "3"])


def one(limits: tuple[float, float] = (0.0, 1.0)) -> int:
    """Take two numbers."""
    return 0


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_looks_as_it_was_looked_at(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli.run(COMMANDS[name]) == 0
    shown = capsys.readouterr().out
    snapshot = SNAPSHOTS / f"{name}-{columns}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(shown, encoding="utf-8")
    assert shown == snapshot.read_text(encoding="utf-8")
    assert max(map(len, shown.splitlines())) <= columns


def test_in_a_pipe_it_is_as_at_80_columns() -> None:
    environment = {name: v for name, v in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "vavl", *COMMANDS["predict"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == (SNAPSHOTS / "predict-80.txt").read_text(encoding="utf-8")


def test_every_command_can_be_explained_and_every_grouped_option_is_one() -> None:
    for function in (function for functions in GROUPS.values() for function in functions):
        command = Command("vavl x", function)
        if function is not cli.experiments.train:
            assert command.purpose
            assert command.purpose in " ".join(command.help().split())


def test_keys_are_searched_by_words_and_listed_as_markdown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["keys", "learning", "Rate"]) == 0
    shown = capsys.readouterr().out
    assert "[training]:" in shown
    assert "  learning_rate NUMBER " in shown
    assert "kfold" not in shown
    assert cli.run(["keys", "zebra"]) == 2
    assert "got 'zebra'" in capsys.readouterr().err
    assert cli.run(["keys", "--format", "markdown"]) == 0
    tables = capsys.readouterr().out
    assert tables == keys_as_markdown(keys_by_table())
    assert tables.count("\n| `") == len(known_keys())
