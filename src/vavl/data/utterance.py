"""One clip of one speaker, and what makes a row of the utterance table unusable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal

MediaField = Literal["audio_path", "video_path", "acoustic_features_path", "visual_features_path"]
MEDIA_FIELDS: tuple[MediaField, ...] = (
    "audio_path",
    "video_path",
    "acoustic_features_path",
    "visual_features_path",
)
"""The columns that point to files."""

_LONGEST_ID = 180  # bytes; file systems allow 255, and suffixes are added
_LARGEST_FOLD = 2**31 - 1
_UNSAFE_IN_FILE_NAMES = frozenset('/\\:*?"<>|')
# Windows opens devices by these names, whatever the suffix.
_DEVICE_NAMES = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))]
)


@dataclass(frozen=True)
class Utterance:
    """One clip of one speaker. Any medium and any label may be absent.

    Nothing is checked here: :class:`Manifest` checks all its rows and reports them together.

    Attributes:
        utterance_id: Unique in its manifest, and usable as a file name.
        corpus: Name of the corpus, e.g. ``"ravdess"``.
        speaker: Who speaks; splits never divide a speaker.
        audio_path: File with a sound track (also a video file), relative to the manifest's root
            or absolute. Likewise the paths below.
        video_path: File with the pictures.
        acoustic_features_path: Precomputed acoustic features, ``.npy`` (T, D) or (D,).
        visual_features_path: Precomputed visual features, ``.npy`` (T, D) or (D,).
        start_s: Where the utterance starts in its media, in seconds; None = at the beginning.
        end_s: Where it ends, in seconds; None = at the end.
        category: The emotion, e.g. ``"happy"``.
        votes: Category to number of raters who chose it (non-negative, weights allowed).
        attributes: Attribute to value in [0, 1], e.g. ``{"arousal": 0.8}``.
        fold: Test fold this utterance belongs to in a published protocol.
        metadata: Anything else, e.g. ``{"sex": "female", "intensity": "strong"}``.
    """

    utterance_id: str
    corpus: str
    speaker: str
    audio_path: str | None = None
    video_path: str | None = None
    acoustic_features_path: str | None = None
    visual_features_path: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    category: str | None = None
    votes: Mapping[str, float] | None = field(default=None, hash=False)
    attributes: Mapping[str, float] | None = field(default=None, hash=False)
    fold: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


def utterance_problems(utterance: Utterance) -> list[str]:
    """Says all that is wrong with one row by itself; an empty list means it is sound.

    Example:
        >>> utterance_problems(Utterance("a/b", "demo", "s1", audio_path="a.wav", start_s=-1.0))
        ["utterance_id: '/' cannot stand in a file name", 'start_s: expected >= 0, got -1.0']
    """
    for name in ("votes", "attributes", "metadata"):
        value = getattr(utterance, name)
        if not isinstance(value, Mapping) and (value is not None or name == "metadata"):
            # What follows would trip over it.
            return [f"{name}: expected a mapping, got {value!r}"]
    return [
        *_id_problems(utterance.utterance_id),
        *_text_problems("corpus", utterance.corpus),
        *_text_problems("speaker", utterance.speaker),
        *_media_problems(utterance),
        *_time_problems(utterance),
        *_label_problems(utterance),
        *_metadata_problems(utterance.metadata),
    ]


def _text_problems(name: str, value: object) -> list[str]:
    if not isinstance(value, str):
        return [f"{name}: expected text, got {value!r}"]
    if not value.strip():
        return [f"{name}: is empty"]
    try:
        value.encode()
    except UnicodeEncodeError:
        return [f"{name}: {value!r} is not valid Unicode"]
    return []


def _id_problems(value: object) -> list[str]:
    problems = _text_problems("utterance_id", value)
    if problems or not isinstance(value, str):
        return problems
    unsafe = sorted(c for c in set(value) if c in _UNSAFE_IN_FILE_NAMES or not c.isprintable())
    if unsafe:
        problems.append(f"utterance_id: {', '.join(map(repr, unsafe))} cannot stand in a file name")
    if value != value.strip() or value.endswith(".") or value.startswith("."):
        problems.append(
            f"utterance_id: {value!r} must not begin or end with a space, or with a dot"
        )
    if value.split(".")[0].upper() in _DEVICE_NAMES:
        problems.append(f"utterance_id: {value!r} is a device name on Windows")
    if len(value.encode()) > _LONGEST_ID:
        problems.append(f"utterance_id: longer than {_LONGEST_ID} bytes")
    return problems


def _media_problems(utterance: Utterance) -> list[str]:
    problems = []
    given = {name: getattr(utterance, name) for name in MEDIA_FIELDS}
    for name, value in given.items():
        if value is None:
            continue
        text_problems = _text_problems(name, value)
        if not text_problems and "\0" in value:
            text_problems = [f"{name}: {value!r} holds a null character"]
        problems += text_problems
    if all(value is None for value in given.values()):
        problems.append(f"no media at all; give at least one of {', '.join(MEDIA_FIELDS)}")
    return problems


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _number_problems(name: str, value: object, at_most: float = math.inf) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, Real) or not _is_finite(value):
        return [f"{name}: expected a finite number, got {value!r}"]
    if not 0 <= float(value) <= at_most:
        wanted = ">= 0" if at_most == math.inf else f"0 to {at_most:g}"
        return [f"{name}: expected {wanted}, got {value!r}"]
    return []


def _time_problems(utterance: Utterance) -> list[str]:
    start, end = utterance.start_s, utterance.end_s
    problems = [] if start is None else _number_problems("start_s", start)
    problems += [] if end is None else _number_problems("end_s", end)
    if not problems and end is not None and end <= (start or 0.0):
        problems.append(f"end_s: expected more than start_s ({start or 0.0}), got {end}")
    return problems


def _label_problems(utterance: Utterance) -> list[str]:
    problems = []
    category, votes, fold = utterance.category, utterance.votes, utterance.fold
    if category is not None:
        problems += _text_problems("category", category)
    if votes is not None:
        bad_votes = [
            problem
            for name, count in votes.items()
            for problem in (
                *_text_problems("votes", name),
                *_number_problems(f"votes:{name}", count),
            )
        ]
        problems += bad_votes
        if not bad_votes and sum(votes.values()) <= 0:
            problems.append("votes: nobody voted; leave the votes out")
        if category is not None and category not in votes:
            problems.append(
                f"category: {category!r} is not among the votes ({', '.join(map(str, votes))}); "
                "give every category a count, if only 0"
            )
    for name, value in (utterance.attributes or {}).items():
        problems += _text_problems("attributes", name)
        problems += _number_problems(f"attribute {name}", value, at_most=1)
    if fold is not None and (
        isinstance(fold, bool) or not isinstance(fold, Integral) or not 0 <= fold <= _LARGEST_FOLD
    ):
        problems.append(f"fold: expected an integer >= 0, got {fold!r}")
    return problems


def _metadata_problems(metadata: Mapping[str, str]) -> list[str]:
    problems = []
    for name, value in metadata.items():
        problems += _text_problems("metadata", name)
        if not isinstance(value, str):
            problems.append(f"metadata {name}: expected text, got {value!r}")
        else:
            problems += [] if not value.strip() else _text_problems(f"metadata {name}", value)
    return problems
