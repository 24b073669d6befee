from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from miniatures import CREMA_D_ACTORS, crema_d, crema_d_tables, missing_media

from vavl.data.corpora.crema_d import prepare_crema_d, published
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.errors import InputError

CATEGORIES = ("angry", "disgust", "fear", "happy", "neutral", "sad")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crema_d(tmp_path_factory.mktemp("crema-d"))


def left_out(folder: Path) -> dict[str, str]:
    with (folder / "left_out.csv").open(encoding="utf-8") as file:
        return {row["utterance_id"]: row["reason"] for row in csv.DictReader(file)}


def test_a_table_for_each_channel(repository: Path, tmp_path: Path) -> None:
    manifest = prepare_crema_d(repository, tmp_path, seeds=[7])
    assert Manifest.load(tmp_path / "manifest.parquet") == manifest
    assert missing_media(manifest) == []
    assert len(manifest) == 36
    assert manifest.categories == CATEGORIES
    clip = manifest.by_id["1032_IEO_SAD_HI"]
    assert (clip.speaker, clip.category) == ("1032", "sad")
    assert clip.votes == {**dict.fromkeys(CATEGORIES, 0), "sad": 8, "angry": 2}
    assert clip.metadata == {
        "sex": "male",
        "age": "33",
        "race": "Asian",
        "ethnicity": "Hispanic",
        "acted": "sad",
        "intensity": "high",
        "sentence": "IEO",
    }
    voice = Manifest.load(tmp_path / "voice" / "manifest.parquet")
    face = Manifest.load(tmp_path / "face" / "manifest.parquet")
    assert missing_media(voice) == []
    # Half of the raters is no majority.
    assert len(voice) == 24
    assert len(face) == 36
    assert left_out(tmp_path / "voice")["1001_IEO_FEA_HI"] == "no majority"
    part = Partition.load(tmp_path / "voice" / "partitions" / "published-1.json")
    part.check(voice)
    assert {i[:4] for i in part.test} == {"1004", "1011"}
    assert {i[:4] for i in part.development} == {"1006", "1032"}
    Partition.load(tmp_path / "partitions" / "seed-7.json").check(manifest)


def test_rules(tmp_path: Path) -> None:
    clips = {
        "1001_IEO_ANG_HI": [6, 4, 0, 0, 0, 0],  # a majority
        "1001_IEO_DIS_HI": [5, 5, 0, 0, 0, 0],  # a tie
        "1001_IEO_FEA_HI": [0, 4, 5, 1, 0, 0],  # half, and more than any other
        "1002_IEO_HAP_HI": [0, 0, 0, 2, 6, 2],  # a majority for another emotion
        "1004_IEO_SAD_HI": [0, 0, 0, 0, 0, 9],
        "1001_ITS_DIS_XX": [3, 5, 2, 0, 0, 0],  # labelled as published, without a majority
        published_without_use(): [0, 0, 0, 0, 5, 4],
    }
    root = tmp_path / "crema"
    crema_d_tables(root, {c: dict.fromkeys(CHANNELS, v) for c, v in clips.items()}, every_actor())
    (root / "AudioWAV").mkdir()
    for clip in clips:
        (root / "AudioWAV" / f"{clip}.wav").touch()

    def labels(rule: str) -> list[str | None]:
        manifest = prepare_crema_d(root, tmp_path / rule, labels=rule)  # type: ignore[arg-type]
        assert all(clip.video_path is None for clip in manifest)
        missing = left_out(tmp_path / rule)
        assert len(manifest) + len(missing) == len(clips)
        return [
            manifest.by_id[clip].category if clip in manifest.by_id else missing[clip]
            for clip in clips
        ]

    none, tie = "no majority", "a tie"
    assert labels("majority") == ["angry", none, none, "neutral", "sad", none, "neutral"]
    assert labels("plurality") == ["angry", tie, "fear", "neutral", "sad", "disgust", "neutral"]
    assert labels("acted")[:6] == ["angry", "disgust", "fear", "happy", "sad", "disgust"]
    assert labels("soft") == [None] * 7
    not_listed = "a majority, but not in the published list"
    assert labels("published") == ["angry", none, none, "neutral", "sad", "disgust", not_listed]
    # The other channels have no published list.
    assert (
        published_without_use()
        in Manifest.load(tmp_path / "published/voice/manifest.parquet").by_id
    )
    with pytest.raises(InputError, match="expected one of published, majority"):
        labels("loudest")


CHANNELS = ("voice", "face", "audiovisual")


def every_actor() -> dict[str, str]:
    """The actors of the miniature and all whose majorities are not used."""
    return {clip[:4]: "Female" for clip in sorted(published().majorities_not_used)} | CREMA_D_ACTORS


def published_without_use() -> str:
    return min(published().majorities_not_used)


def test_every_problem_in_one_error(repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    shutil.copytree(repository, root)
    (root / "AudioWAV" / "1001_IEO_ANG_HI.wav").unlink()
    for n in (1, 2):
        pointer = root / "VideoFlash" / f"100{n}_IEO_SAD_HI.flv"
        pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    demographics = root / "VideoDemographics.csv"
    demographics.write_text(
        demographics.read_text()
        .replace("1002,31,Female,Asian,Hispanic\n", "")
        .replace("1001,30", "1001,old")
    )
    with (root / "SentenceFilenames.csv").open("a") as file:
        file.write("99,1001_IEO_JOY_HI\n")
    votes = root / "processedResults" / "tabulatedVotes.csv"
    votes.write_text(
        votes.read_text().replace("200002,", "900002,").replace("300003,0,0,8", "300003,0,-1,8")
    )
    with pytest.raises(InputError) as caught:
        prepare_crema_d(root, tmp_path / "out")
    text = str(caught.value)
    assert "1 of 36 clips have no .wav file in AudioWAV (first: 1001_IEO_ANG_HI)" in text
    assert "2 of 36 clips have a placeholder of git-lfs in VideoFlash" in text
    assert "`vavl prepare` does without them with --allow-missing" in text
    assert "git lfs pull" in text
    assert "6 of 36 clips have an actor without a row in VideoDemographics.csv" in text
    assert "an age in years, got 'Male' and 'old'" in text
    assert "'1001_IEO_JOY_HI' is no name of a clip" in text
    assert "expected a number 1xxxxx to 3xxxxx, got '900002'" in text
    assert "expected numbers of votes, got 0, -1, 8" in text
    assert "1 of 36 clips have no audiovisual votes in tabulatedVotes.csv (first: 1001_" in text
    assert not (tmp_path / "out").exists()


def test_no_media_and_no_repository(repository: Path, tmp_path: Path) -> None:
    root = tmp_path / "tables"
    shutil.copytree(repository, root, ignore=shutil.ignore_patterns("AudioWAV", "VideoFlash"))
    with pytest.raises(InputError, match="neither AudioWAV nor VideoFlash is there"):
        prepare_crema_d(root, tmp_path / "out")
    with pytest.raises(InputError, match=r"SentenceFilenames\.csv does not exist"):
        prepare_crema_d(tmp_path, tmp_path / "out")


def test_a_partial_copy_is_one_line_for_each_kind_and_does_where_that_is_allowed(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "partial"
    shutil.copytree(repository, root)
    sounds, films = sorted((root / "AudioWAV").iterdir()), sorted((root / "VideoFlash").iterdir())
    for path in (*sounds[:9], *films[:5]):
        path.unlink()
    with pytest.raises(InputError) as caught:
        prepare_crema_d(root, tmp_path / "out")
    assert str(caught.value).count("\n  - ") == 2
    manifest = prepare_crema_d(root, tmp_path / "out", allow_missing=True)
    assert "9 of 36 clips have no .wav file in AudioWAV" in caplog.text
    assert "5 of 36 clips have no .flv file in VideoFlash" in caplog.text
    assert missing_media(manifest) == []
    assert len(manifest) == 31
    assert left_out(tmp_path / "out")[sounds[0].stem] == "no media"
    assert sum(clip.audio_path is None for clip in manifest) == 4


def test_sound_as_it_circulates_is_labelled_by_its_names(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "kaggle"
    shutil.copytree(repository / "AudioWAV", root / "AudioWAV")
    (root / "AudioWAV" / "notes.wav").touch()
    manifest = prepare_crema_d(root, tmp_path / "out", seeds=[1])
    assert "categories are what was acted" in caplog.text
    assert len(manifest) == 36
    clip = manifest.by_id["1032_IEO_SAD_HI"]
    assert (clip.speaker, clip.category, clip.votes, clip.video_path) == ("1032", "sad", None, None)
    assert clip.metadata == {"acted": "sad", "intensity": "high", "sentence": "IEO"}
    assert not (tmp_path / "out" / "voice").exists()
    Partition.load(tmp_path / "out" / "partitions" / "seed-1.json").check(manifest)
    with pytest.raises(InputError, match="expected acted without tabulatedVotes"):
        prepare_crema_d(root, tmp_path / "out", labels="majority")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """The real annotations in the tree of the repository, with empty files for media."""
    source, root = shared / "data" / "crema_d", tmp_path_factory.mktemp("real-crema-d")
    (root / "processedResults").mkdir()
    (root / "AudioWAV").mkdir()
    shutil.copy(source / "tabulatedVotes.csv", root / "processedResults")
    for name in ("SentenceFilenames.csv", "VideoDemographics.csv"):
        shutil.copy(source / name, root)
    with (root / "SentenceFilenames.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            (root / "AudioWAV" / f"{row['Filename']}.wav").touch()
    return root


@pytest.fixture(scope="module")
def listed(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The corpus with the published labels."""
    return prepare_crema_d(real, tmp_path_factory.mktemp("published"))


@pytest.mark.shared
def test_published_labels_and_partitions(listed: Manifest, shared: Path) -> None:
    for number in range(1, 6):
        path = shared / "data" / "crema_d" / "partitions" / f"label_consensus_{number}.csv"
        with path.open(encoding="utf-8") as file:
            rows = {row["FileName"].removesuffix(".wav"): row for row in csv.DictReader(file)}
        assert set(rows) == set(listed.by_id)
        for clip, row in rows.items():
            utterance = listed.by_id[clip]
            assert utterance.category == max(CATEGORIES, key=lambda name: float(row[name]))
            assert utterance.speaker == row["SpkrID"]
            assert utterance.metadata["sex"] == row["Gender"].lower()
        part = Partition.load(listed.root / "partitions" / f"published-{number}.json")
        for split in ("train", "development", "test"):
            wanted = {clip for clip, row in rows.items() if row["Split_Set"].lower() == split}
            assert set(getattr(part, split)) == wanted
            if number == 1:
                sizes = {"train": 4043, "development": 878, "test": 899}
                assert len(wanted) == sizes[split]
                people = {"train": 63, "development": 14, "test": 14}
                assert len({clip[:4] for clip in wanted}) == people[split]


@pytest.mark.shared
def test_difference_between_the_majority_and_the_published_list(
    real: Path, listed: Manifest, tmp_path: Path
) -> None:
    majority = prepare_crema_d(real, tmp_path, labels="majority", seeds=[0, 1])
    assert (len(listed), len(majority)) == (5820, 5913)
    common = set(listed.by_id) & set(majority.by_id)
    assert len(common) == 5795
    assert all(listed.by_id[c].category == majority.by_id[c].category for c in common)
    assert len(set(listed.by_id) - common) == 25
    assert len(set(majority.by_id) - common) == 118
    for seed in (0, 1):
        part = Partition.load(tmp_path / "partitions" / f"seed-{seed}.json")
        for ids, count in ((part.train, 63), (part.development, 14), (part.test, 14)):
            found = {majority.by_id[i].speaker: majority.by_id[i].metadata["sex"] for i in ids}
            assert len(found) == count
            assert 0.45 < Counter(found.values())["male"] / count < 0.6


@pytest.mark.shared
def test_the_votes_of_each_channel(real: Path, shared: Path, tmp_path: Path) -> None:
    soft = prepare_crema_d(real, tmp_path, labels="soft")
    assert len(soft) == 7442
    assert soft.categories == CATEGORIES
    with (shared / "data/crema_d/summaryTable.csv").open(encoding="utf-8") as file:
        summary = {row["FileName"]: row for row in csv.DictReader(file)}
    columns = {"": "MultiModalVote", "voice": "VoiceVote", "face": "FaceVote"}
    differing = Counter[str]()
    for folder, column in columns.items():
        manifest = Manifest.load(tmp_path / folder / "manifest.parquet")
        assert len(manifest) == 7442
        for clip in manifest:
            most = max(clip.votes.values())
            winners = {c[0].upper() for c, count in clip.votes.items() if count == most}
            differing[column] += winners != set(summary[clip.utterance_id][column].split(":"))
    assert Counter(u.metadata["acted"] for u in soft)["neutral"] == 1087
    assert {u.metadata["ethnicity"] for u in soft} == {"Hispanic", "Not Hispanic"}
    people = {u.speaker: u.metadata for u in soft}
    assert Counter(person["sex"] for person in people.values()) == {"male": 48, "female": 43}
    assert Counter(person["race"] for person in people.values())["Asian"] == 7
    assert max(differing.values()) == 0, differing
