"""Clips as they come: each ends in a prediction or in one error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vavl
from vavl.errors import MediaError
from vavl.types import Modality

Film = Callable[..., Path]


@pytest.mark.parametrize("content", [b"", b"this is no film\n" * 50])
def test_what_is_no_film(recognizer: vavl.Recognizer, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"film\.mp4"):
        recognizer.predict(path)
    with pytest.raises(MediaError, match="does not exist"):
        recognizer.predict(tmp_path / "missing.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov"])
def test_containers(recognizer: vavl.Recognizer, film: Film, name: str) -> None:
    codec = "pcm_s16le" if name.endswith("avi") else "aac"
    assert recognizer.predict(film(name, seconds=1.0, audio=codec)).modality is (
        Modality.AUDIOVISUAL
    )


def test_five_frames_odd_sizes_and_long_names(recognizer: vavl.Recognizer, film: Film) -> None:
    few = recognizer.predict(film(times=[0.0, 0.04, 0.08, 0.12, 0.16], audio=None))
    assert few.duration_s == pytest.approx(0.24, abs=0.09)
    odd = film("odd.mkv", seconds=0.5, size=(97, 65), video="ffv1", audio=None)
    assert recognizer.predict(odd).modality is Modality.VISUAL
    long = odd.parent / ("ä€漢" * 20) / ("ü" * 100 + ".mkv")
    long.parent.mkdir()
    odd.rename(long)
    assert recognizer.predict(long).name == long.name


def test_cut_and_flipped_films(recognizer: vavl.Recognizer, film: Film, tmp_path: Path) -> None:
    whole = film(seconds=1.0).read_bytes()
    random = np.random.default_rng(0)
    ends: list[Modality | str | None] = []
    for number in range(20):
        content = bytearray(whole)
        if number % 2:
            content = content[: random.integers(1, len(whole))]
        else:
            for place in random.integers(len(whole), size=8):
                content[place] ^= int(random.integers(1, 256))
        path = tmp_path / f"damaged-{number}.mp4"
        path.write_bytes(content)
        try:
            ends.append(recognizer.predict(path).modality)
        except MediaError as error:
            ends.append(str(error).partition(":")[0])
    errors = [end for end in ends if not isinstance(end, Modality)]
    assert len(ends) == 20
    assert errors
    assert all("damaged-" in str(error) for error in errors)
