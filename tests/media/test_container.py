"""The timeline that sound and picture share, and which tracks count."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from films import HEIGHT, WIDTH, film, picture, read, seconds
from PIL import Image

from vavl.errors import MediaError
from vavl.media.audio import read_audio
from vavl.media.container import Presented, media_info
from vavl.media.video import video_frames


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sound_and_picture_share_a_timeline(tmp_path: Path, name: str) -> None:
    late_sound = film(tmp_path / name, seconds(50), sound_at_s=0.5)
    info = media_info(late_sound)
    assert (info.has_audio, info.has_video) == (True, True)
    assert (info.width, info.height, info.sampling_rate_hz) == (WIDTH, HEIGHT, 16_000)
    assert info.video_start_s == 0
    assert info.audio_start_s == pytest.approx(0.5, abs=0.1)
    samples = read_audio(late_sound)
    assert np.flatnonzero(np.abs(samples) > 0.2)[0] / 16_000 == pytest.approx(0.5, abs=0.07)
    assert len(samples) / 16_000 == pytest.approx(1.52, abs=0.1)
    np.testing.assert_array_equal(read_audio(late_sound, start_s=0.3), samples[4_800:])

    late_picture = film(tmp_path / name, seconds(25, start_s=0.5), sound_at_s=0)
    assert media_info(late_picture).video_start_s == pytest.approx(0.5, abs=0.1)
    assert read(late_picture)[0] == (pytest.approx(0.5, abs=0.1), 0)
    shown = read(late_picture, frame_rate_hz=10)
    assert [number for _, number in shown[:5]] == [0] * 5
    assert len(read_audio(late_picture)) / 16_000 == pytest.approx(1.02, abs=0.1)


def test_a_sound_that_starts_hours_late_is_damaged(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", seconds(5), sound_at_s=4000)
    assert len(read(path)) == 5
    with pytest.raises(MediaError, match=r"a\.mkv: the audio track starts 4000 s after"):
        read_audio(path)


def test_the_cover_of_a_song_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(9), "rgb24")))
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1152 * 8), np.float32), "fltp", "mono")
        block.sample_rate = 16_000
        resampler = av.AudioResampler(sound.format, "mono", 16_000, frame_size=sound.frame_size)
        for part in [*resampler.resample(block), None]:
            container.mux(sound.encode(part))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    info = media_info(path)
    assert (info.has_audio, info.has_video, info.width) == (True, False, None)
    with pytest.raises(MediaError, match=r"song\.mp3: the file has no video track"):
        list(video_frames(path))


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{name}\n#EXT-X-ENDLIST\n",
    "list.txt": "ffconcat version 1.0\nfile {name}\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio 5004 RTP/AVP 0\n",
    "list.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="audio/mp4">'
        '<Representation id="0" bandwidth="1"><BaseURL>{name}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ),
}


@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_no_other_file_is_read(tmp_path: Path, playlist: str) -> None:
    other = film(tmp_path / "other.ts", seconds(10), sound_at_s=0.0)
    path = tmp_path / playlist
    path.write_text(PLAYLISTS[playlist].format(name=other.name))
    for renamed in (path, path.with_suffix(".mp4")):
        if renamed != path:
            path.rename(renamed)
        with pytest.raises(MediaError, match="a list of others, which are not read"):
            media_info(renamed)


@pytest.mark.parametrize("name", ["http:", "a:b.mp4", "concat:a|b", "-", "x%03d.mp4"])
def test_a_name_is_never_an_address(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "film.mp4", seconds(10), sound_at_s=0.0).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert media_info(name).has_video
    assert len(read(Path(name))) > 1


def test_a_picture_is_no_row_of_pictures(tmp_path: Path) -> None:
    for name in ("x001.png", "x002.png", "x%03d.png"):
        Image.fromarray(picture(3)).save(tmp_path / name)
    assert len(list(video_frames(tmp_path / "x%03d.png"))) == 1


def riff(path: Path, *, rate_hz: int, claimed: int, size: int | None = None) -> Path:
    """A sound of 1,000 samples, whose header claims so many bytes; with a hole behind it."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    header = b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVEfmt " + form
    header += b"data" + struct.pack("<I", claimed)
    path.write_bytes(header + bytes(range(250)) * 8)
    if size is not None:
        os.truncate(path, size)
    return path


def test_files_that_claim_too_much(tmp_path: Path) -> None:
    sparse = riff(tmp_path / "sparse.wav", rate_hz=16_000, claimed=0xFFFFFFFF, size=10**11)
    if sparse.stat().st_blocks * 512 < 10**9:  # where files may have holes
        with pytest.raises(MediaError, match=r"sparse\.wav: only 0.0 MB of 100,000 MB are there"):
            read_audio(sparse)
        with pytest.raises(MediaError, match="holes"):
            media_info(sparse)
    for rate_hz in (1, 999, 4_000_001, 2**31 - 1):
        path = riff(tmp_path / f"{rate_hz}.wav", rate_hz=rate_hz, claimed=2_000)
        with pytest.raises(MediaError, match=f"got {rate_hz:,} Hz"):
            read_audio(path)
    assert len(read_audio(riff(tmp_path / "a.wav", rate_hz=1_000, claimed=2_000))) == 16_000


def test_what_lasts_longer_than_its_size_allows(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    path.write_bytes(bytes(8_000))

    class Opened:
        duration = 5e6

    presented = Presented(path, Opened(), is_open_ended=True)
    presented.reach(1_600)  # 600 s, and 8 bytes a second
    with pytest.raises(MediaError, match=r"film\.mkv: expected at most 1600 s .* 8,000 bytes"):
        presented.reach(1_601)
    os.truncate(path, 10**7)
    for said_s, is_open_ended in ((25 * 3600, False), (20 * 3600, True)):
        Opened.duration = said_s * 1e6
        presented = Presented(path, Opened(), is_open_ended=is_open_ended)
        presented.reach(24 * 3600)
    with pytest.raises(MediaError, match=r"longer than 24 h.*end_s"):
        presented.reach(24 * 3600 + 1)
    Opened.duration = 25 * 3600e6
    with pytest.raises(MediaError, match=r"header says 25\.0 h.*end_s, --end"):
        Presented(path, Opened(), is_open_ended=True)


def test_pictures_of_too_many_pixels(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    size = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(20_001 * 10_000))
    path = tmp_path / "large.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    assert path.stat().st_size < 250_000
    for it in (path, tmp_path):
        with pytest.raises(MediaError, match=r"large\.png: "):
            list(video_frames(it, max_side=64))
