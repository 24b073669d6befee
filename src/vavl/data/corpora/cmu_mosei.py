"""CMU-MOSEI: sentences of YouTube monologues, rated for sentiment and six emotions.

Source: A. Zadeh, P. P. Liang, S. Poria, E. Cambria, L.-P. Morency, "Multimodal Language Analysis in
the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph", ACL 2018;
https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK.
"""

from __future__ import annotations

import ast
import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.computational_sequence import ComputationalSequence
from vavl.data.corpora.table import save_corpus
from vavl.data.manifest import Manifest, Utterance, most_chosen, stored_path
from vavl.data.partition import partition_by_speakers
from vavl.errors import InputError, all_problems
from vavl.metrics.scales import SENTIMENT, Scale
from vavl.system.atomic import atomic_write

_log = logging.getLogger(__name__)

PRESENCE = Scale(0, 3)
"""How much of an emotion there is, from none to a lot."""

_LABELS = "CMU_MOSEI_Labels.csd"
_FOLDS = "cmu_mosei_std_folds.py"
_DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
_CATEGORY_OF_DIMENSION = {name: name for name in _DIMENSIONS[1:]} | {"anger": "angry"}
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
    labels: dict[str, float]
    """Dimension to value, on the raters' scale; without those that are not known."""

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
            f"CMU-MOSEI: {root / name} does not exist; docs/corpora/cmu_mosei.md tells "
            "where to get it"
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
    from rich.console import Console
    from rich.progress import track

    by_video: dict[str, list[_Segment]] = {}
    for segment in segments:
        by_video.setdefault(segment.video, []).append(segment)
    replaced = 0
    with ExitStack() as stack:
        opened = {
            column: stack.enter_context(ComputationalSequence(path))
            for column, path in streams.items()
        }
        videos = track(
            by_video.items(), "cutting", console=Console(stderr=True), disable=not progress
        )
        for video, mine in videos:
            there = {column: csd.read(video) for column, csd in opened.items() if video in csd}
            for segment in mine:
                written = {}
                for column, stored in there.items():
                    rows, odd = finite_steps(stored.between(segment.start_s, segment.end_s))
                    if np.isfinite(rows).any():
                        path = f"{column.removesuffix('_path')}/{segment.name}.npy"
                        with atomic_write(out / path) as temporary:
                            np.save(temporary, rows)
                        written[column] = path
                        replaced += odd
                yield segment, written
    if replaced:
        _log.warning("CMU-MOSEI: %d single values that were not finite became 0", replaced)


def finite_steps(rows: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], int]:
    """Features without infinite values: COVAREP takes logarithms of silence.

    Args:
        rows: ``(T, D)``.

    Returns:
        ``(T, D)``: a step without any finite value is a row of NaN, to be masked; other values that
        are not finite are 0. And how many these were.

    Example:
        >>> rows, replaced = finite_steps(np.array([[1.0, -np.inf], [np.nan, np.nan]]))
        >>> rows.tolist(), replaced
        ([[1.0, 0.0], [nan, nan]], 1)
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
        name if name == "sentiment" else f"{_CATEGORY_OF_DIMENSION[name]}_presence": _scale(
            name
        ).to_unit(value)
        for name, value in values.items()
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
