"""Scores of groups of clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vavl.data.manifest import Manifest, Utterance
from vavl.errors import InputError
from vavl.evaluation.groups import group_scores, values_of
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.report import to_csv, to_markdown, write_report
from vavl.evaluation.scores import GroupScore, evaluate_tables
from vavl.evaluation.views import View

Make = Callable[..., PredictionTable]


def by(found: tuple[GroupScore, ...], group: str, view: View, measure: str) -> GroupScore:
    (one,) = (g for g in found if (g.group, g.view, g.measure) == (group, view, measure))
    return one


@pytest.fixture
def sexes(make: Make) -> tuple[PredictionTable, dict[str, str]]:
    """Women are speakers of even number; the model always names the right category for men."""
    table = make(clips=480, speakers=24, attributes=("arousal",))
    sex = {
        name: "female" if int(speaker[-2:]) % 2 == 0 else "male"
        for name, speaker in zip(table.utterance_ids, table.speakers, strict=True)
    }
    men = np.array([sex[name] == "male" for name in table.utterance_ids])
    right = 50.0 * (table.category_targets[:, None] == np.arange(len(table.categories)))
    logits = {m: np.where(men[:, None], right, values) for m, values in table.logits.items()}
    return replace(table, logits=logits), sex


def test_groups_are_scored_as_if_there_were_no_others(
    sexes: tuple[PredictionTable, dict[str, str]],
) -> None:
    table, sex = sexes
    found = group_scores([table], {"sex": sex}, replicates=200)
    for group in ("female", "male"):
        rows = [n for n, name in enumerate(table.utterance_ids) if sex[name] == group]
        alone = evaluate_tables([table.take(rows)], replicates=10)
        for view in (View.ACOUSTIC, View.VISUAL, View.AUDIOVISUAL):
            for measure in ("accuracy", "uar", "arousal_ccc"):
                mine = by(found, group, view, measure)
                expected = alone.score(view, measure)
                assert mine.score.estimate == pytest.approx(expected.pooled.estimate)
                assert (mine.clips, mine.speakers) == (expected.clips, 12)


def test_a_difference_that_is_there_is_found_and_another_is_not(
    sexes: tuple[PredictionTable, dict[str, str]],
) -> None:
    table, sex = sexes
    found = group_scores([table], {"sex": sex}, replicates=500)
    worse = by(found, "female", View.VISUAL, "accuracy").above_rest
    better = by(found, "male", View.VISUAL, "accuracy").above_rest
    assert worse.high < 0 < better.low
    assert worse.estimate == pytest.approx(-better.estimate)
    same = by(found, "male", View.VISUAL, "arousal_ccc").above_rest
    assert same.low < 0 < same.high


def test_the_same_speakers_in_both_groups_are_paired(make: Make) -> None:
    """Between sentences that everybody says, speakers do not scatter, however they differ."""
    table = make(clips=480, speakers=12)
    sentence = {name: str(number // 12 % 2) for number, name in enumerate(table.utterance_ids)}
    able = np.array([int(speaker[-2:]) < 6 for speaker in table.speakers])
    target = table.category_targets[:, None] == np.arange(len(table.categories))
    logits = {m: np.where(able[:, None], 50.0 * target, -50.0 * target) for m in table.logits}
    extreme = replace(table, logits=logits)  # half of the speakers are always right, half never
    found = group_scores([extreme], {"sentence": sentence}, replicates=200)
    one = by(found, "1", View.ACOUSTIC, "accuracy")
    assert one.score.high - one.score.low > 0.3
    assert (one.above_rest.low, one.above_rest.high) == (0, 0)


def test_few_speakers_give_no_interval(make: Make) -> None:
    table = make(clips=240, speakers=12)
    rare = {
        name: "rare" if int(speaker[-2:]) < 5 else "usual"
        for name, speaker in zip(table.utterance_ids, table.speakers, strict=True)
    }
    found = group_scores([table], {"kind": rare}, replicates=50)
    for group in ("rare", "usual"):
        assert math.isnan(by(found, group, View.ACOUSTIC, "uar").above_rest.low)
    assert math.isnan(by(found, "rare", View.ACOUSTIC, "uar").score.low)
    assert math.isfinite(by(found, "usual", View.ACOUSTIC, "uar").score.low)


def test_a_column_that_everybody_shares_has_no_rest(make: Make) -> None:
    table = make(clips=120)
    found = group_scores([table], {"corpus": dict.fromkeys(table.utterance_ids, "mine")})
    assert math.isnan(by(found, "mine", View.ACOUSTIC, "uar").above_rest.estimate)


def test_columns_of_the_table(tmp_path: Path) -> None:
    clips = [
        Utterance("a", "mine", "ann", audio_path="a.wav", category="sad", metadata={"sex": "f"}),
        Utterance("b", "mine", "bob", audio_path="b.wav"),
    ]
    manifests = [Manifest(clips, root=tmp_path)]
    assert values_of(manifests, "sex") == {"a": "f"}
    assert values_of(manifests, "category") == {"a": "sad"}
    assert values_of(manifests, "speaker") == {"a": "ann", "b": "bob"}
    with pytest.raises(InputError, match=r"category, corpus, sex, speaker.*did you mean 'sex'"):
        values_of(manifests, "sexx")


def test_too_many_groups(make: Make) -> None:
    table = make(clips=120)
    each = {name: name for name in table.utterance_ids}
    with pytest.raises(InputError, match="--by clip: expected at most 50 groups, got 120"):
        group_scores([table], {"clip": each}, replicates=10)


def test_the_report_has_them(sexes: tuple[PredictionTable, dict[str, str]], tmp_path: Path) -> None:
    table, sex = sexes
    evaluation = evaluate_tables([table], replicates=100)
    groups = group_scores([table], {"sex": sex}, replicates=100)
    evaluation = replace(evaluation, groups=groups)
    page = write_report(
        evaluation, [table], tmp_path, histories={}, config_text="", title="t"
    ).read_text("utf-8")
    assert "<h3>By sex</h3>" in page
    text = to_markdown(evaluation, "t")
    assert "## By sex" in text
    female = next(line for line in text.splitlines() if line.startswith("| female"))
    assert "| 240 | 12 |" in female
    assert "*)" in female
    rows = [line for line in to_csv(evaluation).splitlines() if line.startswith("group")]
    assert len(rows) == 2 * len(groups)
    assert evaluation.to_dict()["groups"][0]["column"] == "sex"
