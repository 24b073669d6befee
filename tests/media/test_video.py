"""Reading pictures: the right one at every time, upright, and damage that ends in an error."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import HEIGHT, WIDTH, film, number_of, picture, read, seconds
from PIL import Image, ImageOps

from vavl.errors import InputError, MediaError
from vavl.media.audio import read_audio
from vavl.media.video import video_frames

# Frames and times


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.ts", "libx264")],
)
def test_every_frame_at_its_time(tmp_path: Path, name: str, codec: str) -> None:
    path = film(tmp_path / name, seconds(20), codec=codec)
    frames = list(video_frames(path))
    assert [number_of(frame.pixels) for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx(seconds(20), abs=1e-3)
    assert all(frame.pixels.shape == (HEIGHT, WIDTH, 3) for frame in frames)
    assert all(frame.pixels.dtype == np.uint8 for frame in frames)
    np.testing.assert_allclose(frames[3].pixels[2:10, 2:14], 255, atol=12)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("rate_hz", [4.0, 12.5, 25.0, 60.0])
def test_a_grid_shows_the_last_frame_that_has_begun(tmp_path, name: str, rate_hz: float) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum([0.0, *rng.integers(5, 200, 20) / 1000]).round(3)  # variable frame rate
    path = film(tmp_path / name, times.tolist())
    shown = read(path, frame_rate_hz=rate_hz)
    grid = np.arange(len(shown)) / rate_hz
    assert [time_s for time_s, _ in shown] == pytest.approx(grid, abs=1e-3)
    assert [number for _, number in shown] == [
        int(np.searchsorted(times, time_s + 1e-3, side="right")) - 1 for time_s in grid
    ]
    assert times[-1] <= grid[-1] + 1 / rate_hz  # goes on to the end


def test_frames_rounded_to_milliseconds_are_neither_lost_nor_repeated(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", seconds(30, rate_hz=30), rate=30)
    assert [number for _, number in read(path, frame_rate_hz=30)] == list(range(30))


@pytest.mark.parametrize("rate_hz", [None, 10.0])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_part_is_what_the_whole_has_there(tmp_path: Path, name: str, rate_hz) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = film(tmp_path / name, seconds(60, rate_hz=10), codec=codec)
    whole = read(path, frame_rate_hz=rate_hz)
    for start_s, end_s in [(0.5, 1.0), (1.5, 2.0), (2.0, None), (4.4, 4.5), (5.0, 99.0)]:
        part = read(path, frame_rate_hz=rate_hz, start_s=start_s, end_s=end_s)
        assert part == [shown for shown in whole if start_s - 1e-3 <= shown[0] < (end_s or 99)]


def test_a_part_begins_with_what_is_on_show_there(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [0.0, 1.0, 5.0, 5.1])
    assert read(path, frame_rate_hz=2, start_s=3.25, end_s=4.5) == [(3.25, 1), (3.75, 1), (4.25, 1)]
    with pytest.raises(MediaError, match=r"a\.mp4: nothing lies between start_s=9"):
        read(path, frame_rate_hz=2, start_s=9)
    with pytest.raises(MediaError, match="nothing lies between"):
        read(path, start_s=1e300)


def test_larger_frames_are_shrunk_and_pixels_made_square(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", seconds(2))
    assert next(video_frames(path, max_side=32)).pixels.shape == (24, 32, 3)
    assert next(video_frames(path, max_side=100)).pixels.shape == (HEIGHT, WIDTH, 3)
    wide = tmp_path / "wide.mkv"
    with av.open(str(wide), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), "rgb24")))
        container.mux(stream.encode(None))
    assert next(video_frames(wide)).pixels.shape == (HEIGHT, 96, 3)


@pytest.mark.parametrize(
    ("clockwise", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0)), (0, (0, 0))]
)
def test_a_camera_on_its_side(tmp_path: Path, clockwise: int, corner: tuple[int, int]) -> None:
    path = film(tmp_path / "a.mp4", seconds(3))
    cosine, sine = round(np.cos(np.pi * clockwise / 180)), round(np.sin(np.pi * clockwise / 180))
    one = 1 << 16
    matrix = struct.pack(
        ">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30
    )
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd") + 4 + 40
    content[header : header + 36] = matrix
    path.write_bytes(content)
    pixels = next(video_frames(path)).pixels
    assert pixels.shape == ((WIDTH, HEIGHT, 3) if clockwise in (90, 270) else (HEIGHT, WIDTH, 3))
    assert pixels[corner].min() > 230
    assert sum(pixels[y, x].min() > 230 for y in (0, -1) for x in (0, -1)) == 1


def test_missing_time_stamps_follow_the_frame_rate(tmp_path: Path) -> None:
    path = film(tmp_path / "a.h264", [None] * 12)
    frames = list(video_frames(path))
    assert [number_of(frame.pixels) for frame in frames] == list(range(12))
    steps = np.diff([frame.time_s for frame in frames])
    assert frames[0].time_s == 0
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[0])
    assert [frame.time_s for frame in video_frames(path, start_s=frames[5].time_s)] == [
        frame.time_s for frame in frames[5:]
    ]


# Folders


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for number in range(12):
        frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
        frame.save(tmp_path / f"f%d {number}.{'jpg' if number % 2 else 'png'}")
    (tmp_path / "f%d 3.jpg").rename(tmp_path / "f%d 3.JPEG")
    (tmp_path / "notes.txt").write_text("no picture")
    assert read(tmp_path) == [(number / 25, number) for number in range(12)]
    shown = read(tmp_path, frame_rate_hz=12.5, start_s=0.16, max_side=32)
    assert shown == [(0.16, 4), (0.24, 6), (0.32, 8), (0.4, 10)]


def test_folders_that_make_no_video(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no pictures in this folder"):
        list(video_frames(tmp_path))
    with pytest.raises(MediaError, match="does not exist"):
        list(video_frames(tmp_path / "missing"))
    av.VideoFrame(32, 24, "rgb24").save(tmp_path / "1.png")
    av.VideoFrame(24, 32, "rgb24").save(tmp_path / "2.png")
    with pytest.raises(MediaError, match=r"2\.png: expected a picture of 32 x 24 .*got 24 x 32"):
        list(video_frames(tmp_path))
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with pytest.raises(MediaError, match=r"2\.png"):
        list(video_frames(tmp_path))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"frame_rate_hz": 0}, "frame_rate_hz"),
        ({"frame_rate_hz": float("nan")}, "frame_rate_hz"),
        ({"start_s": -1}, "start_s"),
        ({"start_s": 2, "end_s": 1}, "end_s"),
        ({"max_side": 0}, "max_side"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, options, match: str) -> None:
    for path in (tmp_path, tmp_path / "a.mp4"):
        with pytest.raises(InputError, match=match):
            video_frames(path, **options)


# Damage


def test_a_file_that_breaks_off_gives_what_it_has_first(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", seconds(50), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    numbers = []
    frames = (number_of(frame.pixels) for frame in video_frames(path))
    with pytest.raises(MediaError, match=r"a\.mp4: the file is truncated: .* 2\.00 s, the video"):
        numbers.extend(frames)  # keeps what came before the error
    assert len(numbers) >= 10
    assert numbers == list(range(len(numbers)))
    assert len(read(path, end_s=0.4)) == 10


def test_a_film_without_any_frame_that_can_be_decoded(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", seconds(10))
    content = path.read_bytes()
    start, stop = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(stop - start) + content[stop:])
    with pytest.raises(MediaError, match=r"a\.mp4: no frame of the video track can be decoded"):
        list(video_frames(path))


def survives(path: Path, most_frames: int) -> bool:
    """Whether a damaged file can be read whole; asserts that nothing else than errors comes."""
    try:
        for count, frame in enumerate(video_frames(path, frame_rate_hz=12.5)):
            assert frame.pixels.shape[2] == 3
            assert count < most_frames
        assert read_audio(path).ndim == 1
    except MediaError as caught:
        error = caught
    else:
        return True
    assert str(path) in str(error)
    return False


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_cuts_and_flips_end_in_frames_or_an_error(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = film(tmp_path / name, seconds(25), sound_at_s=0.2, **options)
    content = path.read_bytes()
    assert survives(path, 40)
    rng = np.random.default_rng(0)
    damaged = tmp_path / f"damaged-{name}"
    whole = 0
    for _ in range(200):
        damaged.write_bytes(content[: rng.integers(len(content))])
        survives(damaged, 20_000)
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= rng.integers(1, 256)
        damaged.write_bytes(flipped)
        whole += survives(damaged, 20_000)
    assert whole > 50  # most bytes are pixels and sound


@pytest.mark.shared
def test_a_real_film(shared: Path, tmp_path: Path) -> None:
    path = shared / "samples" / "single_face.mp4"
    assert len(list(video_frames(path, max_side=64))) == 72
    assert len(list(video_frames(path, frame_rate_hz=12.5))) == 30
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    damaged = tmp_path / "damaged.mp4"
    for _ in range(8):
        damaged.write_bytes(content[: rng.integers(len(content))])
        survives(damaged, 20_000)
        flipped = bytearray(content)
        for place in rng.integers(len(content), size=20):
            flipped[place] ^= rng.integers(1, 256)
        damaged.write_bytes(flipped)
        survives(damaged, 20_000)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_pictures_are_turned_and_mirrored_as_their_header_says(tmp_path: Path, suffix: str) -> None:
    corners = np.zeros((48, 64, 3), np.uint8)
    corners[:24, :32], corners[:24, 32:], corners[24:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.{suffix}"
        header = Image.Exif()
        header[0x112] = orientation
        Image.fromarray(corners).save(path, exif=header, quality=95)
        meant = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        read = next(iter(video_frames(path))).pixels
        assert read.shape == meant.shape
        assert np.abs(read.astype(int) - meant).mean() < 12
