"""The clips of a batch job, and the job that extracts one; shared by all engines."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import Manifest
from vavl.data.shards import as_half
from vavl.errors import InputError
from vavl.features.registry import Extractor


class ClipTask(NamedTuple):
    """The file of one utterance, and the part of it to read."""

    utterance_id: str
    path: Path
    start_s: float | None
    end_s: float | None


class ClipExtraction:
    """Extracts the features of one clip after another; a :class:`vavl.system.processes.Job`.

    Attributes:
        extractor: Makes the features.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor

    def load(self) -> None:
        """Loads the weights, if there are any."""
        load = getattr(self.extractor, "load", None)
        if load is not None:
            load()

    def __call__(self, task: ClipTask) -> NDArray[np.float16]:
        """Features ``(T, D)`` of a clip, as they go into a store."""
        features = self.extractor.extract_file(task.path, task.start_s, task.end_s)
        return as_half(task.utterance_id, features, self.extractor.spec.dim)


def clip_tasks(manifest: Manifest, extractor: Extractor) -> list[ClipTask]:
    """The clips that have the medium of the extractor, in the order of their ids.

    Raises:
        InputError: There is none.
    """
    tasks = []
    for utterance in sorted(manifest, key=lambda utterance: utterance.utterance_id):
        path = manifest.path(utterance, extractor.source_field)
        if path is not None:
            tasks.append(ClipTask(utterance.utterance_id, path, utterance.start_s, utterance.end_s))
    if not tasks:
        raise InputError(
            f"manifest: none of the {len(manifest)} utterances has {extractor.source_field}, "
            "which this extractor reads"
        )
    return tasks
