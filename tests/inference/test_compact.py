"""The model that comes with the package."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import vavl
from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.features.compact_face import CLASSES
from vavl.metrics import uar
from vavl.types import Modality

OF_RAVDESS = {"calm": "neutral", "fearful": "fear", "surprised": "surprise"}


@pytest.fixture(scope="session")
def compact() -> vavl.Recognizer:
    return vavl.load()


def test_it_hears_and_sees_without_a_download(compact: vavl.Recognizer) -> None:
    assert compact.categories == CLASSES
    assert compact.reader.accepts_audio
    assert compact.reader.accepts_video
    voice = np.sin(np.arange(32_000) ** 1.1 / 40).astype(np.float32) * 0.1
    found = compact.predict(audio=voice, frames=np.full((50, 90, 120, 3), 90, np.uint8))
    assert found.modality is Modality.ACOUSTIC
    assert found.warnings == ("no face was found",)
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_all_weights_together_are_small() -> None:
    weights = [
        path
        for room in ("vavl.faces", "vavl.features", "vavl.inference")
        for path in Path(str(resources.files(room) / "assets")).rglob("*.safetensors")
    ]
    assert len(weights) == 4
    assert sum(path.stat().st_size for path in weights) <= 25_000_000


def test_it_needs_no_heavy_library() -> None:
    code = (
        "import sys, numpy as np, vavl, vavl.cli.display\n"
        "vavl.load().predict(audio=np.ones(16000, np.float32) * np.sin(np.arange(16000)),\n"
        "                    frames=np.zeros((9, 60, 60, 3), np.uint8))\n"
        "heavy = {'transformers', 'onnxruntime', 'sklearn', 'matplotlib', 'lightning_fabric'}\n"
        "heavy |= {'fsspec', 'pyarrow', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "not for commercial use" in done.stderr


@pytest.mark.shared
def test_unseen_actors_are_heard_as_recorded(
    compact: vavl.Recognizer, shared: Path, tmp_path: Path
) -> None:
    manifest = prepare_ravdess(shared / "data" / "ravdess", tmp_path)
    truth, guesses = [], []
    for clip in manifest:
        path = manifest.path(clip, "audio_path")
        if clip.fold == 0 and path is not None:
            truth.append(CLASSES.index(OF_RAVDESS.get(str(clip.category), str(clip.category))))
            guesses.append(CLASSES.index(str(compact.predict(path).label)))
    assert len(truth) == 300
    assert uar(truth, guesses) == pytest.approx(0.600, abs=0.01)


@pytest.mark.shared
def test_the_face_of_the_samples_is_seen(compact: vavl.Recognizer, shared: Path) -> None:
    expected = {"single_face.mp4": 1.0, "WolfgangLanger_Pexels.mp4": 1.0, "no_face.mp4": 0.0}
    samples = shared / "samples"
    assert {name: compact.predict(samples / name).face_share for name in expected} == expected
