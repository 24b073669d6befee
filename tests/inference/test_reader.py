"""The reader: what it accepts, what it says where it does not, and what it opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vavl
from vavl.errors import InputError
from vavl.features.arrays import ArrayFeatures
from vavl.features.face_features import FaceStep
from vavl.inference.reader import Reader
from vavl.inference.windows import ClipStreams, Window
from vavl.types import Modality

Film = Callable[..., Path]
SOUND, FACE = Modality.ACOUSTIC, Modality.VISUAL


def test_what_is_accepted_follows_from_the_features(recognizer: vavl.Recognizer) -> None:
    specs = recognizer.features
    arrays = ArrayFeatures(FACE, dim=4).spec
    for given, accepted in (
        (specs, (True, True)),
        ({SOUND: specs[SOUND]}, (True, False)),
        ({SOUND: specs[SOUND], FACE: arrays}, (True, False)),
        ({FACE: specs[FACE]}, (False, True)),
        ({}, (False, False)),
    ):
        reader = Reader(given)
        assert (reader.accepts_audio, reader.accepts_video) == accepted
        for modality, fine in zip((SOUND, FACE), accepted, strict=True):
            if fine:
                reader.require(modality)
            else:
                with pytest.raises(
                    InputError, match="sound:" if modality is SOUND else "pictures:"
                ):
                    reader.require(modality)


def test_the_error_says_why_and_what_to_give_instead(recognizer: vavl.Recognizer) -> None:
    arrays = ArrayFeatures(FACE, dim=4).spec
    for specs, message in (
        ({}, r"no features\.json, .* give acoustic=, visual=, or NAME"),
        ({SOUND: recognizer.features[SOUND]}, "trained without visual features; give it sound"),
        (
            {FACE: arrays},
            r"on precomputed visual features, .* give visual=, or a NAME\.visual\.npy",
        ),
    ):
        with pytest.raises(InputError, match=message):
            _ = Reader(specs).visual_extractor


def test_only_what_is_accepted_is_opened(recognizer: vavl.Recognizer, film: Film) -> None:
    path = film(seconds=1.0)
    both = recognizer.reader.open(path)
    heard = Reader({SOUND: recognizer.features[SOUND]}).open(path)
    assert isinstance(both, ClipStreams)
    assert isinstance(heard, ClipStreams)
    assert both.audio is not None
    assert both.steps is not None
    assert (heard.audio is not None, heard.steps) == (True, None)
    features = recognizer.reader.open(acoustic=np.ones((6, 80)), visual=np.ones((2, 4)))
    assert isinstance(features, dict)
    assert {m: x.shape for m, x in features.items()} == {SOUND: (6, 80), FACE: (2, 4)}
    assert recognizer.reader.duration_s(features) == pytest.approx(2 / 12.5)


def test_sound_comes_a_second_at_a_time(recognizer: vavl.Recognizer, film: Film) -> None:
    path = film(seconds=2.5)
    streams = recognizer.reader.open(path)
    assert isinstance(streams, ClipStreams)
    assert streams.audio is not None
    *pieces, _ = [heard.samples for heard in streams.audio if len(heard.samples)]
    assert all(16_000 <= len(piece) < 20_000 for piece in pieces)
    assert len(pieces) == 2


def test_silence_short_sound_and_no_face_have_no_features(recognizer: vavl.Recognizer) -> None:
    tone = np.sin(np.arange(16_000) / 9).astype(np.float32) * 0.2
    unseen = (FaceStep(0.0, np.full(4, np.nan, np.float32), None, 0, 0.5),)
    extract = recognizer.reader.extract
    assert set(extract(Window(0.0, 1.0, tone, unseen))) == {SOUND}
    assert extract(Window(0.0, 1.0, tone * 1e-3, unseen)) == {}
    assert extract(Window(0.0, 1.0, tone[:1_599], ())) == {}
