from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import missing_media

from vavl.data.corpora.folder import prepare_folder
from vavl.data.manifest import Manifest
from vavl.errors import InputError
from vavl.media.files import AUDIO_SUFFIXES, VIDEO_SUFFIXES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    (folder / "ann").mkdir(parents=True)
    for name in ["a.wav", "b.MP4", "ann/c.flac", "d.npy", "e.npy"]:
        (folder / name).touch()
    return folder


def table(root: Path, text: str, name: str = "labels.csv") -> Path:
    path = root / name
    path.write_text("\n".join(line.strip() for line in text.strip().splitlines()), "utf-8")
    return path


def problems_of(root: Path, text: str, **options: object) -> str:
    table(root, text)
    with pytest.raises(InputError) as caught:
        prepare_folder(root, root / "out", **options)
    assert not (root / "out").exists()
    return str(caught.value)


def test_every_kind_of_column(root: Path) -> None:
    table(
        root,
        """
        utterance,file,visual_features,speaker,category,start_s,end_s,fold,votes:happy,votes:sad,arousal,session
        u1,a.wav,d.npy,ann,happy,0.5,2,1.0,3,,5,morning
        ,b.MP4,,bob,,,,,,,,
        ,ann/c.flac,,bob,sad,,,0,,,1,
        """,
    )
    manifest = prepare_folder(root, root / "out", corpus="mine", attribute_range=(1, 5))
    assert Manifest.load(root / "out" / "manifest.parquet") == manifest
    assert missing_media(manifest) == []
    first, second, third = manifest
    assert (first.utterance_id, first.corpus, first.speaker) == ("u1", "mine", "ann")
    assert first.audio_path == "../a.wav"
    assert first.video_path is None
    assert first.visual_features_path == "../d.npy"
    assert (first.start_s, first.end_s, first.fold) == (0.5, 2.0, 1)
    assert first.category == "happy"
    assert first.votes == {"happy": 3.0, "sad": 0.0}
    assert first.attributes == {"arousal": 1.0}
    assert first.metadata == {"session": "morning"}

    assert second.utterance_id == "b"
    assert second.video_path == second.audio_path == "../b.MP4"  # its sound track
    assert (second.category, second.votes, second.attributes, second.fold) == (None,) * 4
    assert second.metadata == {}

    assert third.utterance_id == "ann-c"
    assert third.attributes == {"arousal": 0.0}


def test_sound_of_its_own_goes_before_a_sound_track(root: Path) -> None:
    table(root, "audio,video,speaker\na.wav,b.MP4,ann\nb.MP4,,bob")
    first, second = prepare_folder(root, root / "out")
    assert (first.audio_path, first.video_path) == ("../a.wav", "../b.MP4")
    assert (second.audio_path, second.video_path) == ("../b.MP4", None)


def test_features_alone(root: Path) -> None:
    table(root, "utterance,acoustic_features,visual_features,speaker\nx,d.npy,e.npy,ann")
    (only,) = prepare_folder(root, root / "out")
    assert (only.acoustic_features_path, only.visual_features_path) == ("../d.npy", "../e.npy")
    assert only.audio_path is None


@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES | VIDEO_SUFFIXES))
def test_media_types(root: Path, suffix: str) -> None:
    (root / f"x{suffix}").touch()
    table(root, f"file,speaker\nx{suffix},ann")
    (only,) = prepare_folder(root, root / "out")
    assert only.audio_path == f"../x{suffix}"
    assert (only.video_path is not None) == (suffix in VIDEO_SUFFIXES)


def test_another_table_and_other_attributes(root: Path, tmp_path: Path) -> None:
    path = table(tmp_path, "file,speaker,tension,arousal\na.wav,ann,-1,7", "mine.csv")
    manifest = prepare_folder(
        root, root / "out", csv=path, attributes=["tension"], attribute_range=(-3, 3)
    )
    assert manifest[0].attributes == {"tension": pytest.approx(1 / 3)}
    assert manifest[0].metadata == {"arousal": "7"}


def test_an_absolute_path_may_lie_anywhere(root: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.wav"
    far.touch()
    table(root, f"file,speaker\n{far},ann")
    manifest = prepare_folder(root, root / "out")
    assert manifest[0].utterance_id == "far"
    assert manifest.path(manifest[0], "audio_path").resolve() == far


def test_every_problem_of_every_row_in_one_error(root: Path) -> None:
    (root.parent / "secret.wav").touch()
    text = problems_of(
        root,
        """
        utterance,file,speaker,category,start_s,end_s,fold,votes:happy,votes:sad,arousal
        good,a.wav,ann,happy,,,,1,0,3
        gone,gone.wav,ann,,,,,,,
        type,a.txt,ann,,,,,,,
        array,d.npy,ann,,,,,,,
        out,../secret.wav,ann,,,,,,,
        out2,ann/../../secret.wav,ann,,,,,,,
        good,a.wav,ann,,,,,,,
        a/b,a.wav,ann,,,,,,,
        nobody,a.wav,,,,,,,,
        silent,,ann,,,,,,,

        time,a.wav,ann,,1.5,0.5,,,,
        texts,a.wav,ann,,soon,later,first,many,,high
        fold,a.wav,ann,,,,1.5,,,
        range,a.wav,ann,,,,,,,6
        votes,a.wav,ann,bored,,,,2,-1,nan
        wide,a.wav,ann,,,,,,,,more
        """,
        attribute_range=(1, 5),
    )
    # A row that is too wide is a fault of the file itself, told before its contents are read.
    assert "row 18: 11 cells, but 10 columns" in text

    lines = (root / "labels.csv").read_text("utf-8").splitlines()
    text = problems_of(root, "\n".join(lines[:-1]), attribute_range=(1, 5))
    for words in [
        "files do not exist (first: ",
        "gone.wav); `vavl prepare` does without them with --allow-missing",
        "row 4 ('type'): file: 'a.txt' is neither sound nor video",
        "row 5 ('array'): file: 'd.npy' is neither",
        "name arrays in 'acoustic_features' or 'visual_features'",
        "row 6 ('out'): audio: '../secret.wav' leads out of",
        "row 7 ('out2'): audio: 'ann/../../secret.wav' leads out of",
        "row 8 ('good'): utterance: already used by row 2",
        "row 9 ('a/b'): utterance_id: '/' cannot stand in a file name",
        "row 10 ('nobody'): speaker: is empty",
        "row 11 ('silent'): no medium; fill one of file, audio",
        "row 13 ('time'): end_s: expected more than start_s (1.5), got 0.5",
        "row 14 ('texts'): start_s: 'soon' is not a number",
        "row 14 ('texts'): end_s: 'later' is not a number",
        "row 14 ('texts'): fold: 'first' is not a number",
        "row 14 ('texts'): votes:happy: 'many' is not a number",
        "row 14 ('texts'): arousal: 'high' is not a number",
        "row 15 ('fold'): fold: expected an integer >= 0, got '1.5'",
        "row 16 ('range'): arousal: expected 1 to 5 (attribute_range), got 6",
        "row 17 ('votes'): votes:sad: expected >= 0, got -1.0",
        "row 17 ('votes'): category: 'bored' is not among the votes",
        "row 17 ('votes'): arousal: 'nan' is not a number",
    ]:
        assert words in text
    assert "row 2 " not in text.replace("by row 2;", "")


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bad=st.lists(st.booleans(), min_size=1, max_size=15).filter(any))
def test_exactly_the_bad_rows_are_named(root: Path, bad: list[bool]) -> None:
    lines = [f"u{n},a.wav,ann,{'x' if wrong else n}" for n, wrong in enumerate(bad)]
    text = problems_of(root, "\n".join(["utterance,file,speaker,fold", *lines]))
    for n, wrong in enumerate(bad):
        assert (f"row {n + 2} ('u{n}')" in text) == wrong


def test_spellings_of_one_category_are_pointed_out(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(root, "file,speaker,category\na.wav,ann,happy\nb.MP4,bob,Happy")
    prepare_folder(root, tmp_path / "out")
    assert "'Happy' and 'happy' are different categories" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("file,speaker", "no rows below the header"),
        ("file,category\na.wav,sad", r"no column 'speaker' \(found: file, category\)"),
        ("clip,speaker\na.wav,ann", "no column names a medium; expected one of file, audio"),
        ("file,speaker,speaker\na.wav,ann,ann", "column 'speaker' occurs 2 times"),
        ("file;speaker\na.wav;ann", "not separated by commas"),
        ("file,speaker,Category\na.wav,ann,sad", "column 'Category': did you mean 'category'?"),
        ('file,speaker\n"a.wav,ann', "not a readable CSV file"),
        ("file,audio,speaker\na.wav,a.wav,ann", "drop one"),
        ("file,speaker,category\na.wav,ann", "row 2: 2 cells, but 3 columns"),
        ("video,speaker\na.wav,ann", "'a.wav': expected a suffix of .avi"),
        ("visual_features,speaker\na.wav,ann", "'a.wav': expected a suffix of .npy"),
    ],
)
def test_tables_that_do_not_fit(root: Path, text: str, words: str) -> None:
    table(root, text)
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        prepare_folder(root, root / "out")


def test_a_table_in_another_encoding(root: Path) -> None:
    (root / "labels.csv").write_bytes("file,speaker\na.wav,J\u00fcrgen\n".encode("latin-1"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        prepare_folder(root, root / "out")


def test_a_byte_order_mark_is_no_part_of_the_first_column(root: Path) -> None:
    (root / "labels.csv").write_text("file,speaker\r\na.wav,J\u00fcrgen\r\n", "utf-8-sig")
    assert prepare_folder(root, root / "out")[0].speaker == "J\u00fcrgen"


def test_no_table_and_bad_options(root: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv does not exist"):
        prepare_folder(root, root / "out")
    with pytest.raises(InputError, match="low < high"):
        prepare_folder(root, root / "out", attribute_range=(5, 1))


def test_files_that_are_missing_may_be(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = """
        audio,visual_features,speaker,category
        a.wav,gone.npy,ann,happy
        gone.wav,d.npy,bob,sad
        lost.wav,,bob,sad
    """
    said = problems_of(root, text)
    assert f"audio: 2 of 3 files do not exist (first: {root / 'gone.wav'})" in said
    assert f"visual_features: 1 of 2 files do not exist (first: {root / 'gone.npy'})" in said
    manifest = prepare_folder(root, root / "out", allow_missing=True)
    assert "audio: 2 of 3 files do not exist" in caplog.text
    media = {u.utterance_id: (u.audio_path, u.visual_features_path) for u in manifest}
    assert media == {"a": ("../a.wav", None), "gone": (None, "../d.npy")}
    assert "lost,no media" in (root / "out" / "left_out.csv").read_text("utf-8")
    for name in ("a.wav", "d.npy"):
        (root / name).unlink()
    with pytest.raises(InputError, match="expected files that are there, got none"):
        prepare_folder(root, root / "out", allow_missing=True)


def test_an_overlong_path_is_a_missing_file(root: Path) -> None:
    assert "do not exist" in problems_of(root, f"utterance,file,speaker\nx,{'y' * 5000}.wav,ann")


def test_clips_without_labels_are_taken_with_a_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(root, "file,speaker,emotion,Valence_mean\na.wav,ann,happy,3")
    with caplog.at_level(logging.WARNING):
        manifest = prepare_folder(root, root / "out")
    assert "no labels" in caplog.text
    assert "if 'emotion' is the category, call it 'category'" in caplog.text
    assert "if 'Valence_mean' is valence, call it 'valence'" in caplog.text
    assert manifest[0].metadata == {"emotion": "happy", "Valence_mean": "3"}


def test_a_category_that_may_be_a_typing_error_is_named(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table(root, "file,speaker,category\na.wav,ann,happy\nb.MP4,ann,happy\nann/c.flac,bob,hapy")
    prepare_folder(root, root / "out")
    assert "one clip alone is 'hapy'; did you mean 'happy'?" in caplog.text


def test_the_table_in_place_of_the_folder(root: Path) -> None:
    file = table(root, "file,speaker\na.wav,ann")
    with pytest.raises(InputError, match="ROOT: expected the folder of the clips"):
        prepare_folder(file, root / "out")


def test_the_current_folder_does_not_matter(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table(root, "file,speaker\na.wav,ann")
    monkeypatch.chdir(tmp_path)
    manifest = prepare_folder(Path("clips"), Path("prepared"))
    monkeypatch.chdir(os.sep)
    assert missing_media(manifest) == []
    assert missing_media(Manifest.load(tmp_path / "prepared" / "manifest.parquet")) == []
