"""Videos that are written can be read again: sizes, times, sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vavl.errors import MediaError
from vavl.media.audio import read_audio
from vavl.media.container import media_info
from vavl.media.frames import VideoFrame
from vavl.media.video import video_frames
from vavl.media.writing import redraw_video, write_mp4


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """One second of grey pictures, brighter and brighter, with a tone."""
    path = tmp_path / "film.mp4"
    pictures = (np.full((48, 64, 3), 8 * number, np.uint8) for number in range(25))
    write_mp4(path, pictures, 0.5 * np.sin(np.arange(16_000) / 9), frame_rate_hz=25)
    return path


def test_an_mp4_has_its_pictures_and_its_sound(film: Path) -> None:
    info = media_info(film)
    assert (info.width, info.height, info.frame_rate_hz) == (64, 48, 25.0)
    brightness = [frame.pixels.mean() for frame in video_frames(film)]
    np.testing.assert_allclose(brightness, 8 * np.arange(25), atol=3)
    assert len(read_audio(film)) / 16_000 == pytest.approx(1, abs=0.1)


def test_a_redrawn_video_keeps_times_and_sound(film: Path, tmp_path: Path) -> None:
    def inverted(frame: VideoFrame) -> np.ndarray:
        return 255 - frame.pixels[:-1]  # an odd height is made even

    path = tmp_path / "redrawn.mp4"
    redraw_video(film, path, inverted)
    before, after = list(video_frames(film)), list(video_frames(path))
    assert after[0].pixels.shape == (48, 64, 3)
    assert [frame.time_s for frame in after] == pytest.approx([frame.time_s for frame in before])
    for ours, theirs in zip(after, before, strict=True):
        assert ours.pixels.mean() == pytest.approx(255 - theirs.pixels.mean(), abs=3)
    np.testing.assert_array_equal(read_audio(path), read_audio(film))


def test_a_place_that_cannot_be_written_is_an_error(film: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be written"):
        redraw_video(film, tmp_path / "missing" / "redrawn.mp4", lambda frame: frame.pixels)
