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
    place, section = _place(cls, problem["loc"])
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
    cls: type[Configuration], location: Sequence[int | str]
) -> tuple[list[str], type[Configuration]]:
    """The keys that lead to a problem, and the class of the section that it lies in."""
    keys: list[str] = []
    sections = [cls]
    for part in location:
        if len(sections) > 1:  # of a union: pydantic says the name of the member that it took
            sections = [s for s in sections if s.model_fields["name"].default == part]
            continue
        keys.append(str(part))
        field = sections[0].model_fields.get(str(part))
        if field is not None:  # else a name in a table, or a number in a list
            candidates = (field.annotation, *get_args(field.annotation))
            sections = [
                candidate
                for candidate in candidates
                if isinstance(candidate, type) and issubclass(candidate, Configuration)
            ] or sections
    return keys, sections[0]
