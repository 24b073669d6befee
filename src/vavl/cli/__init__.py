"""The ``vavl`` command. Thin: each command parses, calls one function, and prints.

Everything heavy is imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import PositionalRequiredArgs
from tyro.extras import SubcommandApp

from vavl import __version__
from vavl.cli import data, experiments, predict, serve
from vavl.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, InputError, VavlError

if TYPE_CHECKING:
    from vavl.config.shipped import Kind

DESCRIPTION = (
    "Audio-visual emotion recognition that works with whatever modality is there. Exit codes: 0 "
    "done, 1 defect in vavl, 2 bad input, 3 done but some items failed, 130 interrupted."
)


def prepare() -> int:
    """Make the utterance table of a corpus; `vavl prepare --help` lists them."""
    # Stands here for the list of commands: see run().
    return run(["prepare"])


COMMANDS = (
    *(prepare, data.extract),
    *(experiments.init, experiments.train, experiments.keys),
    *(experiments.evaluate, experiments.study),
    *(predict.predict, predict.enrol, predict.stream, serve.serve),
    *(predict.export, predict.demo),
)
_OF_A_FILE = ("train", "study")
"""Commands with a TOML file, and options that take several words."""
_HELP: tuple[list[str], ...] = ([], ["-h"], ["--help"])


def _app(*, brief: bool) -> SubcommandApp:
    """All commands; in the list of them each has one line."""
    app = SubcommandApp()
    for command in COMMANDS:
        app.command(help=data.first_line(command) if brief else None)(command)
    return app


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
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    arguments = list(arguments)
    name = arguments[0] if arguments else ""
    try:
        if arguments == ["--version"]:
            print(f"vavl {__version__}")
            return EXIT_OK
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
            corpora = data.prepare_app(brief=arguments[1:] in _HELP)
            # What a corpus needs and has no default for: the folder that it lies in.
            config = (PositionalRequiredArgs,)
            code: int = corpora.cli(prog="vavl prepare", args=arguments[1:], config=config)
        else:
            app = _app(brief=arguments in _HELP)
            code = app.cli(prog="vavl", description=DESCRIPTION, args=arguments)
        return code
    except SystemExit as done:  # tyro has shown the help, or what is wrong with the options
        return int(done.code or EXIT_OK)
    except VavlError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, e.g. `vavl keys | head`: nothing is wrong.
        sys.stderr.close()
        return EXIT_OK
    except OSError as error:
        # A disk that is full, a folder that may not be written to or is a file.
        what = f"{error.filename}: " if error.filename else ""
        print(f"error: {what}{error.strerror or error}", file=sys.stderr)
        return EXIT_BAD_INPUT
