"""What others add to vavl: entry points of installed packages, and modules that the user names.

An installed package adds by its metadata, e.g. in its ``pyproject.toml``::

    [project.entry-points."vavl.extractors"]
    "acoustic.mine" = "my_package.my_extractor:MyExtractor"

    [project.entry-points."vavl.models"]
    mine = "my_package.my_model:MyModel"

Without a package, the environment variable ``VAVL_PLUGINS`` names modules, divided by commas, which
register what they have when they are imported. Nothing that a model folder or a feature store says
is ever imported.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vavl.errors import InputError

EXTRACTORS, MODELS = "vavl.extractors", "vavl.models"
"""Groups of entry points."""

VARIABLE = "VAVL_PLUGINS"

_OBJECT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_object(name: str) -> bool:
    """Whether a name may be that of something in a module.

    Example:
        >>> is_object("my_package.my_module:MyClass"), is_object("hf:openai/whisper-base")
        (True, False)
    """
    return _OBJECT.fullmatch(name) is not None


def load_object(name: str) -> Any:
    """What ``"package.module:Name"`` names.

    Raises:
        InputError: The module cannot be imported, or has nothing of that name.

    Example:
        >>> load_object("vavl.features.logmel:LogMel").name
        'logmel'
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # a module of others may raise anything
        raise InputError(
            f"{name}: cannot be imported ({type(error).__name__}: {error}); is the folder of "
            f"{module.partition('.')[0]} in PYTHONPATH, or its package installed?"
        ) from error


def plugin_names(group: str) -> tuple[str, ...]:
    """Names of the entry points of a group; nothing is imported."""
    return tuple(_entries(group))


@cache
def load_plugin(group: str, name: str) -> Any | None:
    """What an installed package gives under a name; None without such an entry point.

    Raises:
        InputError: It cannot be imported.
    """
    entry = _entries(group).get(name)
    return None if entry is None else load_object(entry.value)


@cache
def import_named_modules() -> None:
    """Imports the modules that ``VAVL_PLUGINS`` names, once.

    Raises:
        InputError: One of them cannot be imported.
    """
    for module in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        try:
            import_module(module)
        except Exception as error:
            raise InputError(
                f"{VARIABLE}: {module} cannot be imported ({type(error).__name__}: {error}); is "
                "its folder in PYTHONPATH?"
            ) from error


@cache
def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
