"""Media in, predictions out: whatever of sound and picture is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vavl
from vavl.errors import InputError, MediaError
from vavl.inference import reader as reader_module
from vavl.media.audio import read_audio
from vavl.media.video import video_frames
from vavl.types import Modality

Film = Callable[..., Path]
SPEECH = np.sin(np.arange(48_000) / 9).astype(np.float32) * 0.2


def test_a_film_is_heard_and_seen(recognizer: vavl.Recognizer, film: Film) -> None:
    found = recognizer.predict(film(seconds=3.0), timeline=True)
    assert found.modality is Modality.AUDIOVISUAL
    assert found.label == max(found.probabilities, key=found.probabilities.__getitem__)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert set(found.attributes) == {"valence"}
    assert found.duration_s == pytest.approx(3.0, abs=0.1)
    assert found.face_share == 1
    assert found.warnings == ()
    assert [window.start_s for window in found.timeline[:3]] == [0.0, 0.5, 1.0]
    assert found.timeline[-1].end_s == pytest.approx(found.duration_s)


def test_progress_tells_how_far_it_is_and_can_end_it(
    recognizer: vavl.Recognizer, film: Film
) -> None:
    path, reached = film(seconds=6.0), []
    whole = recognizer.predict(path, timeline=True, progress=reached.append)
    assert len(reached) > 8
    assert reached == sorted(reached)
    assert reached[-1] == pytest.approx(whole.duration_s)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recognizer.predict(path, progress=stop)


def test_only_sound_and_only_a_picture(recognizer: vavl.Recognizer, film: Film) -> None:
    heard = recognizer.predict(film("sound.wav", audio="pcm_s16le", video=None))
    assert heard.modality is Modality.ACOUSTIC
    assert heard.face_share is None
    seen = recognizer.predict(film("silent.mp4", audio=None))
    assert seen.modality is Modality.VISUAL
    assert seen.warnings == ("no sound",)


def test_arrays_give_what_the_file_gives(recognizer: vavl.Recognizer, film: Film) -> None:
    path = film("film.mkv", audio="pcm_s16le", video="ffv1")
    frames = np.stack([frame.pixels for frame in video_frames(path)])
    whole = recognizer.predict(path)
    arrays = recognizer.predict(audio=read_audio(path), frames=frames, frame_rate_hz=25)
    assert arrays.modality is whole.modality
    for name, value in whole.probabilities.items():
        assert arrays.probabilities[name] == pytest.approx(value, abs=1e-4)
    faster = np.repeat(SPEECH, 2)
    at_16, at_32 = (
        recognizer.predict(audio=samples, sampling_rate_hz=rate)
        for samples, rate in ((SPEECH, 16_000), (faster, 32_000))
    )
    assert at_32.duration_s == pytest.approx(at_16.duration_s, abs=0.01)


def test_silence_and_a_face_out_of_sight(recognizer: vavl.Recognizer) -> None:
    dark = np.zeros((50, 64, 96, 3), np.uint8)
    light = np.full_like(dark, 180)
    half = np.concatenate([light, dark])
    found = recognizer.predict(audio=SPEECH * 0, frames=half, timeline=True)
    assert found.modality is Modality.VISUAL
    assert found.face_share == pytest.approx(0.5, abs=0.05)
    assert "the sound is silence" in found.warnings
    assert found.timeline[0].modality is Modality.VISUAL
    assert found.timeline[-1].modality is None
    assert found.timeline[-1].label is None
    assert recognizer.predict(audio=SPEECH, frames=dark).modality is Modality.ACOUSTIC
    with pytest.raises(MediaError, match="nothing to go by: the sound is silence, no face"):
        recognizer.predict(audio=SPEECH * 0, frames=dark)


def test_a_long_clip_is_predicted_in_parts(
    recognizer: vavl.Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "LONGEST_S", 1.0)
    samples = np.concatenate([SPEECH[:16_000], 0.1 * SPEECH[::3].repeat(3)[:16_000]])
    parts = [recognizer.predict(audio=samples[i : i + 16_000]) for i in (0, 16_000)]
    whole = recognizer.predict(audio=samples)
    for name, value in whole.probabilities.items():
        mean = np.mean([part.probabilities[name] for part in parts])
        assert value == pytest.approx(mean, abs=1e-6)


def test_temperatures_change_the_confidence_alone(recognizer: vavl.Recognizer) -> None:
    softer = vavl.Recognizer(recognizer.model, recognizer.features, dict.fromkeys(Modality, 5.0))
    before, after = (r.predict(audio=SPEECH) for r in (recognizer, softer))
    assert after.label == before.label
    assert max(after.probabilities.values()) < max(before.probabilities.values())


def test_below_the_threshold_the_label_is_unsure_and_the_probabilities_stay(
    recognizer: vavl.Recognizer, film: Film
) -> None:
    path = film(seconds=3.0)
    plain = recognizer.predict(path, timeline=True)
    confidences = [plain.confidence, *(window.confidence for window in plain.timeline)]
    assert confidences == [max(p.probabilities.values()) for p in (plain, *plain.timeline)]
    threshold = sorted(confidences)[len(confidences) // 2]
    careful = vavl.Recognizer(recognizer.model, recognizer.features, unsure_below=threshold)
    careful.reader = recognizer.reader
    found = careful.predict(path, timeline=True)
    labels = []
    for ours, theirs in zip((found, *found.timeline), (plain, *plain.timeline), strict=True):
        assert ours.probabilities == theirs.probabilities
        assert ours.confidence == theirs.confidence
        assert ours.label == (vavl.UNSURE if ours.confidence < threshold else theirs.label)
        labels.append(ours.label)
    assert len(set(labels)) == 2  # at the threshold itself it is sure
    features = {"acoustic": np.ones((5, 80))}
    never = vavl.Recognizer(recognizer.model, recognizer.features, unsure_below=0.999)
    assert never.predict(**features).label == "unsure"


def test_a_threshold_is_a_probability_and_unsure_no_category(recognizer: vavl.Recognizer) -> None:
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match=r"unsure_below: expected a probability in \[0, 1\)"):
            vavl.Recognizer(recognizer.model, unsure_below=wrong)
    config = recognizer.model.config.model_copy(update={"categories": ("sad", vavl.UNSURE)})
    model = vavl.VAVL(config)
    vavl.Recognizer(model)
    with pytest.raises(InputError, match="the model has a category 'unsure'"):
        vavl.Recognizer(model, unsure_below=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "at least one of them, got none"),
        ({"path": "a.mp4", "audio": SPEECH}, "a file or arrays, got both"),
        ({"acoustic": np.zeros((3, 80)), "timeline": True}, "features alone"),
        ({"path": "a.wav", "acoustic": np.zeros((3, 80))}, "one source of sound"),
        ({"audio": np.zeros((2, 9))}, r"expected \(N,\) mono"),
        ({"audio": np.full(99, np.nan)}, "finite samples"),
        ({"frames": np.zeros((2, 3))}, "frames"),
    ],
)
def test_bad_input_is_named(
    recognizer: vavl.Recognizer, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recognizer.predict(**arguments)


def test_devices(recognizer: vavl.Recognizer) -> None:
    assert vavl.Recognizer(recognizer.model, device="auto").device.type in ("cpu", "cuda", "mps")
    for device in ("cuda:99", "gpu", "none"):
        with pytest.raises(InputError, match=f"device: '{device}' cannot be used here"):
            vavl.Recognizer(recognizer.model, device=device)
    vavl.Recognizer(recognizer.model, device="cpu")  # where the other tests expect it


def test_a_model_that_says_nothing_of_its_features_takes_arrays_alone(
    recognizer: vavl.Recognizer,
) -> None:
    with pytest.raises(InputError, match=r"no features\.json"):
        vavl.Recognizer(recognizer.model).predict(audio=SPEECH)


def test_a_model_without_eyes_hears_a_film(recognizer: vavl.Recognizer, film: Film) -> None:
    features = {Modality.ACOUSTIC: recognizer.features[Modality.ACOUSTIC]}
    blind = vavl.Recognizer(recognizer.model, features)
    assert blind.predict(film()).modality is Modality.ACOUSTIC
    with pytest.raises(MediaError, match="there is a picture, and nothing that this model can use"):
        blind.predict(film("mute.mp4", audio=None))
    with pytest.raises(InputError, match="trained without visual features"):
        blind.predict(frames=np.zeros((2, 8, 8, 3), np.uint8))
