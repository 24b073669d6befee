"""CREMA-D: 7,442 clips of 91 actors, rated from the voice, from the face, and from both.

Source: H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma, "CREMA-D:
Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Trans. Affective Computing 5(4), 2014;
https://github.com/CheyneyComputerScience/CREMA-D (Open Database License).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from vavl.data.corpora.table import WITHOUT_THEM, counted_problem, read_table, save_corpus
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
    """What is known of the partitions published with VAVL."""

    partitions: Mapping[str, tuple[list[str], list[str]]]
    """Name to the development and the test speakers; all others are in training."""
    labels_without_majority: Mapping[str, str]
    """Clip to its label, where the votes alone have no majority."""
    majorities_not_used: frozenset[str]
    """Clips with a majority that the published list does not hold."""


def published() -> Published:
    """The published speaker lists, and where the published labels differ from the majority rule."""
    file = resources.files("vavl.data.corpora") / "assets" / "crema_d.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return Published(
        {p["name"]: (p["development"], p["test"]) for p in content["partitions"]},
        content["labels_without_majority"],
        frozenset(content["majorities_not_used"]),
    )


def prepare_crema_d(
    root: Path,
    out: Path,
    *,
    labels: LabelRule = "published",
    seeds: Sequence[int] = (),
    allow_missing: bool = False,
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

    As far as the corpus circulates without its tables, a warning says what is done instead. Without
    the votes there is one table, whose categories are those that were acted, as the names of the
    files say; without the demographics nothing is known of the actors.

    Args:
        root: The repository as it is cloned, with AudioWAV/, VideoFlash/, processedResults/,
            SentenceFilenames.csv and VideoDemographics.csv. Without one of the media folders the
            clips lack that modality. AudioWAV/ alone is enough.
        out: Folder for the tables and `partitions/*.json`. The media stay where they lie.
        labels: What makes the category of a clip.
        seeds: Draws a further partition with 63/14/14 speakers, balanced by sex, for each of them.
        allow_missing: Do with the media that are there: a clip lacks the modality whose file is
            missing, and one without any is listed in left_out.csv.

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
    problems: list[str] = []
    clips = _read_clips(root, problems)
    people = _read_demographics(root / "VideoDemographics.csv", problems)
    votes = _read_votes(root / "processedResults" / "tabulatedVotes.csv", problems)
    if not votes and labels not in ("published", "acted"):
        problems.append(f"labels: expected acted without tabulatedVotes.csv, got {labels}")
    media = _find_media(root, clips, problems, allow_missing=allow_missing)
    strangers = [clip for clip, match in clips.items() if people and match["actor"] not in people]
    problems += counted_problem(
        strangers, len(clips), "have an actor without a row in VideoDemographics.csv"
    )
    for channel, rated in votes.items():
        unrated = [clip for clip in clips if clip not in rated]
        problems += counted_problem(
            unrated, len(clips), f"have no {channel} votes in tabulatedVotes.csv"
        )
    if problems:
        raise InputError(all_problems(f"CREMA-D in {root}", problems))

    known = published()
    manifests = {}
    for channel in CHANNELS if votes else CHANNELS[:1]:
        folder = out if channel == CHANNELS[0] else out / channel
        rule = "majority" if labels == "published" and channel != CHANNELS[0] else labels
        # Once for each folder: that costs more than all the rest of a clip.
        places = {name: stored_path(root.resolve() / _MEDIA[name][0], folder) for name in media}
        kept, left_out = [], []
        for clip, match in clips.items():
            counts = votes[channel][clip] if votes else None
            category, reason = _label(clip, match, counts, rule, known)
            paths = {
                name: f"{place}/{clip}{_MEDIA[name][1]}"
                for name, place in places.items()
                if clip in media[name]
            }
            if reason or not paths:
                left_out.append((clip, reason or "no media"))
                continue
            kept.append(
                Utterance(
                    utterance_id=clip,
                    corpus="crema_d",
                    speaker=match["actor"],
                    audio_path=paths.get("audio_path"),
                    video_path=paths.get("video_path"),
                    category=category,
                    votes=counts,
                    metadata={
                        **people.get(match["actor"], {}),
                        "acted": _CATEGORY_OF_TASK[match["task"]],
                        "intensity": _INTENSITIES[match["intensity"]],
                        "sentence": match["sentence"],
                    },
                )
            )
        if not kept:
            raise InputError(
                f"CREMA-D in {root}: no clip has media and a label by the rule {labels!r}"
            )
        manifests[channel] = manifest = Manifest(kept, root=folder)
        save_corpus(manifest, left_out, _partitions(manifest, known, seeds))
    return manifests[CHANNELS[0]]


def _read_clips(root: Path, problems: list[str]) -> dict[str, re.Match[str]]:
    """Clip to the parts of its name: those of the table, or without it those that have media."""
    path = root / "SentenceFilenames.csv"
    if not path.is_file():
        files = {
            file.stem
            for folder, suffix in _MEDIA.values()
            for file in (root / folder).glob(f"*{suffix}")
        }
        found = {name: _CLIP_NAME.fullmatch(name) for name in sorted(files)}
        known = {name: match for name, match in found.items() if match and _is_known(match)}
        if known:
            _log.warning(
                "CREMA-D: SentenceFilenames.csv is not there: the clips are the %d with media",
                len(known),
            )
            return known
    clips = {}
    for row in read_table(path, ["Filename"])[1]:
        name = row.values["Filename"]
        match = _CLIP_NAME.fullmatch(name)
        if match and _is_known(match):
            clips[name] = match
        else:
            problems.append(f"{path.name} row {row.number}: {name!r} is no name of a clip")
    return clips


def _is_known(match: re.Match[str]) -> bool:
    return match["task"] in _CATEGORY_OF_TASK and match["intensity"] in _INTENSITIES


def _read_demographics(path: Path, problems: list[str]) -> dict[str, dict[str, str]]:
    """Actor to sex (lower case, as in other corpora), age in years, race and ethnicity."""
    people: dict[str, dict[str, str]] = {}
    if not path.is_file():
        _log.warning("CREMA-D: %s is not there: nothing is known of the actors", path.name)
        return people
    for row in read_table(path, ["ActorID", *_DEMOGRAPHICS])[1]:
        known = {name: row.values[column] for column, name in _DEMOGRAPHICS.items()}
        known["sex"] = known["sex"].lower()
        if known["sex"] not in ("female", "male") or not known["age"].isdigit():
            problems.append(
                f"{path.name} row {row.number}: expected Male or Female and an age in years, got "
                f"{row.values['Sex']!r} and {row.values['Age']!r}"
            )
        people[row.values["ActorID"]] = known
    return people


def _read_votes(path: Path, problems: list[str]) -> dict[str, dict[str, Votes]]:
    """Channel to clip to category to the number of raters who chose it; empty without the table."""
    if not path.is_file():
        _log.warning(
            "CREMA-D: %s is not there: categories are what was acted, as the names of the files "
            "say, and not what raters perceived",
            path.name,
        )
        return {}
    votes: dict[str, dict[str, Votes]] = {channel: {} for channel in CHANNELS}
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
    return votes


def _find_media(
    root: Path, clips: Collection[str], problems: list[str], *, allow_missing: bool
) -> dict[str, set[str]]:
    """The clips that have a file of each kind, as far as its folder is there.

    What is missing is a problem of one line for each kind, or else a warning.
    """
    found: dict[str, set[str]] = {}
    for name, (place, suffix) in _MEDIA.items():
        if not (root / place).is_dir():
            continue
        missing, pointers = [], []
        for clip in clips:
            path = root / place / f"{clip}{suffix}"
            if not path.is_file():
                missing.append(clip)
            elif path.stat().st_size < 1024 and path.read_bytes().startswith(_LFS_POINTER):
                pointers.append(clip)
        found[name] = set(clips).difference(missing, pointers)
        lacks = counted_problem(missing, len(clips), f"have no {suffix} file in {place}")
        lacks += counted_problem(
            pointers,
            len(clips),
            f"have a placeholder of git-lfs in {place}: install git-lfs and run `git lfs pull` in "
            "the repository",
        )
        if allow_missing:
            for lack in lacks:
                _log.warning("CREMA-D: %s", lack)
        else:
            problems += [f"{lack}{WITHOUT_THEM}" for lack in lacks]
    if not found:
        problems.append(f"neither {' nor '.join(place for place, _ in _MEDIA.values())} is there")
    for name in _MEDIA.keys() - found if found else ():
        _log.warning("CREMA-D: there is no folder %s: clips lack that modality", _MEDIA[name][0])
    return found


def _label(
    clip: str, match: re.Match[str], votes: Votes | None, rule: str, known: Published
) -> tuple[str | None, str]:
    """The category by a rule; with a reason where the clip has to be left out.

    Without votes it is what was acted.
    """
    if rule == "acted" or votes is None:
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
            balance_by="sex" if all("sex" in clip.metadata for clip in manifest) else None,
        )
        for seed in seeds
    ]
