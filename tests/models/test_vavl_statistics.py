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
from vavl.models.vavl import StatisticsHead, input_statistics
from vavl.training import loop, setup
from vavl.training.experiment import open_stores, train_experiment
from vavl.training.objective import Targets, concordance_correlation, task_terms
from vavl.training.setup import prepare_model
from vavl.types import Batch, Modality

CLIPS, DIM = 120, 3
INVERSE_PENALTY = 0.03


def fitted(
    statistics: Tensor, targets: Targets, outputs: int, inverse_penalty: float = INVERSE_PENALTY
) -> StatisticsHead:
    head = StatisticsHead(statistics.shape[1] // 2, outputs)
    head.fit(
        statistics,
        torch.arange(len(statistics)),
        lambda values, rows: task_terms(values, targets.at(rows)),
        inverse_penalty,
    )
    return head


def drawn() -> tuple[Tensor, Tensor]:
    """Statistics ``(n, 2 D)`` with a dimension that never varies, and classes that overlap."""
    torch.manual_seed(0)
    statistics = torch.randn(CLIPS, 2 * DIM) * torch.tensor([1, 10, 0.1, 2, 1, 0]) + 5
    scores = statistics[:, :3] @ torch.tensor([[2.0, 0.1, -3.0], [0.0, 0.2, 4.0], [-1, 0, 1]])
    return statistics, (scores + 2 * torch.randn(CLIPS, 3)).argmax(1)


@pytest.mark.parametrize("inverse_penalty", [INVERSE_PENALTY, 0.3])
def test_a_head_equals_logistic_regression(inverse_penalty: float) -> None:
    statistics, labels = drawn()
    head = fitted(statistics, Targets(torch.eye(3)[labels], None), 3, inverse_penalty)
    deviation = statistics.std(0, correction=0).clamp_min(1e-6)
    scaled = ((statistics - statistics.mean(0)) / deviation).numpy()
    theirs = LogisticRegression(C=inverse_penalty, max_iter=1000, tol=1e-8).fit(scaled, labels)
    ours = head(statistics).softmax(1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(scaled), atol=2e-3)
    assert 0.5 < theirs.score(scaled, labels) < 1


def test_unknown_categories_are_left_out_and_soft_ones_count() -> None:
    statistics, labels = drawn()
    targets = 0.8 * torch.eye(3)[labels] + 0.2 / 3
    targets[60:] = torch.nan
    head = fitted(statistics, Targets(targets, None), 3)
    assert (head(statistics).argmax(1) == labels)[60:].float().mean() > 0.5
    assert head(statistics).softmax(1).amax(1).mean() < 0.8  # as unsure as its targets


def test_attributes_are_fitted_beside_categories() -> None:
    statistics, labels = drawn()
    attribute = (0.5 + 0.1 * (statistics[:, :1] - 5)).clamp(0, 1)
    attribute[::7] = torch.nan
    head = fitted(statistics, Targets(torch.eye(3)[labels], attribute), 4)
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
        targets = Targets(train.category_targets, None)
        expected = fitted(torch.cat(clips), targets, len(categories))
        head = trained.branch(modality).statistics
        assert head is not None
        assert head.weight.abs().max() > 0
        torch.testing.assert_close(
            head(torch.cat(clips)), expected(torch.cat(clips)), atol=2e-2, rtol=0
        )

    read: list[str] = []
    original = UtteranceDataset.__getitem__

    def noted(dataset: UtteranceDataset, positions: list[int]) -> Batch:
        batch = original(dataset, positions)
        read.extend(batch.utterance_ids)
        return batch

    monkeypatch.setattr(UtteranceDataset, "__getitem__", noted)
    monkeypatch.setattr(setup, "MOST_CLIPS", 5)
    before = trained.acoustic.statistics.weight.clone()
    prepare_model(trained, train)
    assert not torch.equal(trained.acoustic.statistics.weight, before)
    assert len(read) == 5
    prepare_model(vavl.VAVL(trained.config.model_copy(update={"input_statistics": False})), train)
    assert len(read) == 5, "a model without them reads nothing"


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

    monkeypatch.setattr(loop, "prepare_model", solved_again)
    [resumed] = train_experiment(broken, only=["fold-0"])
    for name, weight in vavl.load(expected.path).model.state_dict().items():
        assert torch.equal(weight, vavl.load(resumed.path).model.state_dict()[name]), name


def test_configurations_of_earlier_releases_have_the_penalty_of_then() -> None:
    written = vavl.VAVLConfig(
        acoustic_dim=2, visual_dim=2, categories=("a", "b"), input_statistics=True
    ).model_dump(mode="json")
    assert written.pop("statistics_inverse_penalty") == INVERSE_PENALTY
    assert vavl.VAVLConfig(**written).statistics_inverse_penalty == INVERSE_PENALTY
