"""What all configurations share: frozen, typed, and errors that name every problem at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


class SectionError(ValueError):
    """Problems of a section whose class depends on what stands in it."""

    def __init__(self, cls: type[Configuration], problems: ValidationError) -> None:
        super().__init__(str(problems))
        self.cls = cls
        self.problems = problems


def validated(
    cls: type[ConfigurationT], content: Mapping[str, Any], subject: str
) -> ConfigurationT:
    """Builds a configuration, or raises one InputError that lists every problem of the content."""
    try:
        return cls.model_validate(dict(content))
    except ValidationError as error:
        raise InputError(all_problems(subject, list(_listed(cls, error)))) from None


def _listed(
    cls: type[Configuration], error: ValidationError, above: tuple[str, ...] = ()
) -> Iterator[str]:
    """One line about each problem that pydantic found."""
    for problem in error.errors():
        place = (*above, *map(str, problem["loc"]))
        key = ".".join(place)
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, SectionError):
            yield from _listed(cause.cls, cause.problems, place)
        elif problem["type"] == "extra_forbidden":
            section = _section(cls, problem["loc"][:-1])
            kind = ".".join(place[:-1]) or "configuration"
            yield unknown_name(kind, place[-1], list(section.model_fields))
        elif problem["type"] == "missing":
            yield f"{key}: expected a value, got none"
        elif problem["type"] == "value_error":  # one of ours, which says what it got
            yield f"{key}: {cause}" if key else str(cause)
        else:
            yield f"{key or 'configuration'}: {problem['msg']}, got {problem['input']!r}"


def _section(cls: type[Configuration], place: Sequence[int | str]) -> type[Configuration]:
    """The class of the section that a problem lies in."""
    for key in place:
        field = cls.model_fields.get(str(key))
        if field is not None:  # else a name in a table, or a number in a list
            for candidate in (field.annotation, *get_args(field.annotation)):
                if isinstance(candidate, type) and issubclass(candidate, Configuration):
                    cls = candidate
    return cls
