"""Alignment of faces to the template."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vavl.errors import InputError
from vavl.faces.alignment import Face, align, similarity_transform, template


def face_at(landmarks: np.ndarray) -> Face:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    return Face((*low.tolist(), *high.tolist()), 1.0, landmarks.astype(np.float32))


def transformed(points: np.ndarray, scale: float, angle: float, shift: np.ndarray) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ turn.T + shift


# Similarity transform and template


@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.01, 100),
    angle=st.floats(-np.pi, np.pi),
    shift=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
)
def test_a_similarity_is_recovered_exactly(
    seed: int, scale: float, angle: float, shift: tuple[float, float]
) -> None:
    source = np.random.default_rng(seed).uniform(-50, 50, (5, 2))
    target = transformed(source, scale, angle, np.array(shift))
    matrix = similarity_transform(source, target)
    np.testing.assert_allclose(
        source @ matrix[:, :2].T + matrix[:, 2], target, atol=1e-9 * (scale * 100 + 1e3)
    )
    assert np.hypot(matrix[0, 0], matrix[1, 0]) == pytest.approx(scale)


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The general solution by singular value decomposition, equations 39 to 43 of the paper."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    p, q = source - source_mean, target - target_mean
    u, d, vt = np.linalg.svd(q.T @ p / len(p))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = (d * signs).sum() / (p**2).sum(axis=1).mean()
    shift = target_mean - scale * rotation @ source_mean
    return np.concatenate([scale * rotation, shift[:, None]], axis=1)


@given(seed=st.integers(0, 10_000), mirrored=st.booleans())
def test_it_is_the_least_squares_solution_of_umeyama(seed: int, mirrored: bool) -> None:
    generator = np.random.default_rng(seed)
    source = generator.normal(size=(4, 5, 2))
    target = template(112) + generator.normal(size=(5, 2))
    if mirrored:  # where the best fit would be a reflection
        source[..., 0] = -target[:, 0] / 50 + 0.1 * source[..., 0]
        source[..., 1] = target[:, 1] / 50
    expected = np.stack([umeyama(points, target) for points in source])
    np.testing.assert_allclose(similarity_transform(source, target), expected, atol=1e-8)


@given(size=st.integers(1, 300), margin=st.floats(-0.3, 3))
def test_a_margin_shrinks_the_template_about_the_centre(size: int, margin: float) -> None:
    plain, wide = template(size), template(size, margin)
    np.testing.assert_allclose((wide - size / 2) * (1 + 2 * margin), plain - size / 2, atol=1e-9)


def test_the_template_at_112_is_that_of_arcface() -> None:
    assert (template(112) - 0.5)[0] == pytest.approx([38.2946, 51.6963])
    np.testing.assert_allclose(template(48), template(112) * 48 / 112)


@pytest.mark.parametrize(
    ("source", "target", "match"),
    [
        (np.ones((5, 2)), np.ones((5, 2)), "coincide"),
        (np.ones((5, 3)), np.ones((5, 3)), "same number of points"),
        (np.eye(2), template(9), "same number of points"),
        (np.full((5, 2), np.nan), template(9), "finite"),
    ],
)
def test_points_that_define_no_transform(source, target, match) -> None:
    with pytest.raises(InputError, match=match):
        similarity_transform(source, target)


# Alignment


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(24, 160),
    scale=st.floats(0.5, 2.5),
    angle=st.floats(-1, 1),
    margin=st.sampled_from([-0.1, 0.0, 0.3]),
)
def test_a_drawn_pattern_comes_to_the_template(
    size: int, scale: float, angle: float, margin: float
) -> None:
    """Five blobs at the landmarks of a frame: the crop has them where the template says."""
    landmarks = transformed(template(60) - 30, scale, angle, np.array([110.3, 90.8]))
    y, x = np.mgrid[:180, :220] + 0.5
    goal = template(size, margin)
    for number in range(5):
        distance2 = (x - landmarks[number, 0]) ** 2 + (y - landmarks[number, 1]) ** 2
        blob = 255 * np.exp(-distance2 / (2 * (3 * scale) ** 2))
        frame = np.repeat(blob[..., None], 3, axis=2).round().astype(np.uint8)
        crop = align(frame[None], [face_at(landmarks)], size, margin)[0, ..., 0].astype(float)
        rows, columns = np.mgrid[:size, :size] + 0.5
        found = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
        inside = (goal[number] > 0.15 * size) & (goal[number] < 0.85 * size)
        if inside.all():  # otherwise the blob is cut by the edge of the crop
            np.testing.assert_allclose(found, goal[number], atol=0.3 + 0.004 * size)


def test_a_face_that_fits_is_copied_exactly() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 70, 90, 3), dtype=np.uint8)
    landmarks = template(40) + np.array([13, 21])
    crops = align(frames, [face_at(landmarks)] * 2, 40)
    np.testing.assert_array_equal(crops, frames[:, 21:61, 13:53])
    # At half the size, each pixel is the mean of the four that it covers.
    halves = align(frames, [face_at(landmarks)] * 2, 20).astype(float)
    means = frames[:, 21:61, 13:53].reshape(2, 20, 2, 20, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(halves, means, atol=0.51)


def test_crops_go_on_with_the_border_and_do_not_depend_on_neighbours() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 50, 50, 3), dtype=np.uint8)
    frames[0] = 77
    faces = [face_at(template(30) + shift) for shift in ((-20, -20), (5, 9))]
    faces.append(face_at(template(200)))  # larger than its frame
    crops = align(frames, faces, 32)
    assert (crops[0] == 77).all()
    for number in range(3):
        alone = align(frames[number : number + 1], faces[number : number + 1], 32)
        np.testing.assert_array_equal(alone[0], crops[number])


def test_align_checks_its_arguments() -> None:
    frames = np.zeros((2, 20, 20, 3), np.uint8)
    face = face_at(template(10))
    assert align(frames[:0], [], 32).shape == (0, 32, 32, 3)
    with pytest.raises(InputError, match=r"one for each of the 2 frames, got 1"):
        align(frames, [face], 32)
    with pytest.raises(InputError, match=r"(?s)2 problems.*size.*margin"):
        align(frames, [face, face], 0, margin=-0.5)
    with pytest.raises(InputError, match="coincide"):
        align(frames, [face, face_at(np.zeros((5, 2)))], 32)
    # What is left of points when all likeness to the template is taken out.
    scrambled = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]])
    goal = template(32)
    p, q = ((points - points.mean(axis=0)) @ [1, 1j] for points in (scrambled, goal))
    residual = p - (q.conj() @ p) / (q.conj() @ q) * q
    with pytest.raises(InputError, match="face 1 have no likeness"):
        align(frames, [face, face_at(np.stack([residual.real, residual.imag], axis=1))], 32)
