"""Who is in which split: speaker-independent partitions of a manifest."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal

from vavl.data.manifest import Manifest
from vavl.errors import InputError, StoreError, all_problems
from vavl.system.atomic import read_json, write_json

SCHEMA_VERSION = 1
"""Raised whenever a partition written before can no longer be read the same way."""

Split = Literal["train", "development", "test"]
SPLITS: tuple[Split, ...] = ("train", "development", "test")
"""The splits in the order used everywhere."""


@dataclass(frozen=True)
class Partition:
    """One division of a corpus; no speaker is in two splits (see :meth:`check`).

    Attributes:
        name: E.g. ``"fold-0"``.
        train: Ids of the utterances that weights and statistics are fitted on.
        development: Ids for every choice, such as the best epoch; may be empty.
        test: Ids that nothing is chosen or fitted on.
    """

    name: str
    train: tuple[str, ...]
    development: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def check(self, manifest: Manifest) -> None:
        """Raises unless this is a speaker-independent division of (a part of) the manifest.

        Raises:
            InputError: Naming every unknown or repeated id, speaker in two splits, and empty split.
        """
        problems = [f"{split} is empty" for split in ("train", "test") if not getattr(self, split)]
        first_seen: dict[str, str] = {}
        splits_of: defaultdict[str, dict[str, None]] = defaultdict(dict)  # in the order of SPLITS
        for split in SPLITS:
            for name in getattr(self, split):
                if name in first_seen:
                    problems.append(f"{name!r} is in {first_seen[name]} and again in {split}")
                elif name not in manifest.by_id:
                    problems.append(f"{name!r} in {split} is not in the manifest")
                else:
                    splits_of[manifest.by_id[name].speaker][split] = None
                first_seen.setdefault(name, split)
        problems += [
            f"speaker {speaker!r} is in {' and '.join(splits)}"
            for speaker, splits in splits_of.items()
            if len(splits) > 1
        ]
        if problems:
            raise InputError(all_problems(f"partition {self.name!r}", problems))

    def save(self, path: Path) -> None:
        """Writes the partition as JSON, atomically."""
        write_json(Path(path), SCHEMA_VERSION, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Partition:
        """Reads what :meth:`save` wrote.

        Raises:
            InputError: The file does not exist.
            StoreError: It is damaged, no partition, or of another schema version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"partition: {path} does not exist")
        content = read_json(path, SCHEMA_VERSION)
        ids: list[Any] = [content.get(split) for split in SPLITS]
        lists = all(isinstance(names, list) for names in ids)
        if not lists or not all(isinstance(i, str) for i in [content.get("name"), *chain(*ids)]):
            raise StoreError(f"{path}: expected a name and lists of ids in {', '.join(SPLITS)}")
        return cls(content["name"], *map(tuple, ids))


def given_folds(
    manifest: Manifest,
    *,
    development_share: float = 0.2,
    seed: int = 0,
    balance_by: str | None = None,
) -> list[Partition]:
    """One partition per published test fold (``Utterance.fold``), named after it: ``fold-3``.

    Args:
        manifest: Every utterance must name its fold, each speaker in one fold only.
        development_share: Share of the training-side speakers who become development speakers,
            in [0, 1); at least one if more than 0.
        seed: Chooses the development speakers. The choice depends on nothing else than the seed,
            the fold and the speakers: neither on the order of rows nor on a library's version.
        balance_by: A metadata field, the same in all utterances of a speaker, whose values occur
            among the development speakers in proportion (e.g. ``"sex"``).

    Raises:
        InputError: Naming every problem at once.
    """
    problems = [f"{u.utterance_id!r} has no fold" for u in manifest if u.fold is None]
    folds_of: defaultdict[str, set[int]] = defaultdict(set)
    for utterance in manifest:
        if utterance.fold is not None:
            folds_of[utterance.speaker].add(utterance.fold)
    problems += [
        f"speaker {speaker!r} is in folds {sorted(folds)}"
        for speaker, folds in folds_of.items()
        if len(folds) > 1
    ]
    numbers = {fold for folds in folds_of.values() for fold in folds}
    if len(numbers) < 2:
        problems.append(f"expected at least 2 folds, got {len(numbers)}")
    problems += _share_problems(development_share)
    if problems:
        raise InputError(all_problems("given folds", problems))
    groups = _speaker_groups(manifest, balance_by)
    fold_of = {speaker: min(folds) for speaker, folds in folds_of.items()}
    return _partitions(manifest, groups, fold_of, development_share, seed)


def speaker_kfold(
    manifest: Manifest,
    *,
    folds: int = 5,
    development_share: float = 0.2,
    seed: int = 0,
    balance_by: str | None = None,
) -> list[Partition]:
    """Speaker-independent cross-validation: each speaker is tested in exactly one fold.

    The folds hold equally many speakers, give or take one, and so does each group of
    ``balance_by``.

    Args:
        manifest: The corpus.
        folds: How many partitions, named ``fold-0``, ``fold-1``, ...; 2 to the number of speakers.
        development_share: As in :func:`given_folds`.
        seed: Deals the speakers to the folds and chooses the development speakers.
        balance_by: As in :func:`given_folds`; balances the folds, too.

    Raises:
        InputError: Naming every problem at once.

    Example:
        >>> from vavl.data.manifest import Utterance
        >>> clips = [Utterance(f"clip-{s}", "demo", s, audio_path=f"{s}.wav") for s in "abcdef"]
        >>> partitions = speaker_kfold(Manifest(clips, root=Path()), folds=3)
        >>> [len(part.test) for part in partitions]
        [2, 2, 2]
    """
    problems = _share_problems(development_share)
    if not 2 <= folds <= len(manifest.speakers):
        problems.append(
            f"kfold: expected 2 to {len(manifest.speakers)} (the number of speakers), got {folds}"
        )
    if problems:
        raise InputError(all_problems("speaker k-fold", problems))
    groups = _speaker_groups(manifest, balance_by)
    fold_of: dict[str, int] = {}
    # Dealt on from group to group, so that the remainders of all groups spread over the folds.
    for members in groups.values():
        for speaker in seeded_order(members, seed, "folds"):
            fold_of[speaker] = len(fold_of) % folds
    return _partitions(manifest, groups, fold_of, development_share, seed)


def _partitions(
    manifest: Manifest,
    groups: Mapping[str, Sequence[str]],
    fold_of: Mapping[str, int],
    development_share: float,
    seed: int,
) -> list[Partition]:
    """One partition for each fold, which tests the fold's speakers."""
    partitions = []
    for number in sorted(set(fold_of.values())):
        name = f"fold-{number}"
        test = frozenset(speaker for speaker, fold in fold_of.items() if fold == number)
        available = len(manifest.speakers) - len(test)
        wanted = 0
        if development_share > 0:
            if available < 2:
                raise InputError(
                    f"development_share: {name} has {available} speaker on the training side, none "
                    "can be spared for development; use fewer folds, more speakers, or "
                    "development_share=0"
                )
            wanted = min(max(1, round(development_share * available)), available - 1)
        development = _drawn(_without(groups, test), wanted, seed, name, "development")
        partitions.append(partition_by_speakers(manifest, name, development=development, test=test))
    return partitions


def _without(groups: Mapping[str, Sequence[str]], taken: frozenset[str]) -> dict[str, list[str]]:
    return {group: [s for s in members if s not in taken] for group, members in groups.items()}


def _drawn(
    groups: Mapping[str, Sequence[str]], count: int, seed: int, name: str, split: Split
) -> frozenset[str]:
    """Draws speakers for a split of the partition ``name``, from each group in proportion."""
    # Largest remainders: each group gives its share, rounded so that the sum is what is wanted.
    available = sum(len(members) for members in groups.values())
    exact = {group: count * len(members) / available for group, members in groups.items()}
    taken = {group: math.floor(quota) for group, quota in exact.items()}
    order = seeded_order(exact, seed, f"{name} remainders")
    order.sort(key=lambda group: taken[group] - exact[group])  # stable: the seed decides ties
    for group in order[: count - sum(taken.values())]:
        taken[group] += 1
    return frozenset(
        speaker
        for group, members in groups.items()
        for speaker in seeded_order(members, seed, f"{name} {split}")[: taken[group]]
    )


def _speaker_groups(manifest: Manifest, balance_by: str | None) -> dict[str, list[str]]:
    """Speakers by their value of a metadata field; all in one group without a field."""
    if balance_by is None:
        return {"": list(manifest.speakers)}
    values: defaultdict[str, set[str | None]] = defaultdict(set)
    for utterance in manifest:
        values[utterance.speaker].add(utterance.metadata.get(balance_by))
    problems = []
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for speaker in manifest.speakers:
        known = sorted(value for value in values[speaker] if value is not None)
        if len(known) != 1 or None in values[speaker]:
            got = f"got {', '.join(known)}" if known else "got none"
            missing = " and missing in places" if known and None in values[speaker] else ""
            problems.append(f"speaker {speaker!r}: expected one {balance_by!r}, {got}{missing}")
        else:
            groups[known[0]].append(speaker)
    if problems:
        available = sorted({name for utterance in manifest for name in utterance.metadata})
        subject = f"balance_by={balance_by!r} (metadata at hand: {', '.join(available) or 'none'})"
        raise InputError(all_problems(subject, problems))
    return dict(sorted(groups.items()))


def _share_problems(share: float) -> list[str]:
    valid = 0 <= share < 1
    return [] if valid else [f"development_share: expected 0 <= share < 1, got {share}"]


def seeded_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """A seeded order that stays the same whatever the platform, the library, the order given.

    Orders for different purposes have nothing in common.

    Example:
        >>> seeded_order("abcd", 0, "folds") == seeded_order("dcba", 0, "folds")
        True
    """
    return sorted(names, key=lambda name: _digest(name, seed, purpose))


def seeded_fraction(name: str, seed: int, purpose: str) -> float:
    """A number in [0, 1) that looks random and depends on the arguments alone.

    Example:
        >>> seeded_fraction("clip-1", 0, "gap") == seeded_fraction("clip-1", 0, "gap") < 1
        True
    """
    return int.from_bytes(_digest(name, seed, purpose)[:6], "big") / 2**48


def _digest(name: str, seed: int, purpose: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, purpose, name]).encode()).digest()


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
        manifest: The corpus, or a part of it; speakers who are not in it are passed over.
        name: Of the partition.
        development: Speakers.
        test: Speakers.
        train: Speakers; None takes all others.

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
        seed: Another seed, other speakers.
        development_share: Share of all speakers, more than 0; at least one speaker.
        test_share: Likewise.
        balance_by: As in :func:`given_folds`, for both splits.

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
    groups = _speaker_groups(manifest, balance_by)
    test = _drawn(groups, counts[1], seed, name, "test")
    development = _drawn(_without(groups, test), counts[0], seed, name, "development")
    return partition_by_speakers(manifest, name, development=development, test=test)
