"""One more model, on all speakers, for as long as the folds say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import Killed, TinyCorpus, kill_in_the_second_epoch

import vavl
from vavl.data.partition import Partition
from vavl.errors import InputError
from vavl.training.experiment import train_experiment
from vavl.training.run_folder import FoldDirectory, folds_of_run


def choose(fold: FoldDirectory, epoch: int) -> None:
    """Has the fold say that it kept the weights of another epoch."""
    content = json.loads(fold.summary_file.read_text())
    fold.summary_file.write_text(json.dumps(content | {"best_epoch": epoch}))


def test_the_final_model_is_of_all_speakers_and_of_the_median_epoch(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=4, training__patience=1)
    with pytest.raises(InputError, match="not yet finished: fold-0, fold-1, fold-2"):
        train_experiment(config, final=True)
    folds = train_experiment(config)
    for fold, epoch in zip(folds, (4, 1, 3), strict=True):
        choose(fold, epoch)
    with pytest.raises(InputError, match="expected neither folds nor overwrite"):
        train_experiment(config, final=True, only=["fold-0"])
    with monkeypatch.context() as patch:
        kill_in_the_second_epoch(patch)
        with pytest.raises(Killed):
            train_experiment(config, final=True)
    told: list[int] = []
    [final] = train_experiment(
        config, final=True, on_fold=lambda *_: lambda record, epochs: told.append(epochs)
    )
    assert told == [3, 3]  # the first was done before the kill
    assert len(final.history()) == final.best_epoch == 3
    partition = Partition.load(final.partition_file)
    assert set(partition.train) == set(tiny_corpus.manifest.by_id)
    assert not partition.development
    assert not partition.test
    assert [fold.path.name for fold in folds_of_run(config.run_dir)] == [f.path.name for f in folds]
    ours, theirs = vavl.load(config.run_dir), vavl.load(final.path)
    assert ours.model.state_dict().keys() == theirs.model.state_dict().keys()


def test_a_partition_cannot_bear_the_name_of_the_final_model(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    first, *others = tiny_corpus.manifest.by_id.values()
    test = tuple(u.utterance_id for u in others if u.speaker != first.speaker)
    path = tmp_path / "partition.json"
    Partition("final", (first.utterance_id,), (), test).save(path)
    config = tiny_corpus.experiment(
        tmp_path, data__partition="file", data__partition_files=[str(path)]
    )
    with pytest.raises(InputError, match="none of them 'final'"):
        train_experiment(config)
