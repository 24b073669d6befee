"""How all plots of vavl look: colours of text and lines, and what matplotlib is told."""

from __future__ import annotations

from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b8794", "#5b3c88")
"""Okabe and Ito, "Color Universal Design", then two more: told apart with every colour vision."""

INK, MUTED, LINE = "#1c2430", "#5d6876", "#dde2e8"

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "svg.hashsalt": "vavl",  # the same numbers give the same bytes
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "text.parse_math": False,  # a clip or a category may be called "$x$"
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}
