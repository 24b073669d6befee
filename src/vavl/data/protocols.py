"""Partitions that a protocol prescribes: by lists of speakers, or drawn in given proportions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from vavl.data.manifest import Manifest
from vavl.data.partition import Partition, drawn_speakers, speaker_groups
from vavl.errors import InputError, all_problems


def partition_by_speakers(
    manifest: Manifest,
    name: str,
    *,
    development: Iterable[str],
    test: Iterable[str],
    train: Iterable[str] | None = None,
) -> Partition:
    """Puts the clips of named speakers into the splits.

    Args:
        manifest: The corpus, or a part of it: names of speakers who are not in it are passed over.
        name: Of the partition.
        development: Speakers for every choice.
        test: Speakers that nothing is chosen or fitted on.
        train: Speakers that weights are fitted on; None takes all others.

    Raises:
        InputError: A speaker is in two lists, or training or test is left empty.

    Example:
        >>> from vavl.data.manifest import Utterance
        >>> clips = [Utterance(f"clip-{s}", "demo", s, audio_path=f"{s}.wav") for s in "abc"]
        >>> manifest = Manifest(clips, root=Path())
        >>> partition_by_speakers(manifest, "p", development=["b"], test=["c"]).train
        ('clip-a',)
    """
    lists = {"development": frozenset(development), "test": frozenset(test)}
    others = frozenset(manifest.speakers).difference(*lists.values())
    lists["train"] = others if train is None else frozenset(train)
    problems = [
        f"speaker {speaker!r} is in {first} and in {second}"
        for first, second in combinations(lists, 2)
        for speaker in sorted(lists[first] & lists[second])
    ]
    if problems:
        raise InputError(all_problems(f"partition {name!r}", problems))
    ids = {
        split: tuple(u.utterance_id for u in manifest if u.speaker in speakers)
        for split, speakers in lists.items()
    }
    partition = Partition(name, **ids)
    partition.check(manifest)
    return partition


def drawn_partition(
    manifest: Manifest,
    name: str,
    *,
    seed: int,
    development_share: float,
    test_share: float,
    balance_by: str | None = None,
) -> Partition:
    """Draws development and test speakers.

    The draw depends on nothing else than the seed, the name and the speakers.

    Args:
        manifest: The corpus.
        name: Of the partition.
        seed: Draws the speakers.
        development_share: Share of all speakers, more than 0; at least one speaker.
        test_share: Likewise.
        balance_by: A metadata field, the same in all utterances of a speaker, whose values occur in
            each split in proportion (e.g. ``"sex"``).

    Raises:
        InputError: The shares make no sense, leave nobody for training, or the field is not known
            for every speaker.
    """
    speakers = len(manifest.speakers)
    counts = [max(1, round(share * speakers)) for share in (development_share, test_share)]
    if min(development_share, test_share) <= 0 or sum(counts) >= speakers:
        raise InputError(
            f"development_share, test_share: expected shares above 0 that leave some of {speakers} "
            f"speakers for training, got {development_share:g} and {test_share:g}"
        )
    groups = speaker_groups(manifest, balance_by)
    test = drawn_speakers(groups, counts[1], seed, name, "test")
    others = {group: [s for s in members if s not in test] for group, members in groups.items()}
    development = drawn_speakers(others, counts[0], seed, name, "development")
    return partition_by_speakers(manifest, name, development=development, test=test)


def save_partitions(partitions: Iterable[Partition], folder: Path) -> None:
    """Writes each partition as ``FOLDER/NAME.json``, for ``data.partition_files``."""
    for partition in partitions:
        partition.save(Path(folder) / f"{partition.name}.json")
