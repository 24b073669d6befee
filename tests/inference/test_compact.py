"""The model that comes with the package."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from voices import babble

import vavl
from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.errors import MediaError
from vavl.faces.alignment import Face
from vavl.features import compact_face
from vavl.features.compact_face import CLASSES, crop_template
from vavl.inference.loading import COMPACT_NOTICE, model_card, model_folder
from vavl.metrics import uar
from vavl.types import Modality

UAR_OF_UNSEEN_ACTORS = 0.799
"""docs/results/compact.md"""
OF_RAVDESS = {"calm": "neutral", "fearful": "fear", "surprised": "surprise"}


@pytest.fixture(scope="session")
def compact() -> vavl.Recognizer:
    return vavl.load()


def test_it_hears_and_sees_without_a_download(compact: vavl.Recognizer) -> None:
    assert compact.categories == CLASSES
    assert compact.reader.accepts_audio
    assert compact.reader.accepts_video
    found = compact.predict(audio=babble(3.0), frames=np.full((50, 90, 120, 3), 90, np.uint8))
    assert found.modality is Modality.ACOUSTIC
    assert "no face was found" in found.warnings
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_its_card_comes_with_it() -> None:
    card = model_card(model_folder(None))
    assert card is not None
    assert {"## Data", "## Licence", "## Limits"} <= set(card.splitlines())


def test_its_notice_is_one_line_and_comes_once(caplog: pytest.LogCaptureFixture) -> None:
    compact_face._pretrained.cache_clear()
    for _ in range(2):
        vavl.load().reader.visual_extractor.load()
    assert caplog.messages == [COMPACT_NOTICE]
    assert "\n" not in COMPACT_NOTICE
    assert "`vavl model-card`" in COMPACT_NOTICE


def tone(size: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(size) / 16_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros(48_000, np.float32), "the sound is silence"),
        (np.full(48_000, 0.5, np.float32), "the sound is silence"),
        (tone(48_000), "no speech in the sound"),
        (0.1 * np.random.default_rng(0).standard_normal(48_000), "no speech in the sound"),
    ],
)
def test_it_has_nothing_to_say_of_what_is_no_speech(
    compact: vavl.Recognizer, sound: np.ndarray, reason: str
) -> None:
    with pytest.raises(MediaError, match=f"nothing to go by: {reason}"):
        compact.predict(audio=sound)


def test_a_clip_with_both_is_one_of_the_face_where_nobody_speaks(
    compact: vavl.Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = compact.reader.visual_extractor
    box = Face((30, 10, 90, 80), 1.0, (crop_template() * 1.2 + [30, 15]).astype(np.float32))
    monkeypatch.setattr(faces.detector, "detect", lambda frames: [[box] for _ in frames])
    monkeypatch.setattr(faces.embedder, "readable_only", False)
    noise = np.random.default_rng(1).integers(0, 256, (50, 90, 120, 3), np.uint8)
    found = compact.predict(audio=tone(32_000), frames=noise)
    assert found.modality is Modality.VISUAL
    assert "no speech in the sound" in found.warnings
    both = compact.predict(audio=babble(2.0), frames=noise)
    assert both.modality is Modality.AUDIOVISUAL
    assert both.probabilities != found.probabilities


def test_all_weights_together_are_small() -> None:
    weights = [
        path
        for room in ("vavl.faces", "vavl.features", "vavl.inference")
        for path in Path(str(resources.files(room) / "assets")).rglob("*.safetensors")
    ]
    assert len(weights) == 5
    assert sum(path.stat().st_size for path in weights) <= 25_000_000


def test_it_needs_no_heavy_library() -> None:
    code = (
        "import sys, numpy as np, vavl, vavl.cli.display\n"
        "try:\n"
        "    vavl.load().predict(audio=np.sin(np.arange(16000.0)),\n"
        "                        frames=np.zeros((9, 60, 60, 3), np.uint8))\n"
        "except vavl.errors.MediaError as error:\n"
        "    assert 'no speech' in str(error), error\n"
        "heavy = {'transformers', 'onnxruntime', 'sklearn', 'matplotlib', 'lightning_fabric'}\n"
        "heavy |= {'fsspec', 'pyarrow', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr.strip() == COMPACT_NOTICE


@pytest.mark.shared
def test_unseen_actors_are_heard_as_recorded(
    compact: vavl.Recognizer, shared: Path, tmp_path: Path
) -> None:
    manifest = prepare_ravdess(shared / "data" / "ravdess", tmp_path)
    truth, guesses = [], []
    for clip in manifest:
        path = manifest.path(clip, "audio_path")
        if clip.fold == 0 and path is not None:
            found = compact.predict(path)
            truth.append(CLASSES.index(OF_RAVDESS.get(str(clip.category), str(clip.category))))
            guesses.append(max(range(7), key=[*found.probabilities.values()].__getitem__))
    assert len(truth) == 300
    assert uar(truth, guesses) == pytest.approx(UAR_OF_UNSEEN_ACTORS, abs=0.01)


@pytest.mark.shared
def test_the_face_of_the_samples_is_seen(compact: vavl.Recognizer, shared: Path) -> None:
    samples = shared / "samples"
    for name in ("single_face.mp4", "WolfgangLanger_Pexels.mp4"):
        assert compact.predict(samples / name).face_share == 1.0
    with pytest.raises(MediaError, match="no speech in the sound, no face was found"):
        compact.predict(samples / "no_face.mp4")


@pytest.mark.shared
def test_neutral_speakers_are_not_given_an_emotion(compact: vavl.Recognizer, shared: Path) -> None:
    films = sorted((shared / "samples").glob("grid_*.mpg"))[::3]
    assert {compact.predict(film).label for film in films} <= {"neutral", vavl.UNSURE}
