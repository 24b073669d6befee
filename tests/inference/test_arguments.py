"""Whatever the Python interface is given, the answer is a prediction or an error of ours."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import tiny

import vavl
from vavl.errors import InputError, MediaError, StoreError, VavlError
from vavl.features.registry import build_extractor
from vavl.inference.arguments import check_given
from vavl.models.pretrained import Calibration
from vavl.types import Modality

SOUND = np.random.default_rng(0).normal(size=16_000).astype(np.float32) / 10
PICTURES = np.zeros((3, 32, 32, 3), np.uint8)
NO_NUMBERS: tuple[Any, ...] = ("16000", b"1", None, [1], object(), math.nan, math.inf, True)


@pytest.fixture(scope="module")
def hearing() -> vavl.Recognizer:
    spec = build_extractor("acoustic", "logmel").spec
    return vavl.Recognizer(tiny("vavl", acoustic_dim=80), {Modality.ACOUSTIC: spec})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sampling_rate_hz", (*NO_NUMBERS, 0, -1, 1, 1.5, 999, 2**31, 10**12, 1e300)),
        ("frame_rate_hz", (*NO_NUMBERS, 0, -1, 1e-9, 1e12, 1e300)),
        ("start_s", (*(v for v in NO_NUMBERS if v is not None), -1)),
        ("end_s", (*(v for v in NO_NUMBERS if v is not None), 0, -1)),
        ("path", (5, 1.5, b"a.wav", True, object(), {}, "", "\0", "x" * 5_000, "\ud800" * 300)),
        ("speaker", (5, b"ann", [], {}, True, "")),
        ("name", (5, b"ann", [])),
        ("timeline", ("yes", None, 1)),
        ("segments", (None, 5, b"x", {}, [5], [(0,)], [("a", "b")], [(0, math.nan)], [(2, 1)])),
        ("face", (5, [], None, "lost")),
        ("people", (5, {}, None, "nobody")),
        ("progress", (5, "x")),
        ("audio_track", (1.5, 0, [], True)),
    ],
)
def test_arguments_of_other_kinds(
    hearing: vavl.Recognizer, name: str, values: tuple[Any, ...]
) -> None:
    for value in values:
        with pytest.raises(VavlError) as caught:
            hearing.predict(**{"audio": SOUND, name: value})
        assert "expected" in str(caught.value), value
        if name in ("sampling_rate_hz", "frame_rate_hz", "start_s", "speaker"):
            assert str(caught.value).startswith(f"{name}: expected"), value


@pytest.mark.parametrize(
    "audio",
    [
        *("x", 5, [0.1], {}, b"x", SOUND[None], SOUND[:0], SOUND > 0, SOUND.astype(complex)),
        *(SOUND.astype(object), (SOUND * 100).astype(np.int16), SOUND * np.nan),
        *(SOUND.astype(float) * 1e300, SOUND.astype(np.longdouble) * np.longdouble("1e4000")),
    ],
)
def test_sound_of_other_kinds(hearing: vavl.Recognizer, audio: Any) -> None:
    with pytest.raises(InputError, match="audio: expected"):
        hearing.predict(audio=audio)


@pytest.mark.parametrize(
    "features",
    [
        *(5, b"x", {}, [[1.0], [1.0, 2.0]], np.ones(80), np.ones((0, 80)), np.ones((2, 3, 80))),
        *(np.ones((2, 80), complex), np.ones((2, 80), object), np.full((2, 80), "a")),
        *(np.ones((2, 3)), np.full((2, 80), np.inf), np.full((2, 80), 1e300)),
        *(np.full((2, 80), np.nan), np.full((2, 80), 1e38, np.float32)),
    ],
)
def test_features_of_other_kinds(features: Any) -> None:
    """Those that are too large end in an answer or in an error, never in NaN."""
    model = vavl.Recognizer(tiny("linear", acoustic_dim=80))
    with pytest.raises(VavlError):
        model.predict(acoustic=features)


def test_whom_to_get_to_know(hearing: vavl.Recognizer) -> None:
    for speaker in (5, b"ann", [], {}, None, ""):
        with pytest.raises(InputError, match="speaker: expected a name"):
            hearing.adapt([{"audio": SOUND}], speaker=speaker)
    for clips in (5, None, "a.wav", b"a.wav", {"audio": SOUND}):
        with pytest.raises(InputError, match="clips: expected a list"):
            hearing.adapt(clips, speaker="ann")
    for clip in (
        5,
        None,
        b"a.wav",
        {},
        {"audio": "a.wav"},
        {"audio": SOUND, "sampling_rate_hz": 1},
    ):
        with pytest.raises(VavlError, match="expected"):
            hearing.adapt([clip], speaker="ann")
    for do in (hearing.predict, lambda clips: hearing.adapt(clips, speaker="ann")):
        with pytest.raises(InputError, match=r"sampling_rate: expected .*mean 'sampling_rate_hz'"):
            do([{"audio": SOUND, "sampling_rate": 16_000}])
    assert not hearing.speakers


@pytest.mark.parametrize("source", [5, b"x", [], True, "", "a\0b", "x" * 5_000])
def test_models_that_are_none(source: Any) -> None:
    with pytest.raises(InputError, match="model: "):
        vavl.load(source)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.sampled_from(["path", "sampling_rate_hz", "frame_rate_hz", "start_s", "end_s", "acoustic"])
    | st.sampled_from(["audio", "frames", "face", "people", "segments", "speaker", "audio_track"])
    | st.text(max_size=5),
    st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.integers()),
)
def test_any_value_is_taken_or_refused(name: str, value: object) -> None:
    with suppress(InputError):
        check_given({name: value})


def test_weights_and_temperatures_that_are_no_numbers(tmp_path: Path) -> None:
    model = tiny("vavl", acoustic_dim=80)
    for value in (1e-40, 1e9, math.nan, math.inf):
        with pytest.raises(InputError, match="temperature from"):
            Calibration({Modality.ACOUSTIC: value})
    for weight in model.parameters():
        weight.data.fill_(math.nan)
    with pytest.raises(VavlError, match="NaN or infinite: expected"):
        vavl.Recognizer(model).predict(acoustic=np.ones((3, 80)))
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(StoreError, match=r"(?s)model\.safetensors: damaged.*: NaN or infinite"):
        vavl.load(tmp_path / "model")


def test_a_clip_without_a_name_has_one_in_errors(hearing: vavl.Recognizer) -> None:
    with pytest.raises(MediaError, match="the clip: nothing to go by"):
        hearing.predict(audio=SOUND * 0)


def test_what_is_printed_is_json(hearing: vavl.Recognizer) -> None:
    content = json.dumps(hearing.predict(audio=SOUND * 1e6).to_dict(), allow_nan=False)
    assert json.loads(content)["modality"] == "acoustic"


def test_long_features_are_predicted_in_parts() -> None:
    """As a mean of equal parts, so that memory does not grow with the square of their length."""
    model = vavl.Recognizer(tiny("vavl", acoustic_dim=80))
    generator = np.random.default_rng(0)
    acoustic, visual = generator.normal(size=(7_000, 80)), generator.normal(size=(1_750, 4))
    visual[1_100:] = np.nan  # the face is gone in the last of three parts
    whole = model.predict(acoustic=acoustic, visual=visual)
    parts = [
        model.predict(acoustic=a, visual=v if np.isfinite(v).any() else None)
        for a, v in zip(np.array_split(acoustic, 3), np.array_split(visual, 3), strict=True)
    ]
    for name, probability in whole.probabilities.items():
        assert probability == pytest.approx(np.mean([p.probabilities[name] for p in parts]))
    assert [part.modality for part in parts] == ["audiovisual", "audiovisual", "acoustic"]
