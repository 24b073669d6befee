"""Looks at the built site: pictures of some pages at two widths, axe-core, links, no other hosts.

    make docs
    python scripts/check_site.py build/docs --out pictures

Needs Chromium. Ends with 1 where something was found.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

PAGES = (
    "index.html",
    "tutorials/predict.html",
    "paper.html",
    "gallery.html",
    "generated/commands.html",
    "generated/api/vavl.inference.recognizer.html",
)
WIDTHS = (1280, 390)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: object) -> None:
        """Says nothing."""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def dead_links(folder: Path) -> list[str]:
    """Links of the pages that lead to no file, or to no place in it."""
    pages = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    places = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    dead = []
    for path, text in pages.items():
        for link in set(re.findall(r'\b(?:href|src)="([^"]*)"', text)):
            if not link or re.match(r"[a-z]+:|//|\{", link):
                continue
            target, _, place = unquote(re.sub(r"\?[^#]*", "", link)).partition("#")
            file = (path.parent / target).resolve() if target else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (place and file in places and place not in places[file]):
                dead.append(f"{path.relative_to(folder)}: {link}")
    return sorted(dead)


def look(browser: Browser, address: str, page_name: str, out: Path) -> list[str]:
    """Takes pictures of a page in light and dark, and asks axe; what is wrong, one line each."""
    wrong = []
    for theme in ("light", "dark"):
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(f"{address}/{page_name}")
            page.wait_for_timeout(300)
            stem = page_name.removesuffix(".html").replace("/", "-")
            page.screenshot(path=out / f"{stem}-{width}-{theme}.png")
            where = f"{page_name}, {width} px, {theme}"
            wrong += [f"{where}: asks {url}" for url in asked if not url.startswith(address)]
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1"):
                wrong.append(f"{where}: wider than the window")
            for found in Axe().run(page).response["violations"]:
                first = found["nodes"][0]["html"][:120]
                wrong.append(f"{where}: {found['id']} ({len(found['nodes'])}), e.g. {first}")
            page.close()
    return wrong


def main() -> int:
    """Prints what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wrong = [f"dead link: {link}" for link in dead_links(options.site)]
    with _served(options.site) as address, sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for page in PAGES:
            wrong += look(browser, address, page, options.out)
        browser.close()
    print("\n".join(wrong) or f"{len(PAGES)} pages, nothing found")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
