"""Predictions on Ray: the same rows as without, whatever dies on the way."""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mortal import MortalJob

import vavl
from vavl.cli import run as run_command
from vavl.data.speakers import Moments, SpeakerProfile
from vavl.errors import EXIT_OK, InputError, StoreError
from vavl.inference import ClipFiles, find_files, group_files, many, predict_many
from vavl.inference.loading import model_sha256
from vavl.inference.many import PROFILE_FILE
from vavl.system.processes import Lost
from vavl.types import Modality

pytestmark = pytest.mark.usefixtures("one_thread")
TABLES = [f"{name}.{form}" for name in ("predictions", "people") for form in ("csv", "parquet")]


@pytest.fixture
def folder(tmp_path: Path, recognizer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where 200 short clips lie in the folder ``clips``, as features."""
    (tmp_path / "clips").mkdir()
    generator = np.random.default_rng(0)
    width = recognizer.features[Modality.ACOUSTIC].dim
    for number in range(200):
        steps = generator.normal(0, 3, (40 + number % 7, width)).astype(np.float32)
        np.save(tmp_path / "clips" / f"clip-{number:03}.acoustic.npy", steps)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("ray_cluster")
def test_killed_actors_change_no_row(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Path("clips/clip-050.acoustic.npy")
    broken.write_bytes(broken.read_bytes()[:300])
    clips = group_files(find_files([Path("clips")]))  # actors find relative paths too
    options = {"model": model, "progress": False}
    local = predict_many(clips, "local", **options)
    assert (local.predicted, list(local.failed)) == (199, [str(broken)])

    log, deaths = folder / "log", {"clip-100": 1, "clip-150": 99}
    with monkeypatch.context() as patch:
        patch.setattr(many, "_PredictionJob", partial(MortalJob, log=log, deaths=deaths))
        report = predict_many(clips, "ray", engine="ray", workers=2, **options)
    deadly = "clips/clip-150.acoustic.npy"
    assert report.failed.pop(deadly) == "each of the 3 processes that began it died"
    assert (report.predicted, report.failed) == (198, local.failed)
    lines = log.read_text().splitlines()
    begun = Counter(line.split()[0] for line in lines)
    assert len(begun) == 200
    assert {name: n for name, n in begun.items() if n > 1} == {"clip-100": 2, "clip-150": 3}
    assert str(os.getpid()) not in {line.split()[1] for line in lines}

    # What killed all that began it is tried again, by whichever engine; nothing else is.
    again = predict_many(clips, "ray", **options)
    assert (again.predicted, again.failed, again.skipped) == (199, local.failed, 199)
    for table in [*TABLES, "failures.csv"]:
        assert Path("ray", table).read_bytes() == Path("local", table).read_bytes(), table


@pytest.mark.usefixtures("ray_cluster")
def test_the_command_for_clips_of_one_person(
    folder: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted(Path("clips").iterdir())[20:]:
        path.unlink()
    command = ["predict", "clips", "--model", model, "--same-speaker"]
    assert run_command([*command, "--out", "local"]) == EXIT_OK
    on_ray = ["--engine", "ray", "--workers", "2"]
    assert run_command([*command, "--out", "ray", *on_ray]) == EXIT_OK
    assert "20 clips predicted -> ray" in capsys.readouterr().out
    for name in [*TABLES, PROFILE_FILE]:
        assert Path("ray", name).read_bytes() == Path("local", name).read_bytes(), name


def test_a_clip_that_is_lost_is_no_part_of_the_person(caplog: pytest.LogCaptureFixture) -> None:
    lost, found = ClipFiles("lost"), ClipFiles("found")
    one = Moments(1.0, np.ones(2), np.ones(2))

    def run(clips, job, /):
        yield found, SpeakerProfile("ann", {Modality.ACOUSTIC: one}, {Modality.ACOUSTIC: None})
        yield lost, Lost("its machine is gone")

    profile = many.get_to_know([lost, found], vavl.load, run=run)
    assert profile.clips(Modality.ACOUSTIC) == 1
    assert "got to know without lost: its machine is gone" in caplog.text


class _Lengths:
    """Tells how long the name of a clip is."""

    def load(self) -> None:
        """Nothing to load."""

    def __call__(self, clip: ClipFiles) -> int:
        return len(clip.name)


def test_a_machine_that_lacks_files_or_has_another_model_is_named(
    tmp_path: Path, model: str
) -> None:
    clip, turns = ClipFiles("abc", media=tmp_path / "abc.wav"), tmp_path / "turns"
    right = many._Elsewhere(_Lengths(), model, model_sha256(Path(model)), turns)
    right.load()
    for path in (tmp_path / "abc.wav", turns):
        result = right(clip)
        assert isinstance(result, Lost)
        assert result.startswith(f"MediaError: {path}: not found on {platform.node()}; all")
        path.mkdir()
    assert right(clip) == 3  # why it has no turns, its prediction tells
    with pytest.raises(StoreError, match=rf"^model: {platform.node()} has another one"):
        many._Elsewhere(_Lengths(), model, "0" * 64, turns).load()


def test_what_ray_needs_is_asked_for(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [ClipFiles("a", media=tmp_path / "a.wav")]
    with pytest.raises(InputError, match="engine: expected 'local' or 'ray', got 'spark'"):
        predict_many(clips, tmp_path / "out", model=model, engine="spark")
    for out in ("s3://bucket/out", Path("s3://bucket/out")):
        with pytest.raises(InputError, match="out: expected a folder, got the address s3:/"):
            predict_many(clips, out, model=model)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"ray: needed for --engine ray.*'vavl\[ray\]'"):
        predict_many(clips, tmp_path / "out", model=model, engine="ray", progress=False)
