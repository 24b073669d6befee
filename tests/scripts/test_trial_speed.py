"""The films that speed is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from trial_speed import write_minute, write_repeated

from vavl.media.audio import read_audio
from vavl.media.video import video_frames
from vavl.media.writing import write_mp4


def test_a_film_again_and_again(tmp_path: Path, noise) -> None:
    short, longer, longest = (tmp_path / f"{name}.mp4" for name in "abc")
    pictures = [np.full((32, 48, 3), 8 * k, np.uint8) for k in range(25)]
    write_mp4(short, pictures, noise(1.0).astype(np.float64), 25)
    write_minute(short, longer, duration_s=3)
    write_repeated(longer, longest, 4)
    for path, duration_s in ((longer, 3), (longest, 12)):
        times_s = [frame.time_s for frame in video_frames(path)]
        assert len(times_s) == 25 * duration_s
        assert 0.01 < np.diff(times_s).min() <= np.diff(times_s).max() < 0.16
        assert abs(len(read_audio(path)) / 16_000 - duration_s) < 0.5
