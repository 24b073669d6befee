"""Where the names in docstrings and signatures lead."""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_PYTHON = "https://docs.python.org/3/library"
_NUMPY = "https://numpy.org/doc/stable/reference"
_TORCH = "https://docs.pytorch.org/docs/stable"
ELSEWHERE = {
    "pathlib.Path": f"{_PYTHON}/pathlib.html#pathlib.Path",
    "collections.abc.Callable": f"{_PYTHON}/collections.abc.html#collections.abc.Callable",
    "collections.abc.Iterable": f"{_PYTHON}/collections.abc.html#collections.abc.Iterable",
    "collections.abc.Iterator": f"{_PYTHON}/collections.abc.html#collections.abc.Iterator",
    "collections.abc.Mapping": f"{_PYTHON}/collections.abc.html#collections.abc.Mapping",
    "collections.abc.Sequence": f"{_PYTHON}/collections.abc.html#collections.abc.Sequence",
    "numpy.ndarray": f"{_NUMPY}/generated/numpy.ndarray.html",
    "numpy.typing.NDArray": f"{_NUMPY}/typing.html#numpy.typing.NDArray",
    "numpy.typing.ArrayLike": f"{_NUMPY}/typing.html#numpy.typing.ArrayLike",
    "torch.Tensor": f"{_TORCH}/tensors.html#torch.Tensor",
    "torch.nn.Module": f"{_TORCH}/generated/torch.nn.Module.html",
}
"""The types of others that readers meet most often, at addresses that last.

A list of all would have to be fetched (intersphinx), and the site builds without a network.
"""
OTHERS = re.compile(
    r"(?:av|npt|pa|pydantic\w*|annotated_types|Ge|Le|Gt|Lt|MaxLen|FieldInfo|PydanticUndefined"
    r"|NoneType)(?:\.[\w.]+)?"
)
"""Names of others by which annotations call them, and what pydantic adds; without a link."""


OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "src/vavl/inference/assets/compact/README.md": "models/compact.md",
}
"""Files outside docs/ that pages link to, as they lie in the repository, and their pages here."""
_LINK = re.compile(r"\]\(([\w./-]+\.md)(#[\w-]+)?\)")


def lead_to_pages(app: Sphinx, document: str, source: list[str]) -> None:
    """Puts pages of the site in place of files outside of it, which readers of the files need."""
    folder = (Path(app.srcdir) / document).parent

    def page(found: re.Match[str]) -> str:
        path = (folder / found[1]).resolve()
        root = Path(app.srcdir).parent
        inside = OUTSIDE.get(str(path.relative_to(root)) if path.is_relative_to(root) else "")
        if inside is None:
            return found[0]
        return f"](/{inside}{found[2] or ''})"

    source[0] = _LINK.sub(page, source[0])


def resolve(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """Leads a name to where it is described: its home, or the site of those whose it is.

    What exists and has no page of its own stays without a link: type variables, aliases, and most
    types of others. A name that exists nowhere is left, and the build warns of it.
    """
    if node.get("refdomain") != "py":
        return None
    python, document = environment.domains["py"], node["refdoc"]
    exists = False
    target = node["reftarget"].partition("[")[0]  # of Mapping[str, ...]
    for name in _full_names(target, node.get("py:module"), node.get("py:class")):
        if name in ELSEWHERE:
            return nodes.reference("", "", content, refuri=ELSEWHERE[name], internal=False)
        home = home_of(name)
        exists = exists or home is not None
        for candidate in filter(None, (name, home)):
            found = python.resolve_any_xref(
                environment, document, app.builder, candidate, node, content
            )
            if found:
                return found[0][1]
    return content if exists or OTHERS.fullmatch(target) else None


def _full_names(target: str, module: str | None, owner: str | None) -> list[str]:
    """What a name may mean where it stands."""
    places = [f"{module}.{owner}" if module and owner else None, module, "builtins", "typing"]
    return [target, *(f"{place}.{target}" for place in places if place)]


@cache
def home_of(name: str) -> str | None:
    """The name under which a thing is defined; None where there is no such thing.

    Example:
        >>> home_of("vavl.Recognizer.predict")
        'vavl.inference.recognizer.Recognizer.predict'
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:end]))
        except (ImportError, ValueError):
            continue
        home = value.__name__
        for part in parts[end:]:
            if not hasattr(value, part) and not _has_when_made(value, part):
                return None
            value = getattr(value, part, None)
            module, qualified = (getattr(value, k, None) for k in ("__module__", "__qualname__"))
            home = f"{module}.{qualified}" if module and qualified else f"{home}.{part}"
        return home
    return None


def _has_when_made(value: Any, name: str) -> bool:
    """Whether objects of a class have a name that the class itself has not."""
    if not isinstance(value, type):
        return name in getattr(value, "__annotations__", {})
    if not value.__module__.startswith("vavl"):
        return False
    return any(name in vars(c).get("__annotations__", {}) for c in value.__mro__) or (
        re.search(rf"\bself\.{name}\b", inspect.getsource(value)) is not None
    )


def keep_colons(
    _app: Sphinx, what: str, _name: str, _value: Any, _o: Any, lines: list[str]
) -> None:
    """Keeps napoleon from taking what stands before a colon for the type of an attribute.

    It looks for one in the first line, which is an empty comment then.
    """
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def no_signature(
    _app: Sphinx, _what: str, _name: str, value: Any, _o: Any, _signature: str, _returns: str
) -> tuple[str, str] | None:
    """Configurations are described key by key: their signature would say it all again."""
    is_configuration = isinstance(value, type) and issubclass(value, BaseModel)
    return ("", "") if is_configuration else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx asks for it."""
    app.connect("source-read", lead_to_pages)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", keep_colons, priority=100)
    app.connect("autodoc-process-signature", no_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
