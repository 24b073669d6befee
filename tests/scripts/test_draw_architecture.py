"""The picture of VAVL is drawn from its modules, and the one in the docs is of today's."""

from __future__ import annotations

from pathlib import Path

import torch
from draw_architecture import draw, paper_model

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "architecture.svg"


def test_the_picture_in_the_docs_is_of_the_model_as_it_is() -> None:
    with torch.device("meta"):  # sizes alone
        drawn = draw(paper_model())
    assert drawn == PICTURE.read_text("utf-8")
    assert "53,884,818 parameters" in drawn
