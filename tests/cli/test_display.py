"""What the command line prints."""

from __future__ import annotations

import pytest

from vavl.cli.display import print_predictions
from vavl.types import Modality, Prediction


def test_in_a_file_every_clip_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a_folder_with_a_long_name/{'and_a_long_file_name_' * 6}{k}.mp4" for k in range(3)]
    clips = [
        Prediction(
            name=name,
            modality=Modality.ACOUSTIC,
            label="happy",
            probabilities={"happy": 0.9, "sad": 0.1},
            attributes={},
            warnings=("the sound is very quiet", "no face in most of the clip") * 3,
        )
        for name in names
    ]
    print_predictions(clips, "table")
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["clip", "emotion", "probability", "others", "from", "notes"]
    assert [line.split()[0] for line in lines] == names
