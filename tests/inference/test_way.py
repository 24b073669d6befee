"""The way of a clip through the package: few files, and each step called by the one above it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import vavl
from vavl.data.corpora.synthetic import prepare_synthetic
from vavl.features.registry import build_extractor

PACKAGE = Path(vavl.__file__).parent
MOST_FILES = 35

RANKS = {
    room: rank
    for rank, rooms in enumerate(
        (
            ("types", "errors", "distributed"),
            ("config", "system", "metrics"),
            ("faces", "media", "data"),
            ("models", "features"),
            ("training",),
            ("inference", "evaluation"),
        )
    )
    for room in rooms
}
"""Who may call whom: a room calls those of its own rank and of lower ones."""

STEPS = (
    ("inference/recognizer.py", "predict"),
    ("inference/reader.py", "open"),
    ("inference/windows.py", "cut_clip"),
    ("inference/recognizer.py", "predict_window"),
    ("inference/reader.py", "extract"),
    ("inference/recognizer.py", "_predict_features"),
    ("inference/averaging.py", "mean"),
)
"""Through these functions a clip becomes a prediction, in this order."""


class Way:
    """What is entered on the way of a clip.

    Attributes:
        files: First function entered in each file of the package, in that order.
        entered: Files and functions, in the order in which each was first entered.
        calls: Calls from one room into another: files of caller and called.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.entered: dict[tuple[str, str], None] = {}
        self.calls: set[tuple[str, str]] = set()

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """What :func:`sys.setprofile` calls."""
        name = _in_package(frame)
        if event != "call" or name is None:
            return
        self.files.setdefault(name, frame.f_code.co_name)
        self.entered.setdefault((name, frame.f_code.co_name))
        if frame.f_back is not None and (caller := _in_package(frame.f_back)) is not None:
            self.calls.add((caller, name))

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Notes what is entered meanwhile."""
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)


def _in_package(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    """Of a film with sound, predicted over time by a small model, as it was loaded."""
    manifest = prepare_synthetic(tmp_path_factory.mktemp("corpus"), speakers=1, clips_per_speaker=1)
    path = manifest.path(manifest[0], "video_path")
    specs = {
        vavl.Modality.ACOUSTIC: build_extractor("acoustic", "logmel").spec,
        vavl.Modality.VISUAL: build_extractor("visual", "compact-face").spec,
    }
    dims = {f"{modality}_dim": spec.dim for modality, spec in specs.items()}
    config = vavl.VAVLConfig.preset("small", **dims, categories=("happy", "sad"))
    recognizer = vavl.Recognizer(vavl.VAVL(config), specs)
    found = Way()
    with found.followed():
        prediction = recognizer.predict(path, timeline=True)
    assert prediction.modality is vavl.Modality.AUDIOVISUAL
    assert prediction.timeline
    return found


def test_a_clip_visits_few_files(way: Way) -> None:
    print(*(f"{file}: {function}" for file, function in way.files.items()), sep="\n")
    assert "models/vavl.py" in way.files
    assert len(way.files) <= MOST_FILES


def test_a_clip_goes_from_step_to_step(way: Way) -> None:
    entered = list(way.entered)
    places = [entered.index(step) for step in STEPS]
    assert places == sorted(places)
    features, model = entered.index(STEPS[4]), entered.index(STEPS[5])
    logmel = next(place for place, (file, _) in enumerate(entered) if file == "features/logmel.py")
    forward = entered.index(("models/base.py", "forward"))
    assert features < logmel < model < forward


def test_no_step_calls_back(way: Way) -> None:
    top = STEPS[0][0]
    assert {caller for caller, called in way.calls if called == top} == {top}


def test_no_room_calls_a_higher_one(way: Way) -> None:
    ranks = {file: RANKS[file.removesuffix(".py").split("/")[0]] for file in way.files}
    upward = {call for call in way.calls if ranks[call[0]] < ranks[call[1]]}
    assert not upward
