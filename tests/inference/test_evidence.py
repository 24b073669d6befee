"""Only speech and faces are evidence: what lies around them changes nothing, and is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pretend_faces import pretend_face_features
from voices import babble

import vavl
from vavl.errors import MediaError
from vavl.features.waveform import WaveformExtractor
from vavl.inference.live import LiveRecognizer
from vavl.media.audio import read_audio
from vavl.media.speech import only_speech
from vavl.types import Modality

RATE = 16_000


@pytest.fixture(scope="module")
def listener() -> vavl.Recognizer:
    """The model of the package, which hears speech alone; it is never unsure here."""
    return vavl.load(unsure_below=0.0)


def silence(duration_s: float) -> np.ndarray:
    return np.zeros(round(duration_s * RATE), np.float32)


def hiss(duration_s: float, level_db: float = -50, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(round(duration_s * RATE))
    return (noise * 10 ** (level_db / 20)).astype(np.float32)


def hum(duration_s: float, level_db: float = -50) -> np.ndarray:
    times = np.arange(round(duration_s * RATE)) / RATE
    waves = sum(np.sin(2 * np.pi * 50 * k * times) / k for k in (1, 2, 3))
    return (waves * 10 ** (level_db / 20)).astype(np.float32)


def heard(listener: vavl.Recognizer, audio: np.ndarray) -> np.ndarray:
    """Mean of what is heard, in deviations of the training voices; all of it in one part."""
    profile = listener.adapt([{"audio": audio}], speaker=f"speaker {len(listener.speakers)}")
    assert profile.clips(Modality.ACOUSTIC) == 1
    mean, std = listener.model.normalisation(Modality.ACOUSTIC).statistics()
    return (profile.moments[Modality.ACOUSTIC].mean - mean.numpy()) / std.numpy()


@pytest.mark.parametrize("around", [silence, hiss, hum])
@pytest.mark.parametrize(("before_s", "after_s"), [(0.51, 0), (9, 5), (58.3, 2)])
def test_what_lies_around_a_sentence_changes_nothing(
    listener: vavl.Recognizer, around: Callable[..., np.ndarray], before_s: float, after_s: float
) -> None:
    sentence = np.pad(babble(3.1), 4800)
    embedded = np.concatenate([around(before_s), sentence, around(after_s)])
    alone, another = heard(listener, sentence), heard(listener, babble(3.1, pitch_hz=300, seed=3))
    moved = np.linalg.norm(heard(listener, embedded) - alone)
    assert moved < 0.1 * np.linalg.norm(another - alone)
    found = listener.predict(audio=embedded)
    assert found.duration_s == pytest.approx(len(embedded) / RATE)
    assert found.warnings == ()


@pytest.mark.parametrize("around", [silence, hiss])
def test_where_a_sentence_stands_moves_no_probability(
    listener: vavl.Recognizer, around: Callable[..., np.ndarray]
) -> None:
    sentence = np.pad(babble(2), 4800)
    alone = listener.predict(audio=sentence).probabilities
    for before_s in (0.0007, 0.137, 3, 30):
        embedded = np.concatenate([around(before_s), sentence, around(1.7)])
        assert listener.predict(audio=embedded).probabilities == pytest.approx(alone, abs=5e-3)


def test_of_a_long_clip_every_sentence_counts_by_its_length(listener: vavl.Recognizer) -> None:
    voices = [babble(7, pitch_hz=110), babble(2, seed=300, pitch_hz=300)]
    pieces = [only_speech(np.pad(voice, RATE)) for voice in voices]
    alone = [listener.predict(audio=np.pad(voice, RATE)).probabilities for voice in voices]
    found = listener.predict(
        audio=np.concatenate([silence(3), voices[0], hiss(30), voices[1], hum(5)])
    ).probabilities
    weights = [len(piece) for piece in pieces]
    for name, value in found.items():
        mean = np.average([probabilities[name] for probabilities in alone], weights=weights)
        assert value == pytest.approx(mean, abs=0.1)


@pytest.mark.parametrize("level_db", [-20, -50, -70])
def test_sound_without_speech_is_no_evidence(listener: vavl.Recognizer, level_db: float) -> None:
    silent = "the sound is silence"
    for sound, why in (
        (hiss(3, level_db), "no speech in the sound" if level_db > -65 else silent),
        (hum(3, level_db), "no speech in the sound" if level_db > -65 else silent),
        (silence(3) + np.float32(10 ** (level_db / 20)), silent),
    ):
        with pytest.raises(MediaError, match=f"nothing to go by: {why}; expected sound"):
            listener.predict(audio=sound)


def test_windows_without_speech_abstain(listener: vavl.Recognizer) -> None:
    sound = np.concatenate([hiss(4), babble(3), hiss(4)])
    timeline = listener.predict(audio=sound, timeline=True).timeline
    assert [(w.start_s, w.end_s) for w in timeline[:2]] == [(0.0, 2.0), (0.5, 2.5)]
    for window in timeline:
        if window.end_s < 4.2 or window.start_s > 7.2:
            assert (window.modality, window.label) == (None, None)
        elif 3 <= window.start_s <= 6:
            assert window.modality is Modality.ACOUSTIC


def test_what_limits_the_evidence_is_named(listener: vavl.Recognizer) -> None:
    def warnings(audio: np.ndarray) -> tuple[str, ...]:
        return listener.predict(audio=audio).warnings

    assert warnings(babble(3)) == ()
    assert warnings(np.pad(babble(0.7), RATE))[0].startswith("very little speech (1.")
    assert warnings((babble(3) * 20).clip(-1, 1)) == ("the sound is clipped",)
    assert warnings(babble(3) * np.float32(1e-3))[0].startswith("the speech is very quiet (-80")


def test_a_stream_hears_what_the_file_gives(listener: vavl.Recognizer) -> None:
    sound = np.concatenate([hiss(2), babble(3), silence(1.3)])
    live = LiveRecognizer(listener, audio=True, video=False)
    assert 0.2 < live.latency_s < 0.3
    found = []
    for start in range(0, len(sound), 1000):
        come = live.add_audio(sound[start : start + 1000])
        for window in come:
            assert (start + 1000) / RATE - window.end_s < live.latency_s + 1000 / RATE
        found += come
    found += live.finish()
    assert found == list(listener.predict(audio=sound, timeline=True).timeline)


def test_faces_that_cannot_be_read_are_named(recognizer: vavl.Recognizer) -> None:
    """The network says of every face that it cannot be read."""
    pictures = np.full((50, 64, 96, 3), 180, np.uint8)
    faces = pretend_face_features()
    embed = faces.embedder.embed_faces
    faces.embedder.embed_faces = lambda *frames: embed(*frames) * np.nan  # type: ignore[method-assign]
    blind = vavl.Recognizer(recognizer.model, recognizer.features)
    blind.reader.visual_extractor = faces
    found = blind.predict(audio=babble(3), frames=pictures, timeline=True)
    assert (found.modality, found.face_share) == (Modality.ACOUSTIC, 0)
    reason = "the face cannot be read (turned away, upside down or covered)"
    assert found.warnings == (reason,)
    assert found.timeline[0].modality is Modality.ACOUSTIC
    with pytest.raises(MediaError, match="no sound, the face cannot be read"):
        blind.predict(frames=pictures)


def test_voice_activity_runs_once_over_a_stream(
    listener: vavl.Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    extract = WaveformExtractor.extract

    def watched(self: WaveformExtractor, waveform, *options, **known):
        told.append(known)
        return extract(self, waveform, *options, **known)

    monkeypatch.setattr(WaveformExtractor, "extract", watched)
    listener.predict(audio=babble(3), timeline=True)
    assert len(told) > 2
    assert all(known == {"is_speech": True} for known in told)


@pytest.mark.shared
@pytest.mark.parametrize("around", [silence, hiss, hum])
def test_recorded_sentences_are_cut_alike(shared: Path, around: Callable[..., np.ndarray]) -> None:
    for path in sorted((shared / "data" / "ravdess" / "audio16k").glob("*.flac"))[7::480]:
        sentence = read_audio(path)
        expected = only_speech(sentence)
        for before_s in (1.3, 20):
            embedded = np.concatenate([around(before_s), sentence, around(3)])
            assert abs(len(only_speech(embedded)) - len(expected)) / RATE < 0.35
