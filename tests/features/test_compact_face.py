"""The network of compact-face, its weights, and the crops it wants."""

from __future__ import annotations

import logging
from dataclasses import fields
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from compact_face_data import VotedFaces, load_split
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.faces.alignment import Face
from vavl.features import compact_face
from vavl.features.compact_face import (
    NONE_ABOVE,
    NOTICE,
    OUTPUTS,
    CompactFace,
    CompactFaceFeatures,
    crop_faces,
    crop_template,
    load_weights,
    pretrained,
)

ASSETS = resources.files("vavl.features") / "assets"


def random_crops(count: int) -> np.ndarray:
    """Smooth grey patterns."""
    coarse = np.random.default_rng(5).integers(0, 256, (count, 6, 6), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_the_network_is_small() -> None:
    assert sum(p.numel() for p in CompactFace().parameters()) <= 2_000_000
    assert len((ASSETS / "compact_face.safetensors").read_bytes()) <= 4_000_000


def test_shapes_and_ranges() -> None:
    features = CompactFaceFeatures()
    embeddings = features.embed(random_crops(3))
    assert embeddings.shape == (3, 256)
    assert embeddings.dtype == np.float32
    assert np.isfinite(embeddings).all()
    with torch.inference_mode():
        scores = pretrained().classifier(torch.from_numpy(embeddings))
    assert scores.shape == (3, len(OUTPUTS))
    assert features.embed(random_crops(0)).shape == (0, 256)


def test_an_embedding_does_not_depend_on_its_neighbours() -> None:
    crops = random_crops(70)  # more than one pass
    together = CompactFaceFeatures().embed(crops)
    alone = np.concatenate([CompactFaceFeatures().embed(crops[[i]]) for i in (0, 63, 64, 69)])
    np.testing.assert_allclose(together[[0, 63, 64, 69]], alone, atol=1e-4)


def test_a_mirrored_face_has_the_same_embedding() -> None:
    crops = random_crops(2)
    features, once = CompactFaceFeatures(), CompactFaceFeatures(mirrored=False)
    mirror = np.ascontiguousarray(crops[:, :, ::-1])
    np.testing.assert_allclose(features.embed(crops), features.embed(mirror), atol=1e-4)
    mean = (once.embed(crops) + once.embed(mirror)) / 2
    np.testing.assert_allclose(features.embed(crops), mean, atol=1e-4)


def test_light_and_contrast_hardly_count() -> None:
    crops = random_crops(4)
    dim = (crops * 0.5 + 40).astype(np.uint8)
    before, after = CompactFaceFeatures().embed(crops), CompactFaceFeatures().embed(dim)
    assert np.abs(before - after).mean() < 0.3 * np.abs(before - before.mean(axis=0)).mean()


def test_folding_the_normalisation_changes_nothing() -> None:
    from safetensors.torch import load

    content = (ASSETS / "compact_face.safetensors").read_bytes()
    plain = CompactFace().eval()
    plain.load_state_dict({name: value.float() for name, value in load(content).items()})
    crops = torch.from_numpy(random_crops(3)).float()
    with torch.inference_mode():
        expected = plain(crops)
        torch.testing.assert_close(load_weights(content)(crops), expected, atol=1e-3, rtol=1e-3)


def test_the_notice_is_given_once(caplog: pytest.LogCaptureFixture) -> None:
    compact_face._pretrained.cache_clear()
    with caplog.at_level(logging.WARNING):
        CompactFaceFeatures().load()
        CompactFaceFeatures().embed(random_crops(1))
    assert [record.getMessage() for record in caplog.records] == [NOTICE]
    assert "\n" not in NOTICE


def test_bad_arguments_are_named() -> None:
    features = CompactFaceFeatures()
    with pytest.raises(InputError, match="uint8"):
        features.embed(np.zeros((1, 48, 48), np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="crop_faces"):
        features.embed(np.zeros((1, 48, 48, 3), np.uint8))
    with pytest.raises(InputError, match="got list"):
        features.embed([])  # type: ignore[arg-type]


# Crops


@pytest.mark.parametrize("factor", [1, 3])
def test_a_face_at_known_landmarks_is_cropped_back(factor: int) -> None:
    crop = random_crops(1)[0]
    frame = np.full((200, 260, 3), 90, np.uint8)
    large = crop.repeat(factor, axis=0).repeat(factor, axis=1)
    side = len(large)
    frame[20 : 20 + side, 50 : 50 + side] = large[:, :, None]
    landmarks = (crop_template() * factor + [50, 20]).astype(np.float32)
    face = Face((50, 20, 50 + side, 20 + side), 1.0, landmarks)
    back = crop_faces(frame[None], [face])[0]
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - crop).mean() < 2


def test_a_turned_face_is_turned_back() -> None:
    crop = random_crops(1)[0]
    frame = np.full((1, 48, 48, 3), 90, np.uint8)
    frame[0] = np.rot90(crop)[:, :, None]
    # A quarter turn against the clock brings (x, y) to (y, 48 - x).
    x, y = crop_template().T
    landmarks = np.stack([y, 48 - x], axis=1).astype(np.float32)
    back = crop_faces(frame, [Face((0, 0, 48, 48), 1.0, landmarks)])[0]
    assert np.abs(back.astype(int) - crop).mean() < 2


def test_grey_is_that_of_jpeg() -> None:
    frame = np.zeros((1, 48, 48, 3), np.uint8)
    frame[..., 1] = 100
    face = Face((0, 0, 48, 48), 1.0, crop_template().astype(np.float32))
    assert (crop_faces(frame, [face]) == 59).all()


@pytest.fixture(scope="module")
def validation(shared: Path) -> VotedFaces:
    """500 faces on whose expression most of ten people agree."""
    faces = load_split(shared / "data" / "faces", "validation")
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(faces.majority >= 0))[:500]
    return VotedFaces(*(getattr(faces, field.name)[chosen] for field in fields(faces)))


@pytest.mark.shared
def test_accuracy_on_validation_faces(validation: VotedFaces) -> None:
    embeddings = torch.from_numpy(CompactFaceFeatures().embed(validation.images))
    right = pretrained().classifier(embeddings).argmax(dim=1).numpy() == validation.majority
    # All validation faces give 0.86; three standard errors of 500 faces are 0.047.
    assert 0.81 < right.mean() < 0.91


@pytest.mark.shared
def test_what_cannot_be_read_is_a_row_of_nan(validation: VotedFaces) -> None:
    faces = CompactFaceFeatures(readable_only=True)
    noise = np.random.default_rng(0).integers(0, 256, (50, 48, 48), np.uint8)

    def unread(crops: NDArray[np.uint8]) -> float:
        return float(np.isnan(faces.embed(crops)).all(axis=1).mean())

    assert unread(validation.images) < 0.02
    assert unread(validation.images[:, ::-1]) > 0.88  # upside down
    assert unread(noise) > 0.9


def test_only_what_cannot_be_read_is_left_out() -> None:
    crops = random_crops(20)
    rows, every = CompactFaceFeatures(readable_only=True).embed(crops), CompactFaceFeatures()
    shares = pretrained().classifier(torch.from_numpy(every.embed(crops))).softmax(dim=1)
    expected = shares[:, OUTPUTS.index("none")].numpy() > NONE_ABOVE
    assert (np.isnan(rows).all(axis=1) == expected).all()
    assert np.array_equal(rows[~expected], every.embed(crops)[~expected])
    assert CompactFaceFeatures(readable_only=True).parameters != every.parameters
