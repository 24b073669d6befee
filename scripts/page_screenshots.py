"""Pictures of the page for the documentation, of a film of drawn people.

    python scripts/page_screenshots.py --out docs/images

Starts a service of its own. Needs Chromium, and looks as it should with the font Inter
(``apt-get install chromium fonts-inter``).
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from drawn_film import SIDE_PX, TURNS, draw_film
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from vavl.media.audio import read_audio
from vavl.media.video import video_frames
from vavl.media.writing import write_wav

_FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --use-fake-device-for-media-stream "
    "--use-fake-ui-for-media-stream"
)
_QUALITY = 84
_LIVE_MS = 45_000


@contextmanager
def _service() -> Iterator[str]:
    """The address of a service that runs meanwhile."""
    command = [sys.executable, "-m", "vavl", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()  # vavl serves at http://127.0.0.1:41235 (Ctrl-C ...)
            yield next(word for word in line.split() if word.startswith("http"))
        finally:
            process.terminate()


def _write_camera(film: Path, path: Path) -> None:
    """The second person alone, as a camera sees her."""
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=25, bit_rate=8_000_000)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for number, frame in enumerate(video_frames(film)):
            side = Image.fromarray(frame.pixels[:, SIDE_PX:])
            wide = Image.new("RGB", (427, SIDE_PX), side.getpixel((4, 4)))
            wide.paste(side, ((427 - SIDE_PX) // 2, 0))
            picture = av.VideoFrame.from_image(wide.resize((320, 240), Image.Resampling.LANCZOS))
            picture = picture.reformat(format="yuvj420p")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _opened(browser: Browser, address: str, size: tuple[int, int], **look: Any) -> Page:
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **look)
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.goto(address)
    return page


def _answered(page: Page, film: Path, time_s: float) -> None:
    """Waits for the answer, and goes to a time."""
    page.set_input_files("input[type=file]", film)
    page.wait_for_selector(".result .sentences")
    page.evaluate(
        """(time_s) => new Promise((resolve) => {
            const video = document.querySelector(".stage video");
            video.controls = false;
            video.addEventListener("seeked", resolve, { once: true });
            video.currentTime = time_s;
        })""",
        time_s,
    )
    page.wait_for_timeout(1500)


def _saved(picture: bytes | Image.Image, path: Path) -> None:
    image = picture if isinstance(picture, Image.Image) else Image.open(io.BytesIO(picture))
    image.convert("RGB").save(path, quality=_QUALITY, method=6)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _side_by_side(pictures: list[bytes], gap: int = 24) -> Image.Image:
    images = [Image.open(io.BytesIO(picture)) for picture in pictures]
    width = sum(image.width for image in images) + gap * (len(images) + 1)
    whole = Image.new("RGB", (width, images[0].height + 2 * gap), "#8a9793")
    x = gap
    for image in images:
        whole.paste(image, (x, gap))
        x += image.width + gap
    return whole


def main() -> None:
    """Takes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        film = draw_film(Path(folder) / "two-people.mp4")
        alone = draw_film(Path(folder) / "alone.mp4", [TURNS[1]] * 3, away=-1)
        seen, heard = Path(folder) / "camera.mjpeg", Path(folder) / "microphone.wav"
        _write_camera(alone, seen)
        write_wav(heard, read_audio(alone).astype("float64"))
        capture = [
            f"--use-file-for-fake-video-capture={seen}",
            f"--use-file-for-fake-audio-capture={heard}",
        ]
        with _service() as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=[*_FLAGS.split(), *capture]
            )
            page = _opened(browser, f"{address}/#live", (1280, 1010), color_scheme="light")
            page.click("text=Start")
            page.wait_for_timeout(_LIVE_MS)
            page.wait_for_selector(".now .lead:has-text('from sound and face')")
            _saved(page.screenshot(), out / "serve-live.webp")
            page.context.close()
            page = _opened(browser, address, (1280, 1240), color_scheme="light")
            _answered(page, film, 5.6)
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                page.wait_for_timeout(500)
                _saved(page.screenshot(), out / f"serve-clip-{theme}.webp")
            page.context.close()
            phones = []
            look = {"device_scale_factor": 2, "has_touch": True}
            page = _opened(browser, address, (360, 740), **look)
            _answered(page, film, 5.6)
            for theme, top in (("light", 0), ("dark", 640)):
                page.emulate_media(color_scheme=theme)
                page.evaluate("(top) => window.scrollTo(0, top)", top)
                page.wait_for_timeout(500)
                phones.append(page.screenshot())
            page.context.close()
            _saved(_side_by_side(phones), out / "serve-phone.webp")
            browser.close()


if __name__ == "__main__":
    main()
