"""Cuts between shots, and people who come back."""

from __future__ import annotations

import numpy as np
import pytest

from vavl.faces.alignment import Face, template
from vavl.faces.looks import CutDetector, Looks
from vavl.faces.tracking import FaceTracker
from vavl.media.frames import VideoFrame

SIZE = (120, 160)


def head(colours: int) -> np.ndarray:
    """What somebody looks like, of 64 x 64."""
    blocks = np.random.default_rng(colours).integers(40, 220, (8, 8, 3), dtype=np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)


def face_at(left: int, top: int) -> Face:
    """The face in the middle of a head drawn there."""
    # The look shows a margin of 0.6 of the face on each side: 64 pixels for 29 of the face.
    landmarks = template(64, 0.6) + np.array([left, top])
    return Face((left + 16, top + 16, left + 48, top + 48), 0.95, landmarks.astype(np.float32))


def scene(*people: tuple[int, int, int], background: int = 90) -> tuple[np.ndarray, list[Face]]:
    """A frame with heads: what they look like, left and top; and the faces in it."""
    frame = np.full((*SIZE, 3), background, np.uint8)
    for colours, left, top in people:
        frame[top : top + 64, left : left + 64] = head(colours)
    return frame, [face_at(left, top) for _, left, top in people]


class Known:
    """A detector that is told what is in each frame."""

    def __init__(self, scenes: list[tuple[np.ndarray, list[Face]]]) -> None:
        self.faces = {id(frame): faces for frame, faces in scenes}
        self.calls = 0

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        self.calls += 1
        return [self.faces[id(frames.base if frames.base is not None else frames)]]


def numbers(scenes: list[tuple[np.ndarray, list[Face]]], **options: object) -> list[list[int]]:
    """The people of each frame, in the order of the faces there."""
    tracker = FaceTracker(Known(scenes), **{"by_looks": True, **options})  # type: ignore[arg-type]
    frames = [VideoFrame(k / 12.5, frame) for k, (frame, _) in enumerate(scenes)]
    return [sorted(seen.faces) for seen in tracker.track(frames)]


def test_a_cut_to_somebody_at_the_same_place_is_somebody_else() -> None:
    first, second = (1, 40, 20), (2, 40, 20)
    scenes = [scene(first) for _ in range(7)] + [scene(second) for _ in range(7)]
    assert numbers(scenes) == [[0]] * 7 + [[1]] * 7
    assert numbers(scenes, by_looks=False) == [[0]] * 14, "by place alone they are one"


def test_who_comes_back_after_a_cut_keeps_the_number() -> None:
    one, two = (1, 90, 20), (2, 60, 30)
    shots = [scene((3, 0, 50), one) for _ in range(6)], [scene(two) for _ in range(6)]
    back = [scene((1, 20, 10)) for _ in range(6)]
    assert numbers([*shots[0], *shots[1], *back]) == [[0, 1]] * 6 + [[2]] * 6 + [[1]] * 6


def test_who_was_away_for_long_keeps_the_number_without_a_cut() -> None:
    present, away = [scene((1, 10, 20))] * 6, [scene()] * 30
    found = numbers([*present, *away, *[scene((1, 90, 40))] * 6, *[scene((2, 10, 10))] * 6])
    assert found[0] == found[40] == [0]
    assert found[-1] == [1]


def test_two_who_look_alike_are_two_at_the_same_time() -> None:
    assert numbers([scene((1, 0, 20), (1, 90, 20))] * 6) == [[0, 1]] * 6


def test_the_frames_on_both_sides_of_a_cut_are_key_frames() -> None:
    scenes = [scene((1, 40, 20)) for _ in range(8)] + [scene((2, 40, 20)) for _ in range(3)]
    detector = Known(scenes)
    frames = [VideoFrame(k / 12.5, frame) for k, (frame, _) in enumerate(scenes)]
    list(FaceTracker(detector, by_looks=True).track(frames))
    assert detector.calls == 5  # frames 0, 5 and 7 before the cut, 8 and the last one after it


def test_a_camera_that_moves_makes_no_cuts() -> None:
    stripes = 127 + 120 * np.sin(np.arange(600) / 12)
    wall = np.broadcast_to(stripes[None, :, None], (120, 600, 3)).astype(np.uint8)
    cuts = CutDetector()
    panned = [cuts.is_cut(wall[:, 2 * k : 2 * k + 160]) for k in range(40)]
    assert sum(panned[2:]) == 0
    assert cuts.is_cut(np.zeros((120, 160, 3), np.uint8))


@pytest.mark.parametrize("light", [0.7, 1.2])
def test_another_light_makes_nobody_else(light: float) -> None:
    frame, faces = scene((5, 30, 30))
    looks = Looks()
    assert looks.recognise(frame, faces, {}) == {}
    looks.remember([0])
    dimmed = (frame * light).clip(0, 255).astype(np.uint8)
    assert looks.recognise(dimmed, faces, {}) == {0: 0}


def test_memory_is_bounded() -> None:
    looks = Looks()
    for number in range(130):
        frame, faces = scene((number, 30, 30))
        known = looks.recognise(frame, faces, {})
        looks.remember([known.get(0, number)])
    frame, faces = scene((0, 30, 30))
    assert looks.recognise(frame, faces, {}) == {}, "the first ones are forgotten"
    frame, faces = scene((129, 30, 30))
    assert looks.recognise(frame, faces, {}) == {0: 129}


def test_who_stays_where_the_picture_stays_keeps_the_number_at_a_cut() -> None:
    """The rest of the picture changes, and with it what is seen around the head."""
    before = [scene((1, 0, 28)) for _ in range(6)]
    after = [scene((1, 0, 28), (2, 90, 28), background=250) for _ in range(6)]
    assert numbers([*before, *after]) == [[0]] * 6 + [[0, 1]] * 6
    elsewhere = [scene((1, 0, 28), background=250) for _ in range(6)]
    assert numbers([*[scene((2, 0, 28))] * 6, *elsewhere]) == [[0]] * 6 + [[1]] * 6
