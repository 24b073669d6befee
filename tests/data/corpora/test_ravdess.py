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
    assert (out / "left_out.csv").read_text().split() == ["utterance_id,same_sound_as", "c,a"]

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
    rows[2]["audio"] = "audio16k/gone.flac"
    write_table(root, rows)
    write_units(root, ["a", "b", "c"])
    with pytest.raises(InputError) as caught:
        prepare_ravdess(root, tmp_path / "out")
    text = str(caught.value)
    assert "row 2 ('a'): actor: expected an integer >= 0, got 'one'" in text
    assert "row 3 ('b'): fold5: expected an integer >= 0, got '-1'" in text
    assert "row 3 ('b'): emotion: is empty" in text
    assert "row 4 ('c'): audio:" in text
    assert "row 5 ('d'): no action units" in text
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(InputError, match=r"manifest\.csv does not exist"):
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
