"""The linear models of clips' statistics: what they are fitted to, and that training keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny import Killed, TinyCorpus, kill_in_the_second_epoch
from torch import Tensor

import vavl
from vavl.data.dataset import UtteranceDataset
from vavl.data.partition import Partition
from vavl.models.branches import StatisticsHead, input_statistics
from vavl.training import linear as statistics_heads
from vavl.training import loop
from vavl.training.experiment import train_experiment
from vavl.training.linear import INVERSE_PENALTY, fit_head, fit_statistics_heads
from vavl.training.objective import Targets, concordance_correlation
from vavl.training.run_folder import open_stores
from vavl.types import Modality

CLIPS, DIM = 120, 3


def drawn() -> tuple[Tensor, Tensor]:
    """Statistics ``(n, 2 D)`` with a dimension that never varies, and classes that overlap."""
    torch.manual_seed(0)
    statistics = torch.randn(CLIPS, 2 * DIM) * torch.tensor([1, 10, 0.1, 2, 1, 0]) + 5
    scores = statistics[:, :3] @ torch.tensor([[2.0, 0.1, -3.0], [0.0, 0.2, 4.0], [-1, 0, 1]])
    return statistics, (scores + 2 * torch.randn(CLIPS, 3)).argmax(1)


def test_a_head_equals_logistic_regression() -> None:
    statistics, labels = drawn()
    head = StatisticsHead(DIM, 3)
    fit_head(head, statistics, Targets(torch.eye(3)[labels], None))
    deviation = statistics.std(0, correction=0).clamp_min(1e-6)
    scaled = ((statistics - statistics.mean(0)) / deviation).numpy()
    theirs = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000, tol=1e-8).fit(scaled, labels)
    ours = head(statistics).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(scaled), atol=2e-3)
    assert 0.5 < theirs.score(scaled, labels) < 1


def test_unknown_categories_are_left_out_and_soft_ones_count() -> None:
    statistics, labels = drawn()
    targets = 0.8 * torch.eye(3)[labels] + 0.2 / 3
    targets[60:] = torch.nan
    head = StatisticsHead(DIM, 3)
    fit_head(head, statistics, Targets(targets, None))
    assert (head(statistics).argmax(1) == labels)[60:].float().mean() > 0.5
    assert head(statistics).softmax(1).amax(1).mean() < 0.8  # as unsure as its targets


def test_attributes_are_fitted_beside_categories() -> None:
    statistics, labels = drawn()
    attribute = (0.5 + 0.1 * (statistics[:, :1] - 5)).clamp(0, 1)
    attribute[::7] = torch.nan
    head = StatisticsHead(DIM, 4)
    fit_head(head, statistics, Targets(torch.eye(3)[labels], attribute))
    known = ~attribute[:, 0].isnan()
    found = concordance_correlation(head(statistics)[known, 3], attribute[known, 0])
    assert found > 0.95
    assert (head(statistics)[:, :3].argmax(1) == labels).float().mean() > 0.5


def test_training_fits_the_heads_first_and_leaves_them_alone(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_corpus.experiment(tmp_path, model__name="vavl+")
    [fold] = train_experiment(config, only=["fold-0"])
    trained = vavl.load(fold.path).model
    assert isinstance(trained, vavl.VAVL)
    categories = tiny_corpus.manifest.categories
    stores = open_stores(config)
    train = UtteranceDataset(
        tiny_corpus.manifest,
        Partition.load(fold.partition_file).train,
        stores,
        categories=categories,
    )
    for modality in (Modality.ACOUSTIC, Modality.VISUAL):
        clips = []
        for name in train.ids:
            frames = torch.from_numpy(stores[modality].read(name).astype("float32"))[None]
            x = trained.normalise(modality, frames)
            clips.append(input_statistics(x, torch.ones(x.shape[:2], dtype=torch.bool)))
        expected = StatisticsHead(stores[modality].spec.dim, len(categories))
        fit_head(expected, torch.cat(clips), Targets(train.category_targets, None))
        head = trained.branch(modality).statistics
        assert head is not None
        assert head.weight.abs().max() > 0
        torch.testing.assert_close(
            head(torch.cat(clips)), expected(torch.cat(clips)), atol=2e-2, rtol=0
        )

    monkeypatch.setattr(statistics_heads, "MOST_CLIPS", 5)
    before = trained.acoustic.statistics.weight.clone()
    fit_statistics_heads(trained, train)
    assert not torch.equal(trained.acoustic.statistics.weight, before)
    clips = statistics_heads._training_clips(trained, train)
    assert max(len(statistics) for statistics, _ in clips.values()) == 5


def test_a_resumed_training_has_them_from_the_checkpoint(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"model__name": "vavl+", "training__epochs": 2}
    whole = tiny_corpus.experiment(tmp_path / "whole", **options)
    [expected] = train_experiment(whole, only=["fold-0"])

    broken = tiny_corpus.experiment(tmp_path / "broken", **options)
    kill_in_the_second_epoch(monkeypatch)
    with pytest.raises(Killed):
        train_experiment(broken, only=["fold-0"])

    def solved_again(*_: object) -> None:
        raise AssertionError("the linear models are in the checkpoint")

    monkeypatch.setattr(loop, "fit_statistics_heads", solved_again)
    [resumed] = train_experiment(broken, only=["fold-0"])
    for name, weight in vavl.load(expected.path).model.state_dict().items():
        assert torch.equal(weight, vavl.load(resumed.path).model.state_dict()[name]), name
