from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from miniatures import (
    MOSEI_DIMENSIONS,
    MOSEI_VIDEOS,
    cmu_mosei,
    missing_media,
    write_csd,
    write_sound,
)

from vavl.data.corpora.cmu_mosei import PRESENCE, prepare_cmu_mosei
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.errors import InputError
from vavl.metrics.attributes import SENTIMENT

h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cmu_mosei(tmp_path_factory.mktemp("mosei"))


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "mosei"))


def test_sentences(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = prepare_cmu_mosei(corpus, tmp_path)
    assert Manifest.load(tmp_path / "manifest.parquet") == manifest
    assert missing_media(manifest) == []
    assert len(manifest) == 36
    assert manifest.attribute_names == (
        "angry_presence",
        "disgust_presence",
        "fear_presence",
        "happy_presence",
        "sad_presence",
        "sentiment",
        "surprise_presence",
    )
    with h5py.File(corpus / "CMU_MOSEI_Labels.csd") as file:
        for clip in manifest:
            number = int(clip.utterance_id.rpartition("_")[2])
            values = file[f"All Labels/data/{clip.speaker}/features"][number]
            start_s, end_s = file[f"All Labels/data/{clip.speaker}/intervals"][number]
            assert (clip.start_s, clip.end_s) == (start_s, end_s)
            sentiment = SENTIMENT.from_unit(clip.attributes["sentiment"])
            assert sentiment == pytest.approx(values[0], abs=1e-6)
            happy = PRESENCE.from_unit(clip.attributes["happy_presence"])
            assert happy == pytest.approx(values[1], abs=1e-6)
            emotions = dict(zip(MOSEI_DIMENSIONS[1:], values[1:], strict=True))
            most = [name for name, value in emotions.items() if value == max(emotions.values())]
            unique = most[0].replace("anger", "angry") if len(most) == 1 else None
            assert clip.category == unique
    part = Partition.load(tmp_path / "partitions" / "standard.json")
    part.check(manifest)
    videos = [{manifest.by_id[i].speaker for i in ids} for ids in (part.train, part.test)]
    assert videos == [set(MOSEI_VIDEOS["train"]), set(MOSEI_VIDEOS["test"])]
    assert {manifest.by_id[i].speaker for i in part.development} == set(MOSEI_VIDEOS["valid"])
    assert "9 single values that were not finite became 0" in caplog.text


def test_features_are_those_of_the_sentence(corpus: Path, tmp_path: Path) -> None:
    manifest = prepare_cmu_mosei(corpus, tmp_path)
    clip = manifest.by_id["100499_2"]  # 3.0 to 4.2 s
    acoustic = np.load(manifest.path(clip, "acoustic_features_path"), allow_pickle=False)
    visual = np.load(manifest.path(clip, "visual_features_path"), allow_pickle=False)
    with h5py.File(corpus / "CMU_MOSEI_COVAREP.csd") as file:
        stored = file["COVAREP/data/100499/features"][300:420]
    np.testing.assert_array_equal(acoustic, stored)
    assert visual.shape == (36, 35)
    first = np.load(tmp_path / manifest[0].acoustic_features_path, allow_pickle=False)
    assert first[3, 7] == 0


def test_what_there_is_not(copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No visual sequence; sound of one video; a video that the acoustic sequence lacks."""
    (copy / "CMU_MOSEI_VisualFacet42.csd").unlink()
    with h5py.File(copy / "CMU_MOSEI_COVAREP.csd", "a") as file:
        del file["COVAREP/data/Test_one"], file["COVAREP/data/100499"]
        file["COVAREP/data/valid-one/features"][:200] = np.nan
    write_sound(copy / "Raw" / "Audio" / "Full" / "WAV_16000" / "Test_one.wav", 0)
    manifest = prepare_cmu_mosei(copy, tmp_path / "out")
    assert "there is no CMU_MOSEI_VisualFacet42.csd" in caplog.text
    assert len(manifest) == 36 - 4 - 1
    assert "valid-one_0" not in manifest.by_id
    rows = np.load(manifest.path(manifest.by_id["valid-one_1"], "acoustic_features_path"))
    assert np.isnan(rows).all(axis=1).sum() == 50  # 1.5 to 2 s of 1.5 to 2.7 s
    assert manifest.by_id["Test_one_0"].audio_path is not None
    assert manifest.by_id["Test_one_0"].acoustic_features_path is None
    listed = (tmp_path / "out" / "left_out.csv").read_text()
    assert "100499_3,no features and no media" in listed


def test_folders_of_the_server(corpus: Path, tmp_path: Path) -> None:
    for place, name in {
        "labels": "CMU_MOSEI_Labels.csd",
        "acoustic": "CMU_MOSEI_COVAREP.csd",
        "visual": "CMU_MOSEI_VisualFacet42.csd",
        ".": "cmu_mosei_std_folds.py",
    }.items():
        (tmp_path / "root" / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / name, tmp_path / "root" / place)
    assert len(prepare_cmu_mosei(tmp_path / "root", tmp_path / "out")) == 36


@pytest.mark.parametrize(
    ("dimension", "value", "message"),
    [(0, 3.5, "sentiment: expected -3 to 3, got 3.5"), (4, -1, "surprise: expected 0 to 3")],
)
def test_labels_out_of_range(
    copy: Path, tmp_path: Path, dimension: int, value: float, message: str
) -> None:
    with h5py.File(copy / "CMU_MOSEI_Labels.csd", "a") as file:
        file["All Labels/data/Test_one/features"][1, dimension] = value
    with pytest.raises(InputError, match=f"Test_one sentence 1: {message}"):
        prepare_cmu_mosei(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_lead_out_of_the_folder(copy: Path, tmp_path: Path) -> None:
    one = np.zeros((1, 7)), np.array([[0.0, 1.0]])
    labels = {"..": one, "a b": one, "fine": one}
    with h5py.File(copy / "CMU_MOSEI_Labels.csd", "w") as file:
        for name in labels:
            # HDF5 takes ".." as a name like any other.
            group = file.require_group("All Labels/data").create_group(name)
            group["features"], group["intervals"] = labels[name]
        metadata = file.create_group("All Labels/metadata")
        stored = metadata.create_dataset("dimension names", (1,), h5py.string_dtype())
        stored[0] = json.dumps(MOSEI_DIMENSIONS)
    with pytest.raises(InputError, match=r"'\.\.' is no name of a video(.|\n)*'a b' is no name"):
        prepare_cmu_mosei(copy, tmp_path / "out")


def test_other_dimensions(copy: Path, tmp_path: Path) -> None:
    one = np.zeros((1, 7)), np.array([[0.0, 1.0]])
    write_csd(copy / "CMU_MOSEI_Labels.csd", "All Labels", {"a": one}, MOSEI_DIMENSIONS[::-1])
    with pytest.raises(InputError, match="expected dimensions"):
        prepare_cmu_mosei(copy, tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        "standard_train_fold = ['a']",
        "standard_train_fold = __import__('os').listdir('.')",
        "standard_train_fold = ['a'",
        "standard_train_fold = " + "[" * 5000,
        "standard_train_fold = standard_valid_fold = standard_test_fold = [1]",
    ],
)
def test_folds_are_parsed_and_never_run(copy: Path, tmp_path: Path, text: str) -> None:
    (copy / "cmu_mosei_std_folds.py").write_text(text)
    with pytest.raises(InputError, match="cmu_mosei_std_folds"):
        prepare_cmu_mosei(copy, tmp_path / "out")


def test_missing_files_are_named(copy: Path, tmp_path: Path) -> None:
    (copy / "CMU_MOSEI_Labels.csd").unlink()
    with pytest.raises(InputError, match=r"CMU_MOSEI_Labels\.csd does not exist"):
        prepare_cmu_mosei(copy, tmp_path / "out")
    (copy / "cmu_mosei_std_folds.py").unlink()
    with pytest.raises(InputError, match=r"cmu_mosei_std_folds\.py does not exist"):
        prepare_cmu_mosei(copy, tmp_path / "out")
