"""Face detection with MTCNN."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_device import NAME, pretend_device

from vavl.data.corpora.synthetic_drawing import draw_look, film
from vavl.errors import InputError
from vavl.faces import detector
from vavl.faces.alignment import Face, FaceDetector, align, template
from vavl.faces.detector import MtcnnDetector, non_maximum_suppression

FACE_SAMPLES = ["single_face.mp4", "WolfgangLanger_Pexels.mp4"]


def decoded(path: Path, rate_hz: float) -> np.ndarray:
    """Frames of a video, about so many a second."""
    import av

    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= len(frames) / rate_hz:
                frames.append(frame.to_ndarray(format="rgb24"))
    return np.stack(frames)


# Non-maximum suppression


def greedy(boxes: np.ndarray, scores: np.ndarray, threshold: float, of_smaller: bool) -> list[int]:
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in chosen:
            x = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            y = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            shared = max(x, 0) * max(y, 0)
            a, b = ((boxes[k, 2] - boxes[k, 0]) * (boxes[k, 3] - boxes[k, 1]) for k in (i, j))
            if shared > threshold * (min(a, b) if of_smaller else a + b - shared):
                break
        else:
            chosen.append(int(i))
    return chosen


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 60),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    of_smaller=st.booleans(),
)
def test_suppression_is_the_greedy_choice(
    seed: int, count: int, threshold: float, of_smaller: bool
) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.integers(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + generator.integers(1, 30, (count, 2))], axis=1)
    scores = generator.integers(0, 10, count) / 10  # with ties
    chosen = non_maximum_suppression(
        torch.from_numpy(boxes).float(),
        torch.from_numpy(scores).float(),
        threshold,
        of_smaller=of_smaller,
    )
    assert chosen.tolist() == greedy(boxes, scores, threshold, of_smaller)


# Detection


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 500), (11, 11), (12, 13), (20, 20), (37, 61), (48, 48), (101, 33)]
)
def test_small_and_odd_sizes_have_no_face(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    assert MtcnnDetector(minimum_face_px=12).detect(frames) == [[], []]
    assert MtcnnDetector().detect(frames) == [[], []]
    assert MtcnnDetector().detect(frames[:0]) == []


def test_a_busy_frame_takes_bounded_work() -> None:
    """With every candidate let through, only the limits and the suppression hold it back."""
    frames = np.random.default_rng(0).integers(0, 256, (1, 150, 150, 3), dtype=np.uint8)
    faces = MtcnnDetector(minimum_face_px=20, thresholds=(0, 0, 0)).detect(frames)[0]
    scores = [face.score for face in faces]
    assert 0 < len(faces) < 1000
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert all(np.isfinite(face.landmarks).all() for face in faces)


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        (np.zeros((2, 30, 30, 3), np.float32), "expected uint8"),
        (np.zeros((30, 30, 3), np.uint8), r"frames\[None\]"),
        (np.zeros((2, 3, 30, 30), np.uint8), r"\(N, H, W, 3\)"),
        (np.zeros((2, 30, 0, 3), np.uint8), "at least 1 x 1"),
        (np.zeros((30, 30), np.int64), "2 problems"),
        ([[1]], "expected an array"),
    ],
)
def test_frames_of_another_kind_are_refused(frames, match) -> None:
    with pytest.raises(InputError, match=match):
        MtcnnDetector().detect(frames)


def test_all_bad_settings_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"(?s)3 problems.*minimum_face.*thresholds.*pyramid"):
        MtcnnDetector(minimum_face_px=5, thresholds=(0.5, 2, 0.5), pyramid_factor=1)


def assert_same(found: list[Face], expected: list[Face]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        # Convolutions may add up in another order in a batch of another size.
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.box == pytest.approx(other.box, abs=0.05)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.05)


@pytest.fixture(scope="module")
def portrait(shared: Path) -> np.ndarray:
    """One frame with a face, 360 x 640."""
    return decoded(shared / "samples" / "single_face.mp4", rate_hz=0.1)[0]


@pytest.mark.shared
@pytest.mark.parametrize("name", FACE_SAMPLES)
def test_every_sampled_frame_of_a_face_has_it(shared: Path, name: str) -> None:
    detector: FaceDetector = MtcnnDetector()
    for faces in detector.detect(decoded(shared / "samples" / name, rate_hz=5)):
        assert len(faces) == 1
        x0, y0, x1, y1 = faces[0].box
        left_eye, right_eye, nose, left_mouth, right_mouth = faces[0].landmarks
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        # A hand over the mouth bends single points, not the order of eyes, nose and mouth.
        assert left_eye[1] + right_eye[1] < 2 * nose[1] < left_mouth[1] + right_mouth[1]
        for x, y in faces[0].landmarks:
            assert x0 < x < x1
            assert y0 < y < y1


@pytest.mark.shared
def test_no_frame_without_a_face_has_one(shared: Path) -> None:
    frames = decoded(shared / "samples" / "no_face.mp4", rate_hz=25)
    assert not any(MtcnnDetector().detect(frames))
    assert not any(MtcnnDetector().detect(frames[::4, :, ::-1]))


@pytest.mark.shared
def test_a_frame_does_not_depend_on_its_neighbours(shared: Path, portrait: np.ndarray) -> None:
    detector = MtcnnDetector()
    other = decoded(shared / "samples" / "WolfgangLanger_Pexels.mp4", rate_hz=0.1)[0]
    # More than one pass, with and without neighbours that have faces.
    batch = np.stack([portrait, np.zeros_like(portrait), other, *[portrait[:, ::-1]] * 8])
    found = detector.detect(batch)
    for frame, faces in zip(batch[:4], found[:4], strict=True):
        assert_same(faces, detector.detect(frame[None])[0])
    batch.flags.writeable = False
    again = detector.detect(batch)
    assert [[face.box for face in faces] for faces in again] == [
        [face.box for face in faces] for faces in found
    ]


@pytest.mark.shared
@pytest.mark.parametrize("step", [1, 2])
def test_a_face_keeps_its_place_in_a_larger_frame(portrait: np.ndarray, step: int) -> None:
    """Pasted twice, also shrunk: both are found, where they are."""
    small = portrait[::step, ::step]
    alone = MtcnnDetector(minimum_face_px=40).detect(small[None])[0][0]
    frame = np.zeros((767, 1301, 3), np.uint8)
    places = [(17, 390), (660, 31)]
    for x, y in places:
        frame[y : y + small.shape[0], x : x + small.shape[1]] = small
    found = MtcnnDetector(minimum_face_px=40).detect(frame[None])[0]
    assert len(found) == 2
    size = alone.box[2] - alone.box[0]
    for face, (x, y) in zip(sorted(found, key=lambda face: face.box[0]), places, strict=True):
        np.testing.assert_allclose(face.landmarks - (x, y), alone.landmarks, atol=0.06 * size)


@pytest.mark.shared
def test_large_frames_are_shrunk_without_loss(portrait: np.ndarray) -> None:
    large = portrait.repeat(3, axis=0).repeat(3, axis=1)
    before, after = (MtcnnDetector().detect(frames[None])[0] for frames in (portrait, large))
    assert len(before) == len(after) == 1
    size = before[0].box[2] - before[0].box[0]
    np.testing.assert_allclose(after[0].landmarks / 3, before[0].landmarks, atol=0.05 * size)


@pytest.mark.shared
def test_a_turned_face_is_aligned_upright(portrait: np.ndarray) -> None:
    """The crop of a face leaning by 14 degrees has its own landmarks near the template."""
    angle = np.arctan(0.25)
    y, x = np.mgrid[-180:180, -320:320]
    columns = (320 + np.cos(angle) * x - np.sin(angle) * y).round().astype(int)
    rows = (180 + np.sin(angle) * x + np.cos(angle) * y).round().astype(int)
    turned = portrait[rows.clip(0, 359), columns.clip(0, 639)]
    face = MtcnnDetector().detect(turned[None])[0][0]
    crop = align(turned[None], [face], 224, margin=0.4)
    again = MtcnnDetector(minimum_face_px=60).detect(crop)[0][0]
    np.testing.assert_allclose(again.landmarks, template(224, margin=0.4), atol=8)


# On other devices


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Two frames with two drawn faces each, one of which the edge cuts."""
    generator = np.random.default_rng(1)
    frames = np.full((2, 240, 320, 3), 128, np.uint8)
    for frame, female in zip(frames, (False, True), strict=True):
        [face] = film(generator, draw_look(generator, female=female), np.zeros((1, 17)))
        frame[60:220, 10:170], frame[40:200, 210:] = face, face[:, :110]
    return frames


def assert_same_faces(found: list[list[Face]], expected: list[list[Face]], pixels: float) -> None:
    assert [len(faces) for faces in found] == [len(faces) for faces in expected]
    for ours, theirs in zip(chain(*found), chain(*expected), strict=True):
        np.testing.assert_allclose(ours.box, theirs.box, atol=pixels)
        np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=pixels)
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)


def test_on_another_device_the_faces_are_the_same(drawn: np.ndarray) -> None:
    expected = MtcnnDetector().detect(drawn)
    assert [len(faces) for faces in expected] == [2, 2]
    with pretend_device() as mode:
        found = MtcnnDetector(device=NAME).detect(drawn)
        assert MtcnnDetector(device=NAME).detect(drawn[:, :30, :30] * 0) == [[], []]
    assert mode.operations > 200
    assert_same_faces(found, expected, pixels=1e-3)


@pytest.mark.cuda
def test_on_a_gpu_the_faces_are_the_same(drawn: np.ndarray, cuda: str) -> None:
    assert_same_faces(MtcnnDetector(device=cuda).detect(drawn), MtcnnDetector().detect(drawn), 0.05)


@pytest.mark.parametrize("side", [24, 48])
def test_crops_by_products_are_those_of_area_interpolation(side: int) -> None:
    generator = np.random.default_rng(0)
    frames = torch.from_numpy(generator.uniform(0, 255, (2, 3, 90, 130)).astype(np.float32))
    corner = generator.integers(-20, 80, (300, 2))  # many of them reach beyond the frame
    corner[:, 0] += 30
    size = generator.integers(1, 120, (300, 1))
    boxes = torch.from_numpy(np.concatenate([corner, corner + size], axis=1)).float()
    boxes = boxes[(boxes[:, 2:] > 0).all(dim=1)]
    candidates = detector._Candidates(torch.arange(len(boxes)) % 2, boxes, torch.ones(len(boxes)))
    expected = detector._crops(frames, candidates, side)
    found = detector._crops_by_products(frames, candidates, side)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
