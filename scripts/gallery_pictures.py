"""Pictures of the gallery, of drawn people and made-up voices: they may be shown to everybody.

    python scripts/gallery_pictures.py --demo demo --out docs/images

``--demo`` is the folder that ``vavl demo`` has filled; its report is photographed. Needs Chromium.
The pictures of the service are made by ``page_screenshots.py``.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drawn_film import draw_film
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import vavl
from vavl.inference import ClipPrediction
from vavl.media.video import video_frames

_QUALITY = 84
_STILL_S = 5.6
"""Both people are in sight then, and one of them speaks."""
_REPORT_PX = 1500
"""So much of the report is shown."""


@contextmanager
def _page(width: int) -> Iterator[Page]:
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": width, "height": 700})
        finally:
            browser.close()


def _saved(image: Image.Image, path: Path) -> None:
    image.convert("RGB").save(path, quality=_QUALITY, method=6)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def overlay_still(prediction: ClipPrediction, folder: Path) -> Image.Image:
    """One picture of the film with frames and emotions on it."""
    film = prediction.save_overlay(folder / "marked.mp4")
    return Image.fromarray(next(iter(video_frames(film, start_s=_STILL_S))).pixels)


def timeline(prediction: ClipPrediction, folder: Path) -> Image.Image:
    """The plot of the film."""
    path = folder / "plot.png"
    prediction.plot(path)
    return Image.open(path)


def in_a_notebook(prediction: ClipPrediction) -> Image.Image:
    """What a notebook shows of the film."""
    with _page(760) as page:
        page.set_content(f'<body style="font-family:sans-serif">{prediction._repr_html_()}</body>')
        return Image.open(io.BytesIO(page.locator("body > div").screenshot()))


def report(demo: Path) -> Image.Image:
    """The beginning of the report of a demo."""
    with _page(1000) as page:
        page.goto((demo / "evaluation" / "report.html").resolve().as_uri())
        page.wait_for_timeout(500)
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        return whole.crop((0, 0, whole.width, min(_REPORT_PX, whole.height)))


def main() -> None:
    """Makes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = draw_film(folder / "two-people.mp4")
        prediction = vavl.load().predict(film, timeline=True, segments=True)
        _saved(overlay_still(prediction, folder), options.out / "overlay.webp")
        _saved(timeline(prediction, folder), options.out / "timeline.webp")
        _saved(in_a_notebook(prediction), options.out / "notebook.webp")
        _saved(report(options.demo), options.out / "report.webp")


if __name__ == "__main__":
    main()
