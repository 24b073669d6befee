"""What all configurations share: frozen, typed, and errors that name every problem at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from vavl.errors import InputError, all_problems, did_you_mean


class Configuration(BaseModel):
    """Base of all configurations: frozen, no unknown keys, docstrings as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def class_of(cls, table: object) -> type[Configuration]:  # noqa: ARG003
        """The class that a table is read into: this one, unless the table names a kind of it."""
        return cls


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
        problems = [_describe(cls, content, dict(problem)) for problem in error.errors()]
        raise InputError(all_problems(subject, problems)) from None


def _describe(cls: type[Configuration], content: Mapping[str, Any], problem: dict[str, Any]) -> str:
    """One line about one problem that pydantic found in the content."""
    place, section = _place(cls, content, problem["loc"])
    key = ".".join(place) or "configuration"
    if problem["type"] == "extra_forbidden":
        kind = ".".join(place[:-1]) or "configuration"
        return unknown_name(kind, place[-1], list(section.model_fields))
    if problem["type"] == "missing":
        return f"{key}: expected a value, got none"
    if problem["type"] == "value_error":  # one of ours, which says what it got
        message = str(problem["ctx"]["error"])
        return f"{key}: {message}" if place else message
    return f"{key}: {problem['msg']}, got {problem['input']!r}"


def _place(
    cls: type[Configuration], content: object, location: Sequence[int | str]
) -> tuple[list[str], type[Configuration]]:
    """The keys that lead to a problem, and the class of the section that it lies in."""
    keys: list[str] = []
    section = cls
    for part in location:
        keys.append(str(part))
        content = content.get(part) if isinstance(content, Mapping) else None
        field = section.model_fields.get(str(part))
        if field is None:  # a name in a table, or a number in a list
            continue
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, Configuration):
                section = candidate.class_of(content)
                break
    return keys, section
