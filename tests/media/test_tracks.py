"""Several tracks of sound: which there are, which is taken, and when they begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from sound_tracks import Track, write_tracks
from voices import babble

from vavl.errors import InputError, MediaError
from vavl.media.audio import read_audio
from vavl.media.container import AudioTrackInfo, media_info
from vavl.media.languages import same_language
from vavl.media.tracks import choose_audio_track, choose_channels
from vavl.media.video import video_frames

VOICE = babble(1.0)
SILENCE = np.zeros_like(VOICE)
HISS = (0.05 * np.random.default_rng(0).standard_normal(len(VOICE))).astype(np.float32)


def chosen(path: Path, asked: int | str | None = None) -> tuple[int, str | None]:
    return choose_audio_track(path, media_info(path).audio_tracks, asked)


def test_all_tracks_are_listed(tmp_path: Path) -> None:
    film = write_tracks(
        tmp_path / "a.mkv",
        [
            Track(SILENCE, "ger", "Text\x1b[2J", disposition="default"),
            Track(np.stack([VOICE] * 8), disposition="comment"),
        ],
    )
    first, second = media_info(film).audio_tracks
    assert first == AudioTrackInfo(1, "ger", "Text [2J", 1, 16_000, is_default=True)
    assert second == AudioTrackInfo(2, None, None, 8, 16_000, is_aside=True)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "pcm_s16le"), ("a.mp4", "aac")])
def test_the_track_with_speech_is_taken_and_named(tmp_path: Path, name: str, codec: str) -> None:
    tracks = [Track(SILENCE, "deu"), Track(VOICE, "eng"), Track(HISS, "fra", start_s=0.5)]
    film = write_tracks(tmp_path / name, tracks, codec=codec)
    number, note = chosen(film)
    assert (number, note) == (
        2,
        "3 audio tracks: took 2 (eng), which has speech; not 1 (deu), 3 (fra)",
    )
    heard = read_audio(film, track=number)
    assert np.corrcoef(heard[2000:14_000], VOICE[2000:14_000])[0, 1] > 0.9


def test_of_tracks_with_as_much_speech_the_default_and_no_commentary(tmp_path: Path) -> None:
    dubbed = [
        Track(babble(1.0, seed=1), "deu"),
        Track(babble(1.0, seed=2), "eng", disposition="default"),
        Track(babble(1.0, seed=3), "fra"),
    ]
    film = write_tracks(tmp_path / "a.mkv", dubbed)
    assert chosen(film)[0] == 2
    assert "the default of 3 with speech" in (chosen(film)[1] or "")
    for track in media_info(film).audio_tracks:  # each by its number, and by either of its codes
        letters = {"deu": "de", "eng": "en", "fra": "fr"}[track.language or ""]
        for asked in (track.number, str(track.number), track.language, letters):
            assert chosen(film, asked) == (track.number, None)
    half = np.where(np.arange(len(VOICE)) < len(VOICE) // 2, VOICE, 0).astype(np.float32)
    aside = [Track(half), Track(VOICE, disposition="comment")]
    assert chosen(write_tracks(tmp_path / "b.mkv", aside))[0] == 1
    aside = [Track(HISS), Track(VOICE, disposition="comment")]
    assert chosen(write_tracks(tmp_path / "c.mkv", aside))[0] == 2


def test_where_nobody_speaks_the_first_that_sounds(tmp_path: Path) -> None:
    number, note = chosen(write_tracks(tmp_path / "a.mkv", [Track(SILENCE), Track(HISS)]))
    assert (number, note) == (2, "2 audio tracks: took 2, without speech in any; not 1")


def test_among_those_of_a_language_the_one_with_speech(tmp_path: Path) -> None:
    film = write_tracks(
        tmp_path / "a.mkv", [Track(VOICE, "fra"), Track(SILENCE, "eng"), Track(VOICE, "en")]
    )
    number, note = chosen(film, "eng")
    assert number == 3
    assert "took 3 (en), which has speech" in (note or "")


def test_a_voice_in_the_middle_of_a_long_track_is_found(tmp_path: Path) -> None:
    long = np.zeros(120 * 16_000, np.float32)
    late = long.copy()
    late[70 * 16_000 : 78 * 16_000] = np.tile(VOICE, 8)
    pictures = [np.full((32, 32, 3), 99, np.uint8)] * 120
    film = write_tracks(tmp_path / "a.mkv", [Track(long), Track(late)], pictures, picture_rate_hz=1)
    assert chosen(film)[0] == 2


def test_one_track_is_not_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_tracks(tmp_path / "a.mkv", [Track(VOICE, "eng")])
    monkeypatch.setattr("vavl.media.tracks.opened", None)
    assert chosen(film) == chosen(film, 1) == chosen(film, "eng") == (1, None)


@pytest.mark.parametrize("asked", [3, "spa", "4"])
def test_a_track_that_is_not_there(tmp_path: Path, asked: int | str) -> None:
    film = write_tracks(tmp_path / "a.mkv", [Track(VOICE, "deu", "Original"), Track(VOICE)])
    with pytest.raises(MediaError, match=r"a\.mkv.*there are 1 \(deu, 'Original'\), 2"):
        chosen(film, asked)
    with pytest.raises(MediaError, match="there is no sound"):
        choose_audio_track(film, (), asked)


@pytest.mark.parametrize("asked", [0, -1, True, "", " ", 1.0])
def test_what_names_no_track(asked) -> None:
    with pytest.raises(InputError, match="audio_track: expected a number from 1 or a language"):
        choose_audio_track(Path("a.mkv"), [AudioTrackInfo(1)], asked)


def test_the_picture_keeps_its_time_whichever_track_is_heard(tmp_path: Path) -> None:
    pictures = [np.full((32, 32, 3), 20 * number, np.uint8) for number in range(10)]
    tracks = [Track(VOICE, start_s=0.5), Track(VOICE, start_s=1.0)]
    film = write_tracks(tmp_path / "a.mkv", tracks, pictures)
    info = media_info(film)
    assert (info.video_start_s, info.audio_start_s) == (0, pytest.approx(0.5, abs=0.01))
    for number, start_s in ((1, 0.5), (2, 1.0)):
        heard = read_audio(film, track=number)
        assert np.flatnonzero(heard)[0] / 16_000 == pytest.approx(start_s, abs=0.05)
    # One that begins before the first of each kind moves them all.
    early = [Track(VOICE, start_s=0.5), Track(VOICE)]
    sound = write_tracks(tmp_path / "b.mka", early)
    assert media_info(sound).audio_start_s == pytest.approx(0.5, abs=0.01)
    assert len(read_audio(sound, track=1)) - len(read_audio(sound, track=2)) == 8_000


def test_a_track_hours_away_harms_no_other(tmp_path: Path) -> None:
    pictures = [np.full((32, 32, 3), 99, np.uint8)] * 5
    tracks = [Track(VOICE, "eng"), Track(VOICE, "fra", start_s=4000)]
    film = write_tracks(tmp_path / "late.mkv", tracks, pictures)
    assert len(read_audio(film, track=1)) == pytest.approx(len(VOICE), abs=200)
    assert next(video_frames(film)).time_s == 0
    with pytest.raises(MediaError, match="the audio track starts 4000 s after"):
        read_audio(film, track=2)


def unknown_codec(film: Path, number: int) -> Path:
    """The codec of a Matroska track overwritten by one that nobody knows."""
    content = film.read_bytes()
    place = -1
    for _ in range(number):
        place = content.index(b"A_PCM/INT/LIT", place + 1)
    film.write_bytes(content[:place] + b"A_XYZ/INT/LIT" + content[place + 13 :])
    return film


def test_an_unknown_codec_is_passed_over_and_named_where_it_is_asked_for(tmp_path: Path) -> None:
    tracks = [Track(VOICE, "deu"), Track(VOICE, "eng")]
    film = unknown_codec(write_tracks(tmp_path / "a.mkv", tracks), 1)
    with av.open(str(film)) as file:
        assert file.streams.audio[0].codec_context is None
    assert [track.is_known for track in media_info(film).audio_tracks] == [False, True]
    assert chosen(film) == (
        2,
        "2 audio tracks: took 2 (eng), the only one that can be decoded; not 1 (deu)",
    )
    assert len(read_audio(film)) == pytest.approx(len(VOICE), abs=20)
    with pytest.raises(MediaError, match="in a format that FFmpeg cannot decode"):
        read_audio(film, track=chosen(film, "deu")[0])


def test_fifty_tracks(tmp_path: Path) -> None:
    tracks = [Track(VOICE if number == 37 else SILENCE) for number in range(1, 51)]
    number, note = chosen(write_tracks(tmp_path / "a.mkv", tracks))
    assert number == 37
    assert (note or "").endswith("not 1, 2, 3, 4 and 45 more")


def test_damaged_tables_of_tracks_end_in_a_choice_or_an_error(tmp_path: Path) -> None:
    tracks = [Track(VOICE[:2000], "deu"), Track(VOICE[:2000], "eng")]
    whole = write_tracks(tmp_path / "a.mkv", tracks).read_bytes()
    generator = np.random.default_rng(0)
    ends = set()
    for number in range(20):
        content = bytearray(whole)
        for place in generator.integers(40, 600, size=6):
            content[place] = int(generator.integers(256))
        path = tmp_path / f"{number}.mkv"
        path.write_bytes(content)
        try:
            ends.add(f"{read_audio(path, track=chosen(path)[0]).ndim} dimension")
        except MediaError as error:
            ends.add(str(error).partition(": ")[0].replace(str(path), "an error with the path"))
    assert ends == {"1 dimension", "an error with the path"}


@pytest.mark.parametrize("pair", [("ger", "de"), ("deu", "ger"), ("pt-BR", "por"), ("EN_us", "en")])
def test_codes_of_one_language(pair: tuple[str, str]) -> None:
    assert same_language(*pair)
    assert not same_language(pair[0], "tlh")


def test_of_eight_channels_those_with_speech_are_heard(write_wav: Callable[..., Path]) -> None:
    generator = np.random.default_rng(0)
    sound = 0.1 * generator.standard_normal((len(VOICE), 8))
    sound[:, 4] = VOICE
    sound[:, 6] = np.roll(VOICE, 100)
    path = write_wav(sound)
    (track,) = media_info(path).audio_tracks
    assert choose_channels(path, track) == (
        (4, 6),
        "8 channels: took those with speech (5, 7)",
    )
    heard = read_audio(path, channels=(4, 6))
    np.testing.assert_allclose(heard, sound[:, [4, 6]].mean(axis=1), atol=1e-4)


@pytest.mark.parametrize("others", ["silence", "voices", "no voice"])
def test_all_channels_are_heard_where_nothing_tells_them_apart(
    write_wav: Callable[..., Path], others: str
) -> None:
    sound = np.stack([SILENCE] * 4, axis=1)
    if others == "no voice":
        sound[:] = HISS[:, None]
    else:
        sound[:, 0] = VOICE
    if others == "voices":
        sound[:, 1:] = 0.5 * VOICE[:, None]
    path = write_wav(sound)
    assert choose_channels(path, media_info(path).audio_tracks[0]) == (None, None)


def test_two_channels_are_not_listened_to(write_wav: Callable[..., Path]) -> None:
    stereo = AudioTrackInfo(1, channels=2)
    assert choose_channels(Path("not even there.wav"), stereo) == (None, None)
