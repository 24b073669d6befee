"""What is said once, such as whose weights are used: once in a process and those it starts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

_said: set[str] = set()
_is_quiet = False


def say_once(log: logging.Logger, text: str, *, instead_of: Collection[str] = ()) -> None:
    """Logs a text as a warning, unless it has been said.

    Args:
        log: Who says it.
        text: One line.
        instead_of: Texts that say no more than this one: they are not said after it.
    """
    if text not in _said and not _is_quiet:
        log.warning(text)
    _said.update({text, *instead_of})


def said() -> frozenset[str]:
    """What has been said so far, for :func:`go_on` of another process."""
    return frozenset(_said)


def go_on(texts: Iterable[str], *, quiet: bool) -> None:
    """Goes on where another process has said some texts already.

    Args:
        texts: What it has said.
        quiet: Whether nothing is said here at all, because a process beside this one does.
    """
    global _is_quiet
    _said.update(texts)
    _is_quiet = quiet
