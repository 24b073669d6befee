"""MSP-IMPROV: improvised dialogues of twelve actors in six sessions.

Source: C. Busso, S. Parthasarathy, A. Burmania, M. AbdelWahab, N. Sadoughi, E. Mower Provost,
"MSP-IMPROV: An Acted Corpus of Dyadic Interactions to Study Emotion Perception", IEEE Trans.
Affective Computing 8(1), 2017. Lent by the University of Texas at Dallas under a licence.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from vavl.data.corpora.table import save_corpus
from vavl.data.manifest import Manifest, Utterance, stored_path
from vavl.data.partition import Partition, partition_by_speakers
from vavl.errors import InputError, all_problems
from vavl.metrics.scales import Scale

_log = logging.getLogger(__name__)

SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        # The label file calls it activation, and 1 is very active: this turns it round, once. The
        # tables published with VAVL (EmoAct) are turned round already: see the docs.
        "arousal": Scale(1, 5, reversed=True),
        "valence": Scale(1, 5),
        "dominance": Scale(1, 5),
    }
)
"""The raters' scales. ``SCALES["arousal"].from_unit`` gives the corpus's activation back."""

_LABEL_FILES = ("Evalution.txt", "Evaluation.txt")  # spelled like the first in the release
_ATTRIBUTE_LETTERS = {"arousal": "A", "valence": "V", "dominance": "D"}
_CATEGORY_OF_LETTER = {
    "A": "angry",
    "H": "happy",
    "N": "neutral",
    "O": "other",
    "S": "sad",
    "X": None,  # the raters do not agree
}
_CATEGORIES = tuple(name for name in _CATEGORY_OF_LETTER.values() if name)
_CLIP_NAME = re.compile(
    r"(?:UTD|MSP)-IMPROV-(?P<key>S(?P<sentence>\d\d)(?P<task>[AHNS])-(?P<sex>[FM])(?P<session>\d\d)"
    r"-(?P<scenario>[PRST])-[FM]{2}\d+)"
)
_SCENARIOS = {
    "P": "natural",  # between the takes
    "R": "target-read",
    "S": "other-improvised",
    "T": "target-improvised",
}
_MEDIA = {"audio_path": ".wav", "video_path": ".avi"}


@dataclass
class _Clip:
    """What the label file says about a clip."""

    name: re.Match[str]
    category: str | None
    means: dict[str, float]
    votes: dict[str, str] = field(default_factory=dict)
    """Rater to category."""


def prepare_msp_improv(root: Path, out: Path) -> Manifest:
    """MSP-IMPROV: arousal, valence, dominance and categories of turns in dialogues.

    The label file gives means on a scale from 1 to 5, here brought to [0, 1]; activation, for which
    1 is very active, is turned round into arousal. Partitions leave one session out, all six; the
    session before it is for development, as in the five partitions published with VAVL.

    Args:
        root: The corpus as it is distributed: Evalution.txt, and folders of sessions with .wav and
            .avi files.
        out: Folder for manifest.parquet, partitions/session-1.json to session-6.json, and
            left_out.csv. The media stay where they lie.

    Returns:
        The manifest, with the raters' votes, and sex, session, scenario, sentence, target emotion
        and perceived naturalness as metadata.

    Raises:
        InputError: Naming every problem of the label file and of the files at once.

    Example:
        >>> prepare_msp_improv(Path("MSP-IMPROV"), Path("data/msp_improv"))  # doctest: +SKIP
        Manifest(8438 utterances, 12 speakers, ...)
    """
    root, out = Path(root), Path(out)
    clips, problems = _read_labels(_label_file(root))
    media, media_problems = _media(root)
    problems += media_problems
    if problems:
        raise InputError(all_problems(f"MSP-IMPROV in {root}", problems))
    kept, left_out = [], []
    for key, clip in clips.items():
        if not clip.means and clip.category is None and not clip.votes:
            left_out.append((f"MSP-IMPROV-{key}", "no labels"))
        elif key not in media:
            left_out.append((f"MSP-IMPROV-{key}", "no media"))
        else:
            paths = {name: stored_path(path, out) for name, path in media[key].items()}
            kept.append(_utterance(key, clip, paths))
    if not kept:
        raise InputError(f"MSP-IMPROV in {root}: none of the {len(clips)} labelled clips has media")
    if left_out:
        _log.warning("MSP-IMPROV: %d clips are left out; see left_out.csv", len(left_out))
    manifest = Manifest(kept, root=out)
    save_corpus(manifest, left_out, leave_one_session_out(manifest))
    return manifest


def leave_one_session_out(manifest: Manifest) -> list[Partition]:
    """One partition per session: it is tested, the one before it is for development.

    The first session is preceded by the last. With all six sessions, five of these partitions are
    those published with VAVL; the one that tests session 4 is not among them.

    Args:
        manifest: Utterances with the metadata ``session``.

    Returns:
        Partitions ``session-1``, ...; none with fewer than three sessions.
    """
    speakers: dict[str, set[str]] = {}
    for utterance in manifest:
        speakers.setdefault(utterance.metadata["session"], set()).add(utterance.speaker)
    sessions = sorted(speakers, key=int)
    if len(sessions) < 3:
        _log.warning("MSP-IMPROV: too few sessions are there for partitions: %s", sessions)
        return []
    return [
        partition_by_speakers(
            manifest,
            f"session-{session}",
            development=speakers[sessions[position - 1]],
            test=speakers[session],
        )
        for position, session in enumerate(sessions)
    ]


def _label_file(root: Path) -> Path:
    for name in _LABEL_FILES:
        if (root / name).is_file():
            return root / name
    raise InputError(f"MSP-IMPROV: {root / _LABEL_FILES[0]} does not exist")


def _read_labels(path: Path) -> tuple[dict[str, _Clip], list[str]]:
    """Key of a clip (its name without the prefix) to its labels, and what is wrong with the file.

    A line for the clip, a line for each rater, an empty line::

        UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:3.2; V:3.0; D:2.8 ; N:3.5;
        rater-7; Neutral; Neutral; A:3.0; V:3.0; D:3.0; N:4.0;
    """
    # What raters wrote themselves may be in any encoding; it is not used.
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    clips: dict[str, _Clip] = {}
    unknown = Counter[str]()
    problems: list[str] = []
    current: _Clip | None = None  # also where the line of the clip is at fault
    after_a_clip = False
    for number, line in enumerate(lines, start=1):
        where = f"{path.name} line {number}"
        fields = [part.strip() for part in line.split(";")]
        if not any(fields):
            continue
        if fields[0].endswith(".avi"):
            current = _clip(fields, where, problems)
            if current and clips.setdefault(current.name["key"], current) is not current:
                problems.append(f"{where}: {fields[0]!r} occurs twice")
            after_a_clip = True
        elif not after_a_clip or len(fields) < 2:
            problems.append(f"{where}: expected the labels of a clip or of a rater, got {line!r}")
        elif current is not None:
            word = fields[1].lower()
            unknown[word] += word not in _CATEGORIES
            # Some raters of a clip are listed twice; nobody has two votes.
            current.votes[fields[0]] = word if word in _CATEGORIES else "other"
    if +unknown:
        _log.warning("MSP-IMPROV: raters' words that count as 'other': %s", dict(+unknown))
    if not clips and not problems:
        problems.append(f"{path.name}: no clips in it")
    return clips, problems


def _clip(fields: list[str], where: str, problems: list[str]) -> _Clip | None:
    name = _CLIP_NAME.fullmatch(fields[0].removesuffix(".avi"))
    if name is None:
        problems.append(f"{where}: {fields[0]!r} is no name of a clip")
        return None
    if len(fields) < 2 or fields[1] not in _CATEGORY_OF_LETTER:
        known = ", ".join(_CATEGORY_OF_LETTER)
        problems.append(f"{where}: expected one of {known} after the name of the clip")
        return None
    means = {}
    for letter, value in _numbers(fields[2:], where, problems):
        if not 1 <= value <= 5:
            problems.append(f"{where}: {letter}: expected 1 to 5, got {value:g}")
        else:
            means[letter] = value
    return _Clip(name, _CATEGORY_OF_LETTER[fields[1]], means)


def _numbers(fields: list[str], where: str, problems: list[str]) -> Iterator[tuple[str, float]]:
    """The letters and values of ``A:3.2``, ``V:NaN``, ...; without those that are not known."""
    for text in filter(None, fields):
        letter, _, value = text.partition(":")
        try:
            number = float(value)
        except ValueError:
            problems.append(f"{where}: expected a letter and a number like A:3.2, got {text!r}")
            continue
        if not math.isnan(number):
            yield letter, number


def _media(root: Path) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Key of a clip to its files by column of the manifest, wherever they lie below the root."""
    found: dict[str, dict[str, Path]] = {}
    problems = []
    for column, suffix in _MEDIA.items():
        for path in sorted(root.rglob(f"*{suffix}")):
            name = _CLIP_NAME.fullmatch(path.stem)
            if name is None:
                continue  # e.g. whole dialogues
            first = found.setdefault(name["key"], {}).setdefault(column, path)
            if first != path:
                problems.append(f"{path} and {first} are the same clip; remove one")
    return found, problems


def _utterance(key: str, clip: _Clip, paths: Mapping[str, str]) -> Utterance:
    name, counts = clip.name, Counter(clip.votes.values())
    session = int(name["session"])
    metadata = {
        "sex": {"F": "female", "M": "male"}[name["sex"]],
        "session": str(session),
        "scenario": _SCENARIOS[name["scenario"]],
        "sentence": name["sentence"],
        "target": str(_CATEGORY_OF_LETTER[name["task"]]),
    }
    if "N" in clip.means:
        metadata["naturalness"] = f"{clip.means['N']:g}"
    attributes = {
        attribute: SCALES[attribute].to_unit(clip.means[letter])
        for attribute, letter in _ATTRIBUTE_LETTERS.items()
        if letter in clip.means
    }
    return Utterance(
        utterance_id=f"MSP-IMPROV-{key}",
        corpus="msp_improv",
        speaker=f"{name['sex']}{name['session']}",
        audio_path=paths.get("audio_path"),
        video_path=paths.get("video_path"),
        category=clip.category,
        votes={category: float(counts[category]) for category in _CATEGORIES} if counts else None,
        attributes=attributes or None,
        fold=session,
        metadata=metadata,
    )
