"""What a study file may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies.conftest import STUDY, Write

from vavl.config.experiment import load_experiment, set_dotted
from vavl.config.shipped import shipped
from vavl.data.corpora import CORPORA
from vavl.errors import InputError
from vavl.features.registry import extractor_names
from vavl.studies.config import HypothesisConfig, flattened, load_study

ROOT = Path(__file__).parents[2]
SHIPPED = list(shipped("studies").values())
RESEARCH = sorted((ROOT / "research" / "studies").glob("*.toml"))
CONTROLS = {"logmel-random", "face-pixels", "face-pixels-random"}
"""Extractors that research/controls.py adds."""


@pytest.mark.parametrize("path", [*SHIPPED, *RESEARCH], ids=lambda path: path.stem)
def test_shipped_studies_and_all_their_variants_are_valid(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert study.hypotheses
    base = load_experiment(study.base)
    sets = [v.set for v in study.variants.values()]
    sets += [s.variant(value).set for s in study.sweeps for value in s.values]
    for overrides in sets:
        content = base.model_dump()
        for key, value in (*study.set.items(), *flattened(overrides)):
            set_dotted(content, key, value)
        type(base).model_validate(content)
    assert study.corpus is None or study.corpus.name in CORPORA
    for store in study.stores:
        known = {name.partition(":")[0] for name in extractor_names(store.modality)}
        known |= CONTROLS if path in RESEARCH else set()
        assert store.extractor.partition(":")[0] in known


def test_a_study_like_another_has_its_keys_but_for_its_own(write: Write) -> None:
    path = write()
    text = (
        'like = "study.toml"\nname = "more"\nmetrics = ["accuracy"]\n[set]\ntraining.epochs = 3\n'
    )
    (path.parent / "more.toml").write_text(text)
    first, more = load_study(path), load_study(path.parent / "more.toml")
    assert (more.name, more.metrics, more.set) == ("more", ("accuracy",), {"training.epochs": 3})
    assert more.variants == first.variants
    assert more.hypotheses == first.hypotheses
    assert more.base == first.base
    (path.parent / "most.toml").write_text('like = "more.toml"\nname = "most"\nseeds = [5]\n')
    most = load_study(path.parent / "most.toml")
    assert (most.name, most.seeds, most.metrics, most.set) == ("most", (5,), more.metrics, more.set)
    (path.parent / "more.toml").write_text('like = "most.toml"\nname = "more"\n')
    with pytest.raises(InputError, match=r"more\.toml like most\.toml like more\.toml"):
        load_study(path.parent / "more.toml")
    (path.parent / "more.toml").write_text('like = "studies.toml"\nname = "more"\n')
    with pytest.raises(InputError, match=r"like: .*studies\.toml"):
        load_study(path.parent / "more.toml")


def test_the_published_scores_of_the_documentation_are_those_of_the_studies() -> None:
    text = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
    for path in SHIPPED:
        study = load_study(path)
        if path.stem.startswith("paper-"):
            assert f"](../src/vavl/config/studies/{path.name})" in text
        for figure in study.published.figures if study.published else ():
            sd = "" if figure.sd is None else f" ± {figure.sd:.3f}"
            assert f"| {figure.mean:.3f}{sd} |" in text


def test_the_example_of_the_documentation_is_a_study(write: Write) -> None:
    text = (ROOT / "docs" / "studies.md").read_text("utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    study = load_study(write(example))
    assert study.reference in study.variants
    assert len(study.sweeps[0].variants()) == 4


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('reference = "vavl"', 'reference = "val"', "did you mean 'vavl'?"),
        ('against = "average"', 'against = "averages"', "did you mean 'average'?"),
        ('against = "average"', 'against = "vavl"', "expected two variants"),
        ('expect = "> 0"', 'expect = "better"', "hypotheses.0.expect"),
        ('expect = "> 0"', 'expect = "> 0"\nmetric = "wuar"', "did you mean 'uar'?"),
        ('view = "average"', 'view = "mean"', "variants.average.view"),
        ('view = "average"', 'viev = "average"', "did you mean 'view'?"),
        ('key = "test.without_acoustic"', 'key = "without_acoustic"', "set.KEY or test.KEY"),
        ("values = [0.0, 0.5, 1.0]", "values = [0.0, 0.0]", "distinct"),
        ('name = "no sound"', 'name = "no | sound"', "sweeps.0.name"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "distinct"),
        ("seeds = [0, 1]", "seeds = [-1]", "seeds.0"),
        ('base = "tiny.toml"', "", "base: expected a value"),
        ('name = "tiny"', 'name = "../tiny"', "name"),
    ],
)
def test_mistakes_are_named(write: Write, before: str, after: str, message: str) -> None:
    assert before in STUDY
    with pytest.raises(InputError, match=r"study\.toml") as caught:
        load_study(write(STUDY.replace(before, after)))
    assert message in str(caught.value)


def test_all_mistakes_come_in_one_error(write: Write) -> None:
    text = STUDY.replace('view = "average"', 'viev = "average"').replace("[0, 1]", "[]")
    with pytest.raises(InputError, match="2 problems"):
        load_study(write(text))


def test_files_that_are_no_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        load_study(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(InputError, match="is not valid TOML"):
        load_study(tmp_path / "broken.toml")


def test_what_is_given_wins_over_the_file(write: Write) -> None:
    study = load_study(write(), {"training.epochs": 5}, seeds=[7])
    assert study.set["training.epochs"] == 5
    assert study.seeds == (7,)


def test_conditions_leave_every_clip_something(write: Write) -> None:
    more = STUDY.replace(
        'view = "average"', "test.without_acoustic = 0.7\ntest.without_visual = 0.7"
    )
    with pytest.raises(InputError, match="no clip can lose both"):
        load_study(write(more))


def test_expectations() -> None:
    claim = {"claim": "c", "variant": "v"}
    above = HypothesisConfig(**claim, expect="> -0.02")
    assert (above.above, above.margin) == (True, -0.02)
    below = HypothesisConfig(**claim, expect="<.5")
    assert (below.above, below.margin) == (False, 0.5)
