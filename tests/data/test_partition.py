"""Partitions: speaker-independent, drawn by seed, checked, saved."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import (
    SPLITS,
    Partition,
    drawn_partition,
    given_folds,
    partition_by_speakers,
    save_partitions,
    speaker_kfold,
)
from vavl.errors import InputError, StoreError


def corpus(
    speakers: int, clips: int = 2, *, folds: int | None = None, sexes: str = "fm"
) -> Manifest:
    rows = [
        Utterance(
            f"s{speaker}-c{number}",
            "demo",
            f"s{speaker}",
            audio_path="a.wav",
            fold=None if folds is None else speaker % folds,
            metadata={"sex": sexes[speaker % len(sexes)]},
        )
        for speaker in range(speakers)
        for number in range(clips)
    ]
    return Manifest(rows, root=Path())


def speakers_of(manifest: Manifest, ids: tuple[str, ...]) -> set[str]:
    return {manifest.by_id[name].speaker for name in ids}


@settings(max_examples=60, deadline=None)
@given(
    speakers=st.integers(2, 25),
    folds=st.integers(2, 25),
    share=st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.95]),
    seed=st.integers(0, 5),
    balanced=st.booleans(),
    given_by_corpus=st.booleans(),
)
def test_every_partition_is_sound(
    speakers: int, folds: int, share: float, seed: int, balanced: bool, given_by_corpus: bool
) -> None:
    folds = min(folds, speakers)
    manifest = corpus(speakers, folds=folds)
    if share > 0 and speakers - -(-speakers // folds) < 2:
        share = 0.0  # a fold whose training side is one speaker cannot spare any
    options = {"development_share": share, "seed": seed, "balance_by": "sex" if balanced else None}
    if given_by_corpus:
        partitions = given_folds(manifest, **options)
    else:
        partitions = speaker_kfold(manifest, folds=folds, **options)
    assert [part.name for part in partitions] == [f"fold-{n}" for n in range(folds)]

    everyone = [u.utterance_id for u in manifest]
    for part in partitions:
        part.check(manifest)
        assert sorted(part.train + part.development + part.test) == sorted(everyone)
        train, development, test = (speakers_of(manifest, getattr(part, s)) for s in SPLITS)
        assert not train & development
        assert not train & test
        assert not development & test
        assert train
        wanted = round(share * (speakers - len(test)))
        available = speakers - len(test)
        assert len(development) == (0 if share == 0 else min(max(1, wanted), available - 1))
        if balanced:
            # Each sex gives its proportion, give or take one.
            of = {s: [manifest.by_id[u].metadata["sex"] for u in getattr(part, s)] for s in SPLITS}
            for sex in {"f", "m"}:
                here = (of["train"] + of["development"]).count(sex) / 2
                exact = len(development) * here / available
                assert abs(of["development"].count(sex) / 2 - exact) < 1
    tested = Counter(name for part in partitions for name in part.test)
    assert tested == Counter(everyone)  # every clip is tested exactly once


@given(seed=st.integers(0, 10_000), speakers=st.integers(6, 30), folds=st.integers(2, 6))
def test_folds_are_balanced(seed: int, speakers: int, folds: int) -> None:
    manifest = corpus(speakers, clips=1, sexes="ffm")
    sizes, women = [], []
    for part in speaker_kfold(
        manifest, folds=folds, seed=seed, balance_by="sex", development_share=0
    ):
        sizes.append(len(part.test))
        women.append(sum(manifest.by_id[u].metadata["sex"] == "f" for u in part.test))
    assert max(sizes) - min(sizes) <= 1
    assert max(women) - min(women) <= 1


def test_the_seed_decides_and_the_order_of_rows_does_not() -> None:
    manifest = corpus(20)
    rows = list(manifest)
    random.Random(3).shuffle(rows)
    shuffled = Manifest(rows, root=Path())

    def as_sets(partitions: list[Partition]) -> list[list[set[str]]]:
        return [[set(getattr(part, s)) for s in SPLITS] for part in partitions]

    assert speaker_kfold(manifest, seed=1) == speaker_kfold(manifest, seed=1)
    assert as_sets(speaker_kfold(manifest, seed=1)) == as_sets(speaker_kfold(shuffled, seed=1))
    assert as_sets(speaker_kfold(manifest, seed=1)) != as_sets(speaker_kfold(manifest, seed=2))
    with_folds = corpus(20, folds=5)
    first, second = given_folds(with_folds, seed=1), given_folds(with_folds, seed=2)
    assert [part.test for part in first] == [part.test for part in second]
    assert [part.development for part in first] != [part.development for part in second]


def test_the_same_partition_for_ever() -> None:
    """A run of last year must be comparable: the deal may not change with a release."""
    part = speaker_kfold(corpus(8, clips=1), folds=4, seed=0, balance_by="sex")[0]
    assert part == Partition(
        "fold-0", ("s0-c0", "s2-c0", "s3-c0", "s5-c0", "s7-c0"), ("s4-c0",), ("s1-c0", "s6-c0")
    )


def test_bad_folds_are_all_named() -> None:
    rows = [
        Utterance("a", "demo", "ann", audio_path="a.wav", fold=0),
        Utterance("b", "demo", "ann", audio_path="b.wav", fold=1),
        Utterance("c", "demo", "bob", audio_path="c.wav"),
        Utterance("d", "demo", "cat", audio_path="d.wav"),
    ]
    with pytest.raises(InputError) as caught:
        given_folds(Manifest(rows, root=Path()), development_share=1.5)
    for words in ["'c' has no fold", "'d' has no fold", "'ann' is in folds [0, 1]", "got 1.5"]:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 1}, "expected 2 to 4"),
        ({"folds": 5}, "expected 2 to 4"),
        ({"folds": 2, "development_share": -0.1}, "development_share"),
        ({"folds": 2, "development_share": float("nan")}, "development_share"),
        ({"folds": 2, "balance_by": "age"}, "metadata at hand: sex"),
    ],
)
def test_bad_arguments(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        speaker_kfold(corpus(4), **options)


def test_no_development_speaker_can_be_spared() -> None:
    with pytest.raises(InputError, match="development_share=0"):
        speaker_kfold(corpus(2), folds=2)
    assert [
        part.development for part in speaker_kfold(corpus(2), folds=2, development_share=0)
    ] == [(), ()]


def test_a_speaker_of_two_minds_cannot_be_balanced() -> None:
    rows = [
        Utterance("a", "demo", "ann", audio_path="a.wav", metadata={"sex": "female"}),
        Utterance("b", "demo", "ann", audio_path="b.wav", metadata={"sex": "male"}),
        Utterance("c", "demo", "bob", audio_path="c.wav"),
        Utterance("d", "demo", "cat", audio_path="c.wav", metadata={"sex": "female"}),
    ]
    with pytest.raises(InputError) as caught:
        speaker_kfold(Manifest(rows, root=Path()), folds=2, balance_by="sex")
    assert "'ann': expected one 'sex', got female, male" in str(caught.value)
    assert "'bob': expected one 'sex', got none" in str(caught.value)
    assert "'cat'" not in str(caught.value)


def test_check_names_everything_at_once() -> None:
    manifest = corpus(3)
    bad = Partition("mine", ("s0-c0", "s0-c0", "ghost"), ("s0-c1", "s1-c0"), ())
    with pytest.raises(InputError) as caught:
        bad.check(manifest)
    text = str(caught.value)
    assert "test is empty" in text
    assert "'s0-c0' is in train and again in train" in text
    assert "'ghost' in train is not in the manifest" in text
    assert "speaker 's0' is in train and development" in text
    assert "'s1'" not in text


def test_one_clip_in_two_splits() -> None:
    with pytest.raises(InputError, match="'s0-c0' is in train and again in test"):
        Partition("mine", ("s0-c0",), (), ("s0-c0", "s1-c0")).check(corpus(2))


@given(ids=st.lists(st.text(min_size=1), min_size=3, unique=True))
@settings(deadline=None)
def test_what_is_saved_is_loaded(ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run") / "partition.json"
    part = Partition("fold-0", tuple(ids[:1]), tuple(ids[1:2]), tuple(ids[2:]))
    part.save(path)
    assert Partition.load(path) == part


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema_version": 1, "name"', "not a readable JSON"),
        ("[1, 2]", "no vavl partition"),
        ('{"name": "x"}', "no vavl partition"),
        ('{"schema_version": 99, "name": "x"}', "expected schema version 1, got 99"),
        ('{"schema_version": 1, "name": "x", "train": [1], "test": []}', "lists of ids"),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "partition.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=words):
        Partition.load(path)
    with pytest.raises(InputError, match="does not exist"):
        Partition.load(tmp_path / "other.json")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    Partition("fold-0", ("a",), (), ("b",)).save(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == {
        "schema_version": 1,
        "name": "fold-0",
        "train": ["a"],
        "development": [],
        "test": ["b"],
    }


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """26 speakers with two clips each; a third of them women."""
    clips = [
        Utterance(
            f"{speaker}-{take}",
            "demo",
            speaker,
            audio_path="a.wav",
            metadata={"sex": "female" if number % 3 == 0 else "male"},
        )
        for number, speaker in enumerate("abcdefghijklmnopqrstuvwxyz")
        for take in range(2)
    ]
    return Manifest(clips, root=Path())


def speakers(manifest: Manifest, ids: tuple[str, ...]) -> set[str]:
    return {manifest.by_id[name].speaker for name in ids}


def test_named_speakers(manifest: Manifest) -> None:
    part = partition_by_speakers(manifest, "p", development=["b"], test=["c", "nobody"])
    assert part.development == ("b-0", "b-1")
    assert part.test == ("c-0", "c-1")
    assert len(part.train) == 48
    part = partition_by_speakers(manifest, "p", development=[], test="c", train="ab")
    assert (part.train, part.development) == (("a-0", "a-1", "b-0", "b-1"), ())


def test_speakers_that_do_not_make_a_partition(manifest: Manifest) -> None:
    with pytest.raises(InputError, match="'b' is in development and in test"):
        partition_by_speakers(manifest, "p", development=["b"], test=["b", "c"])
    with pytest.raises(InputError, match="test is empty"):
        partition_by_speakers(manifest, "p", development=["b"], test=["nobody"])


def test_drawn_speakers(manifest: Manifest) -> None:
    def draw(seed: int, table: Manifest = manifest) -> Partition:
        return drawn_partition(
            table, "p", seed=seed, development_share=2 / 13, test_share=2 / 13, balance_by="sex"
        )

    first = draw(0)
    chosen = [speakers(manifest, ids) for ids in (first.train, first.development, first.test)]
    assert [len(names) for names in chosen] == [18, 4, 4]
    assert not set.intersection(*chosen)
    for ids in (first.development, first.test):
        women = Counter(manifest.by_id[i].metadata["sex"] for i in ids)["female"]
        assert women in (2, 4)  # two clips each of one or two of four
    assert draw(0) == first
    assert draw(1) != first
    backwards = draw(0, Manifest(manifest.utterances[::-1], root=Path()))
    assert set(backwards.test) == set(first.test)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.2, 0.0), (0.5, 0.5)])
def test_shares_that_leave_nobody(manifest: Manifest, shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="leave some of 26 speakers"):
        drawn_partition(manifest, "p", seed=0, development_share=shares[0], test_share=shares[1])


def test_saved_under_their_names(manifest: Manifest, tmp_path: Path) -> None:
    part = partition_by_speakers(manifest, "p-1", development="b", test="c")
    save_partitions([part], tmp_path / "partitions")
    assert Partition.load(tmp_path / "partitions" / "p-1.json") == part
