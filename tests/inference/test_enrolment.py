"""Adapting to a person: what it changes, what it leaves alone, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from voices import babble

import vavl
from vavl import cli
from vavl.data.speakers import Moments, SpeakerProfile, towards_training
from vavl.errors import InputError, MediaError
from vavl.inference.live import LiveRecognizer, run_stream
from vavl.inference.sources import file_at_real_time
from vavl.inference.windows import ClipStreams, WindowCutter, cut_clip
from vavl.media.audio import read_audio
from vavl.media.video import video_frames
from vavl.media.writing import write_wav
from vavl.types import Modality, TimedPrediction

Film = Callable[..., Path]
SOUND, FACE = Modality.ACOUSTIC, Modality.VISUAL
RNG = np.random.default_rng(0)


@pytest.fixture
def fresh(recognizer: vavl.Recognizer) -> vavl.Recognizer:
    """The recogniser, knowing nobody."""
    recognizer.speakers = {}
    return recognizer


def sound(pace: float) -> np.ndarray:
    return (0.2 * np.sin(np.arange(16_000) / pace)).astype(np.float32)


def features(recognizer: vavl.Recognizer, steps: int = 6) -> dict[str, np.ndarray]:
    config = recognizer.model.config
    return {
        "acoustic": RNG.normal(2.0, 3.0, (steps, config.dim(SOUND))).astype(np.float32),
        "visual": RNG.normal(-1.0, 0.5, (1, config.dim(FACE))).astype(np.float32),
    }


def test_features_are_predicted_as_if_they_were_a_training_speakers(
    fresh: vavl.Recognizer,
) -> None:
    clips = [features(fresh) for _ in range(4)]
    profile = fresh.adapt(clips, speaker="ann")
    assert [profile.clips(m) for m in (SOUND, FACE)] == [4, 4]
    mapped = {
        m.value: towards_training(
            clips[0][m], profile.moments[m], fresh.model.normalisation(m).moments()
        )
        for m in (SOUND, FACE)
    }
    known = fresh.predict(**clips[0], speaker="ann")
    assert known.probabilities == fresh.predict(**mapped).probabilities
    assert known.probabilities != fresh.predict(**clips[0]).probabilities
    assert known.probabilities == fresh.predict(**clips[0], speaker=profile).probabilities


def test_clips_of_further_calls_are_added(fresh: vavl.Recognizer) -> None:
    clips = [features(fresh) for _ in range(3)]
    together = fresh.adapt(clips, speaker="at once")
    for clip in clips:
        after = fresh.adapt([clip], speaker="one by one")
    assert after.clips(SOUND) == together.clips(SOUND) == 3
    np.testing.assert_allclose(after.moments[SOUND].mean, together.moments[SOUND].mean)
    assert fresh.speakers.keys() == {"at once", "one by one"}


def test_a_modality_that_no_clip_had_is_left_alone(fresh: vavl.Recognizer) -> None:
    clip = features(fresh)
    fresh.adapt([{"acoustic": clip["acoustic"]}], speaker="ann")
    face = {"visual": clip["visual"]}
    assert fresh.predict(**face, speaker="ann") == fresh.predict(**face)


def test_films_and_arrays_are_read_as_for_predicting(fresh: vavl.Recognizer, film: Film) -> None:
    path = film("film.mkv", audio="pcm_s16le", video="ffv1")
    profile = fresh.adapt([path], speaker="ann")
    assert [profile.clips(m) for m in (SOUND, FACE)] == [1, 1]
    plain, known = fresh.predict(path), fresh.predict(path, speaker="ann", timeline=True)
    assert known.modality is plain.modality is Modality.AUDIOVISUAL
    assert known.probabilities != plain.probabilities
    assert known.timeline[0].probabilities != fresh.predict(path, timeline=True).timeline[0]
    heard = fresh.adapt([{"audio": sound(9.0)}], speaker="bob")
    direct = Moments.of_clip(fresh.reader.acoustic_extractor.extract(sound(9.0)))
    np.testing.assert_allclose(heard.moments[SOUND].mean, direct.mean)


def test_a_clip_that_cannot_be_used_changes_nothing(fresh: vavl.Recognizer) -> None:
    fresh.adapt([{"audio": sound(9.0)}], speaker="ann")
    before = fresh.speakers["ann"].key
    with pytest.raises(MediaError, match="clip 2 of 'ann'"):
        fresh.adapt([{"audio": sound(7.0)}, {"audio": sound(7.0) * 0}], speaker="ann")
    with pytest.raises(InputError, match="at least one clip"):
        fresh.adapt([], speaker="ann")
    assert fresh.speakers["ann"].key == before


def test_who_is_not_known_and_what_does_not_fit_is_refused(fresh: vavl.Recognizer) -> None:
    clip = features(fresh)
    with pytest.raises(InputError, match=r"speaker: expected one of \[\], got 'ann'"):
        fresh.predict(**clip, speaker="ann")
    elsewhere = vavl.Recognizer(fresh.model)  # nothing is known of how its features are made
    profile = elsewhere.adapt([clip], speaker="ann")
    with pytest.raises(InputError, match=r"(?s)acoustic: made by another.*visual: made by"):
        fresh.predict(**clip, speaker=profile)
    elsewhere.predict(**clip, speaker=profile)
    with pytest.raises(InputError, match="were these features extracted with another extractor"):
        elsewhere.predict(acoustic=clip["acoustic"][:, 1:], speaker=profile)
    with pytest.raises(InputError, match="timeline, segments: expected sound or pictures"):
        fresh.predict(**clip, timeline=True)


def test_a_stream_of_a_known_person_gives_what_their_file_gives(
    fresh: vavl.Recognizer, film: Film
) -> None:
    path = film("film.wav", audio="pcm_s16le", video=None)
    profile = fresh.adapt([path], speaker="ann")
    expected = fresh.predict(path, timeline=True, speaker="ann").timeline

    def streamed(speaker: str | SpeakerProfile | None) -> list[dict[str, float]]:
        seen: list[TimedPrediction] = []
        events = file_at_real_time(path, math.inf, video=False)
        run_stream(fresh, events, lambda one, _: seen.append(one), speaker=speaker)
        return [one.probabilities for one in seen]

    assert streamed("ann") == streamed(profile) == [one.probabilities for one in expected]
    assert streamed(None) != streamed("ann")
    with pytest.raises(InputError, match=r"speaker: expected one of \['ann'\], got 'bob'"):
        streamed("bob")


@pytest.mark.parametrize(
    ("picture", "starts"),
    # From 2.0 to 4.2 s there is nothing to hear: without a face, nothing to learn from.
    [(None, [0.0, 2.5, 4.5]), ("ffv1", [0.0, 2.0, 4.0])],
)
def test_a_stream_gets_to_know_the_person_as_by_clips_of_its_windows(
    fresh: vavl.Recognizer, film: Film, picture: str | None, starts: list[float]
) -> None:
    path = film("film.mkv", audio="pcm_s16le", video=picture, seconds=7.3)
    samples = read_audio(path)
    samples[32_000:67_200] = 0
    frames = list(video_frames(path)) if picture else []
    live = LiveRecognizer(fresh, audio=True, video=bool(frames), adapt=True)
    seen = live.add_audio(samples) + live.end_audio()
    for frame in frames:
        seen += live.add_frame(frame)
    seen += live.finish()
    assert len(seen) == 12
    whole: dict[str, object] = {"audio": samples}
    if frames:
        whole |= {"frames": np.stack([frame.pixels for frame in frames]), "frame_rate_hz": 25}
    clip = fresh.reader.open(**whole)
    assert isinstance(clip, ClipStreams)
    cutter = WindowCutter(2.0, 0.5, **clip.sides)
    windows = [window for _, window in cut_clip(clip, [cutter])]
    clips = [
        {m.value: x for m, x in fresh.reader.extract(window).items()}
        for window in windows
        if window.start_s in starts
    ]
    expected = fresh.adapt(clips, speaker="ann")
    assert live.profile is not None
    assert live.profile.key == expected.key
    assert live.profile.clips(SOUND) == (2 if picture else 3)
    assert live.profile.clips(FACE) == (3 if picture else 0)


def test_what_a_stream_has_learned_is_used_from_the_next_window_on(
    fresh: vavl.Recognizer, film: Film
) -> None:
    path = film("film.wav", audio="pcm_s16le", video=None, seconds=5.0)
    samples = read_audio(path)

    def streamed(**options: object) -> list[dict[str, float]]:
        seen: list[TimedPrediction] = []
        events = file_at_real_time(path, math.inf, video=False)
        run_stream(fresh, events, lambda one, _: seen.append(one), **options)
        return [one.probabilities for one in seen]

    stranger, known = streamed(), streamed(adapt=True)
    assert known[0] == stranger[0]
    for number, clips in ((1, 1), (4, 1), (5, 2), (6, 2)):
        parts = [{"audio": samples[32_000 * k :][:32_000]} for k in range(clips)]
        fresh.speakers = {}
        fresh.adapt(parts, speaker="ann")
        window = samples[8_000 * number :][:32_000]
        expected = fresh.predict(audio=window, speaker="ann").probabilities
        assert known[number] == pytest.approx(expected, abs=1e-5)
        assert known[number] != pytest.approx(stranger[number], abs=1e-4)
    profile = fresh.adapt([{"audio": sound(9.0)}], speaker="bob")
    assert streamed(adapt=True, speaker="bob")[0] == streamed(speaker=profile)[0]
    assert fresh.speakers["bob"] is profile, "the stream keeps what it learns to itself"


def test_the_command_line_streams_with_what_it_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.wav"
    write_wav(path, babble(5.0))

    def streamed(*more: str) -> list[dict[str, Any]]:
        command = ["stream", str(path), "--speed", "1000", "--format", "json", *more]
        assert cli.run(command) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    plain, known = streamed(), streamed("--adapt", "--unsure-below", "0.9999")
    assert known[0]["probabilities"] == plain[0]["probabilities"]
    assert known[-1]["probabilities"] != plain[-1]["probabilities"]
    assert {window["label"] for window in known} == {"unsure"}
    assert all(w["confidence"] == max(w["probabilities"].values()) for w in known)


def test_from_clips_to_a_profile_to_a_prediction(
    film: Film,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, out = tmp_path / "clip.wav", tmp_path / "ann.safetensors"
    write_wav(path, babble(3.0))
    silent = film("silent.mp4", audio=None)
    naming = ["--speaker", "ann", "--out", str(out)]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"this is no sound")
    assert cli.run(["enrol", str(path), str(broken), *naming]) == 3
    assert "broken.wav" in capsys.readouterr().err
    assert SpeakerProfile.load(out).clips(SOUND) == 1
    assert cli.run(["enrol", str(silent), *naming]) == 2

    def predicted(*more: str) -> str:
        assert cli.run(["predict", str(path), "--format", "json", *more]) == 0
        return capsys.readouterr().out

    capsys.readouterr()
    assert predicted() != predicted("--profile", str(out))
    results = tmp_path / "results"
    batch = ["predict", str(path), "--out", str(results)]
    assert cli.run([*batch, "--profile", str(out)]) == 0
    assert cli.run(batch) == 2, "predictions with and without a profile are not mixed"
    assert "holds other predictions" in capsys.readouterr().err

    same = tmp_path / "same"
    assert predicted("--same-speaker") == predicted("--profile", str(out))
    assert cli.run([*batch[:2], "--same-speaker", "--out", str(same)]) == 0
    assert "one clip tells little" in caplog.text
    assert predicted("--profile", str(same / "speaker.safetensors")) != predicted()
    assert cli.run([*batch, "--same-speaker", "--profile", str(out)]) == 2
    assert "--same-speaker, --profile: expected one of them" in capsys.readouterr().err

    other = tmp_path / "other.safetensors"
    SpeakerProfile("ann").with_clip({SOUND: np.ones((2, 3))}, {}).save(other)
    for more in ([], ["--out", str(tmp_path / "new")]):
        assert cli.run(["predict", str(path), "--profile", str(other), *more]) == 2
        assert "does not fit the features" in capsys.readouterr().err
