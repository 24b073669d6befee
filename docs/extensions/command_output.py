"""What commands of tutorials print: put together as it came, and looked at for errors.

A cell of the shell ends as its last command does. So one before it that failed is a warning here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import myst_nb.core.render
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

if TYPE_CHECKING:
    from nbformat import NotebookNode

_log = logging.getLogger(__name__)
_FAILED = re.compile(r"^(?:error: .*|Traceback \(most recent call last\))", re.MULTILINE)


def joined_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Puts the pieces of each stream together; the first one keeps its place.

    Instead of myst-nb's own, which ends each piece with a line break, wherever a pipe was read.
    """
    first: dict[str, NotebookNode] = {}
    kept = []
    for output in outputs:
        name = output.get("name") if output["output_type"] == "stream" else None
        if name in first:
            first[name]["text"] += output["text"]
            continue
        kept.append(output)
        if name is not None:
            first[name] = output
    return kept


def look(app: Sphinx, doctree: nodes.document) -> None:
    """Warns of what was printed by a command that failed."""
    if not app.env.docname.startswith("tutorials/"):
        return
    for block in doctree.findall(nodes.literal_block):
        if "output" in block["classes"] and (found := _FAILED.search(block.astext())):
            _log.warning("a command of the tutorial failed: %s", found[0], location=block)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx asks for it."""
    app.connect("doctree-read", look)
    myst_nb.core.render.coalesce_streams = joined_streams
    return {"parallel_read_safe": True, "parallel_write_safe": True}
