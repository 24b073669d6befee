"""CREMA-D: 7,442 clips of 91 actors, rated from the voice, from the face, and from both.

Source: H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma, "CREMA-D:
Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Trans. Affective Computing 5(4), 2014;
https://github.com/CheyneyComputerScience/CREMA-D (Open Database License).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from vavl.data.corpora.table import read_table, save_corpus
from vavl.data.manifest import Manifest, Utterance, most_chosen, stored_path
from vavl.data.partition import Partition, drawn_partition, partition_by_speakers
from vavl.errors import InputError, all_problems

_log = logging.getLogger(__name__)

LabelRule = Literal["published", "majority", "plurality", "acted", "soft"]
"""How the votes, or the actor's task, become the category of a clip."""

CHANNELS = ("audiovisual", "voice", "face")
"""What raters were given; the first is what the corpus is commonly scored by."""

_CHANNEL_OF_DIGIT = {"1": "voice", "2": "face", "3": "audiovisual"}
_CATEGORIES = ("angry", "disgust", "fear", "happy", "neutral", "sad")
_CATEGORY_OF_LETTER = {category[0].upper(): category for category in _CATEGORIES}
_CATEGORY_OF_TASK = {category[:3].upper(): category for category in _CATEGORIES}
_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
_CLIP_NAME = re.compile(
    r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<task>[A-Z]{3})_(?P<intensity>[A-Z]{2})"
)
_DEMOGRAPHICS = {"Age": "age", "Sex": "sex", "Race": "race", "Ethnicity": "ethnicity"}
_MEDIA = {"audio_path": ("AudioWAV", ".wav"), "video_path": ("VideoFlash", ".flv")}
_LFS_POINTER = b"version https://git-lfs"
_HELD_OUT_SHARE = 14 / 91
"""Share of the speakers that are in development, and in test, in the published partitions."""

Votes = dict[str, float]


@dataclass(frozen=True)
class Published:
    """What is known of the partitions published with VAVL.

    Attributes:
        partitions: Name to the development and the test speakers; all others are in training.
        labels_without_majority: Clip to its label, where the votes alone have no majority.
        majorities_not_used: Clips with a majority that the published list does not hold.
    """

    partitions: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    labels_without_majority: Mapping[str, str]
    majorities_not_used: frozenset[str]


def published() -> Published:
    """The published speaker lists, and where the published labels differ from the majority rule.

    Example:
        >>> [(len(dev), len(test)) for dev, test in published().partitions.values()]
        [(14, 14), (14, 14), (14, 14), (14, 14), (14, 14)]
    """
    file = resources.files("vavl.data.corpora") / "assets" / "crema_d.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return Published(
        {p["name"]: (tuple(p["development"]), tuple(p["test"])) for p in content["partitions"]},
        content["labels_without_majority"],
        frozenset(content["majorities_not_used"]),
    )


def prepare_crema_d(
    root: Path, out: Path, *, labels: LabelRule = "published", seeds: Sequence[int] = ()
) -> Manifest:
    """CREMA-D: categories and votes of raters who heard, saw, or heard and saw each clip.

    There is a table for each channel. OUT/manifest.parquet has the votes of raters who heard and
    saw the clips; OUT/voice/manifest.parquet and OUT/face/manifest.parquet have those of raters who
    only heard or only saw them, for models that learn what one channel alone conveys. The ids are
    the same, so that a feature store extracted from one table serves all.

    A clip without a label by the rule is listed in left_out.csv instead. Rules: `published` is the
    majority with the differences of the list published with VAVL (5,820 clips; see the docs), and
    the majority for voice and face; `majority`: more than half of the raters; `plurality`: more
    raters than any other category; `acted`: what the actor was asked for; `soft`: no category, the
    distribution of the votes is the target (`data.category_targets = "votes"`).

    Args:
        root: The repository as it is cloned, with AudioWAV/, VideoFlash/, processedResults/,
            SentenceFilenames.csv and VideoDemographics.csv. Without one of the media folders the
            clips lack that modality.
        out: Folder for the tables and partitions/*.json. The media stay where they lie.
        labels: What makes the category of a clip.
        seeds: Draws a further partition with 63/14/14 speakers, balanced by sex, for each of them.

    Returns:
        The audio-visual manifest, with sex, age, race, ethnicity, sentence, intensity and the
        emotion that was acted as metadata.

    Raises:
        InputError: Naming every problem of the tables and every missing file at once.

    Example:
        >>> prepare_crema_d(Path("CREMA-D"), Path("data/crema_d"))  # doctest: +SKIP
        Manifest(5820 utterances, 91 speakers, ...)
    """
    root, out = Path(root), Path(out)
    if labels not in get_args(LabelRule):
        raise InputError(
            f"labels: expected one of {', '.join(get_args(LabelRule))}, got {labels!r}"
        )
    clips, clip_problems = _read_clips(root / "SentenceFilenames.csv")
    people, people_problems = _read_demographics(root / "VideoDemographics.csv")
    votes, vote_problems = _read_votes(root / "processedResults" / "tabulatedVotes.csv")
    folders, media_problems = _media(root, clips)
    problems = [*clip_problems, *people_problems, *vote_problems, *media_problems]
    problems += [
        f"{clip!r}: no row for actor {match['actor']} in VideoDemographics.csv"
        for clip, match in clips.items()
        if match["actor"] not in people
    ]
    problems += [
        f"{clip!r}: no {channel} votes in tabulatedVotes.csv"
        for channel in CHANNELS
        for clip in clips
        if clip not in votes[channel]
    ]
    if problems:
        raise InputError(all_problems(f"CREMA-D in {root}", problems))

    known = published()
    manifests = {}
    for channel in CHANNELS:
        folder = out if channel == CHANNELS[0] else out / channel
        rule = "majority" if labels == "published" and channel != CHANNELS[0] else labels
        kept, left_out = [], []
        for clip, match in clips.items():
            counts = votes[channel][clip]
            category, reason = _label(clip, match, counts, rule, known)
            if reason:
                left_out.append((clip, reason))
                continue
            media = {
                name: stored_path(root / subfolder / f"{clip}{suffix}", folder)
                for name, (subfolder, suffix) in folders.items()
            }
            kept.append(_utterance(clip, match, people[match["actor"]], category, counts, media))
        if not kept:
            raise InputError(f"CREMA-D in {root}: no clip has a label by the rule {labels!r}")
        manifests[channel] = manifest = Manifest(kept, root=folder)
        save_corpus(manifest, left_out, _partitions(manifest, known, seeds))
    return manifests[CHANNELS[0]]


def _read_clips(path: Path) -> tuple[dict[str, re.Match[str]], list[str]]:
    """Clip to the parts of its name."""
    clips, problems = {}, []
    for row in read_table(path, ["Filename"])[1]:
        name = row.values["Filename"]
        match = _CLIP_NAME.fullmatch(name)
        if not match or match["task"] not in _CATEGORY_OF_TASK:
            problems.append(f"{path.name} row {row.number}: {name!r} is no name of a clip")
        elif match["intensity"] not in _INTENSITIES:
            problems.append(f"{path.name} row {row.number}: {name!r}: unknown intensity")
        else:
            clips[name] = match
    return clips, problems


def _read_demographics(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Actor to sex (lower case, as in other corpora), age in years, race and ethnicity."""
    people, problems = {}, []
    for row in read_table(path, ["ActorID", *_DEMOGRAPHICS])[1]:
        known = {name: row.values[column] for column, name in _DEMOGRAPHICS.items()}
        known["sex"] = known["sex"].lower()
        if known["sex"] not in ("female", "male") or not known["age"].isdigit():
            problems.append(
                f"{path.name} row {row.number}: expected Male or Female and an age in years, got "
                f"{row.values['Sex']!r} and {row.values['Age']!r}"
            )
        people[row.values["ActorID"]] = known
    return people, problems


def _read_votes(path: Path) -> tuple[dict[str, dict[str, Votes]], list[str]]:
    """Channel to clip to category to the number of raters who chose it."""
    votes: dict[str, dict[str, Votes]] = {channel: {} for channel in CHANNELS}
    problems = []
    # The first column has no name: a digit for the channel, then the number of the clip.
    for row in read_table(path, ["", "fileName", *_CATEGORY_OF_LETTER])[1]:
        where = f"{path.name} row {row.number} ({row.values['fileName']!r})"
        channel = _CHANNEL_OF_DIGIT.get(row.values[""][:1])
        counts = [row.values[letter] for letter in _CATEGORY_OF_LETTER]
        if channel is None:
            problems.append(f"{where}: expected a number 1xxxxx to 3xxxxx, got {row.values['']!r}")
        elif not all(count.isascii() and count.isdigit() for count in counts):
            problems.append(f"{where}: expected numbers of votes, got {', '.join(counts)}")
        elif not any(map(int, counts)):
            problems.append(f"{where}: nobody voted")
        else:
            numbers = map(float, counts)
            votes[channel][row.values["fileName"]] = dict(zip(_CATEGORIES, numbers, strict=True))
    return votes, problems


def _media(root: Path, clips: Iterable[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """The media folders that are there, and what is wrong with the files in them."""
    folders = {name: place for name, place in _MEDIA.items() if (root / place[0]).is_dir()}
    if not folders:
        return {}, [f"neither {' nor '.join(place for place, _ in _MEDIA.values())} is there"]
    for name in sorted(set(_MEDIA) - set(folders)):
        _log.warning("CREMA-D: there is no folder %s: clips lack that modality", _MEDIA[name][0])
    problems, pointers = [], []
    for folder, suffix in folders.values():
        for clip in clips:
            path = root / folder / f"{clip}{suffix}"
            if not path.is_file():
                problems.append(f"{path} does not exist")
            elif path.stat().st_size < 1024 and path.read_bytes().startswith(_LFS_POINTER):
                pointers.append(path)
    if pointers:
        problems.append(
            f"{len(pointers)} media files are placeholders of git-lfs (first: {pointers[0]}); "
            "install git-lfs and run `git lfs pull` in the repository"
        )
    return folders, problems


def _label(
    clip: str, match: re.Match[str], votes: Votes, rule: str, known: Published
) -> tuple[str | None, str]:
    """The category by a rule; with a reason where the clip has to be left out."""
    if rule == "acted":
        return _CATEGORY_OF_TASK[match["task"]], ""
    if rule == "soft":
        return None, ""
    if rule == "published":
        if clip in known.majorities_not_used:
            return None, "a majority, but not in the published list"
        if clip in known.labels_without_majority:
            return known.labels_without_majority[clip], ""
    first, *others = most_chosen(votes)
    if rule == "plurality":
        return (None, "a tie") if others else (first, "")
    return (first, "") if 2 * votes[first] > sum(votes.values()) else (None, "no majority")


def _utterance(
    clip: str,
    match: re.Match[str],
    person: Mapping[str, str],
    category: str | None,
    votes: Votes,
    media: Mapping[str, str],
) -> Utterance:
    return Utterance(
        utterance_id=clip,
        corpus="crema_d",
        speaker=match["actor"],
        audio_path=media.get("audio_path"),
        video_path=media.get("video_path"),
        category=category,
        votes=votes,
        metadata={
            **person,
            "acted": _CATEGORY_OF_TASK[match["task"]],
            "intensity": _INTENSITIES[match["intensity"]],
            "sentence": match["sentence"],
        },
    )


def _partitions(manifest: Manifest, known: Published, seeds: Sequence[int]) -> list[Partition]:
    """The published partitions, as far as the corpus is complete, and further ones by seed."""
    found = []
    for name, (development, test) in known.partitions.items():
        speakers = set(manifest.speakers)
        if speakers.isdisjoint(test) or speakers <= {*development, *test}:
            _log.warning("CREMA-D: too few speakers are there for the partition %s", name)
            continue
        found.append(partition_by_speakers(manifest, name, development=development, test=test))
    return found + [
        drawn_partition(
            manifest,
            f"seed-{seed}",
            seed=seed,
            development_share=_HELD_OUT_SHARE,
            test_share=_HELD_OUT_SHARE,
            balance_by="sex",
        )
        for seed in seeds
    ]
