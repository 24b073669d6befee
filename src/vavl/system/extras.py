"""Modules that only some uses need; each comes with an extra of the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from vavl.errors import SetupError


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Inside, modules of an extra are imported, for a purpose in words.

    Raises:
        SetupError: One of them is not installed.

    Example:
        >>> with extra("plot", "plots"):
        ...     import matplotlib
    """
    try:
        yield
    except ImportError as error:
        raise SetupError(
            f"{error.name}: needed for {purpose} and not installed ({error}); "
            f"pip install 'vavl[{name}]'"
        ) from error


def extra_module(module: str, name: str, purpose: str) -> Any:
    """The module of an extra, imported as :func:`extra` does.

    Example:
        >>> extra_module("onnx", "onnx", "ONNX files").__name__
        'onnx'
    """
    with extra(name, purpose):
        return import_module(module)
