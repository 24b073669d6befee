from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import Partition, drawn_partition, partition_by_speakers, save_partitions
from vavl.errors import InputError


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
