"""Computational sequences (``.csd``): the files in which the CMU Multimodal SDK keeps features.

They are HDF5 files, read here without the SDK.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError

_LARGEST_BYTES = 4 * 2**30
"""Of one array in memory: a compressed file of a few kilobytes can claim to hold terabytes."""


class VideoFeatures(NamedTuple):
    """What is stored for one video.

    Attributes:
        features: ``(T, D)`` float32 or float64, as stored; may hold NaN and infinite values.
        intervals: ``(T, 2)`` start and end of each step in seconds.
    """

    features: NDArray[np.floating[Any]]
    intervals: NDArray[np.float64]

    def between(self, start_s: float, end_s: float) -> NDArray[np.floating[Any]]:
        """``(t, D)``: the steps whose middle lies in [start_s, end_s)."""
        middle = self.intervals.mean(axis=1)
        return self.features[(middle >= start_s) & (middle < end_s)]


class ComputationalSequence:
    """An open ``.csd`` file; a context manager.

    Args:
        path: The file.

    Raises:
        InputError: The file does not exist, or h5py is not installed.
        MediaError: It is no computational sequence.

    Example:
        >>> with ComputationalSequence(Path("CMU_MOSEI_COVAREP.csd")) as csd:  # doctest: +SKIP
        ...     csd.read(next(iter(csd))).features.shape
        (11240, 74)
    """

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError as error:
            raise InputError(
                "h5py is needed to read computational sequences: pip install 'vavl[mosei]'"
            ) from error
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

    def __len__(self) -> int:
        return len(self._videos)

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
