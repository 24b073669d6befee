"""What becomes of a run's folder when it is trained again, otherwise, or anew."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import TinyCorpus

from vavl.cli import run
from vavl.data.manifest import Manifest
from vavl.errors import EXIT_OK, InputError, StoreError
from vavl.evaluation.evaluate import run_config
from vavl.system.locks import alone
from vavl.training.experiment import train_experiment


def changed_data(corpus: TinyCorpus, folder: Path) -> TinyCorpus:
    """The same corpus with one clip of another category."""
    first, *others = corpus.manifest
    changed = replace(first, category="sad" if first.category != "sad" else "happy", votes=None)
    manifest = Manifest([changed, *others], root=corpus.manifest.root)
    manifest.save(folder / "manifest.parquet")
    shutil.copytree(corpus.folder / "stores", folder / "stores")
    return TinyCorpus(manifest, folder)


def test_a_run_without_a_finished_epoch_is_no_run(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path, training__learning_rate=1e30)
    with np.errstate(all="ignore"), pytest.raises(InputError, match="lower the learning rate"):
        train_experiment(config, only=["fold-0"])
    assert (config.run_dir / "fold-0" / "partition.json").is_file()
    (config.run_dir / "notes.txt").write_text("mine")
    corrected = changed_data(tiny_corpus, tmp_path / "corpus").experiment(
        tmp_path, training__epochs=1
    )
    [fold] = train_experiment(corrected, only=["fold-1"])
    assert fold.finished
    assert run_config(fold.path) == corrected
    assert not (config.run_dir / "fold-0").exists()
    assert (config.run_dir / "notes.txt").read_text() == "mine"


def test_overwriting_removes_what_the_run_has_written_and_nothing_else(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    train_experiment(config, only=["fold-0", "fold-1"])
    assert run(["evaluate", str(config.run_dir), "--replicates", "20"]) == EXIT_OK
    mine = [
        config.run_dir / name
        for name in ("notes.txt", "fold-0/mine.json", "evaluation/slides.md", "other/config.json")
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    other = tiny_corpus.experiment(tmp_path, training__epochs=1, training__seed=7)
    [fold] = train_experiment(other, only=["fold-2"], overwrite=True)
    assert run_config(fold.path) == other
    left = {path for path in config.run_dir.rglob("*") if path.is_file()}
    ours = {path for path in left if path.parent == fold.path or path.parent.name == "tensorboard"}
    named = {config.run_dir / name for name in ("config.toml", "provenance.json", ".lock")}
    assert left - ours - named == set(mine)


def test_nobody_overwrites_a_fold_that_is_trained(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    [fold] = train_experiment(config, only=["fold-0"])
    before = (fold.path / "model.safetensors").read_bytes()
    with alone(fold.path, ""), pytest.raises(StoreError, match="another process trains"):
        train_experiment(config, overwrite=True)
    assert (fold.path / "model.safetensors").read_bytes() == before
    with (
        alone(config.run_dir / "fold-1", ""),
        pytest.raises(StoreError, match="another process trains"),
    ):
        train_experiment(config, only=["fold-1"])


def test_processes_that_torchrun_starts_again_go_on(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    train_experiment(config, only=["fold-0"])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    finished: list[bool] = []
    train_experiment(
        config, only=["fold-0"], overwrite=True, on_fold=lambda fold, done: finished.append(done)
    )
    assert finished == [True]
