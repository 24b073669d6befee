"""Errors that say what was wrong, and the exit codes the command line maps them to.

Every error a user can cause derives from :class:`VavlError`. Its message names the argument, what
was expected, what was found and what to do about it.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

EXIT_OK = 0
"""Done."""
EXIT_INTERNAL = 1
"""An unexpected error: a defect in vavl, reported with its traceback."""
EXIT_BAD_INPUT = 2
"""Bad arguments, configuration or table, or a file that is not there: nothing was done."""
EXIT_PARTIAL = 3
"""A batch job finished, and some of its items failed: they are listed."""
EXIT_DISK_FULL = 4
"""There is no space left to write to: once there is, the same command goes on."""
EXIT_INTERRUPTED = 130
"""Stopped by Ctrl-C: the same command resumes."""


class VavlError(Exception):
    """Base of all errors that vavl raises on purpose."""


class InputError(VavlError, ValueError):
    """An argument, a configuration or a table does not fit."""


class SetupError(InputError):
    """Weights that a model needs are not to be had: no fault of a clip, but of all alike."""


class MediaError(VavlError):
    """A media or array file is missing, unreadable, empty or not what its name says."""


class EmptySpanError(MediaError):
    """Nothing of a track lies in the span that was asked for."""


class StoreError(VavlError):
    """A feature store, a shard, a checkpoint or a run directory cannot be used as asked."""


class ExportError(VavlError):
    """An exported model does not predict what the model predicts."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that there is no space left.

    Example:
        >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device")), is_disk_full(OSError())
        (True, False)
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "(os error 28)" in str(cause):  # as libraries in Rust say it, e.g. safetensors
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, in Python's words or a library's.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("no"))
        (True, False)
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or any(words in str(cause) for words in _NO_MEMORY):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


_NO_MEMORY = (
    *("failed to map segment", "allocate memory", "not enough memory", "bad_alloc"),
    *("CUDA out of memory", "Unable to allocate"),
)


def all_problems(subject: str, problems: Sequence[str], limit: int = 50) -> str:
    """One message with every problem, so that a user can mend them all at once."""
    shown = "\n".join(f"  - {problem}" for problem in problems[:limit])
    rest = f"\n  ... and {len(problems) - limit} more" if len(problems) > limit else ""
    return f"{subject}: {counted(len(problems), 'problem')}\n{shown}{rest}"


def counted(number: int, thing: str, things: str | None = None) -> str:
    """A number of things, in words that fit the number.

    Example:
        >>> counted(1, "clip"), counted(2, "clip"), counted(2, "person", "people")
        ('1 clip', '2 clips', '2 people')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name that was probably meant, if any.

    Example:
        >>> did_you_mean("epoks", ["epochs", "folds"])
        "; did you mean 'epochs'?"
        >>> did_you_mean("--lr", ["--name", "--learning-rate", "--learning-rate-schedule"])
        "; did you mean '--learning-rate'?"
        >>> did_you_mean("batch", ["patience", "training.batch_size"])
        "; did you mean 'training.batch_size'?"
    """
    bare = word.strip("-").lower()
    names = {name.strip("-").lower(): name for name in known}
    near = [name for name in names if bare == _initials(name)]
    near += difflib.get_close_matches(bare, names, n=1, cutoff=0.6)
    near += [name for name in names if len(bare) > 2 and bare in _words(name)]
    near += difflib.get_close_matches(bare, names, n=1, cutoff=0.5)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def _words(name: str) -> list[str]:
    return re.split(r"[-_.]", name)


def _initials(name: str) -> str:
    """Of the last part of a name, where it has several words."""
    words = _words(name.rpartition(".")[2])
    return "".join(word[:1] for word in words) if len(words) > 1 else ""
