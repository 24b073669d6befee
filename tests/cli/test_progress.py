"""What a training says where nobody watches a bar."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from tiny import TinyCorpus

from vavl.cli.progress import TrainingDisplay
from vavl.training.experiment import train_experiment


class Pipe(io.StringIO):
    """Keeps what had been written whenever it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []

    def flush(self) -> None:
        self.flushed.append(self.getvalue())


def test_a_line_for_each_epoch_with_the_name_of_the_metric(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path, data__attributes=["arousal", "valence"])
    pipe = Pipe()
    for _ in range(2):
        with TrainingDisplay(Console(file=pipe, width=30)) as display:
            train_experiment(config, only=["fold-0"], on_fold=display.begin)
    loading, first, second, again = pipe.getvalue().splitlines()
    assert loading == "fold-0: loading"
    assert re.fullmatch(
        r"fold-0: epoch 1 of 2, loss \d+\.\d{3}, development UAR and 2 CCCs, their mean "
        r"-?0\.\d{3}, \d+\.\d s, (less than )?\d+ s left for this fold",
        first,
    )
    assert second.startswith("fold-0: epoch 2 of 2, loss ")
    assert "left" not in second
    assert again == f"{config.run_dir / 'fold-0'}: finished before, left as it is"
    assert any(text.endswith(f"{first}\n") for text in pipe.flushed)


def test_a_terminal_has_a_bar(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    with TrainingDisplay(screen) as display:
        train_experiment(config, only=["fold-0"], on_fold=display.begin)
    shown = screen.file.getvalue()
    assert "1/1" in shown
    assert "development UAR 0." in shown
    assert "epoch 1 of 1" not in shown
