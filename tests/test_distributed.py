"""Two processes that train together do what one does with all the clips."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from curves import CHANCE, NO_DROPOUT, UNPAIRED, assert_same_bits, assert_same_curves, fold_of
from rank_jobs import InTwoRanks, every_model, exchange, killed_in_two_ranks, train, two_ranks
from tiny import TinyCorpus, tuning_options
from torch.multiprocessing.spawn import ProcessExitedException

from vavl.config.experiment import ExperimentConfig, to_toml
from vavl.data.dataset import BucketSampler
from vavl.errors import InputError
from vavl.training.experiment import train_experiment
from vavl.training.loop import epoch_seed


def test_shares_are_the_batches_of_one_process() -> None:
    lengths = [(7 * i) % 23 for i in range(50)]
    whole = list(BucketSampler(lengths, 16, seed=3))
    shares = [list(BucketSampler(lengths, 16, seed=3, rank=r, ranks=3)) for r in range(3)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(row for part in parts for row in part) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert (
        len({epoch_seed(seed, epoch, r) for seed in (0, 1) for epoch in (0, 1) for r in (0, 1)})
        == 8
    )


@pytest.fixture(scope="module")
def in_two_ranks() -> Iterator[InTwoRanks]:
    with two_ranks() as run:
        yield run


def test_exchange_and_batch_statistics(in_two_ranks: InTwoRanks) -> None:
    in_two_ranks(exchange)


def test_every_model_has_the_losses_and_gradients_of_one_process(in_two_ranks: InTwoRanks) -> None:
    in_two_ranks(every_model)


def test_loss_curves_and_a_killed_rank(
    in_two_ranks: InTwoRanks, tiny_corpus: TinyCorpus, faster_voices: Path, tmp_path: Path
) -> None:
    def experiment(folder: str, **options: object) -> ExperimentConfig:
        # All ranks draw the same variant of a clip as one process does.
        options |= UNPAIRED | {"data__acoustic_variants": [str(faster_voices)]}
        return tiny_corpus.experiment(tmp_path / folder, **options)

    equal = {
        schedule: [
            experiment(f"{schedule}-{ranks}", training__schedule=schedule, **NO_DROPOUT)
            for ranks in (1, 2)
        ]
        for schedule in ("joint", "alternating")
    }
    uninterrupted, killed = (
        experiment(name, training__epochs=3, **CHANCE) for name in ("uninterrupted", "killed")
    )
    in_two_ranks(train, [*(two for _, two in equal.values()), uninterrupted])
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        killed_in_two_ranks(train, [], killed)
    for one, two in equal.values():
        train_experiment(one, only=["fold-0"])
        assert_same_curves(one, two)
    assert fold_of(killed).checkpoint_file.is_file()
    assert not fold_of(killed).finished
    in_two_ranks(train, [killed])
    assert_same_bits(uninterrupted, killed)


def test_an_encoder_is_tuned_as_by_one_process(
    in_two_ranks: InTwoRanks,
    tiny_corpus: TinyCorpus,
    waveforms: tuple[str, str],
    tiny_encoder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    options = NO_DROPOUT | tuning_options(waveforms[0], tiny_encoder("WhisperModel"))
    options["acoustic_encoder__encoder_learning_rate"] = 1e-3  # at 1e-2 roundings grow too large
    one, two = (tiny_corpus.experiment(tmp_path / n, **options) for n in ("one", "two"))
    in_two_ranks(train, [two])
    train_experiment(one, only=["fold-0"])
    assert_same_curves(one, two)


def test_torchrun(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    one, two = (
        tiny_corpus.experiment(tmp_path / name, training__epochs=1, **NO_DROPOUT)
        for name in ("one", "two")
    )
    train_experiment(one, only=["fold-0"])
    file = tmp_path / "two.toml"
    file.write_text(to_toml(two))
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "vavl", "train", str(file), "--folds", "fold-0"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert_same_curves(one, two)
    assert done.stdout.count("Next: vavl evaluate") == 1, "the first rank alone prints"
    [record] = fold_of(two).history_file.read_text().splitlines()
    assert json.loads(record)["epoch"] == 1


def test_a_number_of_a_device_is_refused(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for device, message in (("cuda:1", "has no number"), ("cpu", "as many on each machine")):
        config = tiny_corpus.experiment(tmp_path, training__device=device)
        with pytest.raises(InputError, match=message):
            train_experiment(config)
        assert not config.run_dir.exists()
