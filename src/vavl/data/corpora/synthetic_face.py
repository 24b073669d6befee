"""The face of the synthetic corpus: intensities of facial action units over time.

Source: what the units are, P. Ekman and W. V. Friesen, "Facial Action Coding System", 1978; their
names and the range 0 to 5, OpenFace (T. Baltrusaitis et al., FG 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vavl.data.corpora.synthetic_voice import Syllables

FRAME_RATE_HZ = 25.0
ACTION_UNITS = tuple(
    f"AU{number:02d}_r" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
)
"""Columns of the trajectories, named as OpenFace names its intensities."""
LARGEST_INTENSITY = 5.0

Array = NDArray[np.float64]

_COLUMN = {name.removesuffix("_r"): column for column, name in enumerate(ACTION_UNITS)}
_MEASUREMENT_NOISE = 0.18
_FIDGETING = 0.30
_FIDGETING_MEMORY_S = 0.35


@dataclass(frozen=True)
class Face:
    """One speaker's face.

    Attributes:
        neutral: ``(17,)`` intensities at rest.
        gain: ``(17,)`` how strongly each unit answers.
        blinks_hz: Blinks per second.
        mouth: How far the mouth moves in speech.
    """

    neutral: Array
    gain: Array
    blinks_hz: float
    mouth: float


@dataclass(frozen=True)
class FaceStyle:
    """An expression and its course.

    Attributes:
        units: ``(17,)`` intensities above the neutral face at the apex.
        apex: Where in the clip the expression is strongest, 0 = beginning, 1 = end.
        spread: How long it lasts, as a share of the clip (standard deviation).
    """

    units: Array
    apex: float
    spread: float


def unit_vector(intensities: Mapping[str, float]) -> Array:
    """``(17,)`` from intensities by short name, e.g. ``{"AU12": 2.0}``."""
    vector = np.zeros(len(ACTION_UNITS))
    for name, value in intensities.items():
        vector[_COLUMN[name]] = value
    return vector


def draw_face(rng: np.random.Generator) -> Face:
    """A speaker's face: nobody's rests at zero, and some show more than others."""
    units = len(ACTION_UNITS)
    expressivity = np.exp(rng.normal(0.0, 0.25))
    return Face(
        neutral=rng.gamma(1.2, 0.3, units),
        gain=expressivity * np.exp(rng.normal(0.0, 0.2, units)),
        blinks_hz=float(rng.uniform(0.15, 0.5)),
        mouth=float(rng.uniform(0.6, 1.3)),
    )


def animate(
    rng: np.random.Generator, face: Face, style: FaceStyle, syllables: Syllables
) -> NDArray[np.float32]:
    """Action units of one clip.

    Args:
        rng: Draws blinks, fidgeting and the noise of measurement.
        face: Whose face.
        style: What it expresses, and when.
        syllables: What the mouth says.

    Returns:
        ``(T, 17)`` intensities in 0 to 5 at :data:`FRAME_RATE_HZ`.
    """
    frames = max(2, round(syllables.duration_s * FRAME_RATE_HZ))
    times_s = np.arange(frames) / FRAME_RATE_HZ
    progress = times_s / syllables.duration_s
    course = np.exp(-0.5 * ((progress - style.apex) / style.spread) ** 2)
    # Scaled to the same mean, so that only the order of events tells where the apex lies.
    course *= 0.6 / course.mean()
    units = face.neutral + course[:, None] * (face.gain * style.units)  # (T, 17)

    opening = syllables.opening(times_s) * face.mouth
    units[:, _COLUMN["AU25"]] += 1.6 * opening
    units[:, _COLUMN["AU26"]] += 1.1 * opening
    for blink_s in np.cumsum(rng.exponential(1 / face.blinks_hz, 8)):
        units[:, _COLUMN["AU45"]] += 3.0 * np.exp(-0.5 * ((times_s - blink_s) / 0.06) ** 2)

    memory = np.exp(-1 / (FRAME_RATE_HZ * _FIDGETING_MEMORY_S))
    fidgeting = rng.standard_normal((frames, len(ACTION_UNITS)))
    fidgeting[1:] *= np.sqrt(1 - memory**2)
    for frame in range(1, frames):
        fidgeting[frame] += memory * fidgeting[frame - 1]
    noise = _MEASUREMENT_NOISE * rng.standard_normal(units.shape)
    units += _FIDGETING * fidgeting + noise
    return np.clip(units, 0.0, LARGEST_INTENSITY).astype(np.float32)


SIDE_PX = 160
"""Side of a picture."""
_FINER = 2
"""Drawn so many times as large and shrunk, which makes smooth edges."""
_CENTRE = 0.53
_UNIT_PX = 0.36 * SIDE_PX * _FINER
"""Half of the face's height: the length that all places below are measured in."""
_SWAY = 0.05
"""Standard deviation of the head's place, in halves of the face's height."""
_TURN = 1.5
"""Radians that the head turns, for a unit of sway."""
_SWAY_MEMORY = 0.97
"""From one picture to the next."""

_LARGER = 1.8
"""Movements are drawn larger than life: a drawing has fewer cues than a face."""
_CLOSED = 0.004
"""What stays open between closed lids or lips."""
_STEPS = 8
"""Straight pieces of a curve."""
_PARTED = 0.02
"""From here on one sees what is between the lips."""

Colour = tuple[int, int, int]
Point = tuple[float, float]

_WHITE: Colour = (238, 234, 230)
_PUPIL: Colour = (16, 12, 12)
_TEETH: Colour = (226, 220, 210)
_INSIDE: Colour = (62, 22, 24)
_SHADOW: Colour = (40, 20, 16)


@dataclass(frozen=True)
class Look:
    """What a speaker looks like at rest.

    Attributes:
        skin: Colour in the light.
        hair: Colour of hair and brows.
        iris: Colour of the eyes.
        lips: Colour of the mouth.
        background: Colour behind.
        width: Half of the face's width, in halves of its height.
        eyes: Distance of an eye from the middle, likewise.
        mouth: Half of the mouth's width, likewise.
        long_hair: Whether hair falls beside the face.
    """

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    background: Colour
    width: float
    eyes: float
    mouth: float
    long_hair: bool


def draw_look(rng: np.random.Generator, *, female: bool) -> Look:
    """A speaker's look."""
    depth = rng.uniform(0.0, 1.0)  # of the skin's colour
    skin = _mixed((236, 198, 172), (124, 84, 62), depth)
    hair = _mixed((40, 30, 26), (176, 130, 76), rng.uniform() * (1 - depth))
    return Look(
        skin=skin,
        hair=hair,
        iris=_mixed((70, 48, 36), (84, 116, 140), rng.uniform() * (1 - depth)),
        lips=_mixed(skin, (168, 62, 66), 0.55 if female else 0.35),
        background=_mixed((70, 84, 98), (186, 180, 170), rng.uniform()),
        width=float(rng.uniform(0.70, 0.78)),
        eyes=float(rng.uniform(0.29, 0.33)),
        mouth=float(rng.uniform(0.23, 0.28)),
        long_hair=female,
    )


def film(
    rng: np.random.Generator, look: Look, units: NDArray[np.floating]
) -> Iterator[NDArray[np.uint8]]:
    """Pictures of one clip.

    Args:
        rng: Draws how the head sways.
        look: Who is seen.
        units: ``(T, 17)`` intensities in 0 to 5.

    Yields:
        T pictures ``(160, 160, 3)``, RGB.
    """
    head = _head(look)
    sway = rng.standard_normal(3) * _SWAY
    for step in units:
        sway = _SWAY_MEMORY * sway
        sway += math.sqrt(1 - _SWAY_MEMORY**2) * _SWAY * rng.standard_normal(3)
        picture = head.copy()
        pencil = _Pencil(picture, look)
        pencil.draw({name: _LARGER * float(step[column]) for name, column in _COLUMN.items()})
        yield np.asarray(_moved(picture, sway))


class _Pencil:
    """Draws a face; places and widths are in halves of its height, from its middle."""

    def __init__(self, picture: Image.Image, look: Look) -> None:
        self._pen = ImageDraw.Draw(picture)
        self._look = look
        self._au: Mapping[str, float] = {}
        self._dark = _mixed(look.skin, _SHADOW, 0.45)
        self._shade = _mixed(look.skin, _SHADOW, 0.22)

    def draw(self, units: Mapping[str, float]) -> None:
        """Draws what moves, onto a head."""
        self._au = units
        self._folds()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
        self._nose()
        self._mouth()

    def _eye(self, side: int) -> None:
        au, look = self._au, self._look
        x, y = side * look.eyes, -0.16
        half = 0.125
        lift = 0.062 + 0.016 * au["AU05"] - 0.006 * au["AU07"] - 0.028 * au["AU45"]
        upper = max(lift, _CLOSED)
        lower = max(0.042 - 0.006 * (au["AU06"] + au["AU07"]) - 0.012 * au["AU45"], _CLOSED)
        self.oval(x, y - 0.03, 0.19, 0.13, self._shade)  # the socket lies in shade
        lids = _almond(x, y, half, upper, lower)
        self._polygon(lids, _WHITE)
        for radius, colour in ((0.060, look.iris), (0.027, _PUPIL)):
            circle = _circle(x, y - 0.008, radius)
            self._polygon([(px, min(max(py, y - upper), y + lower)) for px, py in circle], colour)
        self._line(lids[: len(lids) // 2 + 1], _mixed(look.hair, _PUPIL, 0.6), 0.028)
        self._line(lids[len(lids) // 2 :], self._dark, 0.012)

    def _brow(self, side: int) -> None:
        au, look = self._au, self._look
        lower = 0.028 * au["AU04"]
        inner = (side * (0.13 - 0.012 * au["AU04"]), -0.34 - 0.040 * au["AU01"] + 1.2 * lower)
        middle = (side * 0.31, -0.42 - 0.020 * (au["AU01"] + au["AU02"]) + lower)
        outer = (side * 0.49, -0.35 - 0.036 * au["AU02"] + 0.5 * lower)
        self._line(_curve(inner, middle, outer), look.hair, 0.055)

    def _nose(self) -> None:
        wrinkle = self._au["AU09"]
        tip = 0.20 - 0.018 * wrinkle
        for side in (-1, 1):
            self._line(
                _curve((side * 0.07, -0.12), (side * 0.08, 0.05), (side * 0.12, tip - 0.03)),
                self._shade,
                0.030,
            )
            self.oval(side * 0.065, tip + 0.02, 0.035, 0.020, self._dark)
            for row in range(3):
                y = -0.10 + 0.06 * row
                fold = [(side * 0.02, y), (side * 0.10, y + 0.03)]
                self._line(fold, self._darker(wrinkle / 3), 0.016)
        self._line(_curve((-0.10, tip), (0.0, tip + 0.07), (0.10, tip)), self._dark, 0.020)

    def _folds(self) -> None:
        """Cheeks that rise, and the fold from the nose to the mouth."""
        au = self._au
        depth = (0.6 * au["AU10"] + 0.5 * au["AU12"] + 0.4 * au["AU06"]) / 4
        for side in (-1, 1):
            fold = _curve((side * 0.15, 0.18), (side * 0.27, 0.26), (side * 0.33, 0.44))
            self._line(fold, self._darker(depth), 0.022)
            cheek = _curve((side * 0.22, 0.02), (side * 0.34, 0.06), (side * 0.47, -0.02))
            self._line(cheek, self._darker(0.8 * min(au["AU06"] / 4, 1.0)), 0.018)
        chin = _curve((-0.12, 0.74), (0.0, 0.70), (0.12, 0.74))
        self._line(chin, self._darker(au["AU17"] / 4), 0.022)

    def _mouth(self) -> None:
        au, look = self._au, self._look
        half = look.mouth + 0.022 * au["AU12"] + 0.026 * au["AU20"] - 0.014 * au["AU23"]
        corner = 0.46 - 0.034 * au["AU12"] + 0.036 * au["AU15"] - 0.006 * au["AU14"]
        gap = max(0.012 * au["AU25"] + 0.030 * au["AU26"] - 0.010 * au["AU17"], _CLOSED)
        upper = 0.45 - 0.020 * au["AU10"] - 0.3 * gap
        lower = upper + gap
        lip = 0.075 * max(1.0 - 0.16 * au["AU23"], 0.3)  # its thickness
        left, right, bow = (-half, corner), (half, corner), (0.0, upper - 0.7 * lip)
        outline = [
            *_curve(left, (-0.3 * half, upper - lip), bow),
            *_curve(bow, (0.3 * half, upper - lip), right),
            *_arch(right, lower + lip, left),
        ]
        self._polygon(outline, look.lips)
        if gap > _PARTED:
            self._polygon([*_arch(left, upper, right), *_arch(right, lower, left)], _INSIDE)
            edge = upper + min(0.4 * gap, 0.05)
            row = _arch(
                (-0.7 * half, (upper + corner) / 2), upper, (0.7 * half, (upper + corner) / 2)
            )
            self._polygon([*row, (0.5 * half, edge), (-0.5 * half, edge)], _TEETH)
        else:
            self._line(_arch(left, upper, right), _mixed(look.lips, _INSIDE, 0.8), 0.016)
        for side in (-1, 1):
            dimple = self._darker(au["AU14"] / 3)
            self.oval(side * (half + 0.03), corner, 0.022, 0.034, dimple)
        below = lower + 0.13
        self._line(_curve((-0.13, below), (0.0, below + 0.03), (0.13, below)), self._shade, 0.03)

    def _darker(self, strength: float) -> Colour:
        """Of a fold in the skin, which is not seen at 0 and darkest from 1 on."""
        return _mixed(self._look.skin, self._dark, min(strength, 1.0))

    def _polygon(self, points: list[Point], colour: Colour) -> None:
        self._pen.polygon([_at(point) for point in points], fill=colour)

    def _line(self, points: list[Point], colour: Colour, width: float) -> None:
        pixels = max(1, round(width * _UNIT_PX))
        self._pen.line([_at(point) for point in points], fill=colour, width=pixels, joint="curve")

    def oval(self, x: float, y: float, half: float, height: float, colour: Colour) -> None:
        corners = [_at((x - half, y - height)), _at((x + half, y + height))]
        self._pen.ellipse(corners, fill=colour)


def _head(look: Look) -> Image.Image:
    """What does not move: background, hair, neck, ears, and the face in its light."""
    side = SIDE_PX * _FINER
    picture = Image.new("RGB", (side, side), look.background)
    oval = _Pencil(picture, look).oval
    shade = _mixed(look.skin, _SHADOW, 0.3)
    if look.long_hair:
        oval(0, 0.1, look.width + 0.26, 1.25, look.hair)
    ImageDraw.Draw(picture).rectangle([_at((-0.32, 0.6)), _at((0.32, 2.0))], fill=shade)
    oval(0, 2.09, 1.2, 0.91, _mixed(look.background, (20, 20, 30), 0.6))
    oval(0, -0.22, look.width + 0.10, 0.92, look.hair)
    for ear in (-1, 1):
        oval(ear * look.width, -0.02, 0.10, 0.18, shade)
    mask = Image.new("L", (side, side), 0)
    outline = [
        (look.width * math.copysign(abs(math.cos(a)) ** 0.85, math.cos(a)), math.sin(a))
        for a in np.linspace(0, 2 * math.pi, 60)
    ]
    ImageDraw.Draw(mask).polygon([_at((x, y if y > 0 else 0.86 * y)) for x, y in outline], fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(2))
    y, x = np.mgrid[:side, :side]
    across = (x - side / 2) / _UNIT_PX
    down = (y - _CENTRE * side) / _UNIT_PX
    bulge = np.sqrt(np.clip(1 - 0.75 * (across / look.width) ** 2 - 0.55 * down**2, 0, 1))
    light = 0.55 + 0.5 * bulge - 0.10 * across
    face = np.clip(light[..., None] * np.array(look.skin), 0, 255).astype(np.uint8)
    picture.paste(Image.fromarray(face), mask=mask)
    return picture


def _moved(drawing: Image.Image, sway: NDArray[np.float64]) -> Image.Image:
    """The drawing at its final size, with the head a little aside and turned."""
    small = drawing.reduce(_FINER)
    cosine, sine = math.cos(_TURN * sway[2]), math.sin(_TURN * sway[2])
    right, down = sway[:2] * _UNIT_PX / _FINER
    middle = SIDE_PX / 2
    # From places in the result to places in the drawing.
    matrix = (
        cosine,
        -sine,
        middle - cosine * middle + sine * middle - right,
        sine,
        cosine,
        middle - sine * middle - cosine * middle - down,
    )
    background = small.getpixel((0, 0))
    return small.transform(
        small.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=background
    )


def _at(point: Point) -> Point:
    """A place on the face, in halves of its height from its middle, in pixels."""
    side = SIDE_PX * _FINER
    return (side / 2 + point[0] * _UNIT_PX, _CENTRE * side + point[1] * _UNIT_PX)


def _curve(start: Point, control: Point, end: Point) -> list[Point]:
    """A quadratic Bezier curve."""
    points = []
    for step in range(_STEPS + 1):
        t = step / _STEPS
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
        x, y = (a * p + b * q + c * r for p, q, r in zip(start, control, end, strict=True))
        points.append((x, y))
    return points


def _arch(start: Point, peak: float, end: Point) -> list[Point]:
    """A curve between two points, half way at a height of ``peak``."""
    control = ((start[0] + end[0]) / 2, 2 * peak - (start[1] + end[1]) / 2)
    return _curve(start, control, end)


def _circle(x: float, y: float, radius: float) -> list[Point]:
    angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _almond(x: float, y: float, half: float, upper: float, lower: float) -> list[Point]:
    """The opening between the lids: above from left to right, then below from right to left."""
    left, right = (x - half, y), (x + half, y)
    return [*_arch(left, y - upper, right), *_arch(right, y + lower, left)]


def _mixed(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour in the first."""
    r, g, b = (round((1 - share) * a + share * c) for a, c in zip(first, second, strict=True))
    return (r, g, b)
