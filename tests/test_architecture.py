"""The house: imports run downward, no circle of files, few loose modules at the root."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import vavl

ROOT = Path(vavl.__file__).parent
FLOORS = (
    {"errors"},
    {"types", "distributed"},
    {"metrics", "system"},
    {"config"},
    {"media"},
    {"faces", "data"},
    {"features", "models"},
    {"training"},
    {"inference", "evaluation"},
    {"studies", "export", "service"},
    {"cli"},
    {"__init__", "__main__"},
)
"""Rooms from the ground up. A file imports from its own room and from the floors below it."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imports(path: Path) -> set[str]:
    """The package's own files that a file imports, those imported inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in FILES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in FILES}
    return found - {module_name(path)}


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


GRAPH = {module: imports(path) for module, path in FILES.items()}


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in FILES} == FLOOR_OF.keys()


def test_imports_run_downward() -> None:
    others = [
        f"{module} -> {other}"
        for module, imported in sorted(GRAPH.items())
        for other in sorted(imported - {"vavl"})  # which hands on names and the version
        if room(other) != room(module) and FLOOR_OF[room(other)] >= FLOOR_OF[room(module)]
    ]
    assert others == []


def test_no_circle_of_files() -> None:
    graph = {module: others - {"vavl"} for module, others in GRAPH.items() if module != "vavl"}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(f"files import each other: {' -> '.join(error.args[1])}") from None
    assert len(order) == len(graph)


INSTALLED = sys.stdlib_module_names | {
    *("vavl", "torch", "numpy", "safetensors", "av", "silero_vad", "PIL", "fsspec", "filelock"),
    *("pydantic", "rich"),
}
"""What is there after `pip install vavl`."""
GUARDED = {
    "vavl.inference.tables": {"pyarrow"},  # written where it is there
    "vavl.training.ray": {"ray"},  # after ray_cluster() has found it
}


def of_extras(tree: ast.AST) -> Iterator[str]:
    """What a file imports that may be missing, where nothing says which extra has it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.With) and ast.unparse(node.items[0]).startswith("extra("):
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from {name.partition(".")[0] for name in names} - INSTALLED
        yield from of_extras(node)


def test_a_missing_extra_is_named() -> None:
    found = {
        module: set(of_extras(ast.parse(path.read_text(encoding="utf-8"))))
        for module, path in FILES.items()
        if room(module) != "service"  # which `vavl serve` imports when all is there
    }
    assert {module: names for module, names in found.items() if names} == GUARDED


def test_few_modules_are_loose_at_the_root() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 6
