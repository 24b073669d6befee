"""A study on the tiny synthetic corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import TinyCorpus

from vavl.config.experiment import to_toml
from vavl.studies.config import StudyConfig, load_study

STUDY = """
name = "tiny"
base = "tiny.toml"
seeds = [0, 1]
folds = ["fold-0", "fold-1"]
reference = "vavl"
metrics = ["uar", "accuracy"]
replicates = 200

[variants.vavl]
[variants.average]
view = "average"
[variants."without residual"]
about = "No bridge over the shared layers."
set.model.residual = false

[[sweeps]]
name = "no sound"
key = "test.without_acoustic"
values = [0.0, 0.5, 1.0]

[[hypotheses]]
claim = "The learned fusion beats averaging."
variant = "vavl"
against = "average"
expect = "> 0"
"""

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def write(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """``write(text)``: a study file with that text, beside a base of one epoch."""
    base = tiny_corpus.experiment(Path("unused"), training__epochs=1)

    def write_study(text: str = STUDY) -> Path:
        folder = tmp_path_factory.mktemp("study")
        (folder / "tiny.toml").write_text(to_toml(base), encoding="utf-8")
        (folder / "study.toml").write_text(text, encoding="utf-8")
        return folder / "study.toml"

    return write_study


@pytest.fixture(scope="session")
def study(write: Write) -> StudyConfig:
    """The study above."""
    return load_study(write())
