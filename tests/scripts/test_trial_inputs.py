"""What the trials are made of: as many kinds as asked, the same each time."""

from __future__ import annotations

import numpy as np
from trial_pictures import pictures, shown
from trial_sounds import sounds


def test_sixty_sounds_of_many_kinds(noise) -> None:
    voices = [noise(1.0, seed) for seed in range(3)]
    found = list(sounds(0, voices))
    assert len(found) == 60
    assert len({kind for kind, _, _ in found}) >= 15
    assert len({(kind, name) for kind, name, _ in found}) == 60
    for kind, name, waveform in found:
        assert waveform.dtype == np.float32
        assert waveform.shape == (64_000,)
        assert np.abs(waveform).max() <= 1
        level_dbfs = 10 * np.log10(np.square(waveform, dtype=np.float64).mean() + 1e-30)
        if kind not in ("silence", "clicks", "silence with one click"):  # peaks are clipped
            assert abs(level_dbfs - float(name.split(", ")[1].split()[0])) < 0.5, name
    for one, again in zip(found, sounds(0, voices), strict=True):
        np.testing.assert_array_equal(one[2], again[2])
    assert len(list(sounds(0))) == 56  # without babble


def test_forty_pictures_of_many_kinds(noise) -> None:
    faces = [np.full((48, 48), 20 * k, np.uint8) for k in range(9)]
    films = [np.full((90, 120, 3), k, np.uint8) for k in range(5)]
    found = list(pictures(0, faces, films))
    assert len(found) == 40
    assert len({kind for kind, _, _ in found}) == 14
    for kind, _, picture in found:
        assert picture.dtype == np.uint8
        assert picture.shape == ((90, 120, 3) if kind == "film upside down" else (360, 640, 3))
        assert shown(picture).shape == (50, *picture.shape)
    for one, again in zip(found, pictures(0, faces, films), strict=True):
        np.testing.assert_array_equal(one[2], again[2])
    assert len(list(pictures(0))) == 27
