"""Faces of a video as features: gaps, keys, workers, and image models of transformers."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from vavl.data.manifest import Manifest, Utterance
from vavl.data.store import FeatureStore
from vavl.errors import InputError, MediaError
from vavl.faces.alignment import Face, template
from vavl.features.extract import extract
from vavl.features.face_features import (
    DARK,
    FLAT,
    SMALL,
    SMALLEST_FACE,
    UNREADABLE,
    FaceFeatures,
    FaceSource,
)
from vavl.features.image_encoder import ImageEncoder
from vavl.features.registry import build_extractor, extractor_names, rebuild_extractor
from vavl.media.frames import array_frames


class Bright:
    """Finds a face in bright frames."""

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        landmarks = (template(32) + 4).astype(np.float32)
        face = Face((4, 4, 36, 36), 0.9, landmarks)
        return [[face] if frame.mean() > 100 else [] for frame in frames]


class Nobody:
    """Finds no face."""

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        return [[] for _ in frames]


class Mean:
    name, dim, parameters, weights_sha256, source = "mean", 3, {"a": 1}, None, None

    def load(self) -> None:
        pass

    def embed_faces(self, frames: Sequence[np.ndarray], faces: Sequence[Face]) -> np.ndarray:
        assert len(frames) == len(faces) > 0
        return np.stack(frames).mean((1, 2)).astype(np.float32)


def test_steps_without_a_face_are_nan_and_keep_their_place() -> None:
    frames = np.zeros((20, 40, 40, 3), np.uint8)
    frames[5:10] = 200
    features = FaceFeatures(Mean(), Bright(), frame_rate_hz=10, detect_every=1)
    steps = list(features.steps(array_frames(frames, 10)))
    shown = [not np.isnan(step.features).any() for step in steps]
    assert [k for k, seen in enumerate(shown) if seen] == list(range(5, 10))
    assert all(step.features.tolist() == [200] * 3 for step in steps[5:10])
    assert [step.face is not None for step in steps] == shown
    assert steps[7].brightness == pytest.approx(200 / 255)


class Everywhere:
    """A face in every frame, as wide as its first pixel says."""

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        return [
            [Face((4, 4, 4 + int(frame[0, 0, 0]), 44), 0.9, template(32).astype(np.float32))]
            for frame in frames
        ]


def faces_of(width: int, light: float, contrast: float) -> np.ndarray:
    """Three frames: a chequered face."""
    squares = np.indices((48, 48)).sum(axis=0) // 8 % 2 * 2.0 - 1
    frames = np.broadcast_to((light + contrast * squares)[None, ..., None], (3, 48, 48, 3))
    frames = np.round(255 * frames).astype(np.uint8)
    frames[:, 0, 0, 0] = width
    return frames


def test_a_face_that_shows_nothing_is_no_evidence() -> None:
    strict = FaceFeatures(Mean(), Everywhere(), 10, detect_every=1, evidence_only=True)
    lax = FaceFeatures(Mean(), Everywhere(), 10, detect_every=1)
    for frames, flaw in (
        (faces_of(40, 0.5, 0.2), None),
        (faces_of(int(SMALLEST_FACE), 0.15, 0.1), None),
        (faces_of(int(SMALLEST_FACE) - 1, 0.5, 0.2), SMALL),
        (faces_of(40, 0.03, 0.03), DARK),
        (faces_of(40, 0.5, 0.01), FLAT),
    ):
        for step in strict.steps(array_frames(frames, 10)):
            assert (step.flaw, step.is_evidence) == (flaw, flaw is None)
            assert np.isnan(step.features).all() == (flaw is not None)
            assert step.face is not None
        assert all(step.is_evidence for step in lax.steps(array_frames(frames, 10)))
    assert "evidence_only" not in lax.spec.parameters
    assert strict.spec.key != lax.spec.key


def test_what_the_network_cannot_read_is_no_evidence(tmp_path: Path) -> None:
    from PIL import Image

    class Blind(Mean):
        def embed_faces(self, frames: Sequence[np.ndarray], faces: Sequence[Face]) -> np.ndarray:
            rows = super().embed_faces(frames, faces)
            rows[rows[:, 1] < 100] = np.nan
            return rows

    features = FaceFeatures(Blind(), Everywhere(), 10, detect_every=1)
    frames = np.concatenate([faces_of(40, 0.5, 0.1), faces_of(40, 0.3, 0.1)])
    steps = list(features.steps(array_frames(frames, 10)))
    assert [step.flaw for step in steps] == [None] * 3 + [UNREADABLE] * 3
    for number, frame in enumerate(frames[3:]):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    with pytest.raises(MediaError, match=r"no face could be used \(unreadable\) in any"):
        features.extract_file(tmp_path)


def test_a_folder_of_frames_without_a_face_is_an_error(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / f"{number}.png")
    features = FaceFeatures(Mean(), Bright())
    with pytest.raises(MediaError, match="no face was found in any of the"):
        features.extract_file(tmp_path)


def test_raw_pictures_to_a_store(tmp_path: Path) -> None:
    from PIL import Image

    for name, brightness in (("seen", 200), ("dark", 0)):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.full((40, 40, 3), brightness if number else 0, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    manifest = Manifest(
        [Utterance(name, "c", "ann", video_path=name) for name in ("seen", "dark")], root=tmp_path
    )
    features = FaceFeatures(Mean(), Bright(), frame_rate_hz=25, detect_every=1)
    report = extract(manifest, features, tmp_path / "store", progress=False)
    assert report.done == 1
    assert "no face was found" in report.failed["dark"]
    stored = FeatureStore.open(tmp_path / "store").read("seen")
    assert np.isnan(stored).tolist() == [[True] * 3, [False] * 3, [False] * 3]


def test_everything_that_changes_the_numbers_is_in_the_key() -> None:
    keys = {
        build_extractor("visual", "compact-face", **arguments).spec.key
        for arguments in (
            {},
            {"frame_rate_hz": 25},
            {"detect_every": 1},
            {"main": "largest"},
            {"main": 0},
            {"mirrored": False},
        )
    }
    assert len(keys) == 6


def test_it_is_rebuilt_from_its_description_and_sent_to_other_processes() -> None:
    features = build_extractor("visual", "compact-face", frame_rate_hz=5, mirrored=False)
    assert rebuild_extractor(features.spec).spec.key == features.spec.key
    features.load()
    assert len(pickle.dumps(features)) < 20_000, "weights are read again, not sent"
    assert pickle.loads(pickle.dumps(features)).spec.key == features.spec.key


def test_an_image_model_of_transformers(vit: Path) -> None:
    import torch
    from transformers import ViTModel

    assert "hf:ID_OR_FOLDER" in extractor_names("visual")
    features = build_extractor("visual", f"hf:{vit}", margin=0.0)
    assert features.spec.dim == 16
    assert rebuild_extractor(features.spec).spec.key == features.spec.key
    frames = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    frames[:] = frames[:, :1, :1]  # of one colour each, so that the crop does not matter
    faces = [Bright().detect(np.full_like(frames[:1], 200))[0][0]] * 3
    found = ImageEncoder(str(vit), margin=0.0).embed_faces(frames, faces)
    pixels = torch.from_numpy(frames[:, :32, :32].transpose(0, 3, 1, 2).copy()).float() / 255
    model = ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = model((pixels - 0.5) / 0.5).last_hidden_state.mean(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    first = ImageEncoder(str(vit), pooling="first").embed_faces(frames, faces)
    assert not np.allclose(first, found, atol=1e-3)


def test_what_is_no_image_model_is_named(vit: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pooling: expected 'mean' or 'first'"):
        ImageEncoder(str(vit), pooling="last")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is none"):
        build_extractor("visual", f"hf:{tmp_path}/nothing")
    with pytest.raises(InputError, match="main"):
        FaceFeatures(Mean(), Bright(), main="tallest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="frame_rate_hz"):
        FaceFeatures(Mean(), Bright(), frame_rate_hz=0)


def test_a_given_face_is_the_whole_picture_and_still_must_show_something() -> None:
    features = FaceFeatures(Mean(), Nobody(), frame_rate_hz=10, evidence_only=True)
    generator = np.random.default_rng(0)
    faces = generator.integers(60, 200, (6, 48, 48, 3), np.uint8)
    (upright, given) = (
        list(features.steps(array_frames(faces, 10), face=face)) for face in ("upright", "given")
    )
    assert [step.face for step in upright] == [None] * 6
    assert all(step.is_evidence and step.faces_seen == 1 for step in given)
    assert given[0].face is not None
    assert given[0].face.box == (0, 0, 48, 48)
    np.testing.assert_allclose(given[0].features, faces[0].mean((0, 1)), rtol=1e-5)
    for pictures, flaw in (
        (faces[:1, :18, :18], SMALL),
        (faces[:1] // 20, DARK),
        (np.full_like(faces[:1], 120), FLAT),
    ):
        (step,) = features.steps(array_frames(pictures, 10), face="given")
        assert step.flaw == flaw


@pytest.mark.parametrize("face", ["upright", "found"])
def test_faces_are_the_same_whether_other_directions_are_tried(face: FaceSource) -> None:
    frames = np.zeros((20, 40, 40, 3), np.uint8)
    frames[5:10] = 200
    features = FaceFeatures(Mean(), Bright(), frame_rate_hz=10, detect_every=1)
    steps = list(features.steps(array_frames(frames, 10), face=face))
    assert [k for k, step in enumerate(steps) if step.face] == list(range(5, 10))
    assert all(step.face is None or step.face.quarter_turns == 0 for step in steps)
