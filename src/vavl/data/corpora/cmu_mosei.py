"""CMU-MOSEI: sentences of YouTube monologues, rated for sentiment and six emotions.

Source: A. Zadeh, P. P. Liang, S. Poria, E. Cambria, L.-P. Morency, "Multimodal Language Analysis in
the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph", ACL 2018;
https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK.
"""

from __future__ import annotations

import ast
import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.table import save_corpus
from vavl.data.manifest import Manifest, Utterance, most_chosen, stored_path
from vavl.data.partition import partition_by_speakers
from vavl.errors import InputError, MediaError, all_problems
from vavl.metrics.attributes import SENTIMENT, Scale
from vavl.system.atomic import atomic_write
from vavl.system.extras import extra
from vavl.system.progress import with_progress

_LARGEST_BYTES = 4 * 2**30
"""Of one array in memory: a compressed file of a few kilobytes can claim to hold terabytes."""


class VideoFeatures(NamedTuple):
    """What is stored for one video."""

    features: NDArray[np.floating[Any]]
    """``(T, D)`` float32 or float64, as stored; may hold NaN and infinite values."""
    intervals: NDArray[np.float64]
    """``(T, 2)`` start and end of each step in seconds."""

    def between(self, start_s: float, end_s: float) -> NDArray[np.floating[Any]]:
        """``(t, D)``: the steps whose middle lies in [start_s, end_s)."""
        middle = self.intervals.mean(axis=1)
        return self.features[(middle >= start_s) & (middle < end_s)]


class ComputationalSequence:
    """An open ``.csd`` file; a context manager.

    Raises:
        InputError: The file does not exist, or h5py is not installed.
        MediaError: It is no computational sequence.

    Example:
        >>> with ComputationalSequence(Path("CMU_MOSEI_COVAREP.csd")) as csd:  # doctest: +SKIP
        ...     csd.read(next(iter(csd))).features.shape
        (11240, 74)
    """

    def __init__(self, path: Path) -> None:
        with extra("mosei", "computational sequences"):
            import h5py

        self._h5py = h5py
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"computational sequence: {self.path} does not exist")
        with self._readable(), ExitStack() as stack:
            file = stack.enter_context(h5py.File(self.path, "r"))
            names = list(file)
            if len(names) != 1:
                raise MediaError(f"{self.path}: expected one root, got {names or 'none'}")
            self._root = self._child(file, names[0], h5py.Group)
            self._data = self._child(self._root, "data", h5py.Group)
            self._videos = frozenset(self._data)
            self._opened = stack.pop_all()  # only now: closed where anything was wrong

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __iter__(self) -> Iterator[str]:
        """The videos, sorted."""
        return iter(sorted(self._videos))

    def __contains__(self, video: str) -> bool:
        return video in self._videos

    def dimension_names(self) -> list[str]:
        """What the columns of the features are called.

        Raises:
            MediaError: The metadata do not say, or not as a list of names.
        """
        with self._readable():
            metadata = self._child(self._root, "metadata", self._h5py.Group)
            stored = self._dataset(metadata, "dimension names")
            if self._h5py.check_string_dtype(stored.dtype) is None or stored.shape != (1,):
                raise MediaError(f"{self.path}: dimension names: expected one text")
            names = json.loads(stored.asstr()[0])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise MediaError(f"{self.path}: dimension names: expected a list of names")
        return names

    def read(self, video: str) -> VideoFeatures:
        """What is stored for a video.

        Raises:
            MediaError: It is not there, damaged, or not two arrays of numbers that fit each other.
        """
        if video not in self:
            raise MediaError(f"{self.path}: no video {video!r}")
        with self._readable():
            group = self._child(self._data, video, self._h5py.Group)
            features = self._numbers(group, "features")
            intervals = self._numbers(group, "intervals").astype(np.float64)
        if (
            features.ndim != 2
            or intervals.shape != (len(features), 2)
            or not np.isfinite(intervals).all()
        ):
            raise MediaError(
                f"{self.path}: {video}: expected features (T, D) and finite intervals (T, 2), got "
                f"{features.shape} and {intervals.shape}"
            )
        return VideoFeatures(features, intervals)

    def _numbers(self, group: Any, name: str) -> NDArray[Any]:
        stored = self._dataset(group, name)
        if stored.dtype.kind not in "fiu":
            raise MediaError(f"{self.path}: {stored.name}: expected numbers, got {stored.dtype}")
        if stored.size * stored.dtype.itemsize > _LARGEST_BYTES:
            raise MediaError(f"{self.path}: {stored.name}: too large: {stored.shape}")
        array: NDArray[Any] = stored[()]
        return array if array.dtype.kind == "f" else array.astype(np.float64)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """What HDF5 raises about a damaged file becomes a MediaError that names it."""
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise MediaError(f"{self.path}: not an HDF5 file, or damaged ({error})") from error

    def _dataset(self, group: Any, name: str) -> Any:
        stored = self._child(group, name, self._h5py.Dataset)
        if stored.is_virtual or stored.external:
            raise MediaError(f"{self.path}: {stored.name}: its data lie in another file")
        return stored

    def _child(self, group: Any, name: str, kind: type) -> Any:
        """A member of a group that lies in this very file."""
        where = f"{self.path}: {group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if link is None:
            raise MediaError(f"{where}: not there; is this a computational sequence?")
        if not isinstance(link, self._h5py.HardLink):
            raise MediaError(f"{where}: a link that leads elsewhere")
        child = group[name]
        if not isinstance(child, kind):
            raise MediaError(f"{where}: expected a {kind.__name__.lower()}")
        return child


_log = logging.getLogger(__name__)

PRESENCE = Scale(0, 3)
"""How much of an emotion there is, from none to a lot."""

_LABELS = "CMU_MOSEI_Labels.csd"
_FOLDS = "cmu_mosei_std_folds.py"
_DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
_CATEGORY_OF_DIMENSION = {name: name for name in _DIMENSIONS[1:]} | {"anger": "angry"}
_ATTRIBUTE_OF_DIMENSION = {"sentiment": "sentiment"} | {
    name: f"{category}_presence" for name, category in _CATEGORY_OF_DIMENSION.items()
}
_SPLIT_OF_LIST = {
    "standard_train_fold": "train",
    "standard_valid_fold": "development",
    "standard_test_fold": "test",
}
_VIDEO_NAME = re.compile(r"[A-Za-z0-9_-]+")
_RAW = {
    "audio_path": "Raw/Audio/Full/WAV_16000/{}.wav",
    "video_path": "Raw/Videos/Full/Combined/{}.mp4",
}


@dataclass(frozen=True)
class _Segment:
    """A rated sentence."""

    video: str
    number: int
    start_s: float
    end_s: float
    labels: dict[str, float]  # dimension to value on the raters' scale, where it is known

    @property
    def name(self) -> str:
        return f"{self.video}_{self.number}"


def prepare_cmu_mosei(
    root: Path,
    out: Path,
    *,
    acoustic: str = "CMU_MOSEI_COVAREP.csd",
    visual: str = "CMU_MOSEI_VisualFacet42.csd",
    progress: bool = False,
) -> Manifest:
    """CMU-MOSEI: sentiment and six emotions of sentences, with the features of the CMU SDK.

    Attributes are `sentiment`, and `happy_presence`, `sad_presence`, ... for the six emotions, all
    brought to [0, 1]. The category is the emotion that is there the most, where one is. The
    features of each sentence are cut out of the computational sequences and written as arrays, for
    the extractor `arrays`. Nobody published who speaks: the video stands for the speaker.

    Args:
        root: Folder with CMU_MOSEI_Labels.csd, cmu_mosei_std_folds.py and the sequences named
            below, in it or in its folders; and, where you have them, the media in Raw/.
        out: Folder for manifest.parquet, partitions/standard.json, left_out.csv and the arrays.
        acoustic: File of the acoustic sequence.
        visual: File of the visual sequence.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The manifest.

    Raises:
        InputError: Files are missing, or what the labels or folds say makes no sense.
        MediaError: A sequence is damaged, or holds anything but numbers.

    Example:
        >>> prepare_cmu_mosei(Path("mosei"), Path("data/cmu_mosei"))  # doctest: +SKIP
        Manifest(...)
    """
    root, out = Path(root), Path(out)
    folds = _read_folds(_required(root, _FOLDS))
    with ComputationalSequence(_required(root, _LABELS)) as labels:
        segments = _read_segments(labels)
    streams = {}
    for column, name in (("acoustic_features_path", acoustic), ("visual_features_path", visual)):
        path = _found(root, name)
        if path is None:
            _log.warning("CMU-MOSEI: there is no %s in %s: clips lack these features", name, root)
        else:
            streams[column] = path
    kept, left_out = [], []
    for segment, features in _features(segments, streams, out, progress=progress):
        media = {
            column: stored_path(path, out)
            for column, place in _RAW.items()
            if (path := root / place.format(segment.video)).is_file()
        }
        if segment.end_s <= segment.start_s:
            left_out.append((segment.name, "no duration"))
        elif not features and not media:
            left_out.append((segment.name, "no features and no media"))
        else:
            kept.append(_utterance(segment, {**features, **media}))
    if not kept:
        raise InputError(
            f"CMU-MOSEI in {root}: none of the {len(segments)} sentences has features in "
            f"{acoustic} or {visual}, or media in Raw/"
        )
    if left_out:
        _log.warning("CMU-MOSEI: %d sentences are left out; see left_out.csv", len(left_out))
    manifest = Manifest(kept, root=out)
    partition = partition_by_speakers(manifest, "standard", **folds)
    save_corpus(manifest, left_out, [partition])
    return manifest


def _found(root: Path, name: str) -> Path | None:
    """The file in the folder or, as on the server, in a folder of it."""
    return next((path for path in (root / name, *root.glob(f"*/{name}")) if path.is_file()), None)


def _required(root: Path, name: str) -> Path:
    path = _found(root, name)
    if path is None:
        raise InputError(
            f"CMU-MOSEI: {root / name} does not exist; see docs/corpora/cmu_mosei.md for the source"
        )
    return path


def _read_folds(path: Path) -> dict[str, list[str]]:
    """Split to its videos, from the lists in the SDK's source; which is parsed, and never run."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lists = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: expected lists of videos ({error})") from error
    problems = [
        f"{name}: expected a list of videos"
        for name in _SPLIT_OF_LIST
        if not isinstance(lists.get(name), list)
        or not all(isinstance(video, str) for video in lists[name])
    ]
    if problems:
        raise InputError(all_problems(f"folds {path}", problems))
    return {split: lists[name] for name, split in _SPLIT_OF_LIST.items()}


def _read_segments(labels: ComputationalSequence) -> list[_Segment]:
    names = labels.dimension_names()
    if tuple(names) != _DIMENSIONS:
        raise InputError(f"{labels.path}: expected dimensions {_DIMENSIONS}, got {names}")
    segments, problems = [], []
    for video in labels:
        if not _VIDEO_NAME.fullmatch(video):
            problems.append(f"{video!r} is no name of a video")
            continue
        stored = labels.read(video)
        if stored.features.shape[1] != len(_DIMENSIONS):
            problems.append(f"{video}: expected {len(_DIMENSIONS)} labels a sentence")
            continue
        for number, (row, (start_s, end_s)) in enumerate(
            zip(stored.features.tolist(), stored.intervals.tolist(), strict=True)
        ):
            values = {
                name: value
                for name, value in zip(_DIMENSIONS, row, strict=True)
                if not math.isnan(value)
            }
            problems += [
                f"{video} sentence {number}: {name}: expected {scale.low:g} to {scale.high:g}, "
                f"got {value:g}"
                for name, value in values.items()
                if value not in (scale := _scale(name))
            ]
            segments.append(_Segment(video, number, max(0.0, start_s), end_s, values))
    if problems:
        raise InputError(all_problems(f"{labels.path}", problems))
    return segments


def _scale(dimension: str) -> Scale:
    return SENTIMENT if dimension == "sentiment" else PRESENCE


def _features(
    segments: Sequence[_Segment], streams: dict[str, Path], out: Path, *, progress: bool
) -> Iterator[tuple[_Segment, dict[str, str]]]:
    """Writes the arrays of each segment; yields it with them, by column of the manifest."""
    by_video: dict[str, list[_Segment]] = {}
    for segment in segments:
        by_video.setdefault(segment.video, []).append(segment)
    replaced = 0
    with ExitStack() as stack:
        opened = {
            column: stack.enter_context(ComputationalSequence(path))
            for column, path in streams.items()
        }
        videos = with_progress(by_video.items(), len(by_video), what="cutting", progress=progress)
        for video, mine in videos:
            there = {column: csd.read(video) for column, csd in opened.items() if video in csd}
            for segment in mine:
                written = {}
                for column, stored in there.items():
                    rows, odd = _finite_steps(stored.between(segment.start_s, segment.end_s))
                    if np.isfinite(rows).any():
                        path = f"{column.removesuffix('_path')}/{segment.name}.npy"
                        with atomic_write(out / path) as temporary:
                            np.save(temporary, rows)
                        written[column] = path
                        replaced += odd
                yield segment, written
    if replaced:
        _log.warning("CMU-MOSEI: %d single values that were not finite became 0", replaced)


def _finite_steps(rows: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], int]:
    """Features ``(T, D)`` without infinite values: COVAREP takes logarithms of silence.

    A step without any finite value is a row of NaN, to be masked. Other values that are not finite
    become 0; also returns how many these were.
    """
    known = np.isfinite(rows)
    absent = ~known.any(axis=1, keepdims=True)  # (T, 1)
    cleaned = np.where(known, rows, np.where(absent, np.nan, 0.0)).astype(np.float32)
    return cleaned, int((~known & ~absent).sum())


def _utterance(segment: _Segment, paths: dict[str, Any]) -> Utterance:
    values = segment.labels
    strength = {c: values[d] for d, c in _CATEGORY_OF_DIMENSION.items() if d in values}
    strongest = most_chosen(strength)
    attributes = {
        _ATTRIBUTE_OF_DIMENSION[name]: _scale(name).to_unit(value) for name, value in values.items()
    }
    return Utterance(
        utterance_id=segment.name,
        corpus="cmu_mosei",
        speaker=segment.video,
        start_s=segment.start_s,
        end_s=segment.end_s,
        category=strongest[0] if len(strongest) == 1 else None,
        votes=strength if strongest else None,
        attributes=attributes or None,
        **paths,
    )
