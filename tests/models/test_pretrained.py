"""Calibration of a model folder: what is written is read, and what makes no sense is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vavl.errors import InputError, StoreError
from vavl.models.pretrained import (
    CALIBRATION_FILE,
    Calibration,
    read_calibration,
    write_calibration,
)
from vavl.types import Modality


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(),
        Calibration({Modality.VISUAL: np.float32(1.5)}),
        Calibration({Modality.ACOUSTIC: 2, Modality.AUDIOVISUAL: 0.7}, unsure_below=0.35),
    ],
)
def test_what_is_written_is_read(calibration: Calibration, tmp_path: Path) -> None:
    assert read_calibration(tmp_path) == Calibration()
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path) == calibration


def test_a_file_without_a_threshold_is_as_it_ever_was(tmp_path: Path) -> None:
    write_calibration(tmp_path, Calibration({Modality.VISUAL: 1.5}))
    content = json.loads((tmp_path / CALIBRATION_FILE).read_text())
    assert content == {"schema_version": 1, "visual": 1.5}
    assert read_calibration(tmp_path).unsure_below == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"acoustic": NaN', "NaN is no number of JSON"),
        ('"visual": 0', "visual: expected a temperature from 0.001 to 1000.0, got 0"),
        ('"visual": Infinity', "Infinity is no number of JSON"),
        ('"visual": "1.5"', "visual: expected a temperature from 0.001 to 1000.0, got '1.5'"),
        ('"visual": true', "visual: expected a temperature from 0.001 to 1000.0, got True"),
        ('"face": 1.5', "face: expected temperatures of acoustic, visual, audiovisual alone"),
        ('"unsure_below": 1', r"unsure_below: expected a probability in \[0, 1\), got 1"),
        ('"unsure_below": -0.1', r"in \[0, 1\), got -0.1"),
        ('"unsure_below": NaN', "NaN is no number of JSON"),
        ('"unsure_below": null', r"in \[0, 1\), got None"),
        ('"visual": 0, "unsure_below": [0.3]', r"(?s)2 problems.*visual: .*got \[0\.3\]"),
    ],
)
def test_what_makes_no_sense_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(f'{{"schema_version": 1, {content}}}')
    with pytest.raises(StoreError, match=message) as error:
        read_calibration(tmp_path)
    assert str(tmp_path / CALIBRATION_FILE) in str(error.value)


def test_numbers_are_checked_in_python_too() -> None:
    with pytest.raises(InputError, match=r"acoustic: expected a temperature from .*, got -1"):
        Calibration({Modality.ACOUSTIC: -1.0})
