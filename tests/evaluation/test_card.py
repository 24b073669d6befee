"""The model card of a run: true of the run, and left alone once it is somebody's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import TinyCorpus

from vavl.evaluation.card import write_cards
from vavl.evaluation.evaluate import evaluate_runs
from vavl.evaluation.wording import with_limits
from vavl.training.experiment import train_experiment
from vavl.training.run_folder import CARD_MARK


@pytest.fixture(scope="module")
def run(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_corpus.experiment(tmp_path_factory.mktemp("runs"), training__epochs=1)
    train_experiment(config)
    train_experiment(config, final=True)
    return config.run_dir


def test_it_says_what_the_run_was_made_of_and_how_good_it_is(
    tiny_corpus: TinyCorpus, run: Path, tmp_path: Path
) -> None:
    manifest = tiny_corpus.manifest
    (run / "final").rename(tmp_path / "final")
    write_cards(run)
    assert "mean of 3 models" in (run / "README.md").read_text("utf-8")
    assert "Trained on all speakers" not in (run / "README.md").read_text("utf-8")
    (tmp_path / "final").rename(run / "final")
    write_cards(run)
    cards = [run / "README.md", run / "final" / "README.md"]
    for card in (path.read_text("utf-8") for path in cards):
        assert f"{len(manifest)} clips of {len(manifest.speakers)} speakers" in card
        happy = sum(clip.category == "happy" for clip in manifest)
        assert f"| happy | {happy} |" in card
        assert "acoustic logmel, dim 80" in card
        assert "Not evaluated yet" in card
        assert "education is prohibited" in card
        assert "Trained on all speakers" in card
    scores = evaluate_runs([run], replicates=50)
    write_cards(run, scores.evaluation)
    write_cards(run)  # as after more training: what was scored stays
    measured = next(s for s in scores.evaluation.scores if s.measure == "uar")
    for card in (path.read_text("utf-8") for path in cards):
        assert with_limits(measured.pooled) in card
        assert "Not evaluated yet" not in card
        assert card.count("## Scores") == card.count("## Limits") == 1


def test_a_card_of_ones_own_stays(run: Path) -> None:
    card = run / "README.md"
    write_cards(run)
    assert card.read_text("utf-8").startswith(CARD_MARK)
    card.write_text("# Mine")
    write_cards(run)
    assert card.read_text("utf-8") == "# Mine"
    card.unlink()
