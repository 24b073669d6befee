"""Faces on their side and upside down, and pictures that are faces already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vavl.faces.alignment import Face, align, template
from vavl.faces.detector import MtcnnDetector
from vavl.faces.given import GivenFaces
from vavl.faces.turning import AnyWayUp, turned_back
from vavl.media.video import video_frames

WIDTH, HEIGHT, SIDE = 60, 40, 16


class Eyes:
    """Finds a face where two green pixels lie above two red ones, and doubts all it is told to."""

    def __init__(self, score: float = 0.9999, wrong: float = 0.0) -> None:
        self.score, self.wrong = score, wrong
        self.calls = 0

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        self.calls += len(frames)
        return [self._face(frame) for frame in frames]

    def _face(self, frame: np.ndarray) -> list[Face]:
        (y, x), (below, _) = (
            np.argwhere(frame[..., channel] > 200).mean(axis=0)
            if frame[..., channel].any()
            else (np.nan, np.nan)
            for channel in (1, 0)
        )
        upright = below > y + 1
        score = self.score if upright else self.wrong
        if np.isnan(y) or not score:
            return []
        box = (x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2)
        landmarks = template(SIDE) + np.array(box[:2])
        return [Face(box, score, landmarks.astype(np.float32))]


def drawn() -> np.ndarray:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[12, 20:22, 1] = 255
    frame[20, 20:22, 0] = 255
    return frame


def turned(quarter_turns: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(drawn(), quarter_turns))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_face_is_found_where_it_is_and_aligned_upright(turns: int) -> None:
    upright = Eyes().detect(drawn()[None])[0][0]
    frame = turned(-turns)
    face = AnyWayUp(Eyes()).detect(frame[None])[0][0]
    assert face.quarter_turns == turns
    x0, y0, x1, y1 = face.box
    assert frame[round(y0) : round(y1), round(x0) : round(x1), 1].any()
    crops = align(np.stack([drawn()]), [upright], 24), align(frame[None], [face], 24)
    np.testing.assert_allclose(*(crop.astype(int) for crop in crops), atol=1)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_points_go_there_and_back(turns: int) -> None:
    frame = np.zeros((HEIGHT, WIDTH), np.uint8)
    frame[7, 11] = 1
    row, column = np.argwhere(np.rot90(frame, turns))[0]
    place = np.full((5, 2), (column + 0.5, row + 0.5), np.float32)
    box = (float(column), float(row), column + 1.0, row + 1.0)
    face = turned_back(Face(box, 1.0, place), turns, frame.shape)
    assert face.box == (11, 7, 12, 8)
    np.testing.assert_array_equal(face.landmarks, np.full((5, 2), (11.5, 7.5)))


def test_an_upright_face_costs_nothing_and_no_face_little() -> None:
    eyes = Eyes()
    any_way = AnyWayUp(eyes)
    for _ in range(200):
        assert any_way.detect(drawn()[None])[0][0].quarter_turns == 0
    assert eyes.calls == 200
    eyes = Eyes()
    any_way = AnyWayUp(eyes)
    for _ in range(1000):
        assert any_way.detect(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)) == [[]]
    assert eyes.calls == 1000 + 9 * 3


def test_a_doubtful_face_the_wrong_way_up_gives_way_to_a_certain_one() -> None:
    assert AnyWayUp(Eyes(wrong=0.98)).detect(turned(1)[None])[0][0].quarter_turns == 3
    # Nothing that is itself in doubt takes the place of anything.
    assert AnyWayUp(Eyes(score=0.95)).detect(turned(1)[None]) == [[]]
    doubtful = AnyWayUp(Eyes(score=0.95, wrong=0.97))
    assert doubtful.detect(drawn()[None])[0][0].quarter_turns == 0


def test_where_the_film_is_upright_after_all_the_direction_changes_back() -> None:
    any_way = AnyWayUp(Eyes())
    assert any_way.detect(turned(2)[None])[0][0].quarter_turns == 2
    found = [any_way.detect(drawn()[None])[0] for _ in range(4)]
    assert [face.quarter_turns for faces in found for face in faces][-1] == 0
    assert len(found[-1]) == 1


def test_a_given_face_has_the_landmarks_found_or_those_of_a_standard_crop() -> None:
    standard = template(1)
    found = GivenFaces(Eyes(), standard).detect(drawn()[None])[0]
    assert len(found) == 1
    assert found[0].box == (0, 0, WIDTH, HEIGHT)
    expected = Eyes().detect(drawn()[None])[0][0].landmarks
    np.testing.assert_allclose(found[0].landmarks, expected, rtol=1e-5)
    (nothing,) = GivenFaces(Eyes(), standard).detect(np.zeros((1, 90, 80, 3), np.uint8))[0]
    np.testing.assert_allclose(nothing.landmarks, standard * (80, 90), rtol=1e-6)
    assert nothing.box == (0, 0, 80, 90)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["single_face.mp4", "grid_bbaf2n.mpg"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_real_faces_in_a_turned_film(shared: Path, name: str, turns: int) -> None:
    film = video_frames(shared / "samples" / name, frame_rate_hz=2.5, end_s=1.2, max_side=320)
    any_way = AnyWayUp(MtcnnDetector())
    for frame in film:
        face = any_way.detect(np.rot90(frame.pixels, -turns)[None])[0][0]
        assert face.quarter_turns == turns
        upright = MtcnnDetector().detect(frame.pixels[None])[0][0]
        shape = np.rot90(frame.pixels, -turns).shape
        expected = turned_back(upright, turns, shape).box
        size = upright.box[2] - upright.box[0]
        np.testing.assert_allclose(face.box, expected, atol=0.05 * size)
