"""Many clips: failures are recorded and nothing is done twice."""

from __future__ import annotations

import csv
import json
import shutil
import wave
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from voices import babble

import vavl
from vavl.cli import run as run_command
from vavl.errors import EXIT_BAD_INPUT, InputError, MediaError, SetupError, StoreError
from vavl.inference import (
    ClipFiles,
    SpeakerProfile,
    find_files,
    group_files,
    many,
    predict_many,
)
from vavl.inference.loading import model_folder
from vavl.inference.many import PROFILE_FILE, RECORDS_FILE
from vavl.models.pretrained import FEATURES_FILE, Calibration, write_calibration
from vavl.system.locks import alone
from vavl.types import Modality


@pytest.fixture
def clips(tmp_path: Path) -> list[ClipFiles]:
    folder = tmp_path / "clips" / "Ä ö"
    folder.mkdir(parents=True)
    for number in range(40):
        path = folder / f"clip {number:03}.wav"
        if number % 10 == 7:
            path.write_text("this is no sound")
            continue
        samples = np.sin(np.arange(8_000 + 40 * number) / (5 + number)) * 9_000
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(samples.astype("<i2").tobytes())
    (folder / "notes.txt").write_text("not a clip")
    return group_files(find_files([tmp_path / "clips"]))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("workers", [0, 2])
def test_failures_are_recorded_and_the_rest_goes_on(
    clips: list[ClipFiles], model: str, tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "out"
    report = predict_many(clips, out, model=model, workers=workers, progress=False)
    assert (report.predicted, len(report.failed), report.skipped) == (36, 4, 0)
    rows, failures = read(out / "predictions.csv"), read(out / "failures.csv")
    assert len(rows) == pq.read_table(out / "predictions.parquet").num_rows == 36
    assert [Path(row["clip"]).stem for row in failures] == [f"clip {n:03}" for n in (7, 17, 27, 37)]
    assert all(row["reason"].startswith(row["clip"]) for row in failures)
    assert sum(float(rows[0][name]) for name in ("angry", "happy", "sad")) == pytest.approx(1)
    again = predict_many(clips, out, model=model, workers=workers, progress=False)
    assert (again.predicted, len(again.failed), again.skipped) == (36, 4, 40)
    assert read(out / "predictions.csv") == rows


def test_without_a_folder_the_report_has_the_predictions(
    clips: list[ClipFiles], model: str, tmp_path: Path
) -> None:
    paths = [clips[0].media, str(clips[7].media)]
    assert None not in paths
    report = predict_many(paths, model=model, timeline=True, progress=False)  # type: ignore[arg-type]
    assert [p.name for p in report.predictions] == ["clip 000"]
    assert list(report.failed) == [str(clips[7].media)]
    assert (report.predicted, report.skipped) == (1, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips"]
    again = predict_many(paths, tmp_path / "out", model=model, timeline=True, progress=False)  # type: ignore[arg-type]
    [row] = read(tmp_path / "out" / "predictions.csv")
    [frame] = report.to_frame().to_dict("records")
    assert again.predictions == ()
    assert list(row) == list(frame)
    assert row["clip"] == frame["clip"]
    assert float(row["happy"]) == frame["happy"]
    windows = read(tmp_path / "out" / "timeline.csv")
    assert [float(w["sad"]) for w in windows] == list(report.to_frame("timeline")["sad"])
    whole = predict_many([tmp_path / "clips"], model=model, workers=1, progress=False)
    assert len(whole.predictions) == 36


def test_a_killed_run_goes_on_and_a_changed_clip_is_done_again(
    clips: list[ClipFiles], model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_many(clips, out, model=model, progress=False)
    whole = read(out / "predictions.csv")
    records = out / RECORDS_FILE
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(lines[:11]) + lines[11][:20])  # killed while writing
    report = predict_many(clips, out, model=model, progress=False)
    assert report.skipped == 10
    assert read(out / "predictions.csv") == whole
    broken = clips[7].media
    assert broken is not None
    assert clips[8].media is not None
    broken.write_bytes(clips[8].media.read_bytes())
    mended = predict_many(clips, out, model=model, progress=False)
    assert (mended.skipped, len(mended.failed)) == (39, 3)


def test_other_predictions_are_not_mixed_in(
    clips: list[ClipFiles], model: str, tmp_path: Path
) -> None:
    predict_many(clips[:2], tmp_path / "out", model=model, progress=False)
    with pytest.raises(StoreError, match="holds other predictions"):
        predict_many(clips[:2], tmp_path / "out", model=model, timeline=True, progress=False)
    again = shutil.copytree(model, tmp_path / "model")
    predict_many(clips[:2], tmp_path / "again", model=str(again), progress=False)
    weights = load_file(again / "model.safetensors")
    save_file({name: w + 0.1 for name, w in weights.items()}, again / "model.safetensors")
    with pytest.raises(StoreError, match="holds other predictions"):
        predict_many(clips[:2], tmp_path / "again", model=str(again), progress=False)
    (tmp_path / "out" / RECORDS_FILE).write_text(json.dumps({"model": model}) + "\nnot json\n")
    with pytest.raises(StoreError, match="damaged"):
        predict_many(clips[:2], tmp_path / "out", model=model, progress=False)


def test_a_threshold_is_in_the_tables_and_part_of_what_was_asked(
    clips: list[ClipFiles], model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="unsure_below"):
        predict_many(clips[:2], out, model=model, unsure_below=1.5, progress=False)
    predict_many(clips[:2], out, model=model, unsure_below=0.99, progress=False)
    for row in read(out / "predictions.csv"):
        assert row["label"] == "unsure"
        probabilities = [float(row[name]) for name in ("angry", "happy", "sad")]
        assert float(row["confidence"]) == max(probabilities) < 0.99
    with pytest.raises(StoreError, match="holds other predictions"):
        predict_many(clips[:2], out, model=model, progress=False)
    folder = shutil.copytree(model, tmp_path / "model")
    write_calibration(folder, Calibration(unsure_below=0.99))
    predict_many(clips[:1], tmp_path / "own", model=str(folder), progress=False)
    predict_many(clips[:1], tmp_path / "0", model=str(folder), unsure_below=0, progress=False)
    assert read(tmp_path / "own" / "predictions.csv")[0]["label"] == "unsure"
    assert read(tmp_path / "0" / "predictions.csv")[0]["label"] != "unsure"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_one_person_in_all_clips_is_got_to_know_first(
    clips: list[ClipFiles],
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    some, out = clips[4:10], tmp_path / "out"  # one of them is no sound
    options = {"model": model, "same_speaker": True, "workers": workers, "progress": False}
    report = predict_many(some, out, **options)
    assert (report.predicted, list(report.failed)) == (5, [str(some[3].media)])
    recognizer = vavl.load(model)
    good = [clip for clip in some if clip is not some[3]]
    expected = recognizer.adapt(good, speaker="ann")
    found = SpeakerProfile.load(out / PROFILE_FILE)
    assert found.clips(Modality.ACOUSTIC) == 5
    for part in ("mean", "variance"):
        ours, theirs = (getattr(p.moments[Modality.ACOUSTIC], part) for p in (found, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    rows = read(out / "predictions.csv")
    for row, clip in zip(rows, good, strict=True):
        known = recognizer.predict_files(clip, speaker="ann").probabilities
        assert {name: float(row[name]) for name in known} == pytest.approx(known, abs=1e-4)
        assert known != pytest.approx(recognizer.predict_files(clip).probabilities, abs=1e-3)

    # Killed while predicting: the profile that lies there is used.
    records = out / RECORDS_FILE
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(lines[:3]))
    with monkeypatch.context() as patch:
        patch.setattr(many, "get_to_know", None)
        assert predict_many(list(reversed(some)), out, **options).skipped == 2
    # Killed before anything was predicted: the clips may be others by now.
    records.unlink()
    assert predict_many(good[:2], out, **options).predicted == 2
    assert SpeakerProfile.load(out / PROFILE_FILE).clips(Modality.ACOUSTIC) == 2
    # Another clip makes another profile, and so other predictions.
    for other in (good[:3], good[:1]):
        with pytest.raises(StoreError, match="holds other predictions"):
            predict_many(other, out, **options)


def test_one_clip_tells_little_and_none_nothing(
    clips: list[ClipFiles], model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"model": model, "same_speaker": True, "progress": False}
    predict_many(clips[:2], tmp_path / "two", **options)
    assert not caplog.text
    report = predict_many(clips[6:8], tmp_path / "one", **options)  # the other is no sound
    assert (report.predicted, len(report.failed)) == (1, 1)
    assert "one clip tells little of a person" in caplog.text
    assert predict_many(clips[7:8], tmp_path / "none", **options).predicted == 0
    assert not (tmp_path / "none" / PROFILE_FILE).exists()
    with pytest.raises(InputError, match="speaker, same_speaker: expected one of them"):
        predict_many(clips, tmp_path / "x", speaker=SpeakerProfile("ann"), **options)


def test_a_clip_with_other_features_is_no_part_of_the_person(
    clips: list[ClipFiles], model: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.acoustic.npy"
    np.save(path, np.ones((5, 7), np.float32))
    some = [ClipFiles("other", acoustic=path), *clips[:2]]
    out = tmp_path / "out"
    report = predict_many(some, out, model=model, same_speaker=True, progress=False)
    assert list(report.failed) == [str(path)]
    assert SpeakerProfile.load(out / PROFILE_FILE).clips(Modality.ACOUSTIC) == 2


def test_folders_are_searched_and_frames_are_one_clip(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        (frames / f"{number}.png").write_bytes(b"")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.MP4").write_bytes(b"")
    assert find_files([frames]) == [frames]
    assert find_files([tmp_path / "deep"]) == [tmp_path / "deep" / "a.MP4"]
    named = tmp_path / "named.xyz"
    with pytest.raises(MediaError, match="addresses are not read: download it first"):
        find_files([Path("https://example.com/a.mp4")])
    with pytest.raises(MediaError, match=r"named\.xyz does not exist"):
        find_files([frames, named])
    with pytest.raises(MediaError, match=r"2 problems(.|\n)*b\.wav does not exist"):
        find_files([Path("a.wav"), Path("b.wav")])
    named.write_bytes(b"")
    assert find_files([named]) == [named]
    named.unlink()
    pictures = tmp_path / "take.1"
    pictures.mkdir()
    for number in (5, 10, 15):
        (pictures / f"frame-2_{number}.webp").write_bytes(b"")
    takes = [pictures, shutil.copytree(pictures, tmp_path / "take.2")]
    assert [clip.name for clip in group_files(find_files(takes))] == ["take.1", "take.2"]
    shutil.copy(frames / "0.png", tmp_path / "logo.png")
    assert frames not in find_files([tmp_path])
    assert tmp_path / "deep" / "a.MP4" in find_files([tmp_path])
    both = [tmp_path / "b" / "c.mp4", tmp_path / "b" / "c.wav", tmp_path / "b" / "c.mp4"]
    assert [clip.name for clip in group_files(both)] == ["c.mp4", "c.wav"]
    with pytest.raises(InputError, match="expected one sound or video file of clip 'c'"):
        group_files([*both, tmp_path / "b" / "c.visual.npy"])
    alike = [tmp_path / "b" / "c.mp4", tmp_path / "d" / "c.mp4"]
    assert [clip.name for clip in group_files(alike)] == [str(p.with_suffix("")) for p in alike]
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no media in this folder"):
        find_files([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("names", "is_film"),
    [
        (["001", "002", "003"], True),
        (["clip-2-9", "clip-2-10", "clip-2-11"], True),
        (["a-0", "a-5", "a-10"], True),
        (["ann", "bob"], False),
        (["0"], False),
        (["a-1", "b-2"], False),
        (["a-1-1", "a-2-2"], False),
        (["a-1", "a-2", "a-4"], False),
        (["ann-1", "ann-2", "bob"], False),
    ],
)
def test_pictures_are_a_film_if_their_names_count_up_or_somebody_says_so(
    names: list[str], is_film: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "many" / "pictures"
    folder.mkdir(parents=True)
    paths = [folder / f"{name}.jpg" for name in names]
    for path in paths:
        path.write_bytes(b"")
    assert find_files([folder]) == ([folder] if is_film else sorted(paths))
    assert find_files([tmp_path]) == ([folder] if is_film else sorted(paths))
    assert find_files([tmp_path], frames=True) == [folder]


def test_segments_have_tables_and_files_of_their_own(
    clips: list[ClipFiles], model: str, tmp_path: Path
) -> None:
    turns, out = tmp_path / "turns", tmp_path / "out"
    turns.mkdir()
    some = clips[:3]
    (turns / "clip 000.csv").write_text("start,end,speaker,text\n0,0.2,Ann,Hello\n0.1,0.5,Bob,\n")
    (turns / "clip 001.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:00.050\n<v Ann>Hm\n")  # short
    options = {"model": model, "segments": turns, "progress": False}
    report = predict_many(some, out, **options)
    assert report.failed == {
        str(some[2].media): f"{turns}: no clip 002.* in this folder; expected "
        ".srt, .vtt, .rttm, .csv"
    }
    rows = read(out / "segments.csv")
    assert pq.read_table(out / "segments.parquet").num_rows == len(rows) == 3
    about = [(row["start_s"], row["end_s"], row["speaker"], row["text"]) for row in rows]
    assert about == [
        ("0.0", "0.2", "Ann", "Hello"),
        ("0.1", "0.5", "Bob", ""),
        ("0.0", "0.05", "Ann", "Hm"),
    ]
    recognizer = vavl.load(model)
    expected = recognizer.predict(some[0].media, segments=turns / "clip 000.csv")
    for row, segment in zip(rows, expected.segments, strict=False):
        assert row["clip"] == str(some[0].media)
        assert row["label"] == segment.label
        for name, value in segment.probabilities.items():
            assert float(row[name]) == pytest.approx(value, abs=1e-5)
    assert (rows[2]["modality"], rows[2]["label"], rows[2]["angry"]) == ("", "", "")
    speakers = read(out / "speakers.csv")
    assert [(row["speaker"], row["duration_s"]) for row in speakers] == [
        ("Ann", "0.2"),
        ("Bob", "0.4"),
    ]

    # Only the clip whose turns have changed is done again; subtitles are made of what is there.
    (turns / "clip 001.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:00.400\n<v Ann>Hm\n")
    (turns / "clip 002.csv").write_text("start,end\n0,0.4\n")
    again = predict_many(some, out, **options, captions_as="vtt")
    assert (again.skipped, again.predicted) == (1, 3)
    assert sorted(path.name for path in (out / "vtt").iterdir()) == [
        "clip 000.vtt",
        "clip 001.vtt",
        "clip 002.vtt",
    ]
    assert "<v Ann>[" in (out / "vtt" / "clip 000.vtt").read_text()
    # Other segments, or another span, are other predictions.
    for other in ({"segments": False}, {"segments": True}, {"start_s": 0.1}, {"end_s": 0.4}):
        with pytest.raises(StoreError, match="holds other predictions"):
            predict_many(some, out, **(options | other))
    with pytest.raises(InputError, match="captions_as: expected segments"):
        predict_many(some, out, model=model, captions_as="srt", progress=False)


def test_sentences_of_many_clips_by_workers(model: str, tmp_path: Path, write_wav) -> None:
    voice = np.pad(babble(1.5), 8_000)
    folders = [tmp_path / "a", tmp_path / "B"]
    paths = [write_wav(voice, folder / "talk.wav") for folder in folders]
    some = group_files(find_files(paths))
    options = {"model": model, "segments": True, "captions_as": "rttm", "progress": False}
    assert predict_many(some, tmp_path / "out", workers=2, **options).predicted == 2
    assert len(read(tmp_path / "out" / "segments.csv")) == 2
    # Two clips of one name.
    first, second = (tmp_path / "out" / "rttm" / f"{name}.rttm" for name in ("talk", "talk-2"))
    assert first.read_text() == second.read_text()
    assert first.read_text().startswith("SPEAKER talk 1 0.")
    assert predict_many(some, tmp_path / "out", **options).skipped == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_weights_that_are_missing_are_no_fault_of_a_clip(
    write_wav, tmp_path: Path, workers: int
) -> None:
    """The job stops, and once they are there, the same call does every clip."""
    folder = tmp_path / "model"
    shutil.copytree(model_folder(None), folder)
    features = (folder / FEATURES_FILE).read_text()
    content = json.loads(features)
    content["acoustic"] |= {"extractor": "hf", "source": "nobody/nothing"}
    (folder / FEATURES_FILE).write_text(json.dumps(content))
    clips = [write_wav(babble(1.0), f"{name}.wav") for name in "ab"]
    out = tmp_path / "out"
    with pytest.raises(SetupError, match="nobody/nothing"):
        predict_many(clips, out, model=str(folder), workers=workers, progress=False)
    assert not (out / RECORDS_FILE).read_text()
    assert run_command(["predict", str(clips[0]), "--model", str(folder)]) == EXIT_BAD_INPUT


def test_a_full_disk_is_named_by_its_file(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no such device here")
    file = full.open("w")
    with pytest.raises(OSError, match=r"No space.*'/dev/full'"):
        many._append(file, {"clip": "a"})
    with suppress(OSError):
        file.close()


def test_one_process_at_a_time_in_a_folder(
    clips: list[ClipFiles], model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with (
        alone(out, "held by a test"),
        pytest.raises(StoreError, match=r"out: another process predicts into it"),
    ):
        predict_many(clips[:2], out, model=model, progress=False)
    assert predict_many(clips[:2], out, model=model, progress=False).predicted == 2


def test_what_killed_programs_left_is_no_clip(tmp_path: Path, write_wav) -> None:
    for name in ("a.wav", ".12345678-99-abc.part.wav", "._a.wav"):
        shutil.copy(write_wav(np.zeros(800, np.float32)), tmp_path / name)
    (tmp_path / ".hidden").mkdir()
    shutil.copy(tmp_path / "a.wav", tmp_path / ".hidden" / "b.wav")
    assert [path.name for path in find_files([tmp_path]) if path.name != "clip.wav"] == ["a.wav"]


def test_no_file_is_not_a_folder() -> None:
    with pytest.raises(MediaError, match="this is a device or a pipe"):
        vavl.load().predict("/dev/null")
