"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared research data; tests that use it carry the marker ``shared``."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("VAVL_SHARED", default))
    if not folder.is_dir():
        pytest.skip("shared research data not found: set VAVL_SHARED to its folder")
    return folder
