"""Which files belong to one clip."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from vavl.errors import InputError, MediaError, all_problems
from vavl.inference.turns import TURN_SUFFIXES
from vavl.media.files import AUDIO_SUFFIXES, PICTURE_SUFFIXES, VIDEO_SUFFIXES
from vavl.types import STREAMS

MEDIA_SUFFIXES = AUDIO_SUFFIXES | VIDEO_SUFFIXES
"""Endings of the files that are taken from a folder. A file that is named may have any ending."""

_FEATURES_SUFFIX = ".npy"
_ADDRESS = re.compile(r"[a-z]+:/", re.IGNORECASE)  # a path has lost one slash of two
_ADDRESSES = "; addresses are not read: download it first"


@dataclass(frozen=True)
class ClipFiles:
    """The files of one clip.

    Attributes:
        name: What the clip is called.
        media: Sound or video file, or None.
        acoustic: ``.npy`` of acoustic features, or None.
        visual: ``.npy`` of visual features, or None.

    Example:
        >>> ClipFiles("talk", media=Path("talk.mp4")).media.suffix
        '.mp4'
    """

    name: str
    media: Path | None = None
    acoustic: Path | None = None
    visual: Path | None = None


def group_files(files: Iterable[Path]) -> list[ClipFiles]:
    """Puts files together that belong to one clip.

    ``NAME.visual.npy`` and ``NAME.acoustic.npy`` hold features of the clip NAME; together with a
    sound file ``NAME.wav`` (or any other ending) of the same folder they are one clip. Several
    media of one name, e.g. a video and its sound track, are clips of their own, called by the
    whole name of the file; clips of one name in several folders are called by their paths. A file
    that is given twice counts once.

    Raises:
        InputError: A ``.npy`` file whose name does not say which modality it holds, or two files
            for the same part of a clip.

    Example:
        >>> [clip] = group_files([Path("talk.wav"), Path("talk.visual.npy")])
        >>> clip.name, clip.visual.name
        ('talk', 'talk.visual.npy')
    """
    paths = list(dict.fromkeys(files))
    media = Counter(_clip(path) for path in paths if not _holds_features(path))
    clips: dict[Path, dict[str, Path]] = {}
    for path in paths:
        clip, part = _clip(path), "media"
        if _holds_features(path):
            part = Path(path.stem).suffix.lstrip(".")
            if part not in STREAMS:
                raise InputError(
                    f"{path}: expected NAME.acoustic.npy or NAME.visual.npy, so that the name says "
                    "what the array holds"
                )
            if media[clip] > 1:
                raise InputError(
                    f"{path}: expected one sound or video file of clip {clip.name!r}, to which it "
                    f"belongs, got {media[clip]}"
                )
        elif media[clip] > 1:
            clip = path
        parts = clips.setdefault(clip, {})
        if part in parts or {part, *parts} >= {"media", "acoustic"}:
            raise InputError(
                f"{path}: expected one source per modality of clip {clip.name!r}, got also "
                f"{next(iter(parts.values()))}"
            )
        parts[part] = path
    names = Counter(clip.name for clip in clips)
    return [
        ClipFiles(name=clip.name if names[clip.name] == 1 else str(clip), **parts)
        for clip, parts in clips.items()
    ]


def _holds_features(path: Path) -> bool:
    return path.suffix.lower() == _FEATURES_SUFFIX


def _clip(path: Path) -> Path:
    """What files of one clip have in common; a folder of frames is a clip of its own."""
    if _holds_features(path):
        return path.with_name(Path(path.stem).stem)
    return path if path.is_dir() else path.with_suffix("")


def distinct_stems(paths: Iterable[str]) -> Iterator[str]:
    """A name for what is made of each clip; of several clips of one name the later have a number.

    Example:
        >>> list(distinct_stems(["a/talk.mp4", "b/Talk.wav", "c.mp4"]))
        ['talk', 'Talk-2', 'c']
    """
    taken: set[str] = set()
    for path in paths:
        stem = name = Path(path).stem
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        yield name


def turns_file(source: Path, clip: ClipFiles) -> Path:
    """The file with the turns of a clip: ``source`` itself, or the one of its name in that folder.

    Raises:
        MediaError: The folder has none for the clip.
        InputError: It has several.

    Example:
        >>> turns_file(Path("talk.rttm"), ClipFiles("talk")).name
        'talk.rttm'
    """
    if not source.is_dir():
        return source
    name = Path(clip.name).name if clip.media is None else clip.media.stem
    paths = [path for suffix in TURN_SUFFIXES if (path := source / (name + suffix)).is_file()]
    if not paths:
        raise MediaError(
            f"{source}: no {name}.* in this folder; expected {', '.join(TURN_SUFFIXES)}"
        )
    if len(paths) > 1:
        raise InputError(
            f"{source}: expected one file for clip {name!r}, got "
            f"{' and '.join(path.name for path in paths)}"
        )
    return paths[0]


def find_files(paths: Iterable[Path], *, frames: bool = False) -> list[Path]:
    """The clips among files and folders; folders are searched with all their subfolders.

    In a folder with other media, pictures are passed over. In one without, each picture is a clip,
    unless the pictures are the frames of a film: their names count up (``take-1.png``,
    ``take-2.png``), or ``frames`` says so. Then the folder that they lie in is a clip.

    Args:
        paths: Files and folders.
        frames: Whether folders of pictures are films, whatever their names.

    Raises:
        MediaError: A path that is not there, or a folder with nothing in it that could be
            predicted.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("talk.mp4", "notes.txt", "portrait.jpg"):
        ...     (folder / name).touch()
        >>> [path.name for path in find_files([folder])]
        ['talk.mp4']
    """
    named = list(paths)
    missing = [
        f"{path} does not exist{_ADDRESSES if _ADDRESS.match(str(path)) else ''}"
        for path in named
        if not path.exists()
    ]
    if missing:
        raise MediaError(missing[0] if len(missing) == 1 else all_problems("clips", missing))
    found: list[Path] = []
    for path in named:
        if not path.is_dir():
            found.append(path)
            continue
        inside = _below(path, MEDIA_SUFFIXES)
        if inside or not (pictures := _below(path, PICTURE_SUFFIXES)):
            inside = _below(path, MEDIA_SUFFIXES | {_FEATURES_SUFFIX})
        else:
            inside = list(_films_and_pictures(pictures, frames))
        if not inside:
            raise MediaError(
                f"{path}: no media in this folder; expected files that end in "
                f"{', '.join(sorted(MEDIA_SUFFIXES | PICTURE_SUFFIXES))}"
            )
        found += inside
    return found


def _below(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files below a folder, but no hidden ones, which other programs and killed ones leave."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def _films_and_pictures(pictures: Sequence[Path], frames: bool) -> Iterator[Path]:
    """Folders of pictures that are the frames of a film, and other pictures."""
    for folder, inside in groupby(pictures, key=lambda picture: picture.parent):
        listed = list(inside)
        if frames or _count_up([picture.stem for picture in listed]):
            yield folder
        else:
            yield from listed


def _count_up(names: Sequence[str]) -> bool:
    """Whether names differ in one number alone, which grows by the same step."""
    parts = [re.split(r"([0-9]+)", name) for name in names]
    if len(names) < 2 or len({len(part) for part in parts}) > 1:
        return False
    varying = [place for place, texts in enumerate(zip(*parts, strict=True)) if len({*texts}) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return False
    numbers = sorted(int(part[varying[0]]) for part in parts)
    return len({after - before for before, after in pairwise(numbers)}) == 1
