"""Faces over time, with faces drawn by rule and with real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vavl.errors import InputError
from vavl.faces.alignment import Face, template
from vavl.faces.detector import MtcnnDetector
from vavl.faces.tracking import FaceTracker, TrackedFrame
from vavl.media.frames import VideoFrame
from vavl.media.video import video_frames

RATE_HZ = 12.5
Scene = Callable[[int], Sequence[tuple[float, float, float]]]
"""x and y of the centre and side of each face in the frame of that number."""


def face_at(x: float, y: float, side: float, score: float = 0.9) -> Face:
    landmarks = np.array([x, y]) + template(112) / 112 * side - side / 2
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return Face(box, score, landmarks.astype(np.float32))


class Scripted:
    """Reads the number of a frame from its pixels and answers by a scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.asked: list[int] = []

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        numbers = frames[:, 0, 0].astype(int) @ [1, 256, 0]
        self.asked += numbers.tolist()
        return [[face_at(*face) for face in self.scene(number)] for number in numbers.tolist()]


def clip(count: int) -> list[VideoFrame]:
    frames = []
    for number in range(count):
        pixels = np.zeros((240, 320, 3), np.uint8)
        pixels[0, 0] = number % 256, number // 256, 0
        frames.append(VideoFrame(number / RATE_HZ, pixels))
    return frames


def tracked(scene: Scene, count: int, **options) -> list[TrackedFrame]:
    frames = clip(count)
    result = list(FaceTracker(Scripted(scene), **options).track(frames))
    assert [one.frame for one in result] == frames  # each once, in order
    assert all((one.face is None) == (one.track is None) for one in result)
    return result


def centre(face: Face | None) -> np.ndarray:
    assert face is not None
    x0, y0, x1, y1 = face.box
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2])


def numbers(result: list[TrackedFrame]) -> list[int | None]:
    return [one.track for one in result]


# Places


@pytest.mark.parametrize("detect_every", [1, 2, 5, 7, 100])
def test_even_movement_is_followed_exactly(detect_every: int) -> None:
    def scene(number: int) -> list[tuple[float, float, float]]:
        return [(60 + 1.5 * number, 100 - 0.5 * number, 60 + 0.25 * number)]

    detector = Scripted(scene)
    frames = clip(23)
    result = list(FaceTracker(detector, detect_every).track(frames))
    assert detector.asked == sorted({*range(0, 23, detect_every), 22})
    assert numbers(result) == [0] * 23
    for number, one in enumerate(result):
        expected = face_at(*scene(number)[0])
        assert one.face is not None
        assert one.faces_seen == 1
        assert one.face.box == pytest.approx(expected.box)
        assert one.face.score == pytest.approx(0.9)
        assert one.face.landmarks.dtype == np.float32
        np.testing.assert_allclose(one.face.landmarks, expected.landmarks, atol=1e-3)


def test_a_stream_gives_what_a_file_gives_and_is_late_by_the_latency() -> None:
    rng = np.random.default_rng(0)
    walk = 100 + rng.normal(0, 3, (60, 2)).cumsum(axis=0)

    def scene(number: int) -> list[tuple[float, float, float]]:
        return [(*walk[number], 50)] * (number % 16 < 12)

    whole = tracked(scene, 60)
    tracker = FaceTracker(Scripted(scene))
    parts: list[TrackedFrame] = []
    for number, frame in enumerate(clip(60)):
        parts += tracker.update(frame)
        assert len(parts) >= number + 1 - tracker.latency_frames
    parts += tracker.finish()
    assert numbers(parts) == numbers(whole)
    for one, other in zip(parts, whole, strict=True):
        assert one.frame.time_s == other.frame.time_s
        if one.face and other.face:
            assert one.face.box == other.face.box
            np.testing.assert_array_equal(one.face.landmarks, other.face.landmarks)


def test_a_shorter_video_has_the_same_beginning() -> None:
    """Nothing but the key frame after a frame reaches back to it."""

    def scene(number: int) -> list[tuple[float, float, float]]:
        return [(100, 100, 50)] if number < 30 else [(100, 100, 50), (220, 120, 90)]

    longer, shorter = tracked(scene, 100), tracked(scene, 56)
    assert numbers(longer[:56]) == numbers(shorter)


def test_nothing_is_interpolated_across_a_cut() -> None:
    def jump(number: int) -> list[tuple[float, float, float]]:
        return [(80, 100, 60)] if number < 12 else [(240, 100, 60)]

    def growth(number: int) -> list[tuple[float, float, float]]:
        return [(160, 120, 60)] if number < 12 else [(160, 120, 120)]

    for scene in (jump, growth):
        result = tracked(scene, 30, max_gap_s=0)
        assert numbers(result) == [0] * 13 + [1] * 17  # the cut is nearest to key frame 15
        for one, expected in ((result[11], scene(0)), (result[13], scene(20))):
            assert one.face is not None
            assert one.face.box == face_at(*expected[0]).box


# Persons


def test_a_face_that_vanishes_is_none_not_another() -> None:
    def scene(number: int) -> list[tuple[float, float, float]]:
        return [(100, 100, 80)] if number < 50 else []

    result = tracked(scene, 100)
    assert numbers(result) == [0] * 48 + [None] * 52  # 45 is the last key frame with the face
    assert [one.faces_seen for one in result] == [1] * 48 + [0] * 52
    assert all(one.track is None for one in tracked(lambda number: [], 20))


@pytest.mark.parametrize(("max_gap_s", "after"), [(2.0, 0), (1.0, 1)])
def test_a_person_is_remembered_for_a_while(max_gap_s: float, after: int) -> None:
    def scene(number: int) -> list[tuple[float, float, float]]:
        return [] if 20 < number < 40 else [(100, 100, 80)]  # not seen for 1.6 s

    result = tracked(scene, 60, max_gap_s=max_gap_s)
    assert numbers(result) == [0] * 23 + [None] * 15 + [after] * 22


def test_nobody_takes_the_place_of_a_main_face_that_is_soon_back() -> None:
    def scene(number: int) -> list[tuple[float, float, float]]:
        return [(250, 120, 50)] + [(100, 100, 90)] * (not 18 < number < 25)

    result = tracked(scene, 60)
    main = result[0].track
    assert set(numbers(result)) == {main, None}
    assert [number for number, one in enumerate(result) if one.face is None] == [*range(18, 23)]
    assert all(centre(one.face)[0] == 100 for one in result if one.face)


def test_two_faces_that_cross_keep_their_numbers() -> None:
    def scene(number: int) -> list[tuple[float, float, float]]:
        faces = [(40 + 4 * number, 110, 70), (280 - 4 * number, 130, 70)]
        return faces if number % 2 else faces[::-1]

    for main in (0, 1):
        result = tracked(scene, 61, main=main)
        assert numbers(result) == [main] * 61
        assert all(one.faces_seen == 2 for one in result)
        x = [centre(one.face)[0] for one in result]
        assert np.allclose(np.diff(x), 4 if x[0] < 100 else -4)


# Which face is the main one


def test_the_rules_differ() -> None:
    def scene(number: int) -> list[tuple[float, float, float]]:
        """A small face all the time, a large one for 4 s, a huge one at the end."""
        faces = [(50, 60, 50)]
        if 20 <= number < 70:
            faces.append((180, 70, 90))
        if number >= 90:
            faces.append((200, 160, 140))
        return faces

    prominent, largest, longest = (
        numbers(tracked(scene, 100, main=main)) for main in ("prominent", "largest", "longest")
    )
    assert longest == [0] * 100
    assert largest[:18] == [0] * 18
    assert largest[18:68] == [1] * 50
    assert largest[-10:] == [2] * 10
    # Needs a while to be convinced, and does not believe what is over soon.
    assert prominent[:25] == [0] * 25
    assert prominent[60:65] == [1] * 5
    assert prominent[-1] == 0
    assert numbers(tracked(scene, 100, main=1))[18:68] == [1] * 50


def test_faces_of_nearly_the_same_size_do_not_take_turns() -> None:
    rng = np.random.default_rng(0)
    sides = rng.uniform(58, 62, (200, 2))

    def scene(number: int) -> list[tuple[float, float, float]]:
        return [(80, 100, sides[number, 0]), (240, 100, sides[number, 1])]

    for main in ("prominent", "largest", "longest"):
        assert len(set(numbers(tracked(scene, 200, main=main)))) == 1


# Arguments


def test_all_bad_settings_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"(?s)3 problems.*detect_every.*max_gap_s.*main"):
        FaceTracker(Scripted(lambda number: []), 0, float("nan"), "nearest")  # type: ignore[arg-type]


def test_frames_must_come_in_order() -> None:
    tracker = FaceTracker(Scripted(lambda number: []))
    frames = clip(3)
    tracker.update(frames[1])
    tracker.update(frames[2])
    with pytest.raises(InputError, match=r"expected a time after 0\.160 s, got 0\.000 s; call fin"):
        tracker.update(frames[0])
    assert len(tracker.finish()) == 1
    assert len(tracker.update(frames[0])) == 1  # as new


# Real films


@pytest.mark.shared
@pytest.mark.parametrize("name", ["single_face.mp4", "WolfgangLanger_Pexels.mp4"])
def test_every_frame_of_a_speaker_has_the_face(shared: Path, name: str) -> None:
    frames = video_frames(shared / "samples" / name, frame_rate_hz=RATE_HZ, end_s=10)
    result = list(FaceTracker(MtcnnDetector()).track(frames))
    assert len(result) in (30, 125)
    assert numbers(result) == [0] * len(result)


@pytest.mark.shared
def test_no_frame_without_a_face_has_one(shared: Path) -> None:
    frames = video_frames(shared / "samples" / "no_face.mp4", frame_rate_hz=RATE_HZ)
    result = list(FaceTracker(MtcnnDetector()).track(frames))
    assert len(result) > 40
    assert all(one.face is None and one.faces_seen == 0 for one in result)


@pytest.mark.shared
def test_interpolated_faces_are_near_detected_ones(shared: Path) -> None:
    path = shared / "samples" / "WolfgangLanger_Pexels.mp4"
    frames = list(video_frames(path, frame_rate_hz=RATE_HZ, end_s=2.5))
    few, all_ = (list(FaceTracker(MtcnnDetector(), every).track(frames)) for every in (5, 1))
    distances = []
    for one, other in zip(few, all_, strict=True):
        assert one.face is not None
        assert other.face is not None
        left, right = other.face.landmarks[:2]
        difference = np.linalg.norm(one.face.landmarks - other.face.landmarks, axis=1).mean()
        distances.append(difference / np.linalg.norm(left - right))
    assert np.mean(distances) < 0.05
    assert np.max(distances) < 0.25


def test_a_picture_that_stays_is_searched_once() -> None:
    searched = []

    class Counting:
        def detect(self, frames: np.ndarray) -> list[list[Face]]:
            searched.append(frames[0].mean())
            landmarks = [[15, 15], [25, 15], [20, 20], [16, 26], [24, 26]]
            return [[Face((10, 10, 30, 30), 0.9, np.array(landmarks, np.float32))]]

    pictures = [np.full((48, 64, 3), value, np.uint8) for value in (10, 20)]
    frames = [VideoFrame(number / 12.5, pictures[number >= 40]) for number in range(80)]
    tracked = list(FaceTracker(Counting(), by_looks=True).track(frames))
    assert len(tracked) == 80
    assert all(frame.faces_seen == 1 for frame in tracked)
    assert searched == [10, 20]
