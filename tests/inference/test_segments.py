"""Predictions by sentence, by given span and by speaker, and of a span of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from voices import babble

import vavl
from vavl.errors import InputError, MediaError
from vavl.inference import ClipFiles
from vavl.inference import reader as reader_module
from vavl.media.audio import read_audio
from vavl.media.speech import SpeechDetector
from vavl.media.video import video_frames
from vavl.types import Modality, Prediction, Segment, TimedPrediction

Film = Callable[..., Path]
RATE = 16_000
SPEECH_S = [(1.0, 3.0), (4.0, 6.5)]


@pytest.fixture(scope="module")
def listener() -> vavl.Recognizer:
    """The model of the package, which hears speech alone; it is never unsure here."""
    return vavl.load(unsure_below=0.0)


@pytest.fixture(scope="module")
def talk() -> np.ndarray:
    """Two sentences in silence."""
    sound = np.zeros(8 * RATE, np.float32)
    for seed, (first, stop) in enumerate(SPEECH_S):
        voice = babble(stop - first, pitch_hz=120 + 100 * seed, seed=seed)
        sound[round(first * RATE) : round(stop * RATE)] = voice
    return sound


def same(ours: TimedPrediction | Prediction, theirs: TimedPrediction | Prediction) -> None:
    assert ours.modality is theirs.modality
    assert ours.label == theirs.label
    assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)
    assert ours.attributes == pytest.approx(theirs.attributes, abs=1e-5)


def test_every_sentence_of_a_model_that_hears_speech_alone(
    listener: vavl.Recognizer, talk: np.ndarray
) -> None:
    found = listener.predict(audio=talk, segments=True)
    whole = listener.predict(audio=talk)
    assert found.segments != whole.segments == ()
    same(found, whole)
    assert found.warnings == whole.warnings
    assert found.speakers == {}
    for segment, (first, stop) in zip(found.segments, SPEECH_S, strict=True):
        assert (segment.start_s, segment.end_s) == pytest.approx((first, stop), abs=0.2)
        assert (segment.speaker, segment.text) == (None, None)
        sentence = talk[round((first - 0.4) * RATE) : round((stop + 0.4) * RATE)]
        alone = listener.predict(audio=sentence)
        # Where the frames of voice activity fall makes some difference.
        assert segment.probabilities == pytest.approx(alone.probabilities, abs=0.15)


def test_where_all_sound_counts_voice_activity_runs_once_and_cuts_alone(
    recognizer: vavl.Recognizer, talk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors = []

    class Watched(SpeechDetector):
        def __init__(self, **options: bool) -> None:
            detectors.append(options)
            super().__init__(**options)

    monkeypatch.setattr(reader_module, "SpeechDetector", Watched)
    sound = talk + np.float32(0.02)  # a constant voltage, which the features are to have as well
    found = recognizer.predict(audio=sound, segments=True, timeline=True)
    assert detectors == [{"as_it_came": True}]
    plain = recognizer.predict(audio=sound, timeline=True)
    assert len(detectors) == 1
    same(found, plain)
    for ours, theirs in zip(found.timeline, plain.timeline, strict=True):
        same(ours, theirs)
    assert len(found.segments) == 2
    for segment in found.segments:
        span = slice(round(segment.start_s * RATE), round(segment.end_s * RATE))
        same(segment, recognizer.predict(audio=sound[span]))


def test_without_speech_there_are_no_segments_and_a_warning(
    recognizer: vavl.Recognizer, noise: Callable[[float], np.ndarray], film: Film
) -> None:
    light = np.full((50, 64, 96, 3), 180, np.uint8)
    for clip in (
        {"frames": light},
        {"path": film("silent.mp4", audio=None)},
        {"frames": light, "audio": noise(4.0) * 0},
        {"audio": noise(4.0)},
    ):
        found = recognizer.predict(**clip, segments=True)
        assert (found.segments, found.warnings[-1]) == ((), "no segments: there is no speech")


def test_a_sentence_has_the_face_that_is_seen_meanwhile(
    recognizer: vavl.Recognizer, talk: np.ndarray
) -> None:
    frames = np.full((8 * 25, 64, 96, 3), 180, np.uint8)
    frames[: 7 * 25 // 2] = 0  # nobody until 3.5 s
    found = recognizer.predict(audio=talk, frames=frames, segments=True).segments
    assert [s.modality for s in found] == [Modality.ACOUSTIC, Modality.AUDIOVISUAL]
    assert [s.face_share for s in found] == [0, 1]


def test_given_spans_and_speakers(recognizer: vavl.Recognizer, talk: np.ndarray) -> None:
    turns = [
        (4.0, 6.5, "Ann", "and this"),
        (1.0, 3.0, "Bob", "I say"),
        (2.0, 2.5, "Ann"),  # both at once
        (7.0, 7.01, "Cid"),  # too short
        (7.5, 99.0, None, "until the end"),
        (20.0, 21.0, "Dan"),
    ]
    found = recognizer.predict(audio=talk, segments=turns)
    assert [(s.start_s, s.end_s, s.speaker, s.text) for s in found.segments] == [
        (1.0, 3.0, "Bob", "I say"),
        (2.0, 2.5, "Ann", None),
        (4.0, 6.5, "Ann", "and this"),
        (7.0, 7.01, "Cid", None),
        (7.5, 8.0, None, "until the end"),
    ]
    assert found.warnings == ("1 of 6 segments lie outside the clip",)
    assert [s.modality for s in found.segments][3:] == [None, None]  # too short, and silence
    for segment in found.segments[:3]:
        same(segment, recognizer.predict(audio=talk, start_s=segment.start_s, end_s=segment.end_s))
    assert set(found.speakers) == {"Ann", "Bob"}
    same(found.speakers["Bob"], found.segments[0])
    ann = found.speakers["Ann"]
    assert (ann.name, ann.duration_s) == ("Ann", 3.0)
    for name, value in ann.probabilities.items():
        short, long = (segment.probabilities[name] for segment in found.segments[1:3])
        assert value == pytest.approx((0.5 * short + 2.5 * long) / 3)


def test_a_long_turn_is_the_mean_of_its_parts(
    recognizer: vavl.Recognizer, noise: Callable[[float], np.ndarray]
) -> None:
    sound = np.concatenate([noise(10), noise(5, 1) * np.sin(np.arange(5 * RATE) / 9)])
    sound = sound.astype(np.float32)
    [turn] = recognizer.predict(audio=sound, segments=[(0, 15)]).segments
    parts = [recognizer.predict(audio=part) for part in (sound[: 10 * RATE], sound[10 * RATE :])]
    for name, value in turn.probabilities.items():
        first, second = (part.probabilities[name] for part in parts)
        assert value == pytest.approx((2 * first + second) / 3, abs=1e-6)


def test_a_threshold_holds_for_segments_and_speakers(
    recognizer: vavl.Recognizer, talk: np.ndarray
) -> None:
    careful = vavl.Recognizer(recognizer.model, recognizer.features, unsure_below=0.999)
    found = careful.predict(audio=talk, segments=[(1, 3, "Ann")])
    assert found.segments[0].label == found.speakers["Ann"].label == vavl.UNSURE


def test_turns_of_a_file_and_of_a_folder(
    recognizer: vavl.Recognizer, talk: np.ndarray, write_wav: Callable[..., Path], tmp_path: Path
) -> None:
    clip = write_wav(talk, "talk.wav")
    turns = tmp_path / "turns"
    turns.mkdir()
    lines = "SPEAKER talk 1 4 2.5 <NA> <NA> ann <NA> <NA>\nSPEAKER x 1 0 9 <NA> <NA> x <NA> <NA>\n"
    (turns / "talk.rttm").write_text(lines)
    [one] = recognizer.predict(clip, segments=turns / "talk.rttm").segments
    assert (one.start_s, one.end_s, one.speaker) == (4, 6.5, "ann")
    files = ClipFiles("talk", media=clip)
    assert recognizer.predict_files(files, segments=turns).segments == (one,)
    (turns / "talk.vtt").touch()
    with pytest.raises(InputError, match=r"one file for clip 'talk', got talk.vtt and talk.rttm"):
        recognizer.predict_files(files, segments=turns)
    with pytest.raises(MediaError, match=r"no talk\.\* in this folder"):
        recognizer.predict_files(files, segments=tmp_path)


def test_a_span_of_a_film_is_the_film_of_that_span(recognizer: vavl.Recognizer, film: Film) -> None:
    path = film("film.mkv", audio="pcm_s16le", video="ffv1", seconds=6.0)
    found = recognizer.predict(
        path,
        start_s=1.2,
        end_s=4.4,
        timeline=True,
        segments=[(1, 2), (2.5, 3), (4, 5), (5, 6)],
    )
    frames = np.stack([frame.pixels for frame in video_frames(path, start_s=1.2, end_s=4.4)])
    arrays = recognizer.predict(audio=read_audio(path, start_s=1.2, end_s=4.4), frames=frames)
    assert found.probabilities == pytest.approx(arrays.probabilities, abs=1e-3)
    assert found.modality is Modality.AUDIOVISUAL
    assert found.duration_s == pytest.approx(3.2)
    assert [w.start_s for w in found.timeline] == pytest.approx([1.2, 1.7, 2.2, 2.4])
    [person] = found.people
    assert (person.start_s, person.end_s) == pytest.approx((1.2, 4.4))
    assert [w.start_s for w in person.timeline] == pytest.approx([1.2, 1.7, 2.2, 2.4])
    spans = [(s.start_s, s.end_s) for s in found.segments]
    assert spans == [pytest.approx(span) for span in ((1.2, 2), (2.5, 3), (4, 4.4))]
    assert found.warnings == ("1 of 4 segments lie outside the clip",)
    arrays = recognizer.predict(
        audio=read_audio(path),
        frames=np.stack([frame.pixels for frame in video_frames(path)]),
        start_s=1.2,
        end_s=4.4,
    )
    assert arrays.probabilities == pytest.approx(found.probabilities, abs=1e-3)


def test_times_of_sentences_are_those_of_the_file(
    listener: vavl.Recognizer, talk: np.ndarray, write_wav: Callable[..., Path]
) -> None:
    [sentence] = listener.predict(write_wav(talk), segments=True, start_s=3.3, end_s=7.3).segments
    assert (sentence.start_s, sentence.end_s) == pytest.approx(SPEECH_S[1], abs=0.2)


def test_a_span_in_which_only_one_side_has_anything(
    recognizer: vavl.Recognizer, talk: np.ndarray, film: Film
) -> None:
    light = np.full((50, 64, 96, 3), 180, np.uint8)  # 2 s
    both = {"audio": talk, "frames": light}
    assert recognizer.predict(**both, start_s=3).modality is Modality.ACOUSTIC
    late = {"audio": talk[: 3 * RATE // 2], "frames": light}
    assert recognizer.predict(**late, start_s=1.6).modality is Modality.VISUAL
    nothing = "nothing lies between start_s=20|the clip has nothing between start_s and end_s"
    for clip in (both, {"audio": talk}, {"frames": light}, {"path": film()}):
        with pytest.raises(MediaError, match=nothing):
            recognizer.predict(**clip, start_s=20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segments": [(2, 1)]}, "segments: 1 problem"),
        ({"segments": "talk.txt"}, "expected a file that ends in"),
        ({"start_s": -1}, "start_s: expected seconds >= 0"),
        ({"start_s": 2, "end_s": 2}, "end_s: expected more than start_s=2"),
        ({"end_s": float("nan")}, "end_s: expected more"),
    ],
)
def test_what_makes_no_sense_is_named(
    recognizer: vavl.Recognizer, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recognizer.predict(audio=np.ones(RATE, np.float32), **arguments)


def test_features_have_no_times_and_the_deaf_find_no_sentences(
    recognizer: vavl.Recognizer,
) -> None:
    features = {"acoustic": np.zeros((3, 80))}
    with pytest.raises(InputError, match="got features alone"):
        recognizer.predict(**features, segments=True)
    with pytest.raises(InputError, match="got features, which have no times"):
        recognizer.predict(**features, start_s=1.0)
    deaf = vavl.Recognizer(
        recognizer.model, {Modality.VISUAL: recognizer.features[Modality.VISUAL]}
    )
    deaf.reader.visual_extractor = recognizer.reader.visual_extractor
    light = np.full((50, 64, 96, 3), 180, np.uint8)
    with pytest.raises(InputError, match="expected a model that hears"):
        deaf.predict(frames=light, segments=True)
    [segment] = deaf.predict(frames=light, segments=[(0.5, 1.5)]).segments
    assert isinstance(segment, Segment)
    assert segment.modality is Modality.VISUAL


def test_a_turn_without_length_says_nothing_and_harms_no_other(recognizer: vavl.Recognizer) -> None:
    light = np.full((50, 64, 96, 3), 180, np.uint8)  # 2 s
    found = recognizer.predict(frames=light, segments=[(1, 1, "ann"), (0.5, 1.5, "bob")])
    assert [(s.speaker, s.modality) for s in found.segments] == [
        ("bob", Modality.VISUAL),
        ("ann", None),
    ]
    assert list(found.speakers) == ["bob"]
