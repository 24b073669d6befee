"""Forty pictures without a usable face, of 14 kinds: drawn, or real faces spoiled.

    python scripts/trial_pictures.py --faces FACES_FOLDER --films VIDEO ... --out FOLDER    # to see

Pictures are ``(360, 640, 3)`` RGB, uint8; those of films have the films' own size. The same seed,
faces and films give the same pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from compact_face_data import load_split
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from vavl.media.video import video_frames

Picture = NDArray[np.uint8]
Draw = Callable[[Generator], Picture]

HEIGHT, WIDTH = 360, 640
FRAME_RATE_HZ = 25
SHOWN_S = 2.0
"""How long each picture is shown."""

_SKINS = ((241, 194, 150), (198, 134, 92), (120, 76, 48))
_INK = (25, 22, 30)


# --- what is behind -----------------------------------------------------------------------------


def _clouds(rng: Generator, cells: int = 6, contrast: float = 40.0) -> Picture:
    """Soft patches of colour."""
    coarse = rng.uniform(60, 190, 3) + rng.normal(0, contrast, (cells, 2 * cells, 3))
    small = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    return np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def _plain(rng: Generator, noise: float = 2.0) -> Picture:
    """A wall: one colour, light from one side, the noise of a camera."""
    light = np.linspace(1, rng.uniform(0.7, 1), WIDTH)[None, :, None]
    wall = rng.uniform(90, 230, 3) * light + rng.normal(0, noise, (HEIGHT, WIDTH, 3))
    return wall.clip(0, 255).astype(np.uint8)


def _canvas(rng: Generator) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.fromarray(_plain(rng))
    return image, ImageDraw.Draw(image)


def _circle(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: object, squeeze: float = 1.0
) -> None:
    box = (x - squeeze * radius, y - radius, x + squeeze * radius, y + radius)
    draw.ellipse(box, fill=fill, outline=_INK, width=max(1, round(radius / 20)))  # type: ignore[arg-type]


# --- drawings -----------------------------------------------------------------------------------


def _smiley(mood: int, rng: Generator) -> Picture:
    """Two eyes and a mouth in a yellow circle; the mood bends the mouth up, down or not at all."""
    image, draw = _canvas(rng)
    x, y, radius = rng.uniform(220, 420), rng.uniform(150, 210), rng.uniform(70, 130)
    _circle(draw, x, y, radius, (255, 214, 50))
    for side in (-1, 1):
        _circle(draw, x + side * 0.35 * radius, y - 0.3 * radius, 0.12 * radius, _INK, 0.7)
    left, right, line = x - 0.5 * radius, x + 0.5 * radius, round(radius / 12)
    if mood > 0:
        draw.arc((left, y - 0.4 * radius, right, y + 0.6 * radius), 20, 160, _INK, line)
    elif mood < 0:
        draw.arc((left, y + 0.3 * radius, right, y + 1.2 * radius), 200, 340, _INK, line)
    else:
        draw.line((left, y + 0.4 * radius, right, y + 0.4 * radius), _INK, line)
    return np.asarray(image)


def _stick_figure(rng: Generator) -> Picture:
    image, draw = _canvas(rng)
    x, y = rng.uniform(200, 440), rng.uniform(70, 100)
    _circle(draw, x, y, 35, (255, 255, 255))
    for side in (-1, 1):
        draw.line((x, y + 90, x + side * 60, y + rng.uniform(60, 140)), _INK, 5)
        draw.line((x, y + 160, x + side * 40, y + 240), _INK, 5)
        _circle(draw, x + side * 12, y - 6, 3, _INK)
    draw.line((x, y + 35, x, y + 160), _INK, 5)
    draw.arc((x - 15, y - 5, x + 15, y + 20), 20, 160, _INK, 3)
    return np.asarray(image)


def _cartoon(rng: Generator) -> Picture:
    """A face of flat colours: hair, eyes with pupils, brows, nose and an open or closed mouth."""
    image, draw = _canvas(rng)
    x, y, size = rng.uniform(240, 400), 185.0, rng.uniform(80, 125)
    skin = _SKINS[rng.integers(len(_SKINS))]
    hair = tuple(int(part) for part in rng.integers(20, 150, 3))
    _circle(draw, x, y - 0.25 * size, 1.1 * size, hair, 0.85)
    _circle(draw, x, y, size, skin, 0.75)
    for side in (-1, 1):
        eye = x + side * 0.3 * size
        _circle(draw, eye, y - 0.2 * size, 0.17 * size, (255, 255, 255))
        _circle(draw, eye + rng.uniform(-5, 5), y - 0.2 * size, 0.07 * size, _INK)
        brow = y - 0.5 * size + side * rng.uniform(-6, 6)
        draw.line((eye - 0.2 * size, brow, eye + 0.2 * size, brow + rng.uniform(-8, 8)), _INK, 6)
    draw.line((x, y, x + 0.08 * size, y + 0.2 * size, x, y + 0.2 * size), _INK, 4)
    if rng.random() < 0.5:
        _circle(draw, x, y + 0.5 * size, 0.15 * size, (150, 40, 40), 1.6)
    else:
        draw.arc((x - 30, y + 0.3 * size, x + 30, y + 0.6 * size), 10, 170, (150, 40, 40), 6)
    return np.asarray(image)


def _text(rng: Generator) -> Picture:
    image, draw = _canvas(rng)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz    "))
    for line in range(9):
        words = "".join(rng.choice(letters, 34))
        draw.text((25, 15 + 37 * line), words, _INK, ImageFont.load_default(26))
    return np.asarray(image)


# --- patterns -----------------------------------------------------------------------------------


def _stripes(rng: Generator) -> Picture:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    angle, width = rng.uniform(0, np.pi), rng.uniform(8, 60)
    dark = np.floor((x * np.cos(angle) + y * np.sin(angle)) / width) % 2
    return _two_colours(dark, rng)


def _checks(rng: Generator) -> Picture:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    side = int(rng.integers(10, 70))
    return _two_colours((x // side + y // side) % 2, rng)


def _two_colours(share: NDArray[np.floating], rng: Generator) -> Picture:
    first, second = rng.uniform(0, 255, (2, 3))
    return (first + share[..., None] * (second - first)).astype(np.uint8)


def _gradient(rng: Generator) -> Picture:
    across = np.linspace(0, 1, WIDTH)[None, :] * np.ones((HEIGHT, 1))
    return _two_colours(across, rng)


def _noise(rng: Generator) -> Picture:
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


# --- people -------------------------------------------------------------------------------------


def _back_of_head(rng: Generator) -> Picture:
    """Shoulders, neck, ears, and hair in strands where the face would be."""
    image = Image.fromarray(_clouds(rng))
    draw = ImageDraw.Draw(image)
    x, y, size = rng.uniform(240, 400), rng.uniform(150, 180), rng.uniform(65, 100)
    skin, shirt = _SKINS[rng.integers(len(_SKINS))], tuple(map(int, rng.integers(30, 200, 3)))
    draw.ellipse((x - 2 * size, y + 1.2 * size, x + 2 * size, y + 4 * size), fill=shirt)
    draw.rectangle((x - 0.4 * size, y, x + 0.4 * size, y + 1.5 * size), fill=skin)
    for side in (-1, 1):
        at = x + side * 0.82 * size
        draw.ellipse((at - 10, y - 0.1 * size, at + 10, y + 0.35 * size), fill=skin)
    strands = rng.normal(0, 25, (6, WIDTH // 2, 1)) + rng.uniform((30, 20, 10), (140, 110, 80))
    hair = Image.fromarray(strands.clip(0, 255).astype(np.uint8))
    mask = Image.new("L", image.size)
    box = (x - 0.82 * size, y - size, x + 0.82 * size, y + rng.uniform(0.8, 1.2) * size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    image.paste(hair.resize(image.size, Image.Resampling.BICUBIC), mask=mask)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1)))


def _pasted(face: NDArray[np.uint8], side: int, rng: Generator) -> Picture:
    """A face (H, W) on soft colours, so many pixels high."""
    picture = _clouds(rng).copy()
    grey = Image.fromarray(face).resize((side, side), Image.Resampling.LANCZOS)
    top, left = rng.integers(HEIGHT - side + 1), rng.integers(WIDTH - side + 1)
    picture[top : top + side, left : left + side] = np.asarray(grey)[..., None]
    return picture


def _upside_down(face: NDArray[np.uint8], rng: Generator) -> Picture:
    return _pasted(face[::-1, ::-1], int(rng.integers(120, 300)), rng)


def _far_away(face: NDArray[np.uint8], rng: Generator) -> Picture:
    return _pasted(face, 12, rng)


def _film_upside_down(frame: Picture, _: Generator) -> Picture:
    return frame[::-1, ::-1].copy()


# --- all of them --------------------------------------------------------------------------------

_DRAWN: tuple[tuple[str, Draw], ...] = (
    *(("smiley", partial(_smiley, mood)) for mood in (1, 0, -1, 1)),
    *[("stick figure", _stick_figure)] * 2,
    *[("cartoon face", _cartoon)] * 4,
    *[("back of a head", _back_of_head)] * 4,
    *[("stripes", _stripes)] * 2,
    *[("checks", _checks)] * 2,
    *[("clouds", _clouds)] * 2,
    *[("noise", _noise)] * 2,
    ("gradient", _gradient),
    *[("wall", _plain)] * 2,
    *[("text", _text)] * 2,
)
_FACES = 5, 4
"""How many of the faces are shown upside down, and how many far away."""
_FILMS = 4


def pictures(
    seed: int, faces: Sequence[NDArray[np.uint8]] = (), films: Sequence[Picture] = ()
) -> Iterator[tuple[str, str, Picture]]:
    """Kind, name and picture, each.

    Args:
        seed: Of all that is left to chance.
        faces: ``(H, W)`` each, upright faces that fill the picture; the first nine are used.
            Without any, faces upside down and faces of 12 pixels are left out.
        films: ``(H, W, 3)`` each, pictures of upright people; the first four are used.
    """
    turned, far = faces[: _FACES[0]], faces[_FACES[0] : sum(_FACES)]
    table: list[tuple[str, Draw]] = [
        *_DRAWN,
        *(("face upside down", partial(_upside_down, face)) for face in turned),
        *(("face of 12 pixels", partial(_far_away, face)) for face in far),
        *(("film upside down", partial(_film_upside_down, film)) for film in films[:_FILMS]),
    ]
    for number, (kind, draw) in enumerate(table):
        yield kind, f"{kind}, number {number}", draw(np.random.default_rng([seed, number]))


def shown(picture: Picture) -> NDArray[np.uint8]:
    """As ``(T, H, W, 3)`` frames for two seconds; a view, which takes no memory."""
    return np.broadcast_to(picture, (round(SHOWN_S * FRAME_RATE_HZ), *picture.shape))


def some_faces(folder: Path, seed: int) -> list[NDArray[np.uint8]]:
    """Test faces on which people agree, nine by chance."""
    faces = load_split(folder, "test")
    images = faces.images[faces.majority >= 0]
    return list(np.random.default_rng(seed).permutation(images)[: sum(_FACES)])


def first_frames(films: Sequence[Path]) -> list[Picture]:
    """The picture with which each film begins."""
    return [next(iter(video_frames(film))).pixels for film in films[:_FILMS]]


def main() -> None:
    """Writes all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, help="folder of faces48.npz")
    parser.add_argument("--films", type=Path, nargs="*", default=[], help="videos of people")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    faces = some_faces(options.faces, options.seed) if options.faces else []
    for _, name, picture in pictures(options.seed, faces, first_frames(options.films)):
        Image.fromarray(picture).save(options.out / f"{name}.png")


if __name__ == "__main__":
    main()
