"""The ``vavl`` command. Thin: each command parses, calls one function, and prints.

Everything heavy is imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from vavl import __version__
from vavl.cli import data, experiments, predict, serve
from vavl.cli.commands import Command, Option, listing
from vavl.errors import (
    EXIT_BAD_INPUT,
    EXIT_DISK_FULL,
    EXIT_INTERRUPTED,
    EXIT_OK,
    InputError,
    VavlError,
    did_you_mean,
    is_disk_full,
    is_out_of_memory,
)

if TYPE_CHECKING:
    from vavl.config.shipped import Kind

ABOUT = "Audio-visual emotion recognition that works with whatever modality is there."
_END = (
    "`vavl COMMAND --help` explains a command, `vavl --version` says the version. Exit codes: 0 "
    "done, 1 defect in vavl, 2 bad input, 3 done but some items failed, 4 disk full, 130 "
    "interrupted."
)
_LEAST_GB = 1.2
"""Of address space, so that a clip can be predicted."""
_OF_A_FILE = ("train", "study")
"""Commands with a TOML file, and options that take several words."""


def prepare() -> int:
    """Make the utterance table of a corpus; `vavl prepare` lists them."""
    # Stands here for the list of commands: see run().
    return run(["prepare"])


GROUPS: dict[str, tuple[Callable[..., int], ...]] = {
    "Predict": (
        *(predict.predict, predict.stream, serve.serve, predict.enrol),
        *(predict.export, predict.model_card),
    ),
    "Train and compare": (
        *(prepare, data.extract, experiments.init, experiments.train, experiments.evaluate),
        *(experiments.study, experiments.keys),
    ),
    "Try": (predict.demo,),
}


def _keys() -> Mapping[str, Sequence[Option]]:
    from vavl.cli.options import option_groups  # what is typed for configurations takes its time

    return option_groups()


def command_of(function: Callable[..., int]) -> Command:
    """The command that a function is, e.g. ``vavl model-card`` of ``model_card``."""
    name = function.__name__.replace("_", "-")
    return Command(f"vavl {name}", function, _keys if name == "train" else None)


def _run_one_of(
    commands: Mapping[str, Sequence[Command]], arguments: Sequence[str], usage: str, about: str
) -> int:
    """Runs the command that the first word names, or lists them all."""
    end = _END if usage.startswith("vavl COMMAND") else ""
    named = {c.prog.rpartition(" ")[2]: c for listed in commands.values() for c in listed}
    name = arguments[0].replace("_", "-") if arguments else ""
    if name in ("", "-h", "--help"):
        print(listing(usage, about, commands, end), file=sys.stdout if name else sys.stderr)
        return EXIT_OK if name else EXIT_BAD_INPUT
    if name not in named:
        what = usage.split()[-2]
        raise InputError(
            f"{what}: expected one of {', '.join(named)}, got {arguments[0]!r}"
            f"{did_you_mean(name, named)}"
        )
    return named[name](arguments[1:])


def _file_first(arguments: Sequence[str]) -> list[str]:
    """Puts the file before the options, of which one with several words would swallow it.

    What stands last after options may be the name of a file without its ending, too.
    """
    for place, word in enumerate(arguments):
        if word.endswith(".toml") and "=" not in word:
            return [word, *arguments[:place], *arguments[place + 1 :]]
    *options, last = arguments or [""]
    if options and options[0].startswith("-") and _is_name(last):
        return [last, *options]
    return list(arguments)


def _is_name(word: str) -> bool:
    """Whether a word names an experiment or a study, of the user or of the package."""
    from vavl.config.shipped import find_shipped

    kinds: tuple[Kind, ...] = ("experiments", "studies")
    return Path(f"{word}.toml").is_file() or any(find_shipped(word, kind) for kind in kinds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with one of the codes of :mod:`vavl.errors`."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files may be no text, and a terminal may know ASCII alone: neither is an error.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:] if arguments is None else arguments)
    if code == EXIT_DISK_FULL:
        with suppress(OSError):
            sys.stdout.close()  # or Python would try to write once more at its end, and complain
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    arguments = list(arguments)
    name = arguments[0] if arguments else ""
    try:
        if arguments == ["--version"]:
            print(f"vavl {__version__}")
            return EXIT_OK
        if "" in arguments:
            raise InputError("expected no empty argument, got one; is a variable empty?")
        if name != "train" and "TORCHELASTIC_RUN_ID" in os.environ:
            raise InputError(
                f"torchrun: expected `vavl train`, got {name or 'nothing'}: its processes would "
                "all do the same, and write to the same files; run it once"
            )
        if name in _OF_A_FILE:
            arguments = [name, *_file_first(arguments[1:])]
        if name == "extract":
            from vavl.cli.options import as_assignments

            arguments = [name, *as_assignments(arguments[1:])]
        if name == "prepare":
            corpora = {"Corpora": data.prepare_commands()}
            usage, about = "vavl prepare CORPUS [OPTIONS]", prepare.__doc__ or ""
            code = _run_one_of(corpora, arguments[1:], usage, about)
        else:
            commands = {title: [*map(command_of, functions)] for title, functions in GROUPS.items()}
            code = _run_one_of(commands, arguments, "vavl COMMAND [OPTIONS]", ABOUT)
        sys.stdout.flush()  # what cannot be written any more shall be known here
        return code
    except VavlError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_DISK_FULL if is_disk_full(error) else EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, e.g. `vavl keys | head`: nothing is wrong.
        sys.stderr.close()
        return EXIT_OK
    except OSError as error:
        # A folder that may not be written to or is a file; a disk that is full.
        what = f"{error.filename}: " if error.filename else ""
        print(f"error: {what}{error.strerror or error}", file=sys.stderr)
        if not is_disk_full(error):
            return EXIT_BAD_INPUT
        print("Free some space, and run the same command again.", file=sys.stderr)
        return EXIT_DISK_FULL
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        print(
            f"error: not enough memory ({reason}): predicting takes about {_LEAST_GB:g} GB for "
            "each process, training more; free some, use fewer --workers, or raise the limit",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
