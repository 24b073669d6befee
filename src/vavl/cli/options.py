"""The keys of an experiment as options: ``--training.epochs 5``, or ``--epochs 5``.

This is the one place that knows the short forms. Values are written as in TOML; text needs no
quotes.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from vavl.cli.commands import VALUES, Option
from vavl.config.base import Configuration, unknown_name
from vavl.config.experiment import ExperimentConfig, all_model_configs
from vavl.config.models import GIVEN_BY_DATA
from vavl.errors import InputError


class Key(NamedTuple):
    """One key of an experiment.

    Attributes:
        meaning: What it is for, and its default.
        kind: What a value looks like, e.g. ``N`` or ``{vavl,mult}``.
        short: The last word, where it stands for this key alone; else empty.
    """

    meaning: str
    kind: str
    short: str = ""


@cache
def known_keys() -> dict[str, Key]:
    """Every dotted key that an experiment file may hold."""
    keys: dict[str, Key] = {}
    for name, field in ExperimentConfig.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))  # an optional table is a union
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, Configuration)]
        if name == "model":
            keys |= _model_keys()
        elif sections:
            keys |= {f"{name}.{key}": key_of(f) for key, f in sections[0].model_fields.items()}
        else:
            keys[name] = key_of(field)
    last_words = Counter(key.rpartition(".")[2] for key in keys)
    shorts = {"model.name": "model"} | {name: name for name in keys if "." not in name}
    for name, key in keys.items():
        word = name.rpartition(".")[2]
        keys[name] = key._replace(short=shorts.get(name, word if last_words[word] == 1 else ""))
    return keys


def _model_keys() -> dict[str, Key]:
    """The sizes of all models; the meaning of a size names its models where not all have it."""
    models = all_model_configs()
    presets = dict.fromkeys(preset for cls in models.values() for preset in cls.presets)
    keys = {
        "model.name": Key('The model. (default: "vavl")', _choice(models)),
        "model.preset": Key('Named set of sizes. (default: "small")', _choice(presets)),
    }
    for size in dict.fromkeys(name for cls in models.values() for name in cls.model_fields):
        if size == "name" or size in GIVEN_BY_DATA:
            continue
        having = [name for name, cls in models.items() if size in cls.model_fields]
        key = key_of(models[having[0]].model_fields[size])
        whose = "" if len(having) == len(models) else f" [{', '.join(having)}]"
        keys[f"model.{size}"] = key._replace(meaning=key.meaning + whose)
    return keys


def key_of(field: FieldInfo) -> Key:
    """What a field of a configuration is as a key."""
    meaning = " ".join((field.description or "").replace("``", "").split())
    if not field.is_required():
        default = field.get_default(call_default_factory=True)
        # As it would be written in TOML, which has no word for None: "none" is ours.
        shown = "none" if default is None else json.dumps(default, default=str)
        meaning += f" (default: {shown})"
    return Key(meaning, _kind(field.annotation))


_KINDS = {**VALUES, bool: "true|false", NoneType: "none"}


def _kind(annotation: Any) -> str:
    """What a value of a type looks like."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _choice(parts)
    if origin in (Union, UnionType):
        return "|".join(map(_kind, parts))
    if origin is Annotated:
        return _kind(parts[0])
    if origin is tuple:
        return "[...]"
    if origin is dict:
        return "TABLE"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _choice(annotation)
    return _KINDS[annotation]


def _choice(values: Iterable[str]) -> str:
    return f"{{{','.join(values)}}}"


def keys_by_table(words: Iterable[str] = ()) -> dict[str, dict[str, Key]]:
    """The keys by the table of the file that they stand in, which is empty for its top.

    Args:
        words: Of which each stands in the key or in its meaning; none for all keys.

    Example:
        >>> {table: list(keys) for table, keys in keys_by_table(["learning", "schedule"]).items()}
        {'training': ['training.learning_rate_schedule']}
    """
    tables: dict[str, dict[str, Key]] = {}
    for name, key in known_keys().items():
        if all(word.lower() in f"{name} {key.meaning}".lower() for word in words):
            tables.setdefault(name.rpartition(".")[0], {})[name] = key
    return tables


def option_groups() -> dict[str, list[Option]]:
    """Each key as an option, by the table that it stands in; whole, or its last word if it can."""
    groups = {}
    for table, keys in keys_by_table().items():
        title = (
            f"Keys of [{table}], whole or by their last word"
            if table
            else "Keys at the top of the file"
        )
        groups[title] = [
            Option((_flag(key.short or name),), key.kind, key.meaning, also=(_flag(name),))
            for name, key in keys.items()
        ]
    return groups


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def keys_as_markdown(tables: Mapping[str, Mapping[str, Key]]) -> str:
    """Keys as tables of Markdown, one for each table of the file."""
    parts = []
    for table, keys in tables.items():
        rows = [
            f"| `{name.rpartition('.')[2]}` | {_cell(key.kind)} | {_cell(key.meaning)} |"
            for name, key in keys.items()
        ]
        title = f"`[{table}]`" if table else "At the top of the file"
        head = ["| key | value | meaning |", "|---|---|---|"]
        parts.append("\n".join([f"## {title}", "", *head, *rows, ""]))
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def parse_values(texts: Mapping[str, str]) -> dict[str, Any]:
    """Reads the value of each key: TOML, else text; ``none`` is None.

    Args:
        texts: Keys, whole or by their last word, to values.

    Raises:
        InputError: A key that is unknown, or the last word of several.

    Example:
        >>> parse_values({"epochs": "5", "data.acoustic": "none", "name": "2024"})
        {'training.epochs': 5, 'data.acoustic': None, 'name': '2024'}
    """
    named = {full_key(name): text for name, text in texts.items()}
    return {name: _value(known_keys()[name], text) for name, text in named.items()}


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Reads ``KEY=VALUE``, as :func:`parse_values`.

    Raises:
        InputError: No ``=``, or a key that is unknown, or the last word of several.
    """
    texts = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--set: expected KEY=VALUE, got {assignment!r}")
        texts[key] = text
    return parse_values(texts)


def full_key(name: str) -> str:
    """The dotted key that a name stands for: itself, or the one key that ends with it."""
    keys = known_keys()
    whole = {key.short: key_name for key_name, key in keys.items() if key.short}
    if name in keys:
        return name
    if name not in whole:
        raise InputError(unknown_name("--set", name, keys if "." in name else whole))
    return whole[name]


def _value(key: Key, text: str) -> Any:
    if key.kind in (VALUES[str], VALUES[Path]):
        return text  # also where it looks like a number
    if text.lower() == "none" and not key.kind.startswith("{"):
        return None
    return toml_value(text)


EXTRACTOR_OPTION = re.compile(r"--((?:acoustic|visual)\.[A-Za-z][\w-]*)(?:=(.*))?", re.DOTALL)
"""A parameter of an extractor as an option: ``--visual.frame-rate-hz``, perhaps with its value."""


def as_assignments(words: Sequence[str]) -> list[str]:
    """Turns ``--visual.frame-rate-hz 30`` into ``--set visual.frame_rate_hz=30``, at the end.

    Raises:
        InputError: The value is missing.

    Example:
        >>> as_assignments(["--visual.frame-rate-hz", "30", "table.parquet"])
        ['table.parquet', '--set', 'visual.frame_rate_hz=30']
    """
    others, assigned = [], []
    waiting = iter(words)
    for word in waiting:
        if (option := EXTRACTOR_OPTION.fullmatch(word)) is None:
            others.append(word)
            continue
        value = option[2] if option[2] is not None else next(waiting, None)
        if value is None:
            raise InputError(f"{word}: expected a value after it, got none")
        assigned += ["--set", f"{option[1].replace('-', '_')}={value}"]
    return others + assigned


def extractor_parameters(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Reads ``MODALITY.PARAMETER=VALUE``, values as in TOML, else text.

    Raises:
        InputError: No ``=``, or neither of the two modalities.

    Example:
        >>> extractor_parameters(["visual.frame_rate_hz=30", "acoustic.layer=[2, 3]"])
        {'acoustic': {'layer': [2, 3]}, 'visual': {'frame_rate_hz': 30}}
    """
    found: dict[str, dict[str, Any]] = {"acoustic": {}, "visual": {}}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        modality, dot, name = key.partition(".")
        if not (equals and dot) or modality not in found:
            raise InputError(
                "--set: expected acoustic.PARAMETER=VALUE or visual.PARAMETER=VALUE, got "
                f"{assignment!r}"
            )
        found[modality][name] = toml_value(text)
    return found


def toml_value(text: str) -> Any:
    """A value as in TOML; text needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
