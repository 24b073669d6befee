"""What the data of a study will take, from a few of its clips; nothing of it is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vavl.data.corpora import prepare
from vavl.data.manifest import Manifest
from vavl.data.store import FeatureStore
from vavl.errors import InputError, VavlError
from vavl.features.arrays import ArrayFeatures
from vavl.features.extract import ClipExtraction
from vavl.features.registry import build_extractor
from vavl.studies.config import StoreConfig, StudyConfig
from vavl.system.processes import Failure

PROBED = 4
"""Clips that are extracted to find out how long one takes."""


@dataclass(frozen=True)
class DataEstimate:
    """What is left to do for a feature store.

    Attributes:
        store: Where it will be.
        clips: That it will hold.
        left: Those that it does not hold yet.
        seconds: Of this process, for all that are left; NaN where it cannot be known.
        size_mb: Of their features.
        problem: Why it cannot be made; empty otherwise.
    """

    store: Path
    clips: int
    left: int
    seconds: float = float("nan")
    size_mb: float = float("nan")
    problem: str = ""


def probe_data(study: StudyConfig, root: Path) -> Iterator[DataEstimate]:
    """One estimate for each feature store of a study; what is there is not extracted again.

    The utterance table, where it is not there yet, is made in a temporary folder.

    Args:
        study: One with ``corpus`` and ``stores``.
        root: The copy of the corpus.

    Raises:
        InputError: The study does not say how its data are made, or the corpus does not fit.
    """
    if study.corpus is None:
        raise InputError(f"--root: the study {study.name} does not say how its data are made")
    with ExitStack() as stack:
        table = study.corpus.out / "manifest.parquet"
        if table.is_file():
            manifest = Manifest.load(table)
        else:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            manifest = prepare(study.corpus.name, root=root, out=folder, **study.corpus.options)
        for store in study.stores:
            yield _estimate(store, manifest)


def _estimate(store: StoreConfig, manifest: Manifest) -> DataEstimate:
    try:
        parameters = dict(store.parameters)
        if store.statistics_of is not None:  # other numbers, and the same time
            parameters |= {"corpus_mean": 0.0, "corpus_std": 1.0}
        extractor = build_extractor(store.modality, store.extractor, **parameters)
        clips = [c for c in manifest if getattr(c, extractor.source_field) is not None]
        held = set(FeatureStore.open(store.out).ids) if store.out.is_dir() else set()
        todo = [clip for clip in clips if clip.utterance_id not in held]
        if not todo:
            return DataEstimate(store.out, len(clips), 0, 0.0, 0.0)
        if isinstance(extractor, ArrayFeatures):
            paths = (manifest.root / getattr(clip, extractor.source_field) for clip in todo)
            extractor = extractor.sized(paths)
        job = ClipExtraction(extractor, manifest.root)
        chosen = todo[:: -(-len(todo) // PROBED)]
        list(job.run(chosen[:1]))  # reads the weights
        started = time.perf_counter()
        found = [features for _, features in job.run(chosen)]
        each_s = (time.perf_counter() - started) / len(chosen)
    except VavlError as error:
        return DataEstimate(store.out, len(manifest), len(manifest), problem=str(error))
    made = [features.nbytes for features in found if not isinstance(features, Failure)]
    if not made:
        [*_, why] = (features for features in found if isinstance(features, Failure))
        return DataEstimate(
            store.out, len(clips), len(todo), problem=f"no clip could be read: {why}"
        )
    size_mb = sum(made) / len(made) * len(todo) / 1e6
    return DataEstimate(store.out, len(clips), len(todo), each_s * len(todo), size_mb)
