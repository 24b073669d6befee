"""Training by Ray Train: what one process does, also when one of several is lost."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import pytest
import torch
from curves import CHANCE, NO_DROPOUT, UNPAIRED, assert_same_bits, assert_same_curves, fold_of
from rank_jobs import train
from tiny import TinyCorpus

from vavl.cli import run as run_command
from vavl.config.experiment import ExperimentConfig, TrainingConfig, to_toml
from vavl.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, VavlError
from vavl.system.locks import LOCK_FILE
from vavl.training import ray as ray_engine
from vavl.training.experiment import train_experiment
from vavl.training.ray import train_on_ray
from vavl.training.run_folder import FoldDirectory


@pytest.fixture(autouse=True)
def _frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray sees the end of a process within a moment, instead of every two seconds."""
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")


def command(config: ExperimentConfig, workers: int) -> list[str]:
    file = config.runs_dir / "experiment.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_toml(config))
    options = ["--engine", "ray", "--workers", str(workers), "--folds", "fold-0"]
    return ["train", str(file), *options]


def test_an_error_of_a_process_is_that_of_the_command_and_nothing_of_ray_stays(
    tiny_corpus: TinyCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ray = pytest.importorskip("ray", reason="needs vavl[ray]")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    interrupt = signal.getsignal(signal.SIGINT)
    config = tiny_corpus.experiment(tmp_path, training__learning_rate=1e30)
    assert run_command(command(config, 1)) == EXIT_BAD_INPUT
    shown = capfd.readouterr()
    assert "error: training.learning_rate: expected finite losses" in shown.err
    assert "Traceback" not in shown.err  # Ray's core may write lines of its own
    assert "ray" not in shown.out.lower()
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert signal.getsignal(signal.SIGINT) is interrupt
    left = {path.name for path in config.run_dir.iterdir()}
    assert left == {"config.toml", "provenance.json", "fold-0", LOCK_FILE}


@pytest.mark.usefixtures("ray_cluster")
def test_loss_curves_and_a_killed_process(
    tiny_corpus: TinyCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def experiment(folder: str, **options: object) -> ExperimentConfig:
        return tiny_corpus.experiment(tmp_path / folder, **UNPAIRED, **options)

    one, two = (experiment(name, **NO_DROPOUT) for name in ("one", "two"))
    uninterrupted, killed = (
        experiment(name, training__epochs=3, **CHANCE) for name in ("uninterrupted", "killed")
    )
    # Starting processes takes seconds: those that lose one train the others, too.
    monkeypatch.setattr(ray_engine, "_work", lambda job: train([two, uninterrupted], job["config"]))
    assert run_command(command(killed, 2)) == EXIT_OK
    # Which process Ray misses first, the killed one or the other, is a matter of time.
    [told] = [record.message for record in caplog.records if record.name.startswith("vavl")]
    assert told.endswith("restart 1 of 3")
    shown = capsys.readouterr().out
    assert "epoch 3 of 3" in shown
    assert "Next: vavl evaluate" in shown
    assert_same_bits(uninterrupted, killed)
    train_experiment(one, only=["fold-0"])
    assert_same_curves(one, two)
    files = {path.name for path in fold_of(one).path.iterdir()}
    assert {path.name for path in fold_of(killed).path.iterdir()} == files


@pytest.mark.usefixtures("ray_cluster")
def test_more_than_there_is_room_for_is_refused(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path)
    for workers in (0, 3):
        with pytest.raises(InputError, match=rf"at least 1.*room for \(2, .*got {workers}"):
            train_on_ray(config, workers=workers)
    for options in ({"training__threads": 3}, {"training__device": "cuda"}):
        with pytest.raises(InputError, match=r"room for \(0, "):
            train_on_ray(tiny_corpus.experiment(tmp_path, **options), workers=1)
    assert not config.run_dir.exists()


def machines(*cpus: int, **others: int) -> list[dict[str, float]]:
    return [{"CPU": count, "memory": 1e9, **others} for count in cpus]


@pytest.mark.parametrize(
    ("found", "workers", "strategy"),
    [
        (machines(8), 8, "STRICT_PACK"),
        (machines(2, 8, 2), 7, "STRICT_PACK"),
        (machines(8, 8), 8, "STRICT_PACK"),
        (machines(8, 8), 12, "SPREAD"),
        (machines(8, 8, 8), 24, "SPREAD"),
        (machines(64) + machines(64, 48, GPU=8), 16, "SPREAD"),
    ],
)
def test_each_machine_has_an_equal_share(
    found: list[dict[str, float]], workers: int, strategy: str
) -> None:
    assert ray_engine._placed(TrainingConfig(), workers, found)[2] == strategy


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (machines(8, 8), "at most 8, all on one machine, or a multiple of 2 up to 16"),
        (machines(6, 6, 6), "at most 6, all on one machine, or a multiple of 3 up to 18"),
        (machines(10, 2, 8), r"at most 10, all on .* equal room \(theirs is \[10, 8, 2\]"),
    ],
)
def test_numbers_without_equal_shares_are_refused(
    found: list[dict[str, float]], expected: str
) -> None:
    with pytest.raises(InputError, match=f"workers: expected {expected}.*got 13"):
        ray_engine._placed(TrainingConfig(), 13, found)


@pytest.mark.usefixtures("ray_cluster")
def test_restarts_have_an_end(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import RayActorError
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.torch import TorchTrainer

    missing = ImportError("traceback\nNo module 'vavl'")
    gloo = RuntimeError("[gloo/transport/tcp/pair.cc:534] closed by peer [127.0.0.1]:4409")
    store = torch.distributed.DistNetworkError("no answer")
    full, memory = OSError(28, "No space left"), torch.OutOfMemoryError("CUDA out of memory")
    for problem, attempts, end in (
        (WorkerGroupError("", {0: gloo, 1: RayActorError()}), 4, r"lost 1 of 2.* goes on"),
        (WorkerGroupError("", {0: gloo}), 4, r"1 of 2 processes lost the others.*\), after 3"),
        (WorkerGroupError("", {0: ConnectionResetError(), 1: store}), 4, r"2 of 2.*, after 3"),
        (WorkerGroupError("Traceback of 1", {0: gloo, 1: full}), 1, r"process 1 of 2.*No space"),
        (WorkerGroupError("Traceback of 0", {0: memory}), 1, r"(?s)CUDA out of.*Traceback of 0"),
        (WorkerGroupError("", {0: InputError("model: x"), 1: gloo}), 1, r"^model: x$"),
        (ControllerError(missing), 1, r"cannot run 2 processes \(No module 'vavl'\)\. They"),
        (RayActorError(), 1, r"cannot run 2 processes.*goes on"),
    ):
        fit = Mock(side_effect=problem)
        monkeypatch.setattr(TorchTrainer, "fit", fit)
        with pytest.raises(VavlError, match=end):
            train_on_ray(tiny_corpus.experiment(tmp_path), workers=2)
        assert fit.call_count == attempts


@pytest.mark.usefixtures("ray_cluster")
def test_ctrl_c_is_an_interrupt_and_its_handler_stays(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.train.torch import TorchTrainer

    def fit(_: TorchTrainer) -> None:  # as Ray ends it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(0)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(TorchTrainer, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        train_on_ray(tiny_corpus.experiment(tmp_path), workers=2)
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_the_display_raises_is_raised_unless_training_fails(tmp_path: Path) -> None:
    called = Event()

    def on_fold(*_: object) -> None:
        called.set()
        raise ValueError("display")

    def train(problem: Exception | None) -> None:
        called.clear()
        with ray_engine._shown([FoldDirectory(tmp_path / "fold-0")], 1, on_fold):
            assert called.wait(60)
            if problem is not None:
                raise problem

    with pytest.raises(ValueError, match="display"):
        train(None)
    with pytest.raises(VavlError, match="training"):
        train(VavlError("training"))


def test_a_machine_that_does_not_see_the_run_says_so(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    job = {"config": tiny_corpus.experiment(tmp_path), "only": (), "folder": tmp_path / "gone"}
    with pytest.raises(InputError, match="runs_dir: expected a folder that all machines"):
        ray_engine._work(job)


def test_what_the_command_needs(
    tiny_corpus: TinyCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = command(tiny_corpus.experiment(tmp_path), 2)
    without_engine = [word for word in arguments if word not in ("--engine", "ray")]
    assert run_command(without_engine) == EXIT_BAD_INPUT
    assert "--workers: expected --engine ray beside it" in capsys.readouterr().err
    for problem in (ConnectionError("no answer"), ValueError("invalid")):
        unreached = Mock(is_initialized=lambda: False, init=Mock(side_effect=problem))
        for name in ("ray", "ray.train"):
            monkeypatch.setitem(sys.modules, name, unreached)
        assert run_command(arguments) == EXIT_BAD_INPUT
        said = capsys.readouterr().err
        assert said.startswith("error: RAY_ADDRESS: expected the address")
        assert str(problem) in said
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run_command(arguments) == EXIT_BAD_INPUT
    assert "ray: needed for --engine ray" in (said := capsys.readouterr().err)
    assert "pip install 'vavl[ray]'" in said
