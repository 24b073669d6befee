"""Precomputed feature arrays, for the visual or the acoustic side."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import MediaField
from vavl.errors import InputError, MediaError
from vavl.types import FeatureSpec, Modality

_MAGIC = b"\x93NUMPY"


class ArrayFeatures:
    """Reads features that were computed elsewhere, one ``.npy`` file per utterance.

    An array belongs to its utterance as a whole. Start and end times of the manifest refer to the
    sound or the picture, and do not cut it.

    Args:
        modality: ``acoustic`` or ``visual``.
        dim: Features per step (D). Default: that of the first readable file, see :meth:`sized`.
        frame_rate_hz: Steps per second, where it is known.
        content: What the arrays hold, e.g. ``"openface-2.2-au"``. It enters the key of the store,
            because nothing else distinguishes two kinds of features with the same D.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/clip.npy"
        >>> np.save(path, np.ones(35))
        >>> ArrayFeatures("visual", dim=35).extract_file(path).shape
        (1, 35)
    """

    name = "arrays"

    def __init__(
        self,
        modality: Modality | str,
        dim: int | None = None,
        frame_rate_hz: float | None = None,
        content: str = "unspecified",
    ) -> None:
        if modality not in (Modality.ACOUSTIC, Modality.VISUAL):
            raise InputError(f"modality: expected 'acoustic' or 'visual', got {modality!r}")
        if dim is not None and dim < 1:
            raise InputError(f"dim: expected at least 1, got {dim}")
        if frame_rate_hz is not None and not 0 < frame_rate_hz < float("inf"):
            raise InputError(f"frame_rate_hz: expected steps per second > 0, got {frame_rate_hz}")
        self.modality = Modality(modality)
        self.dim = dim
        self.frame_rate_hz = frame_rate_hz
        self.content = content

    @property
    def source_field(self) -> MediaField:
        """Field of the manifest that names the file to read."""
        acoustic = self.modality == Modality.ACOUSTIC
        return "acoustic_features_path" if acoustic else "visual_features_path"

    @property
    def spec(self) -> FeatureSpec:
        """What the features are; InputError while D is not known."""
        if self.dim is None:
            raise InputError("dim: not known before a file was read; give it, or use sized()")
        return FeatureSpec(
            modality=self.modality,
            extractor=self.name,
            dim=self.dim,
            frame_rate_hz=None if self.frame_rate_hz is None else float(self.frame_rate_hz),
            parameters={"content": self.content},
        )

    def sized(self, paths: Iterable[str | PathLike[str]]) -> ArrayFeatures:
        """The same extractor with D known, from the first of the files that can be read."""
        if self.dim is not None:
            return self
        reason = "there are no files"
        for number, path in enumerate(paths):
            try:
                dim = read_array(path).shape[1]
            except MediaError as error:
                reason = str(error) if number == 0 else reason
            else:
                return ArrayFeatures(self.modality, dim, self.frame_rate_hz, self.content)
        raise InputError(f"dim: no file of {self.modality} features can be read ({reason})")

    def extract_file(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,  # noqa: ARG002 - see the class: arrays are not cut
        end_s: float | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Reads one file: ``(T, D)``; see :func:`read_array`."""
        return read_array(path, self.dim)


def read_array(path: str | PathLike[str], dim: int | None = None) -> NDArray[np.float32]:
    """Reads a sequence of features from a ``.npy`` file.

    Args:
        path: File with an array (T, D), or (D,) for a single step.
        dim: The D that is expected, if any.

    Returns:
        ``(T, D)``, T and D at least 1. A row of NaN is a step without a face (or sound), which is
        masked; all other values are finite.

    Raises:
        MediaError: The file cannot be read, or holds another array than that.
    """
    path = Path(path)
    array = _load(path)
    columns = "D" if dim is None else str(dim)
    if array.ndim not in (1, 2):
        raise MediaError(f"{path}: expected an array (T, {columns}), got {array.shape}")
    if array.size == 0:
        raise MediaError(f"{path}: the array is empty: {array.shape}")
    if array.dtype.kind not in "biuf":
        raise MediaError(f"{path}: expected real numbers, got {array.dtype}")
    with np.errstate(over="ignore"):  # overflows are reported below
        features = np.atleast_2d(array).astype(np.float32)
    if dim is not None and features.shape[1] != dim:
        raise MediaError(
            f"{path}: expected {dim} features per step, got {features.shape[1]} "
            f"(shape {array.shape}); was it computed by another extractor?"
        )
    absent = np.isnan(features).all(1)
    if absent.all():
        raise MediaError(f"{path}: expected at least one known step, all {len(features)} are NaN")
    known = int(np.count_nonzero(np.isfinite(features)))
    if bad := features.size - known - int(absent.sum()) * features.shape[1]:
        raise MediaError(
            f"{path}: expected finite features, got {bad} NaN or infinite values of {array.size}; "
            "only whole steps may be NaN, where there is no face"
        )
    return features


def _load(path: Path) -> NDArray[np.generic]:
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "the file does not exist"
        raise MediaError(f"{path}: {what}")
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise MediaError(f"{path}: not a .npy file")
            file.seek(0)
            array: NDArray[np.generic] = np.load(file, allow_pickle=False)
    except MediaError:
        raise
    # numpy reads the header as Python, which names many; and one may ask for too much memory.
    except Exception as error:
        raise MediaError(f"{path}: the .npy file is damaged ({error})") from error
    return array
