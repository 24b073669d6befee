"""What the site adds to Sphinx; only where its tools are installed (`make docs`)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("sphinx")

import command_output
from accessible import mend_page, name_columns
from docutils import nodes
from docutils.utils import new_document
from links import home_of


def document(*children: nodes.Node) -> nodes.document:
    tree = new_document("page")
    tree += children
    return tree


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("vavl.load", "vavl.inference.loading.load"),
        ("vavl.Recognizer.predict", "vavl.inference.recognizer.Recognizer.predict"),
        ("vavl.data.store.FeatureStore.ids", "vavl.data.store.FeatureStore.ids"),  # of an object
        ("vavl.no_such_name", None),
        ("no_such_module.name", None),
    ],
)
def test_a_name_leads_to_where_it_is_defined(name: str, home: str | None) -> None:
    assert home_of(name) == home


@pytest.mark.parametrize(("printed", "warned"), [("error: no such file", 1), ("all is well", 0)])
def test_a_command_that_failed_is_a_warning(
    printed: str, warned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    log = SimpleNamespace(warning=lambda text, *_arguments, **_where: heard.append(text))
    monkeypatch.setattr(command_output, "_log", log)
    block = nodes.literal_block("", f"before\n{printed}", classes=["output", "stream"])
    app = SimpleNamespace(env=SimpleNamespace(docname="tutorials/predict"))
    command_output.look(app, document(block))  # type: ignore[arg-type]
    assert len(heard) == warned


def table(*titles: str) -> nodes.table:
    entries = [nodes.entry("", nodes.paragraph("", title)) for title in titles]
    group = nodes.tgroup("", nodes.thead("", nodes.row("", *entries)), nodes.tbody())
    return nodes.table("", group)


def test_no_column_is_without_a_name() -> None:
    tree = document(table("", "paper"), table("", ""))
    name_columns(None, tree)  # type: ignore[arg-type]
    [head] = tree.findall(nodes.thead)
    assert [entry.astext() for entry in head.findall(nodes.entry)] == ["item", "paper"]


def test_buttons_have_names_and_signatures_are_no_lists() -> None:
    signature = (
        '<dt>f(<dl>\n<dd><em class="sig-param">a</em>,</dd>\n</dl>\n)</dt><dl><dd>b</dd></dl>'
    )
    context = {"body": signature, "generate_toctree_html": lambda _kind: "<summary></summary>"}
    mend_page(None, "page", "page.html", context, None)  # type: ignore[arg-type]
    assert context["body"].count("<dl>") == 1  # a list that is one stays
    assert '<span class="sig-line"><em class="sig-param">a</em>,</span>' in context["body"]
    assert 'aria-label="' in context["generate_toctree_html"]("sidebar")


def test_a_stream_is_put_together_as_it_came() -> None:
    def piece(name: str, text: str) -> dict[str, str]:
        return {"output_type": "stream", "name": name, "text": text}

    picture = {"output_type": "display_data"}
    pieces = [piece("stdout", "a li"), piece("stderr", "w"), piece("stdout", "ne\n"), picture]
    joined = command_output.joined_streams(pieces)  # type: ignore[arg-type]
    assert joined == [piece("stdout", "a line\n"), piece("stderr", "w"), picture]
