"""A command: a function whose signature and docstring are its options and its help.

Values are read by argparse. What people see is made here: which options there are and how they are
spelled, the help in groups that fit the terminal, and what was expected instead of a wrong word.
"""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, Union, get_args, get_origin

from vavl.errors import InputError, did_you_mean

_WIDEST = 100
"""Longer lines are hard to read, however wide the terminal is."""
_COLUMN = 26
"""Where the meanings begin; a longer option has a line of its own."""
_SEVERAL = (tuple, list, Sequence)
VALUES: dict[Any, str] = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
"""What a value of a type is called in help."""
_EXPECTED = {int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class arg:
    """How a parameter is typed, in its annotation: ``Annotated[str, arg(metavar="TIME")]``.

    Attributes:
        metavar: What a value looks like.
        aliases: Further flags, e.g. ``["-m"]``.
        repeated: Whether the option is given once for each value.
    """

    metavar: str = ""
    aliases: Sequence[str] = ()
    repeated: bool = False


class Option(NamedTuple):
    """What can be given to a command.

    Attributes:
        flags: As they are typed, the usual one last; none where the value alone is given.
        value: What a value looks like; empty for an option without one.
        meaning: What it is for, and its default.
        also: Flags that are understood, and not listed.
    """

    flags: tuple[str, ...]
    value: str
    meaning: str
    also: tuple[str, ...] = ()

    @property
    def spelled(self) -> str:
        """The flags and the value behind them."""
        return " ".join(filter(None, (", ".join(self.flags), self.value)))


class _Parameter:
    """A parameter of a command, and how it is typed."""

    def __init__(self, parameter: Parameter, meaning: str, takes_folder: bool) -> None:
        annotation = parameter.annotation
        extra: list[Any] = []
        if get_origin(annotation) is Annotated:
            annotation, *extra = get_args(annotation)
        if get_origin(annotation) in (Union, UnionType):
            [annotation] = [part for part in get_args(annotation) if part is not NoneType]
        how = next((e for e in extra if isinstance(e, arg)), arg())
        self.name, self.default = parameter.name, parameter.default
        self.is_needed = self.default is Parameter.empty
        self.by_name = parameter.kind is not Parameter.POSITIONAL_ONLY
        self.is_flag = annotation is bool
        self.is_repeated = how.repeated
        self.is_several = get_origin(annotation) in _SEVERAL
        parts = get_args(annotation) if self.is_several else ()
        #: How many words an option takes; "*" for any number.
        self.words: int | str = len(parts) if len(parts) > 1 and Ellipsis not in parts else "*"
        if parts:
            annotation = parts[0]
        #: Of an option that is given several times, each time with several words.
        self.is_nested = get_origin(annotation) is tuple
        if self.is_nested:
            annotation = get_args(annotation)[0]
        if takes_folder and self.is_needed:
            self.by_name = False
        self.type = annotation
        self.option = self._option(how, meaning)

    def _option(self, how: arg, meaning: str) -> Option:
        typed = self.name.replace("_", "-")
        if self.is_flag:
            return Option((f"--no-{typed}" if self.default else f"--{typed}",), "", meaning)
        value = how.metavar or _value(self.type)
        if not self.by_name:
            value = typed.upper().removesuffix("S") if self.is_several else typed.upper()
        if (self.is_several and not self.is_repeated) or self.is_nested:
            value = (
                " ".join([value] * self.words) if isinstance(self.words, int) else f"{value} ..."
            )
        if self.is_repeated and "be repeated" not in meaning:
            meaning += " May be repeated."
        if self.is_needed and self.by_name:
            meaning += " Required."
        elif self.default not in (None, (), "", Parameter.empty) and "efault" not in meaning:
            default = self.default if isinstance(self.default, tuple) else (self.default,)
            meaning += f" (default: {' '.join(map(str, default))})"
        flags = (*how.aliases, f"--{typed}") if self.by_name else ()
        return Option(flags, value, meaning.strip())

    def add_to(self, parser: ArgumentParser) -> None:
        """Has a parser read it."""
        flags = self.option.flags or (self.name,)
        names: dict[str, Any] = {"dest": self.name} if self.by_name else {}
        if self.is_flag:
            action = "store_false" if self.default else "store_true"
            parser.add_argument(*flags, **names, action=action)
            return
        names |= {"type": self._read, "default": None}
        if self.is_repeated:
            names["action"] = "append"
        if (self.is_several and not self.is_repeated) or self.is_nested:
            names["nargs"] = self.words
        elif not self.by_name:
            names["nargs"] = "?"
        parser.add_argument(*flags, **names)

    def _read(self, text: str) -> Any:
        """The value of a word."""
        if get_origin(self.type) is Literal:
            known = get_args(self.type)
            if text in known:
                return text
            raise ArgumentTypeError(
                f"expected one of {', '.join(known)}, got {text!r}{did_you_mean(text, known)}"
            )
        try:
            return self.type(text)
        except ValueError:
            wrong = f"expected {_EXPECTED.get(self.type, self.option.value)}, got {text!r}"
            raise ArgumentTypeError(wrong) from None

    def value(self, found: Any) -> Any:
        """What the function is given, of what the parser found."""
        if found is None or (not self.by_name and self.is_several and not found):
            return () if self.default is Parameter.empty and self.is_several else self.default
        if self.is_nested:
            return tuple(map(tuple, found))
        return tuple(found) if self.is_several else found


class _Parser(ArgumentParser):
    """Says what is wrong by an InputError."""

    def error(self, message: str) -> NoReturn:
        flags, _, wrong = message.removeprefix("argument ").partition(": ")
        message = f"{flags.replace('/', ' or ')}: {wrong}"
        for few in ("expected one argument", "expected at least one argument"):
            message = message.replace(few, "expected a value behind it, got nothing")
        message = re.sub(r"expected (\d+) arguments", r"expected \1 values behind it", message)
        raise InputError(f"{message}\n`{self.prog} --help` explains all options.")


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        prog: How it is called, e.g. ``vavl predict``.
        function: What it does. Parameters that are positional only are typed without a name.
        keys: Gives titles with further options, which the function takes as one parameter,
            ``keys``: the names of those that are given, the first of their ``also``, to their text.
        takes_folder: Whether parameters without a default are typed without a name as well.
    """

    prog: str
    function: Callable[..., int]
    keys: Callable[[], Mapping[str, Sequence[Option]]] | None = None
    takes_folder: bool = False

    def __call__(self, arguments: Sequence[str]) -> int:
        """Runs it; returns its exit code.

        Raises:
            InputError: An option that there is not, or a value that cannot be read.
        """
        if {"-h", "--help"} & set(arguments):
            print(self.help())
            return 0
        positional, named = self._read(arguments)
        return self.function(*positional, **named)

    def _read(self, arguments: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        parser = _Parser(self.prog, add_help=False, allow_abbrev=False)
        parameters = self._parameters()
        for parameter in parameters:
            parameter.add_to(parser)
        keys = [option for group in self._keys.values() for option in group]
        for option in keys:
            flags = dict.fromkeys((*option.flags, *option.also))
            parser.add_argument(*flags, dest=f"{_KEY}{option.also[0][2:]}", default=SUPPRESS)
        words = [_with_dashes(word) for word in arguments]
        found, unknown = parser.parse_known_intermixed_args(words)
        self._refuse(unknown, [*(p.option for p in parameters), *keys])
        values = vars(found)
        missing = [
            p.option.spelled or p.option.value
            for p in parameters
            if p.is_needed and not p.is_several and values[p.name] is None
        ]
        if missing:
            parser.error(f"{self.prog}: expected also {' and '.join(missing)}")
        given = {p.name: p.value(values[p.name]) for p in parameters}
        free = inspect.signature(self.function).parameters.values()
        positional = [given.pop(p.name) for p in free if p.kind is Parameter.POSITIONAL_ONLY]
        if self.keys:
            given["keys"] = {
                name.removeprefix(_KEY).replace("-", "_"): text
                for name, text in values.items()
                if name.startswith(_KEY)
            }
        return positional, given

    def _refuse(self, unknown: Sequence[str], options: Iterable[Option]) -> None:
        """Raises InputError for words that nobody takes."""
        if not unknown:
            return
        known = [flag for option in options for flag in (*option.flags, *option.also)]
        word = next((word for word in unknown if word.startswith("-")), unknown[0])
        wrong = f"{self.prog}: expected no further word, got {word!r}"
        if word.startswith("-"):
            flag = word.partition("=")[0]
            wrong = f"{flag}: `{self.prog}` has no such option{did_you_mean(flag, known)}"
        raise InputError(f"{wrong}\n`{self.prog} --help` explains all options.")

    @property
    def purpose(self) -> str:
        """The first sentences of the docstring, in one line."""
        return " ".join(self.description.split("\n\n")[0].split())

    @property
    def description(self) -> str:
        """The docstring up to its sections, as Markdown."""
        return _description(self.function)

    @property
    def usage(self) -> str:
        """How it is called, without what is typed by name."""
        given = [p.option.value for p in self._parameters() if not p.by_name]
        return " ".join([self.prog, "[OPTIONS]", *given])

    def sections(self) -> dict[str, list[Option]]:
        """Everything that can be given, by the titles of help; what has no name has none."""
        parameters = self._parameters()
        options = {p.name: p.option for p in parameters if p.by_name}
        found = {"": [p.option for p in parameters if not p.by_name]}
        for title, names in getattr(self.function, "groups", {}).items():
            found[title] = [options.pop(name) for name in names]
        found["Options"] = [*options.values(), Option(("-h", "--help"), "", "Show this help.")]
        found |= {title: list(further) for title, further in self._keys.items()}
        return {title: listed for title, listed in found.items() if listed}

    def help(self) -> str:
        """The whole help, as wide as the terminal, in a pipe 80 columns."""
        parts = [f"usage: {self.usage}", paragraphs(self.description)]
        parts += [section(title, listed) for title, listed in self.sections().items()]
        return "\n\n".join(parts)

    @cached_property
    def _keys(self) -> Mapping[str, Sequence[Option]]:
        return {} if self.keys is None else self.keys()

    def _parameters(self) -> list[_Parameter]:
        meanings = _meanings(self.function)
        listed = inspect.signature(self.function, eval_str=True).parameters
        return [
            _Parameter(parameter, meanings.get(name, ""), self.takes_folder)
            for name, parameter in listed.items()
            if not (self.keys and name == "keys")
        ]


_KEY = "key "


def _with_dashes(word: str) -> str:
    """A flag as it is listed, also where it is typed with underscores."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else word


def groups(**titles: Sequence[str]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Puts options of a command under titles in its help; ``_`` stands for a space."""

    def add(function: Callable[..., int]) -> Callable[..., int]:
        named = {title.replace("_", " "): names for title, names in titles.items()}
        function.groups = named  # type: ignore[attr-defined]
        return function

    return add


def listing(usage: str, about: str, commands: Mapping[str, Sequence[Command]], end: str) -> str:
    """The help of what has commands: each with its purpose, in groups."""
    parts = [f"usage: {usage}", paragraphs(about)]
    for title, listed in commands.items():
        rows = [Option((c.prog.rpartition(" ")[2],), "", c.purpose) for c in listed]
        parts.append(section(title, rows))
    return "\n\n".join([*parts, paragraphs(end)])


def section(title: str, options: Iterable[Option]) -> str:
    """Options below a title, each with its meaning beside it."""
    lines = [f"{title}:"] if title else []
    for option in options:
        left = f"  {option.spelled}"
        meaning = _wrapped(option.meaning, " " * _COLUMN)
        if len(left) + 2 > _COLUMN:
            # Between the choices of a long list a line may end.
            lines += _wrapped(option.spelled.replace(",", ", "), "      ", first="  ")
        else:
            meaning[:1] = [left.ljust(_COLUMN) + "".join(meaning[:1]).lstrip()]
        lines += meaning
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def paragraphs(text: str) -> str:
    r"""Text as wide as the terminal; what is indented stays as it is, and lists are lists.

    Example:
        >>> print(paragraphs("- one\n  and more\n- two"))
        - one and more
        - two
    """
    found = []
    for part in text.split("\n\n"):
        if part.startswith(" "):
            found.append(part)
        elif part.startswith("- "):
            items = part.removeprefix("- ").split("\n- ")
            lines = [
                line
                for item in items
                for line in _wrapped(" ".join(item.split()), "  ", first="- ")
            ]
            found.append("\n".join(lines))
        else:
            found.append("\n".join(_wrapped(part, "")))
    return "\n\n".join(found)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


_SECTION = re.compile(r"^(Args|Returns|Raises|Example|Attributes|Source):", re.MULTILINE)
_ARGUMENT = re.compile(r"^    (\w+): ", re.MULTILINE)


def _description(function: Callable[..., Any]) -> str:
    """A docstring up to its sections."""
    text = cleandoc(function.__doc__ or "").replace("``", "`")
    found = _SECTION.search(text)
    return (text[: found.start()] if found else text).strip("\n")


def _meanings(function: Callable[..., Any]) -> dict[str, str]:
    """Parameter to what the docstring says of it."""
    text = cleandoc(function.__doc__ or "").replace("``", "`")
    _, _, arguments = text.partition("\nArgs:\n")
    found = _SECTION.search(arguments)
    parts = _ARGUMENT.split(arguments[: found.start()] if found else arguments)[1:]
    return {
        name: " ".join(said.split()) for name, said in zip(parts[::2], parts[1::2], strict=True)
    }


def _value(annotation: Any) -> str:
    """What a value of a type looks like."""
    if get_origin(annotation) is Literal:
        return f"{{{','.join(map(str, get_args(annotation)))}}}"
    return VALUES[annotation]
