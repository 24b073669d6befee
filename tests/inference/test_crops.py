"""Faces cut out of a video, and where they were."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vavl.errors import InputError
from vavl.inference import ClipPrediction
from vavl.types import FaceBox, Modality, Person


def person(number: int, *track: FaceBox) -> Person:
    return Person(0.0, 2.0, None, None, {}, {}, number=number, is_main=number == 1, track=track)


def test_each_face_is_cut_out_every_half_second_that_it_is_in_sight(tmp_path: Path) -> None:
    pictures = tmp_path / "film"
    pictures.mkdir()
    for number in range(50):  # 25 a second
        pixels = np.zeros((40, 80, 3), np.uint8)
        pixels[10:30, 20:40] = (255, 0, 0)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    here = (0.25, 0.25, 0.5, 0.75)
    stays = [FaceBox(0.0, here), FaceBox(0.4, here), FaceBox(0.8, here), FaceBox(1.2, here)]
    passes = [FaceBox(1.48, (0.9, 0.0, 1.2, 0.4))]
    outside = [FaceBox(0.0, (1.1, 0.0, 1.2, 0.4))]
    people = (person(1, *stays), person(2, *passes), person(3, *outside))
    found = ClipPrediction("film", Modality.VISUAL, None, {}, {}, people=people, path=pictures)
    folder = found.save_faces(tmp_path / "faces")
    with (folder / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["person"], row["time_s"], row["is_main"]) for row in rows] == [
        ("1", "0.000", "True"),
        ("1", "0.520", "True"),  # the first frame that is half a second later
        ("1", "1.040", "True"),
        ("2", "1.480", "False"),
    ]
    assert [float(rows[0][side]) for side in ("x0", "y0", "x1", "y1")] == list(here)
    assert {path.name for path in folder.iterdir()} == {"faces.csv", *(r["file"] for r in rows)}
    face = np.asarray(Image.open(folder / rows[1]["file"]))
    assert face.shape == (28, 28, 3)  # the box of 20 pixels, and a fifth of it on each side
    assert (face[4:-4, 4:-4] == (255, 0, 0)).all()
    assert not face[:4].any()
    assert np.asarray(Image.open(folder / rows[3]["file"])).shape == (19, 13, 3)


def test_without_faces_the_table_is_empty_and_arrays_have_none(tmp_path: Path) -> None:
    sound = ClipPrediction("a.wav", Modality.ACOUSTIC, None, {}, {}, path=tmp_path / "a.wav")
    assert [p.name for p in sound.save_faces(tmp_path / "faces").iterdir()] == ["faces.csv"]
    with pytest.raises(InputError, match="save_faces: expected a prediction of a file"):
        ClipPrediction("a", Modality.ACOUSTIC, None, {}, {}).save_faces(tmp_path)
