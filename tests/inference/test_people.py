"""Everybody in the picture: coloured squares as faces, from frames to predictions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

import vavl
from vavl.errors import InputError
from vavl.faces.alignment import Face
from vavl.features import face_features
from vavl.features.face_features import FaceFeatures
from vavl.inference.drawing import box_at
from vavl.media.frames import array_frames
from vavl.types import Modality, Prediction

RATE_HZ = 12.5
SIZE = (64, 128)
SIDE = 24


class Squares:
    """Finds the squares whose red says which face it is: 200, 210, 220 ..."""

    def detect(self, frames: np.ndarray) -> list[list[Face]]:
        found = []
        for frame in frames:
            faces = []
            for red in range(200, 256, 10):
                rows, columns = np.nonzero(frame[..., 0] == red)
                if len(rows):
                    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.3, 0.8], [0.7, 0.8]])
                    landmarks = points * (box[2] - box[0], box[3] - box[1]) + box[:2]
                    faces.append(Face(tuple(map(float, box)), 0.9, landmarks.astype(np.float32)))
            found.append(faces)
        return found


class Colours:
    """The colour of a face and twice nothing."""

    name, dim, parameters, weights_sha256, source = "colours", 4, {}, None, None

    def load(self) -> None:
        pass

    def embed_faces(self, frames: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        rows = []
        for frame, face in zip(frames, faces, strict=True):
            x0, y0, x1, y1 = map(int, face.box)
            rows.append([*(frame[y0:y1, x0:x1].mean((0, 1)) / 100 - 1), 0.5])
        return np.array(rows, np.float32)


def film(*people: tuple[int, int, int], steps: int = 50) -> np.ndarray:
    """Squares beside each other: red, and the steps from which to which they are shown."""
    frames = np.full((steps, *SIZE, 3), 30, np.uint8)
    for place, (red, first, last) in enumerate(people):
        left = 4 + place * (SIDE + 8)
        frames[first:last, 20 : 20 + SIDE, left : left + SIDE] = (red, 8 * place, 255 - red)
    return frames


@pytest.fixture
def watcher(recognizer, monkeypatch) -> vavl.Recognizer:
    """The small recogniser, whose faces are squares; no mouth can be seen in them."""
    faces = FaceFeatures(Colours(), Squares())
    specs = {**recognizer.features, Modality.VISUAL: faces.spec}
    made = vavl.Recognizer(recognizer.model, specs)
    made.reader.visual_extractor = faces
    monkeypatch.setattr(face_features, "mouth_opening", lambda rows: np.full(len(rows), np.nan))
    return made


def predicted(watcher: vavl.Recognizer, frames: np.ndarray, **options) -> Prediction:
    return watcher.predict(frames=frames, frame_rate_hz=RATE_HZ, **options)


def test_everybody_is_predicted_as_if_alone(watcher) -> None:
    found = predicted(watcher, film((200, 0, 50), (240, 0, 50), (250, 10, 40)), timeline=True)
    assert [person.number for person in found.people] == [1, 2, 3]
    assert [person.face_share for person in found.people] == [1, 1, pytest.approx(0.6)]
    shown = found.people[2]
    # The detector looks at every fifth frame.
    assert (shown.start_s, shown.end_s) == pytest.approx((0.8, 3.2), abs=0.17)
    for place, person in enumerate(found.people[:2]):
        crowd = [(0, 0, 0)] * place + [((200, 240)[place], 0, 50)]
        alone = predicted(watcher, film(*crowd), timeline=True)
        assert person.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
        assert person.attributes == pytest.approx(alone.attributes, abs=1e-6)
        for mine, other in zip(person.timeline, alone.timeline, strict=True):
            assert (mine.start_s, mine.end_s) == (other.start_s, other.end_s)
            assert mine.probabilities == pytest.approx(other.probabilities, abs=1e-6)
    assert found.people[0].probabilities != pytest.approx(found.people[1].probabilities, abs=5e-4)


def test_one_person_alone_is_the_main_one_and_says_what_the_clip_says(watcher) -> None:
    found = predicted(watcher, film((210, 0, 50)))
    [person] = found.people
    assert person.is_main
    assert person.probabilities == found.probabilities
    assert person.modality is Modality.VISUAL
    assert found.warnings == ("no sound",)


def test_tracks_are_in_shares_of_the_picture_and_say_when_a_face_is_gone(watcher) -> None:
    frames = film((200, 0, 50), (240, 0, 50))
    frames[15:30, :, 36:] = 30  # the second one is away, and comes back to the same place
    one, two, back = predicted(watcher, frames).people
    assert box_at(one.track, 1.0) == pytest.approx((4 / 128, 20 / 64, 28 / 128, 44 / 64), abs=5e-4)
    assert len(one.track) < 12, "places on a line are left out"
    assert box_at(two.track, 1.8) is None
    assert two.end_s == pytest.approx(1.2, abs=0.2)
    assert back.start_s == pytest.approx(2.4, abs=0.2), "without looks it is somebody else"


def test_whom_the_detector_sees_once_is_nobody(watcher) -> None:
    frames = film((200, 0, 50), (240, 20, 21))
    assert len(predicted(watcher, frames).people) == 1
    photo = film((200, 0, 1), (240, 0, 1), steps=1)
    assert len(predicted(watcher, photo).people) == 2


def test_main_alone_follows_the_most_prominent_one(watcher) -> None:
    frames = film((200, 0, 50), (240, 0, 50))
    frames[:, 4:60, 36 : 36 + 56] = (240, 8, 15)  # larger
    everybody = predicted(watcher, frames)
    alone = predicted(watcher, frames, people="main")
    assert len(everybody.people) == 2
    assert [person.is_main for person in everybody.people] == [False, True]
    [main] = alone.people
    assert main.probabilities == pytest.approx(everybody.people[1].probabilities, abs=1e-6)
    assert alone.probabilities == pytest.approx(everybody.probabilities, abs=1e-6)
    assert "several people: person 2 is taken, the most prominent one" in everybody.warnings
    with pytest.raises(InputError, match=r"people: expected one of \('all', 'main'\), got 'two'"):
        predicted(watcher, frames, people="two")


def test_sound_goes_with_the_one_whose_mouth_moves_with_it(watcher, monkeypatch) -> None:
    """The mouth is the green of a square; the voice swells with that of the second one."""
    steps = 75
    frames = film((200, 0, steps), (240, 0, steps), steps=steps)
    times = np.arange(steps) / RATE_HZ
    mouths = [0.5 + 0.5 * np.sin(2 * np.pi * rate * times) for rate in (1.1, 2.3)]
    for place, opening in enumerate(mouths):
        left = 4 + place * (SIDE + 8)
        frames[:, 20:44, left : left + SIDE, 1] = (100 * opening)[:, None, None]
    monkeypatch.setattr(
        face_features.CompactFaceFeatures,
        "embed_faces",
        lambda self, shown, faces: Colours().embed_faces(shown, faces),
    )
    monkeypatch.setattr(face_features, "mouth_opening", lambda rows: rows[:, 1] + 1)
    moments = np.arange(16_000 * steps / RATE_HZ) / 16_000
    tone = np.sin(2 * np.pi * 1000 * moments) * np.interp(moments, times, mouths[1])
    found = predicted(watcher, frames, audio=tone.astype(np.float32), timeline=True)
    assert [person.is_main for person in found.people] == [False, True]
    [warning] = [warning for warning in found.warnings if "people" in warning]
    assert warning == "several people: person 2 is taken, whose mouth moves with the voice"
    left = 4 + SIDE + 8
    frames[:, :, :left] = 30  # the other one is gone
    alone = predicted(watcher, frames, audio=tone.astype(np.float32))
    assert found.modality is Modality.AUDIOVISUAL
    assert found.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_people_are_json(watcher) -> None:
    found = predicted(watcher, film((200, 0, 50), (240, 0, 50)))
    read = json.loads(json.dumps(asdict(found)))
    assert [person["number"] for person in read["people"]] == [1, 2]
    time_s, box = read["people"][0]["track"][0]
    assert time_s == 0
    assert len(box) == 4


def test_of_many_faces_the_main_one_is_embedded_always_and_the_others_in_turn(watcher) -> None:
    frames = film(*((red, 0, 60) for red in (200, 210, 230, 250)), steps=60)
    faces = watcher.reader.visual_extractor
    pictures = array_frames(frames, RATE_HZ, frame_rate_hz=RATE_HZ)
    steps = list(faces.steps(pictures, people="all"))
    seen = Counter(
        face.person
        for step in steps
        for face in step.everybody
        if not np.isnan(face.features).any()
    )
    main = {step.person for step in steps}
    assert main == {0}
    assert dict(seen) == {0: 60, 1: 20, 2: 20, 3: 20}
    found = predicted(watcher, frames)
    assert [person.face_share for person in found.people] == [1] * 4
    for place, person in enumerate(found.people):
        crowd = [(0, 0, 0)] * place + [((200, 210, 230, 250)[place], 0, 60)]
        alone = predicted(watcher, film(*crowd, steps=60))
        # A third of the steps of one and the same face say what all of them say.
        assert person.probabilities == pytest.approx(alone.probabilities, abs=0.02)


def test_segments_and_turns_of_the_many_go_together(watcher) -> None:
    """A turn so short that nobody of many was looked at in it says nothing, and fails nothing."""
    frames = film(*((red, 0, 60) for red in (200, 210, 230, 250)), steps=60)
    sound = np.zeros(round(16_000 * 60 / RATE_HZ), np.float32)
    turns = [(0.0, 0.1), (2.0, 2.1), (2.4, 2.5)]
    found = predicted(watcher, frames, audio=sound, segments=turns)
    assert [segment.modality for segment in found.segments] == [Modality.VISUAL] * 3
    assert len(found.people) == 4


def test_a_profile_is_that_of_the_main_person(watcher) -> None:
    one = film((200, 0, 50))
    watcher.adapt([{"frames": one, "frame_rate_hz": RATE_HZ}], speaker="ann")
    found = predicted(watcher, one, speaker="ann")
    [person] = found.people
    assert person.probabilities == pytest.approx(found.probabilities, abs=1e-6)
    assert person.probabilities != pytest.approx(predicted(watcher, one).probabilities, abs=1e-6)


def test_the_clip_and_its_warnings_are_about_the_one_who_speaks(watcher, monkeypatch) -> None:
    """The most prominent face is too dark to say anything; another one speaks."""
    steps = 75
    frames = film((200, 0, steps), (240, 0, steps), steps=steps)
    times = np.arange(steps) / RATE_HZ
    opening = 0.5 + 0.5 * np.sin(2 * np.pi * 2.3 * times)
    frames[:, 20:44, 36:60, 1] = (100 * opening)[:, None, None]
    dark = face_features.DARK
    monkeypatch.setattr(
        face_features, "_flaw", lambda face, shown: dark if face.box[0] < 10 else None
    )
    watcher.reader.visual_extractor._evidence_only = True
    monkeypatch.setattr(
        face_features.CompactFaceFeatures,
        "embed_faces",
        lambda self, shown, faces: Colours().embed_faces(shown, faces),
    )
    monkeypatch.setattr(
        face_features,
        "mouth_opening",
        lambda rows: rows[:, 1] + 1,
    )
    moments = np.arange(16_000 * steps / RATE_HZ) / 16_000
    tone = np.sin(2 * np.pi * 1000 * moments) * np.interp(moments, times, opening)
    found = predicted(watcher, frames, audio=tone.astype(np.float32))
    assert found.modality is Modality.AUDIOVISUAL
    assert found.face_share == 1
    assert not any("dark" in warning for warning in found.warnings)
