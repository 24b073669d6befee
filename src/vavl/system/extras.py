"""Modules that only some uses need; each comes with an extra of the package."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vavl.errors import InputError


def extra_module(module: str, extra: str, purpose: str) -> Any:
    """Imports a module that comes with an extra, for a purpose in words.

    Raises:
        InputError: It is not installed.

    Example:
        >>> extra_module("onnx", "onnx", "ONNX files").__name__
        'onnx'
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module}: needed for {purpose} and not installed ({error}); "
            f"pip install 'vavl[{extra}]'"
        ) from error
