"""Test-time augmentation: the mean output over several versions of each clip."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TinyCorpus

from vavl.cli import run
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.evaluation.conditions import Condition
from vavl.evaluation.evaluate import evaluate_runs, predict_fold
from vavl.training.experiment import open_stores, train_experiment
from vavl.training.scoring import Outputs, mean_over_versions
from vavl.types import Modality


def outputs(*values: float) -> Outputs:
    rows = torch.tensor([[value, -value] for value in values])
    return Outputs(
        by_modality={Modality.ACOUSTIC: rows},
        prediction=rows,
        predicted=torch.ones(len(values), dtype=torch.bool),
    )


def test_where_a_variant_says_nothing_it_counts_as_the_first() -> None:
    nan = float("nan")
    mean = mean_over_versions(outputs(1, 2, nan), [outputs(3, nan, nan), outputs(5, 8, nan)])
    expected = torch.tensor([[3.0, -3.0], [4.0, -4.0], [nan, nan]])
    for found in (mean.prediction, mean.by_modality[Modality.ACOUSTIC]):
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_run_is_scored_by_the_mean_over_its_variants(
    tiny_corpus: TinyCorpus,
    faster_voices: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_corpus.experiment(
        tmp_path, training__epochs=1, data__acoustic_variants=[str(faster_voices)]
    )
    [fold] = train_experiment(config, only=["fold-0"])
    stores = open_stores(config)
    plain = predict_fold(fold, tiny_corpus.manifest, stores)
    averaged = Condition(average_variants=True)
    alone = predict_fold(fold, tiny_corpus.manifest, stores, averaged)
    fold.predictions_file.rename(tmp_path / "plain.npz")
    other = predict_fold(
        fold, tiny_corpus.manifest, {**stores, Modality.ACOUSTIC: FeatureStore.open(faster_voices)}
    )
    (tmp_path / "plain.npz").replace(fold.predictions_file)
    for modality in Modality:
        mean = (plain.logits[modality] + other.logits[modality]) / 2
        np.testing.assert_allclose(alone.logits[modality], mean, atol=1e-6)
    assert not np.allclose(alone.logits[Modality.ACOUSTIC], plain.logits[Modality.ACOUSTIC])

    scores = evaluate_runs([config.run_dir], replicates=20, average_variants=True)
    assert any("mean over 2 versions" in remark for remark in scores.evaluation.remarks)
    assert run(["evaluate", str(config.run_dir), "--average_variants", "--replicates", "20"]) == 0
    assert "evaluation-variants" in capsys.readouterr().out
    assert not (config.run_dir / "evaluation").exists()


def test_a_run_without_variants_says_so(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    train_experiment(config, only=["fold-0"])
    with pytest.raises(InputError, match=r"expected stores in data\.acoustic_variants"):
        evaluate_runs([config.run_dir], average_variants=True)
