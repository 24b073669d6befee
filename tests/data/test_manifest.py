from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import missing_media

from vavl.data.manifest import MEDIA_FIELDS, SCHEMA_VERSION, Manifest, Utterance, stored_path
from vavl.errors import InputError, StoreError

SAFE = st.text("abcXYZ019_-é情", min_size=1, max_size=12)
WORDS = st.text(min_size=1, max_size=8).filter(lambda s: s.strip() != "" and "\0" not in s)
COUNTS = st.floats(0, 1e6, allow_nan=False)


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    media = draw(st.dictionaries(st.sampled_from(MEDIA_FIELDS), WORDS, min_size=1))
    category = draw(st.none() | WORDS)
    votes = draw(st.none() | st.dictionaries(WORDS, COUNTS, max_size=4))
    if votes is not None:
        votes[category or "other"] = draw(st.floats(0.5, 9))
    start = draw(st.none() | st.floats(0, 100))
    return Utterance(
        utterance_id=draw(SAFE),
        corpus=draw(WORDS),
        speaker=draw(WORDS),
        start_s=start,
        end_s=draw(st.none() | st.floats(0.001, 50).map(lambda d: (start or 0.0) + d)),
        category=category,
        votes=votes,
        attributes=draw(st.none() | st.dictionaries(WORDS, st.floats(0, 1), max_size=3)),
        fold=draw(st.none() | st.integers(0, 2**31 - 1)),
        metadata=draw(st.dictionaries(WORDS, st.text(max_size=5), max_size=3)),
        **media,
    )


def clip(name: str = "clip-1", **changes: object) -> Utterance:
    return replace(Utterance(name, "demo", "ann", audio_path=f"{name}.wav"), **changes)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(utterances(), max_size=6, unique_by=lambda u: u.utterance_id))
def test_what_is_saved_is_loaded(
    rows: list[Utterance], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("corpus")
    manifest = Manifest(rows, root=root)
    manifest.save(root / "manifest.parquet")
    loaded = Manifest.load(root / "manifest.parquet")
    assert loaded == manifest
    assert loaded.sha256 == manifest.sha256
    assert [p.name for p in root.iterdir()] == ["manifest.parquet"]  # no temporary file is left


BAD = {
    "no id": ({"utterance_id": ""}, "utterance_id"),
    "blank id": ({"utterance_id": "  "}, "utterance_id"),
    "id leads to another folder": ({"utterance_id": "../x"}, "utterance_id"),
    "id with a backslash": ({"utterance_id": "a\\b"}, "utterance_id"),
    "id with a line break": ({"utterance_id": "a\nb"}, "utterance_id"),
    "id is a device": ({"utterance_id": "nul"}, "device"),
    "id ends with a dot": ({"utterance_id": "a."}, "utterance_id"),
    "long id": ({"utterance_id": "é" * 100}, "bytes"),
    "id is a number": ({"utterance_id": 7}, "utterance_id"),
    "no speaker": ({"speaker": ""}, "speaker"),
    "no corpus": ({"corpus": " "}, "corpus"),
    "not Unicode": ({"speaker": "\ud800"}, "Unicode"),
    "no media": ({"audio_path": None}, "no media"),
    "empty path": ({"audio_path": ""}, "audio_path"),
    "null in path": ({"video_path": "a\0b"}, "video_path"),
    "starts before the beginning": ({"start_s": -0.1}, "start_s"),
    "start is NaN": ({"start_s": float("nan")}, "start_s"),
    "end is infinite": ({"end_s": float("inf")}, "end_s"),
    "end is no float": ({"end_s": 10**400}, "end_s"),
    "ends at its start": ({"start_s": 2.0, "end_s": 2.0}, "end_s"),
    "ends at zero": ({"end_s": 0.0}, "end_s"),
    "blank category": ({"category": " "}, "category"),
    "category not voted on": ({"category": "sad", "votes": {"happy": 3.0}}, "among the votes"),
    "negative vote": ({"votes": {"happy": 3.0, "sad": -1.0}}, "votes:sad"),
    "vote is NaN": ({"votes": {"happy": float("nan")}}, "votes:happy"),
    "nobody voted": ({"votes": {"happy": 0.0}}, "nobody"),
    "votes is a list": ({"votes": ["happy"]}, "mapping"),
    "no metadata": ({"metadata": None}, "mapping"),
    "attribute out of range": ({"attributes": {"arousal": 4.0}}, "arousal"),
    "attribute is text": ({"attributes": {"arousal": "0.5"}}, "arousal"),
    "negative fold": ({"fold": -1}, "fold"),
    "fold is a truth value": ({"fold": True}, "fold"),
    "metadata is a number": ({"metadata": {"age": 31}}, "age"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named(name: str) -> None:
    changes, word = BAD[name]
    bad = clip("bad", **changes)
    with pytest.raises(InputError, match=word) as caught:
        Manifest([clip("good"), bad], root=Path())
    assert f"row 1 ({bad.utterance_id!r})" in str(caught.value)
    assert "row 0" not in str(caught.value)


@given(
    picks=st.lists(st.sampled_from([*BAD, None, None]), min_size=1, max_size=12).filter(
        lambda names: any(names)
    )
)
def test_all_bad_rows_are_named_at_once(picks: list[str | None]) -> None:
    rows = []
    for row, pick in enumerate(picks):
        changes = BAD[pick][0] if pick else {}
        rows.append(clip(f"clip-{row}", **changes))
    with pytest.raises(InputError) as caught:
        Manifest(rows, root=Path())
    for row, pick in enumerate(picks):
        assert (f"row {row} (" in str(caught.value)) == (
            pick is not None or rows[row].utterance_id in [r.utterance_id for r in rows[:row]]
        )


def test_a_duplicate_names_both_rows() -> None:
    with pytest.raises(InputError, match=r"row 2 \('a'\): utterance_id: already used by row 0"):
        Manifest([clip("a"), clip("b"), clip("a")], root=Path())


def test_columns_of_the_whole_table() -> None:
    manifest = Manifest(
        [
            clip("a", speaker="zoe", category="sad", attributes={"valence": 0.1}),
            clip("b", votes={"happy": 2.0, "bored": 0.0}, attributes={"arousal": 1.0}),
        ],
        root=Path(),
    )
    assert manifest.categories == ("bored", "happy", "sad")
    assert manifest.attribute_names == ("arousal", "valence")
    assert manifest.speakers == ("ann", "zoe")
    assert manifest.by_id["b"] is manifest[1]
    assert manifest[:1].speakers == ("zoe",)


def test_select_keeps_the_order_asked_for_and_names_unknown_ids() -> None:
    manifest = Manifest([clip("a"), clip("b"), clip("c")], root=Path())
    assert [u.utterance_id for u in manifest.select(["c", "a"])] == ["c", "a"]
    with pytest.raises(InputError, match=r"(?s)'x'.*'y'"):
        manifest.select(["x", "a", "y"])


def test_missing_media_are_no_problem_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    manifest = Manifest([clip("a"), clip("b", visual_features_path="b.npy")], root=tmp_path)
    assert manifest.path(manifest[0], "audio_path") == tmp_path / "a.wav"
    assert manifest.path(manifest[0], "video_path") is None
    assert missing_media(manifest) == [tmp_path / "b.wav", tmp_path / "b.npy"]


def test_saved_elsewhere_it_still_leads_to_the_same_files(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "far" / "away"
    absolute = str(tmp_path / "b.wav")
    manifest = Manifest([clip("a"), clip("b", audio_path=absolute)], root=root)
    manifest.save(other / "manifest.parquet")
    moved = Manifest.load(other / "manifest.parquet")
    assert moved[0].audio_path == "../../root/a.wav"
    assert moved.path(moved[0], "audio_path").resolve() == root / "a.wav"
    assert moved[1].audio_path == absolute


def test_relative_paths_hold_behind_symbolic_links(tmp_path: Path) -> None:
    corpus, deep = tmp_path / "corpus", tmp_path / "disk" / "deep" / "out"
    corpus.mkdir()
    deep.mkdir(parents=True)
    (corpus / "a.wav").touch()
    link = tmp_path / "out"
    try:
        link.symlink_to(deep, target_is_directory=True)
    except OSError:
        pytest.skip("symbolic links are not allowed here")
    manifest = Manifest([clip("a", audio_path=stored_path(corpus / "a.wav", link))], root=link)
    manifest.save(link / "manifest.parquet")
    assert missing_media(Manifest.load(link / "manifest.parquet")) == []


def test_the_hash_follows_content_and_order_not_the_place() -> None:
    rows = [clip("a", attributes={"x": 0.5, "y": 1}), clip("b", start_s=1)]
    same = [clip("a", attributes={"y": 1.0, "x": 0.5}), clip("b", start_s=1.0)]
    manifest = Manifest(rows, root=Path("here"))
    assert manifest.sha256 == Manifest(same, root=Path("there")).sha256
    assert manifest.sha256 != Manifest(rows[::-1], root=Path("here")).sha256
    changed = [rows[0], clip("b", start_s=1.5)]
    assert manifest.sha256 != Manifest(changed, root=Path("here")).sha256


def test_it_crosses_process_boundaries() -> None:
    manifest = Manifest([clip("a", votes={"sad": 1.0})], root=Path())
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def saved(folder: Path) -> Path:
    rows = [clip(f"clip-{n}", category="sad", metadata={"take": str(n)}) for n in range(40)]
    path = folder / "manifest.parquet"
    Manifest(rows, root=folder).save(path)
    return path


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vavl prepare"):
        Manifest.load(tmp_path / "manifest.parquet")


@pytest.mark.parametrize("kept", [0, 3, 0.3, 0.9, 0.999])
def test_a_truncated_file(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(StoreError, match=r"manifest\.parquet"):
        Manifest.load(path)


def test_a_flipped_byte_never_passes_for_other_data(tmp_path: Path) -> None:
    path = saved(tmp_path)
    original, content = Manifest.load(path), path.read_bytes()
    noticed = 0
    for position in range(4, len(content), 37):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert Manifest.load(path) == original  # e.g. in statistics that are not read
        except StoreError:
            noticed += 1
    assert noticed > 10


def test_foreign_and_newer_files(tmp_path: Path) -> None:
    path = saved(tmp_path)
    table = pq.read_table(path)

    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(StoreError, match="no vavl manifest"):
        Manifest.load(path)

    newer = {b"vavl.manifest.schema_version": str(SCHEMA_VERSION + 1)}
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | newer), path)
    with pytest.raises(StoreError, match=f"expected schema version {SCHEMA_VERSION}"):
        Manifest.load(path)

    pq.write_table(table.drop_columns(["speaker"]), path)
    with pytest.raises(StoreError, match="columns"):
        Manifest.load(path)

    speakers = pa.array(["bob"] * len(table))
    edited = table.set_column(table.schema.get_field_index("speaker"), "speaker", speakers)
    pq.write_table(edited, path)
    with pytest.raises(StoreError, match="content hash"):
        Manifest.load(path)

    path.write_text("utterance_id,speaker\n")
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        Manifest.load(path)
