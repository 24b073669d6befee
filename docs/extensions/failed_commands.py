"""A command of a tutorial that failed is a warning: a cell of the shell ends with its last one."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)
_FAILED = re.compile(r"^(?:error: .*|Traceback \(most recent call last\))", re.MULTILINE)


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
    return {"parallel_read_safe": True, "parallel_write_safe": True}
