"""Pages that are made of the package at each build: commands, keys, modules.

They lie in ``docs/generated`` and are not committed, so that each fact stands in one place.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import vavl
from vavl import cli, errors
from vavl.cli.commands import Command, Option
from vavl.cli.data import prepare_commands
from vavl.cli.options import Key, key_of, keys_as_markdown, keys_by_table
from vavl.config.base import Configuration
from vavl.studies.config import StudyConfig

if TYPE_CHECKING:  # tests read this file without it
    from sphinx.application import Sphinx

EXPORTING = ("vavl", "vavl.inference", "vavl.export", "vavl.metrics")
"""What they list in ``__all__`` is promised; the rest of the package may change."""
ROOMS = {
    "inference": "From a clip to a prediction",
    "export": "Models for other programs",
    "service": "A page and an API over HTTP",
    "studies": "Variants, folds and seeds",
    "evaluation": "From predictions to scores and reports",
    "training": "From an experiment to trained folds",
    "models": "Tensors to tensors",
    "features": "From media to sequences of features",
    "metrics": "Scores on plain arrays",
    "data": "Tables, partitions, stores, batches",
    "faces": "Where faces are, and whose",
    "media": "Files to samples and pictures",
    "config": "Every setting with its default",
    "system": "Files, processes, memory",
    "cli": "The command line",
}


def modules() -> Iterator[ModuleType]:
    """Every module of the package, as it is after its imports for type checkers."""
    for found in pkgutil.walk_packages(vavl.__path__, "vavl."):
        if found.name != "vavl.__main__":
            yield import_module(found.name)


def source_of(module: ModuleType) -> str:
    """Its text, which is empty for a folder that holds modules alone."""
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def import_for_types(module: ModuleType) -> None:
    """Runs the imports below ``if TYPE_CHECKING``, so that annotations can be looked up."""
    tree = ast.parse(source_of(module))
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            imports = [n for n in node.body if isinstance(n, ast.Import | ast.ImportFrom)]
            block = ast.Module(imports, type_ignores=[])
            exec(compile(block, str(module.__file__), "exec"), module.__dict__)


def commands_page() -> str:
    """Every command with its options."""
    parts = [
        "# Commands",
        "`vavl COMMAND --help` shows the same in the terminal. A value stands behind its option: "
        "`--model runs/mine` or `--model=runs/mine`.",
        _exit_codes(),
    ]
    for title, functions in cli.GROUPS.items():
        parts.append(f"## {title}")
        for function in functions:
            command = cli.command_of(function)
            parts += _command(command, 3)
            if command.prog == "vavl prepare":
                for corpus in prepare_commands():
                    parts += _command(corpus, 4)
    return "\n\n".join(parts) + "\n"


def _exit_codes() -> str:
    """The codes with the sentences that stand below them in `vavl.errors`."""
    source = source_of(errors)
    found = re.findall(r'^EXIT_\w+ = (\d+)\n"""(.*?)"""', source, re.MULTILINE | re.DOTALL)
    rows = [f"| {code} | {_cell(meaning)} |" for code, meaning in found]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])


def _command(command: Command, level: int) -> list[str]:
    head = "#" * level
    anchor = command.prog.replace(" ", "-")
    parts = [f"({anchor})=\n{head} `{command.prog}`", f"```text\n{command.usage}\n```"]
    parts.append(_markdown(command.description))
    for title, options in command.sections().items():
        if title.startswith("Keys of") or title.startswith("Keys at"):
            continue  # they have a page of their own
        parts.append(_options(title, options))
    if command.keys is not None:
        parts.append("Each key of the experiment is an option, too: [Keys](keys.md).")
    return [part for part in parts if part]


def _options(title: str, options: Iterable[Option]) -> str:
    heads = [f"| {title.lower() or 'argument'} | meaning |", "|---|---|"]
    rows = [f"| `{_code_cell(o.spelled)}` | {_cell(o.meaning)} |" for o in options]
    return "\n".join([*heads, *rows])


def _markdown(text: str) -> str:
    """Help as Markdown: lines that are indented are code, paths of the docs are links."""
    parts = []
    for part in text.split("\n\n"):
        indented = part.startswith(" ")
        parts.append(f"```text\n{inspect.cleandoc(part)}\n```" if indented else _cell(part, "|"))
    return "\n\n".join(parts)


def _cell(text: str, bar: str = "\\|") -> str:
    """Text of a docstring for a cell of a table."""
    text = " ".join(text.split()).replace("``", "`")
    text = re.sub(r":(?:func|class|mod|meth|data):`~?([\w.]+)`", r"`\1`", text)
    text = re.sub(r"\bdocs/([\w/-]+\.md)\b", r"[\1](../\1)", text)
    return re.sub(r"([<*])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", text).replace("|", bar)


def _code_cell(text: str) -> str:
    return text.replace("|", "\\|")


def keys_page() -> str:
    """Every key of an experiment and of a study."""
    return "\n\n".join(
        [
            "# Keys of TOML files",
            "## Experiments",
            "`vavl init` writes an experiment. Each key is also an option of [`vavl train`]"
            "(commands.md#vavl-train): `epochs = 5` in the table `[training]` is "
            "`--training.epochs 5`, or `--epochs 5` where no other table has that word. In the "
            "terminal, `vavl keys learning rate` searches them.",
            _one_lower(keys_as_markdown(keys_by_table())),
            "## Studies",
            "[Studies](../studies.md) shows such a file as a whole.",
            _one_lower(keys_as_markdown(keys_of_study())),
        ]
    )


def keys_of_study() -> dict[str, dict[str, Key]]:
    """The keys of a study by the table that they stand in, as in the file."""
    return dict(_tables_of(StudyConfig, ""))


def _tables_of(config: type[Configuration], table: str) -> Iterator[tuple[str, dict[str, Key]]]:
    inner = {name: _inside(field.annotation) for name, field in config.model_fields.items()}
    fields = config.model_fields.items()
    yield table, {f"{table}.{name}": key_of(field) for name, field in fields if not inner[name]}
    for name, found in inner.items():
        if found is None:
            continue
        kind, origin = found
        place = f"{table.strip('[]')}.{name}".strip(".")
        place += ".NAME" if origin is dict else ""
        yield from _tables_of(kind, f"[{place}]" if origin is tuple else place)


def _inside(annotation: Any, origin: Any = None) -> tuple[type[Configuration], Any] | None:
    """The configuration in an annotation, and whether it is one of a tuple or of a dict."""
    if isinstance(annotation, type) and issubclass(annotation, Configuration):
        return annotation, origin
    for part in get_args(annotation):
        if found := _inside(part, get_origin(annotation) or origin):
            return found
    return None


def _one_lower(text: str) -> str:
    return re.sub("^## ", "### ", text, flags=re.MULTILINE)


def api_page() -> str:
    """What the package promises, by the module that exports it."""
    parts = [
        "# Python",
        "These names are meant for use and stay. `import vavl` gives the first group; the others "
        "are imported from the module that is named. [All modules](modules.md) has the rest, which "
        "may change from one version to the next.",
    ]
    for name in EXPORTING:
        module = import_module(name)
        parts.append(f"## `{name}`")
        purpose = (inspect.getdoc(module) or "").partition("\n")[0]
        rows = ["| name | what it is |", "|---|---|"]
        for public in module.__all__:
            if public.startswith("__"):
                continue
            home = home_of(getattr(module, public)) or _home_by_source(module, public)
            first = _first_sentence(home)
            rows.append(f"| {{py:obj}}`{public} <{home}>` | {first} |")
        parts += [_cell(purpose, "|"), "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def home_of(value: Any) -> str | None:
    """Where a class or function is defined, e.g. ``vavl.inference.loading.load``."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    return f"{module}.{name}" if module and name and module.startswith("vavl") else None


def _home_by_source(module: ModuleType, name: str) -> str:
    """Where a constant is defined: the module that assigns it."""
    for other in modules():
        source = source_of(other)
        if hasattr(other, name) and re.search(rf"^{name}\b[^=\n]*= ", source, re.MULTILINE):
            return f"{other.__name__}.{name}"
    raise ValueError(f"{module.__name__}.{name} is defined nowhere")


def _first_sentence(home: str) -> str:
    module, _, name = home.rpartition(".")
    value = getattr(import_module(module), name)
    if inspect.isclass(value) or callable(value):
        text = inspect.getdoc(value) or ""
    else:
        source = source_of(import_module(module))
        found = re.search(rf'^{name}\b.*?\n"""(.*?)"""', source, re.MULTILINE | re.DOTALL)
        text = found[1] if found else ""
    return _cell(text.split("\n\n")[0])


def module_pages() -> Iterator[tuple[str, str]]:
    """A page for each module, one for each room, and one for all."""
    by_room: dict[str, list[ModuleType]] = {}
    for module in modules():
        by_room.setdefault([*module.__name__.split("."), ""][1], []).append(module)
    loose = [room for room in by_room if room not in ROOMS]
    listed = "\n".join(f"api/{room}" for room in [*ROOMS, *loose])
    rows = "\n".join(f"| [{room}](api/{room}.rst) | {about} |" for room, about in ROOMS.items())
    yield (
        "modules.md",
        "# All modules\n\nFor those who change vavl, or look for a part of it. "
        "[Contributing](../contributing.md) says where things happen.\n\n"
        f"| room | what happens there |\n|---|---|\n{rows}\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n:hidden:\n\n{listed}\n```\n",
    )
    for room, inside in by_room.items():
        if room in loose:
            yield f"api/{room}.rst", _module_page(inside[0])
            continue
        pages = [m for m in inside if _has_names(m)]
        summary = "\n".join(f"   {m.__name__}" for m in pages)
        toctree = "\n".join(f"   {m.__name__}" for m in pages)
        title = f"vavl.{room}: {ROOMS[room][0].lower()}{ROOMS[room][1:]}"
        yield (
            f"api/{room}.rst",
            f"{title}\n{'=' * len(title)}\n\n.. autosummary::\n\n{summary}\n\n"
            f".. toctree::\n   :hidden:\n\n{toctree}\n",
        )
        for module in pages:
            yield f"api/{module.__name__}.rst", _module_page(module)


def _has_names(module: ModuleType) -> bool:
    return bool((module.__doc__ or "").strip())


def _module_page(module: ModuleType) -> str:
    name = module.__name__
    options = "   :members:\n   :ignore-module-all:\n   :show-inheritance:\n"
    return f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n{options}"


def write_pages(app: Sphinx) -> None:
    """Writes those that have changed, so that an unchanged page is not built again."""
    for module in modules():
        import_for_types(module)
    folder = Path(app.srcdir) / "generated"
    pages = {
        "commands.md": commands_page(),
        "keys.md": keys_page(),
        "api.md": api_page(),
        **dict(module_pages()),
    }
    for name in {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - set(pages):
        (folder / name).unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx asks for it."""
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
