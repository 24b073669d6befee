"""The data of a study from a copy of its corpus: the utterance table and the feature stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vavl.data.corpora import prepare
from vavl.data.manifest import Manifest
from vavl.errors import InputError
from vavl.features.extract import extract, training_statistics
from vavl.features.registry import build_extractor
from vavl.studies.config import StudyConfig


def prepare_data(
    study: StudyConfig,
    root: Path,
    *,
    workers: int = 0,
    progress: bool = True,
    tell: Callable[[str], None] = print,
) -> int:
    """Makes the utterance table and all stores of a study; what is there is left as it is.

    Args:
        study: A study with ``corpus`` and ``stores``.
        root: The copy of the corpus.
        workers: Processes that extract; 0 works in this process.
        progress: Whether to show a bar on standard error.
        tell: Takes a line about each step.

    Returns:
        How many clips failed, over all stores; the reasons are in the stores' ``failures.csv``.

    Raises:
        InputError: The study does not say how its data are made, or the corpus, an extractor or
            one of its parameters does not fit.
        StoreError: A store holds features of another extractor.
    """
    if study.corpus is None:
        raise InputError(f"--root: the study {study.name} does not say how its data are made")
    table = study.corpus.out / "manifest.parquet"
    if not table.is_file():
        prepare(study.corpus.name, root=root, out=study.corpus.out, **study.corpus.options)
    manifest = Manifest.load(table)
    tell(f"{table}: {len(manifest)} utterances of {len(manifest.speakers)} speakers")
    failed = 0
    for store in study.stores:
        parameters = dict(store.parameters)
        if store.statistics_of is not None:
            parameters |= training_statistics(manifest, store.statistics_of)
        extractor = build_extractor(store.modality, store.extractor, **parameters)
        report = extract(manifest, extractor, store.out, workers=workers, progress=progress)
        failed += len(report.failed)
        tell(f"{store.out}: {report.summary()}")
    return failed
