"""What all configurations share: frozen, typed, and errors that name every problem at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from vavl.errors import InputError, all_problems, did_you_mean


class Configuration(BaseModel):
    """Base of all configurations: frozen, no unknown keys, docstrings as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


ConfigurationT = TypeVar("ConfigurationT", bound=Configuration)


def unknown_name(kind: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Says that a name is unknown, and which one was probably meant."""
    hint = did_you_mean(str(name), known) or f"; expected one of {', '.join(sorted(known))}"
    return f"{kind}: unknown name {name!r}{hint}"


def validated(
    cls: type[ConfigurationT], content: Mapping[str, Any], subject: str
) -> ConfigurationT:
    """Builds a configuration, or raises one InputError that lists every problem of the content."""
    try:
        return cls.model_validate(dict(content))
    except ValidationError as error:
        problems = [_describe(cls, dict(problem)) for problem in error.errors()]
        raise InputError(all_problems(subject, problems)) from None


def _describe(cls: type[Configuration], problem: dict[str, Any]) -> str:
    """One line about one problem that pydantic found."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location) or "configuration"
    if problem["type"] == "extra_forbidden":
        known = list(_section(cls, location[:-1]).model_fields)
        return unknown_name(".".join(location[:-1]) or "configuration", location[-1], known)
    if problem["type"] == "missing":
        return f"{key}: expected a value, got none"
    message = problem["msg"].removeprefix("Value error, ")
    if not location:
        return message
    return f"{key}: {message}, got {problem['input']!r}"


def _section(cls: type[Configuration], path: Sequence[str]) -> type[Configuration]:
    """The configuration class of a nested section, also within a table or a list of sections."""
    for part in path:
        field = cls.model_fields.get(part)
        if field is None:  # a name in a table, or a number in a list
            continue
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, Configuration):
                cls = candidate
    return cls
