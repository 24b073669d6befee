"""The house: imports run downward, no circle of files, few loose modules at the root."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import vavl

ROOT = Path(vavl.__file__).parent
FLOORS = (
    {"errors"},
    {"types", "distributed"},
    {"metrics", "config", "system"},
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


def test_few_modules_are_loose_at_the_root() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 6
