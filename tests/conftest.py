"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import TinyCorpus

from vavl.data.corpora.synthetic import prepare_synthetic
from vavl.features.extract import build_extractor, extract
from vavl.types import Modality


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared research data; tests that use it carry the marker ``shared``."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("VAVL_SHARED", default))
    if not folder.is_dir():
        pytest.skip("shared research data not found: set VAVL_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Six synthetic speakers with twelve clips each: log-mel and action units."""
    folder = tmp_path_factory.mktemp("tiny-corpus")
    manifest = prepare_synthetic(folder, speakers=6, clips_per_speaker=12, video=False)
    for modality, name in ((Modality.ACOUSTIC, "logmel"), (Modality.VISUAL, "arrays")):
        extractor = build_extractor(modality, name)
        extract(manifest, extractor, folder / "stores" / modality, progress=False)
    return TinyCorpus(manifest, folder)
