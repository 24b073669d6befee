"""Mends what axe-core finds in the pages that Sphinx and its theme write."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_SIGNATURE = re.compile(r'<dl>\s*((?:<dd><em class="sig-param">.*?</dd>\s*)+)</dl>', re.DOTALL)

_HIDDEN_ROW = '<span class="visually-hidden">row</span>'


def name_columns(_app: Sphinx, doctree: nodes.document) -> None:
    """Takes away heads of tables in which nothing stands, and names the columns of others."""
    for head in list(doctree.findall(nodes.thead)):
        entries = list(head.findall(nodes.entry))
        if not any(entry.astext().strip() for entry in entries):
            head.parent.remove(head)
            continue
        for entry in entries:
            if not entry.astext().strip():
                entry[:] = [nodes.paragraph("", "", _for_readers_of_the_screen("item"))]


def _for_readers_of_the_screen(text: str) -> nodes.inline:
    return nodes.inline("", text, classes=["visually-hidden"])


def mend_page(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: nodes.document | None
) -> None:
    """Names the buttons that fold the navigation, and makes the lines of a signature lines."""
    if "body" in context:
        body = _SIGNATURE.sub(_as_lines, context["body"])
        # Tables of pandas have no name for their first column, the numbers of the rows.
        context["body"] = body.replace("<th></th>", f"<th>{_HIDDEN_ROW}</th>")
    if navigation := context.get("generate_toctree_html"):

        def named(*given: Any, **wanted: Any) -> Any:
            found = navigation(*given, **wanted)
            if hasattr(found, "find_all"):
                for button in found.find_all("summary"):
                    button["aria-label"] = "Pages below"
                return found
            return str(found).replace("<summary>", '<summary aria-label="Pages below">')

        context["generate_toctree_html"] = named


def _as_lines(found: re.Match[str]) -> str:
    lines = found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">{lines}</span>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx asks for it."""
    app.connect("doctree-read", name_columns)
    app.connect("html-page-context", mend_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
