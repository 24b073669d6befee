"""Fixtures every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """Address of a small Ray cluster on this machine; ``--engine ray`` uses it meanwhile."""
    ray = pytest.importorskip("ray", reason="needs vavl[ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # actors import what tests import
        context = ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield context.address_info["address"]
        ray.shutdown()


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Six synthetic speakers with twelve clips each: log-mel and action units."""
    folder = tmp_path_factory.mktemp("tiny-corpus")
    manifest = prepare_synthetic(folder, speakers=6, clips_per_speaker=12, video=False)
    for modality, name in ((Modality.ACOUSTIC, "logmel"), (Modality.VISUAL, "arrays")):
        extractor = build_extractor(modality, name)
        extract(manifest, extractor, folder / "stores" / modality, progress=False)
    return TinyCorpus(manifest, folder)


@pytest.fixture(scope="session")
def faster_voices(tiny_corpus: TinyCorpus) -> Path:
    """A store of the sound of the tiny corpus at another speed."""
    store = tiny_corpus.folder / "stores" / "faster"
    extractor = build_extractor(Modality.ACOUSTIC, "logmel", speed=1.1)
    extract(tiny_corpus.manifest, extractor, store, progress=False)
    return store
