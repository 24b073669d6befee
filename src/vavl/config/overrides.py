"""Command-line overrides of a configuration file: ``--training.epochs 5`` or ``--epochs 5``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from vavl.config.base import Configuration, unknown_name
from vavl.config.experiment import (
    MODEL_CONFIGS,
    DataConfig,
    ExperimentConfig,
    TrainingConfig,
)
from vavl.config.models import GIVEN_BY_DATA
from vavl.errors import InputError

_TEXT_KEYS = ("name", "runs_dir", "training.device", "model.name")
_SHORT = {"model": "model.name"}
_SECTIONS: dict[str, type[Configuration]] = {"data": DataConfig, "training": TrainingConfig}


def known_keys() -> dict[str, str]:
    """Every dotted key that an experiment file may hold, with its description."""
    keys = {name: _description(ExperimentConfig, name) for name in ExperimentConfig.model_fields}
    for section in ("data", "model", "training"):
        del keys[section]
    for section, cls in _SECTIONS.items():
        keys |= {f"{section}.{name}": _description(cls, name) for name in cls.model_fields}
    return keys | _model_keys()


def _model_keys() -> dict[str, str]:
    """The sizes of all models; a size that not all of them have says whose it is."""
    keys = {
        "model.name": f"The model: {', '.join(MODEL_CONFIGS)} (default: vavl)",
        "model.preset": "Named set of sizes.",
    }
    sizes = {name: "" for cls in MODEL_CONFIGS.values() for name in cls.model_fields}
    for size in sizes:
        if size == "name" or size in GIVEN_BY_DATA:
            continue
        having = [name for name, cls in MODEL_CONFIGS.items() if size in cls.model_fields]
        text = _description(MODEL_CONFIGS[having[0]], size)
        whose = "" if len(having) == len(MODEL_CONFIGS) else f" [{', '.join(having)}]"
        keys[f"model.{size}"] = text + whose
    return keys


def _description(cls: type[Configuration], name: str) -> str:
    field = cls.model_fields[name]
    text = " ".join((field.description or "").replace("``", "").split())
    default = field.get_default(call_default_factory=True)
    if field.is_required() or isinstance(default, Configuration):
        return text
    return f"{text} (default: {default})"


def as_assignments(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Rewrites ``--key value`` pairs that override the configuration to ``--set key=value``.

    Args:
        arguments: The command line behind ``vavl train``.
        options: Options of the command itself, which stay as they are.

    Raises:
        InputError: A key that is unknown or stands for several, or a key without a value.

    Example:
        >>> as_assignments(["run.toml", "--epochs", "5"], ["folds"])
        ['run.toml', '--set', 'training.epochs=5']
    """
    left: list[str] = []
    assignments: list[str] = []
    remaining = iter(arguments)
    setting = False  # whether plain words belong to an explicit --set
    for argument in remaining:
        if argument == "--set" or (setting and "=" in argument and not argument.startswith("--")):
            setting = True
            assignments += [argument] if argument != "--set" else []
            continue
        setting = False
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name in options:
            left.append(argument)
            continue
        key = full_key(name.replace("-", "_"))
        if not equals:
            given = next(remaining, None)
            if given is None:
                raise InputError(f"{argument}: expected a value behind it, got none")
            value = given
        assignments.append(f"{key}={value}")
    return [*left, "--set", *assignments] if assignments else left


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Reads ``key=value``; values are TOML, else text; ``none`` is None.

    Raises:
        InputError: No ``=``, or a key that is unknown or stands for several.

    Example:
        >>> parse_assignments(["epochs=5", "data.acoustic=none", "name=first"])
        {'training.epochs': 5, 'data.acoustic': None, 'name': 'first'}
    """
    overrides = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise InputError(f"--set: expected KEY=VALUE, got {assignment!r}")
        name = full_key(key)
        overrides[name] = value if name in _TEXT_KEYS else _value(value)
    return overrides


def full_key(name: str) -> str:
    """The dotted key that a name stands for: itself, or the one key that ends with it.

    ``model`` stands for ``model.name``.
    """
    keys = known_keys()
    if name in keys or name in _SHORT:
        return _SHORT.get(name, name)
    matches = [key for key in keys if key.rpartition(".")[2] == name]
    if len(matches) > 1:
        raise InputError(f"--{name}: stands for several keys; name one of {', '.join(matches)}")
    if not matches:
        short = {key.rpartition(".")[2]: "" for key in keys}
        known = keys if "." in name else short
        raise InputError(unknown_name("--key", name, known))
    return matches[0]


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
