"""The way of a batch: which files of the package one step of the optimizer visits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from tiny import TinyCorpus

import vavl
from vavl.data.dataset import read_ahead
from vavl.training.experiment import begin, make_datasets
from vavl.training.loop import prepare, train_epoch
from vavl.training.run_folder import FoldDirectory
from vavl.training.setup import make_fabric
from vavl.types import Batch

PACKAGE = Path(vavl.__file__).parent


class Way:
    """Notes the files of the package whose code runs, in the order in which they are entered."""

    def __init__(self) -> None:
        self.files: dict[str, None] = {}

    def __enter__(self) -> Way:
        threading.setprofile(self._enter)  # of threads that begin from now on: one reads ahead
        sys.setprofile(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _enter(self, frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            self.files[str(file.relative_to(PACKAGE))] = None


@pytest.mark.parametrize("schedule", ["joint", "alternating"])
def test_a_batch_visits_few_files_from_the_store_to_the_step(
    tiny_corpus: TinyCorpus, tmp_path: Path, schedule: str
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__schedule=schedule)
    fabric = make_fabric(config.training)
    manifest, stores, [partition, *_] = begin(config)
    datasets = make_datasets(config, manifest, stores, partition)
    fold = FoldDirectory(config.run_dir / partition.name)
    training = prepare(config, manifest, partition, datasets, fold, fabric)
    places = next(iter(training.sampler))

    def one_batch() -> Iterator[Batch]:
        with read_ahead(training.train.__getitem__, [places]) as batches:
            yield from batches

    before = {name: value.clone() for name, value in training.model.named_parameters()}
    with Way() as way:
        train_epoch(
            fabric, training.objective, training.optimizer, one_batch(), 1, training.settings, 0
        )
    moved = [n for n, value in training.model.named_parameters() if not value.equal(before[n])]
    assert moved
    print("\n".join(way.files))
    assert {"data/store.py", "training/objective.py", "models/vavl.py"} <= set(way.files)
    assert len(way.files) <= 12
