"""Draws VAVL as it is built: each box is a module, with its sizes and its number of parameters.

python scripts/draw_architecture.py docs/images/architecture.svg
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

from torch import nn

from vavl import VAVL, Modality, VAVLConfig

WIDTH, HEIGHT = 860, 640
COLOURS = {
    "acoustic": ("#dff0ea", "#1f7a5c"),
    "visual": ("#e4ebfa", "#2f57a8"),
    "both": ("#fbead2", "#95590a"),
    "out": ("#f3f4f6", "#444b54"),
}
"""Fill and line."""


class Box(NamedTuple):
    """A module in the picture: its middle, its size, and what stands in it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    lines: tuple[str, ...] = ()

    def svg(self) -> str:
        """The rectangle and the words."""
        fill, line = COLOURS[self.kind]
        left, top = self.x - self.width / 2, self.y - self.height / 2
        first = self.y - 9 * len(self.lines) + 5
        words = [
            f'<text x="{self.x}" y="{first + 18 * number}" fill="#1c2024" text-anchor="middle" '
            f'font-size="{15 if number == 0 else 13}" '
            f'font-weight="{600 if number == 0 else 400}">{escape(text)}</text>'
            for number, text in enumerate((self.title, *self.lines))
        ]
        return (
            f'<rect x="{left}" y="{top}" width="{self.width}" height="{self.height}" rx="8" '
            f'fill="{fill}" stroke="{line}" stroke-width="1.5"/>{"".join(words)}'
        )


def arrow(*points: tuple[float, float]) -> str:
    """A line through points, with a head at its end."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="#444b54" stroke-width="1.5" '
        'marker-end="url(#head)"/>'
    )


def parameters(module: nn.Module) -> str:
    """How many it has, e.g. ``19.0 M parameters``."""
    count = sum(p.numel() for p in module.parameters())
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def widths(head: nn.Module) -> str:
    """Through which widths a head goes, e.g. ``512 to 512 to 256 to 6``."""
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return " → ".join(str(n) for n in [layers[0].in_features, *(x.out_features for x in layers)])


def draw(model: VAVL) -> str:
    """The picture of a model of both modalities."""
    config, shared = model.config, model.shared
    assert shared is not None
    shared_weights = f"{parameters(shared)} parameters"
    parts: list[str] = []
    place = {"acoustic": 215, "visual": 645}
    names = {"acoustic": "sound", "visual": "face"}
    for name, x in place.items():
        branch = getattr(model, name)
        side = -1 if name == "acoustic" else 1  # what lies outward
        head_x, rebuilt_x = x - 68 * side, x + 112 * side
        size, blocks = config.dim(Modality(name)), f"{config.encoder_blocks} conformer blocks"
        weights = f"{parameters(branch.projection)} + {parameters(branch.encoder)} parameters"
        head, rebuilt = branch.head, branch.reconstruction
        of = names[name]
        boxes = [
            Box(x, 595, 220, 48, "out", f"features of the {of}", (f"(T, {size})",)),
            Box(
                *(x, 500, 260, 84, name, f"Encoder of the {of}"),
                (f"{blocks}, width {config.width}", weights),
            ),
            Box(x + 22 * side, 262, 356, 40, name, "mean over time"),
            Box(
                *(head_x, 172, 176, 66, name, f"Prediction, {of}"),
                (widths(head), parameters(head)),
            ),
            Box(
                *(rebuilt_x, 172, 172, 66, name, "Reconstruction"),
                (widths(rebuilt), parameters(rebuilt)),
            ),
        ]
        parts += [box.svg() for box in boxes]
        parts += [
            arrow((x, 571), (x, 544)),
            arrow((x, 458), (x, 418)),
            arrow((x, 336), (x, 284)),
            arrow((head_x, 242), (head_x, 207)),
            arrow((rebuilt_x, 242), (rebuilt_x, 207)),
        ]
        if config.residual:
            around = x + 178 * side
            parts.append(arrow((x, 438), (around, 438), (around, 316), (x + 6 * side, 316)))
    parts += [
        Box(
            *(430, 377, 640, 78, "both", "Shared layers: the same weights for both"),
            (f"{config.shared_blocks} conformer blocks, width {config.width}", shared_weights),
        ).svg(),
        Box(
            *(430, 60, 300, 66, "both", "Audio-visual prediction"),
            (widths(model.fusion), parameters(model.fusion)),
        ).svg(),
        arrow((371, 262), (418, 262), (418, 97)),
        arrow((489, 262), (442, 262), (442, 97)),
    ]
    if config.residual:
        parts.append(
            '<text x="430" y="321" font-size="13" fill="#1c2024" text-anchor="middle">'
            "residual connections go around the shared layers</text>"
        )
    total = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    parts.append(
        f'<text x="{WIDTH - 16}" y="26" font-size="13" fill="#444b54" text-anchor="end">'
        f"{config.name}, {total}</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" role="img" '
        'aria-label="The architecture of VAVL"><defs><marker id="head" viewBox="0 0 8 8" refX="7" '
        'refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" '
        'fill="#444b54"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def paper_model() -> VAVL:
    """VAVL in the sizes of the paper."""
    categories = ("angry", "disgust", "fear", "happy", "neutral", "sad")
    sizes = {"acoustic_dim": 1024, "visual_dim": 1408, "categories": categories}
    return VAVL(VAVLConfig.preset("paper", **sizes))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(paper_model()), encoding="utf-8")
