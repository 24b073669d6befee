"""Which sound and which face of a clip count: asked for by whoever predicts, or chosen."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from sound_tracks import Track, write_tracks
from voices import babble

import vavl
from vavl.errors import InputError, MediaError
from vavl.inference import ClipFiles, predict_many
from vavl.inference.illustrating import illustrate
from vavl.inference.sources import file_at_real_time
from vavl.media.audio import read_audio
from vavl.types import Modality

VOICE = babble(1.0)
NOTE = "2 audio tracks: took 2 (eng, 'Main'), which has speech; not 1 (deu)"


@pytest.fixture
def two_tracks(tmp_path: Path) -> Path:
    """A grey film with a quiet hiss first, and then a voice."""
    hiss = 0.01 * np.random.default_rng(0).standard_normal(len(VOICE))
    pictures = [np.full((64, 96, 3), 180, np.uint8)] * 25
    tracks = [Track(hiss.astype(np.float32), "deu"), Track(VOICE, "eng", "Main")]
    return write_tracks(tmp_path / "film.mkv", tracks, pictures)


def test_the_track_with_speech_is_heard_or_the_one_that_is_asked_for(
    recognizer: vavl.Recognizer, two_tracks: Path
) -> None:
    by_itself = recognizer.predict(two_tracks)
    assert (by_itself.audio_track, by_itself.warnings[:1]) == (2, (NOTE,))
    for asked, number in (("2", 2), ("en", 2), (1, 1)):
        found = recognizer.predict(two_tracks, audio_track=asked)
        assert found.audio_track == number
        assert not any("audio tracks" in warning for warning in found.warnings)
        assert (found.probabilities == by_itself.probabilities) == (number == 2)
        window = recognizer.reader.open(two_tracks, audio_track=asked)
        heard = np.concatenate([block.samples for block in window.audio])  # type: ignore[union-attr]
        np.testing.assert_array_equal(heard, read_audio(two_tracks, track=number))
    with pytest.raises(MediaError, match=r"film\.mkv: .*'fra', there are 1 \(deu\), 2 \(eng, 'M"):
        recognizer.predict(two_tracks, audio_track="fra")


def test_a_person_is_got_to_know_by_the_same_track(
    recognizer: vavl.Recognizer, two_tracks: Path
) -> None:
    profiles = [
        recognizer.adapt([two_tracks], speaker=f"track {asked}", audio_track=asked)
        for asked in (None, 2, 1)
    ]
    means = [profile.moments[Modality.ACOUSTIC].mean for profile in profiles]
    np.testing.assert_array_equal(means[0], means[1])
    assert not np.allclose(means[0], means[2])


def test_overlay_and_stream_have_the_sound_that_was_heard(
    recognizer: vavl.Recognizer, two_tracks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overlay = tmp_path / "overlay.mp4"
    illustrate(recognizer, ClipFiles("film", media=two_tracks), overlay=overlay)
    kept = read_audio(overlay)
    assert kept.std() == pytest.approx(VOICE.std(), rel=0.1)
    with caplog.at_level("WARNING"):
        events = file_at_real_time(two_tracks, float("inf"), video=False)
        streamed = [samples for _, samples in events if samples is not None]
    np.testing.assert_array_equal(
        np.concatenate(streamed),  # type: ignore[arg-type]
        read_audio(two_tracks, track=2),
    )
    assert NOTE in caplog.text


def test_many_clips_are_read_as_asked(two_tracks: Path, tmp_path: Path) -> None:
    clips, out = [ClipFiles("film", media=two_tracks)], tmp_path / "out"
    report = predict_many(clips, out, audio_track="spa", face="found", progress=False)
    assert "expected audio track 'spa'" in report.failed[str(two_tracks)]
    with pytest.raises(vavl.errors.StoreError, match="other predictions"):
        predict_many(clips, out, progress=False)
    assert "face" not in (out / "predictions.jsonl").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"audio": VOICE, "audio_track": 1}, "audio_track: expected a file"),
        ({"path": "film.mp4", "audio_track": 0}, "audio_track: expected a number from 1"),
        ({"path": "film.mp4", "face": "mine"}, "face: expected one of .*'found'.*, got 'mine'"),
    ],
)
def test_what_makes_no_sense(recognizer: vavl.Recognizer, arguments, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recognizer.predict(**arguments)


def test_a_folder_has_no_track(recognizer: vavl.Recognizer, tmp_path: Path) -> None:
    picture = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 180, np.uint8), format="rgb24")
    picture.save(str(tmp_path / "1.png"))
    with pytest.raises(MediaError, match="expected audio track 1, there is no sound"):
        recognizer.predict(tmp_path, audio_track=1)


def test_a_photo_of_a_face_is_read_as_given(recognizer: vavl.Recognizer, tmp_path: Path) -> None:
    dark = np.full((64, 48, 3), 20, np.uint8)  # in which the detector finds nothing
    av.VideoFrame.from_ndarray(dark, format="rgb24").save(str(tmp_path / "face.png"))
    with pytest.raises(MediaError, match="no face was found"):
        recognizer.predict(tmp_path / "face.png")
    found = recognizer.predict(tmp_path / "face.png", face="given")
    assert (found.modality, found.face_share) == (Modality.VISUAL, 1)
    [person] = found.people
    assert [place.box for place in person.track] == [(0, 0, 1, 1)]


@pytest.mark.shared
def test_a_film_on_its_side_gives_what_it_gives_upright(shared: Path) -> None:
    from vavl.media.video import video_frames

    model = vavl.load()
    film = shared / "samples" / "grid_bbaf2n.mpg"
    frames = np.stack([f.pixels for f in video_frames(film, frame_rate_hz=12.5, end_s=0.8)])
    upright = model.predict(frames=frames, frame_rate_hz=12.5)
    assert not any("turned" in warning for warning in upright.warnings)
    for turns, how in ((1, "90 degrees counterclockwise"), (2, "180 degrees")):
        turned = np.ascontiguousarray(np.rot90(frames, turns, axes=(1, 2)))
        found = model.predict(frames=turned, frame_rate_hz=12.5)
        assert any(f"turned by {how}" in warning for warning in found.warnings)
        assert found.label == upright.label
        for name, value in upright.probabilities.items():
            assert found.probabilities[name] == pytest.approx(value, abs=0.05)
