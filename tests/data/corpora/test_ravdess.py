from __future__ import annotations

import csv
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from miniatures import missing_media

from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.data.manifest import Manifest
from vavl.data.partition import given_folds
from vavl.errors import InputError, MediaError

COLUMNS = [
    "clip",
    "audio",
    "emotion",
    "emotion_id",
    "intensity",
    "statement",
    "repetition",
    "actor",
    "sex",
    "fold5",
    "duration_s",
]


def write_table(root: Path, rows: list[dict[str, str]]) -> None:
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_units(root: Path, clips: list[str], means: np.ndarray | None = None) -> None:
    if means is None:
        means = np.arange(len(clips) * 35, dtype=np.float32).reshape(-1, 35)
    columns = [f"AU{n:02d}_r" for n in range(35)]
    np.savez(root / "visual_au.npz", clips=clips, au_columns=columns, au_mean=means)


@pytest.fixture
def miniature(tmp_path: Path) -> tuple[Path, list[dict[str, str]]]:
    """Two actors with two clips each; clips a and c of actor 1 sound the same."""
    root = tmp_path / "ravdess"
    (root / "audio16k").mkdir(parents=True)
    rows = []
    for clip, actor, emotion, sound in [
        ("a", "1", "happy", b"one"),
        ("b", "2", "sad", b"two"),
        ("c", "1", "sad", b"one"),
        ("d", "2", "happy", b"four"),
    ]:
        (root / "audio16k" / f"{clip}.flac").write_bytes(sound)
        sex = "female" if actor == "2" else "male"
        values = [clip, f"audio16k/{clip}.flac", emotion, "0", "normal", "01", "02", actor, sex]
        rows.append(dict(zip(COLUMNS, [*values, str(int(actor) % 2), "3.0"], strict=True)))
    write_table(root, rows)
    write_units(root, ["d", "c", "b", "a"])  # another order than the table's
    return root, rows


def test_miniature(
    miniature: tuple[Path, list[dict[str, str]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, _ = miniature
    out = tmp_path / "somewhere" / "else"
    with caplog.at_level(logging.WARNING):
        manifest = prepare_ravdess(root, out)
    assert [u.utterance_id for u in manifest] == ["a", "b", "d"]
    assert "clip c is left out" in caplog.text
    assert (out / "left_out.csv").read_text().split() == [
        "utterance_id,reason",
        *("c,the", "same", "sound", "as", "a"),
    ]

    loaded = Manifest.load(out / "manifest.parquet")
    assert loaded == manifest
    assert missing_media(loaded) == []
    first = loaded.by_id["a"]
    assert first.audio_path == "../../ravdess/audio16k/a.flac"
    assert loaded.path(first, "audio_path").read_bytes() == b"one"
    assert (first.speaker, first.category, first.fold) == ("actor-01", "happy", 1)
    assert first.metadata == {
        "sex": "male",
        "intensity": "normal",
        "statement": "01",
        "repetition": "02",
    }
    for utterance, row in zip(loaded, [3, 2, 0], strict=True):
        units = np.load(loaded.path(utterance, "visual_features_path"), allow_pickle=False)
        assert units.dtype == np.float32
        np.testing.assert_array_equal(units, np.arange(row * 35, row * 35 + 35)[None])
    assert len((out / "visual_features_columns.txt").read_text().split()) == 35
    assert not (out / "visual_features" / "c.npy").exists()


def test_every_problem_of_the_table_in_one_error(
    miniature: tuple[Path, list[dict[str, str]]], tmp_path: Path
) -> None:
    root, rows = miniature
    rows[0]["actor"] = "one"
    rows[1]["fold5"] = "-1"
    rows[1]["emotion"] = ""
    write_table(root, rows)
    with pytest.raises(InputError) as caught:
        prepare_ravdess(root, tmp_path / "out")
    text = str(caught.value)
    assert "row 2 ('a'): actor: expected an integer >= 0, got 'one'" in text
    assert "row 3 ('b'): fold5: expected an integer >= 0, got '-1'" in text
    assert "row 3 ('b'): emotion: is empty" in text
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_counted_and_may_be(
    miniature: tuple[Path, list[dict[str, str]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, rows = miniature
    out = tmp_path / "out"
    rows[2]["audio"] = "audio16k/gone.flac"
    rows[3]["audio"] = "audio16k/gone too.flac"
    write_table(root, rows)
    write_units(root, ["a", "c"])
    with pytest.raises(InputError) as caught:
        prepare_ravdess(root, out)
    sound = "2 of 4 clips have no sound file (first: c)"
    units = "2 of 4 clips have no action units in visual_au.npz (first: b)"
    for lack in (sound, units):
        assert f"{lack}; `vavl prepare` does without them with --allow-missing" in str(caught.value)
    assert not out.exists()
    manifest = prepare_ravdess(root, out, allow_missing=True)
    assert sound in caplog.text
    assert units in caplog.text
    media = {u.utterance_id: (u.audio_path, u.visual_features_path) for u in manifest}
    assert media == {
        "a": ("../ravdess/audio16k/a.flac", "visual_features/a.npy"),
        "b": ("../ravdess/audio16k/b.flac", None),
        "c": (None, "visual_features/c.npy"),
    }
    assert "d,no media" in (out / "left_out.csv").read_text()


def published(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def test_as_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, out = tmp_path / "ravdess", tmp_path / "out"
    takes = [
        f"01-{emotion:02d}-{intensity:02d}-{sentence:02d}-{repetition:02d}"
        for emotion in range(1, 9)
        for intensity in (1, 2)
        for sentence in (1, 2)
        for repetition in (1, 2)
        if (emotion, intensity) != (1, 2)  # nobody is neutral with strength
    ]
    assert len(takes) == 60
    for actor in ("03", "22"):
        published(root, *(f"Actor_{actor}/03-{take}-{actor}.wav" for take in takes))
    published(root, "Actor_03/03-02-01-01-01-01-03.wav")  # is sung
    published(root, "audio_speech_actors_01-24/Actor_03/03-01-01-01-01-01-01-03.wav")  # twice
    manifest = prepare_ravdess(root, out)
    assert "no clip has a picture" in caplog.text
    assert len(manifest) == 120
    assert Counter(u.category for u in manifest)["surprised"] == 16
    angry = manifest.by_id["01-01-05-02-02-01-22"]
    assert (angry.category, angry.speaker, angry.fold) == ("angry", "actor-22", 4)
    assert angry.metadata == {
        "sex": "female",
        "intensity": "strong",
        "statement": "02",
        "repetition": "01",
    }
    assert manifest.by_id["01-01-01-01-01-01-03"].fold == 1
    assert missing_media(manifest) == []

    published(root, "Video/Actor_03/01-01-05-02-02-01-03.mp4", "02-01-05-02-02-02-03.mp4")
    (root / f"Actor_22/03-{takes[-1]}-22.wav").unlink()
    with pytest.raises(InputError) as caught:
        prepare_ravdess(root, out)
    assert "1 clips of the 2 actors are not there" in str(caught.value)
    assert "117 of 119 clips have no picture (first: 01-01-01-01-01-01-03)" in str(caught.value)
    partial = prepare_ravdess(root, out, allow_missing=True)
    videos = {u.utterance_id: u.video_path for u in partial if u.video_path is not None}
    assert videos == {
        "01-01-05-02-02-01-03": "../ravdess/Video/Actor_03/01-01-05-02-02-01-03.mp4",
        "01-01-05-02-02-02-03": "../ravdess/02-01-05-02-02-02-03.mp4",
    }


def test_action_units_that_cannot_be_used(
    miniature: tuple[Path, list[dict[str, str]]], tmp_path: Path
) -> None:
    root, _ = miniature
    out = tmp_path / "out"
    means = np.zeros((4, 35), np.float32)
    means[1, 7] = np.nan
    write_units(root, list("abcd"), means)
    with pytest.raises(InputError, match=r"row 3 \('b'\): action units are not all finite"):
        prepare_ravdess(root, out)
    write_units(root, list("abcd"), means[:3])
    with pytest.raises(MediaError, match=r"expected \(4, 35\), got \(3, 35\)"):
        prepare_ravdess(root, out)
    np.savez(root / "visual_au.npz", clips=list("abcd"))
    with pytest.raises(MediaError, match="au_columns"):
        prepare_ravdess(root, out)
    content = (root / "visual_au.npz").read_bytes()
    (root / "visual_au.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(MediaError, match=r"visual_au\.npz"):
        prepare_ravdess(root, out)
    (root / "visual_au.npz").unlink()
    with pytest.raises(InputError, match=r"visual_au\.npz does not exist"):
        prepare_ravdess(root, out)


def test_not_a_ravdess_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected in .* manifest\.csv, or files"):
        prepare_ravdess(tmp_path, tmp_path / "out")


@pytest.mark.shared
def test_the_whole_corpus(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "ravdess"
    manifest = prepare_ravdess(root, tmp_path)
    assert len(manifest) == 1439
    assert len(manifest.speakers) == 24
    assert len(manifest.categories) == 8
    assert missing_media(manifest) == []
    assert "01-01-03-01-02-01-07" in manifest.by_id
    assert "01-01-03-01-02-02-07" not in manifest.by_id

    with (root / "manifest.csv").open(encoding="utf-8") as file:
        given = {row["clip"]: row for row in csv.DictReader(file)}
    renamed = {
        path.name: path.with_suffix(".wav").name for path in (root / "audio16k").glob("*.flac")
    }
    (tmp_path / "names").mkdir()
    for name, as_published in renamed.items():
        (tmp_path / "names" / as_published).symlink_to(root / "audio16k" / name)
    by_name = prepare_ravdess(tmp_path / "names", tmp_path / "by_name")
    for one, other in zip(manifest, by_name, strict=True):
        assert (one.utterance_id, one.speaker, one.fold) == (
            *(other.utterance_id, other.speaker, other.fold),
        )
        assert (one.category, one.metadata) == (other.category, other.metadata)
    for utterance in manifest:
        row = given[utterance.utterance_id]
        assert utterance.fold == int(row["fold5"])
        assert utterance.category == row["emotion"]
        assert utterance.metadata["sex"] == row["sex"]
    assert Counter(u.category for u in manifest)["neutral"] == 96
    partitions = given_folds(manifest, balance_by="sex")
    assert [part.name for part in partitions] == [f"fold-{n}" for n in range(5)]
    assert sum(len(part.test) for part in partitions) == 1439

    with np.load(root / "visual_au.npz", allow_pickle=False) as arrays:
        expected = dict(zip(arrays["clips"].tolist(), arrays["au_mean"], strict=True))
    for utterance in manifest[::100]:
        units = np.load(manifest.path(utterance, "visual_features_path"), allow_pickle=False)
        np.testing.assert_array_equal(units, expected[utterance.utterance_id][None])
