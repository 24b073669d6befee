"""What can be checked of the site without building it: `make docs` does the rest."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import generated_pages
import pytest
from generated_pages import EXPORTING, ROOMS, keys_of_study

from vavl import cli
from vavl.cli.commands import Command
from vavl.cli.data import prepare_commands
from vavl.cli.options import known_keys

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [p for p in DOCS.rglob("*.md") if "generated" not in p.parts]
TUTORIALS = [p for p in (DOCS / "tutorials").glob("*.md") if p.stem != "index"]
READ_ELSEWHERE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]

COMMANDS = [
    *(cli.command_of(f) for functions in cli.GROUPS.values() for f in functions),
    *prepare_commands(),
]


def toctree_of(page: Path) -> set[Path]:
    """The pages that a page lists."""
    listed: set[Path] = set()
    for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                listed |= set(page.parent.glob(f"{line}.md"))
    return {path.resolve() for path in listed}


def test_every_page_can_be_reached() -> None:
    reached, waiting = set(), {DOCS / "index.md"}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        waiting |= toctree_of(page) - reached
    assert {p.resolve() for p in PAGES} - reached == set()


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_the_python_of_tutorials_compiles(page: Path) -> None:
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert len(cells) >= 4
    for cell in cells:
        lines = [line for line in cell.splitlines() if not line.startswith(":tags:")]
        magic = lines[0] if lines[0].startswith("%%") else ""
        if magic and not magic.endswith(".py"):
            continue  # for the shell, or a file of settings
        compile("\n".join(lines[1:] if magic else lines), f"{page.name}: {lines[0]}", "exec")


def test_links_lead_to_files() -> None:
    dead = []
    for page in [*PAGES, *READ_ELSEWHERE]:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path = target.partition("#")[0]
            if not path or re.match(r"[a-z]+:", path) or "generated/" in path:
                continue
            if not (page.parent / path).exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert dead == []


def test_the_pictures_stay_small() -> None:
    sizes = [p.stat().st_size for p in (DOCS / "images").iterdir()]
    assert sum(sizes) < 1_500_000


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.prog)
def test_every_option_is_described(command: Command) -> None:
    listed = [option for options in command.sections().values() for option in options]
    assert command.description
    assert [option.spelled for option in listed if not option.meaning] == []
    assert all(f"`{command.prog}`" in text for text in (generated_pages.commands_page(),))


def test_every_key_is_described() -> None:
    keys = known_keys() | {k: key for table in keys_of_study().values() for k, key in table.items()}
    assert len(keys) > 100
    bare = [name for name, key in keys.items() if len(key.meaning.partition("(default")[0]) < 8]
    assert bare == []


def test_every_promised_name_is_described_and_has_an_example() -> None:
    undescribed, without_example = [], []
    for module in map(import_module, EXPORTING):
        for name in module.__all__:
            value = getattr(module, name)
            if name.startswith("__") or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            text = inspect.getdoc(value) or ""
            if len(text) < 20:
                undescribed.append(f"{module.__name__}.{name}")
            examples = [
                text,
                *(inspect.getdoc(m) or "" for m in vars(value).values() if callable(m)),
            ]
            if not any(">>>" in example for example in examples):
                without_example.append(f"{module.__name__}.{name}")
    assert undescribed == []
    assert without_example == []


def test_every_room_has_a_title() -> None:
    rooms = {p.name for p in (ROOT / "src" / "vavl").iterdir() if (p / "__init__.py").is_file()}
    assert rooms == set(ROOMS)
