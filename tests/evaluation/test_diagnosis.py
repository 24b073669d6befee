"""Each sign is found where it is, and not where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation.conftest import make_table

from vavl.data.manifest import Manifest, Utterance
from vavl.evaluation.compare import predicted
from vavl.evaluation.diagnosis import Diagnosis, diagnose
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.scores import evaluate_tables
from vavl.evaluation.views import View
from vavl.types import Modality


def manifest_of(table: PredictionTable, **fields: dict[str, str]) -> Manifest:
    return Manifest(
        [
            Utterance(
                clip,
                "made-up",
                speaker,
                audio_path="clip.wav",
                metadata={name: values[speaker] for name, values in fields.items()},
            )
            for clip, speaker in zip(table.utterance_ids, table.speakers, strict=True)
        ],
        root=Path(),
    )


def diagnosed(table: PredictionTable, training: PredictionTable | None = None) -> Diagnosis:
    sexes = {s: "female" if int(s[-2:]) % 2 else "male" for s in set(table.speakers)}
    return diagnose(
        predicted([table], [0], None),
        predicted([training or table], [0], None),
        manifest_of(table, sex=sexes),
        "accuracy",
        replicates=100,
    )


def with_logits(table: PredictionTable, modality: Modality, values: np.ndarray) -> PredictionTable:
    return replace(table, logits={**table.logits, modality: values})


def test_scores_and_sides_by_hand() -> None:
    table = make_table(without_sound=0.1)
    found = diagnosed(table)
    both = table.present(Modality.AUDIOVISUAL)
    said = {m: table.logits[m][both].argmax(1) for m in Modality}
    truth = table.category_targets[both]
    for modality in Modality:
        assert found.views[View(modality)] == pytest.approx((said[modality] == truth).mean())
    apart = said[Modality.ACOUSTIC] != said[Modality.VISUAL]
    fused = said[Modality.AUDIOVISUAL]
    assert found.sides is not None
    assert found.sides.disagreements == pytest.approx(apart.mean())
    copied = (fused == said[Modality.ACOUSTIC])[apart].mean()
    assert found.sides.shares["acoustic"] == pytest.approx(copied)
    assert sum(found.sides.shares.values()) == pytest.approx(1)


def test_a_fusion_that_copies_is_named_and_another_is_not() -> None:
    table = make_table()
    copying = with_logits(table, Modality.AUDIOVISUAL, table.logits[Modality.ACOUSTIC])
    assert any("follows the acoustic prediction in 100 %" in s for s in diagnosed(copying).signs)
    assert not any("follows" in sign for sign in diagnosed(table).signs)


def test_an_error_is_the_better_the_lower_it_is() -> None:
    table = make_table(categories=(), attributes=("sentiment",))

    def signs(view: Modality, deviation: float) -> list[str]:
        noise = np.random.default_rng(4).normal(0, deviation, table.attribute_targets.shape)
        outputs = {m: table.attribute_targets.astype(float) for m in Modality}
        near = np.random.default_rng(5).normal(0, 0.1, noise.shape)
        outputs = {m: values + near for m, values in outputs.items()}
        outputs[view] = table.attribute_targets + noise
        changed = replace(table, attribute_outputs=outputs)
        found = diagnose(
            predicted([changed], [0], None),
            predicted([changed], [0], None),
            manifest_of(table),
            "sentiment_mae",
            replicates=10,
        )
        return list(found.signs)

    assert any("acoustic prediction is far behind" in s for s in signs(Modality.ACOUSTIC, 0.5))
    assert any("acoustic prediction is ahead" in s for s in signs(Modality.ACOUSTIC, 0.01))
    assert signs(Modality.ACOUSTIC, 0.11) == []


def test_a_starved_modality_is_named() -> None:
    table = make_table()
    noise = np.random.default_rng(3).normal(size=table.logits[Modality.VISUAL].shape)
    starved = diagnosed(with_logits(table, Modality.VISUAL, noise))
    assert any("visual prediction is far behind" in sign for sign in starved.signs)
    assert not any("acoustic prediction is far" in sign for sign in starved.signs)


def test_a_modality_ahead_of_the_fusion_is_named() -> None:
    table = make_table()
    swapped = with_logits(table, Modality.AUDIOVISUAL, table.logits[Modality.VISUAL])
    assert "The acoustic prediction is ahead of the fusion." in diagnosed(swapped).signs


def test_a_gap_to_the_training_clips_is_named() -> None:
    table = make_table()
    perfect = np.eye(4)[table.category_targets] * 9.0
    learnt = with_logits(table, Modality.AUDIOVISUAL, perfect)
    noise = np.random.default_rng(3).normal(size=perfect.shape)
    found = diagnosed(with_logits(table, Modality.AUDIOVISUAL, noise), learnt)
    assert found.training == 1.0
    assert any("by heart" in sign for sign in found.signs)
    assert not any("by heart" in sign for sign in diagnosed(table).signs)


def test_groups_are_scored_by_their_own_speakers() -> None:
    table = make_table()
    found = diagnosed(table)
    assert [(g.field, g.group) for g in found.groups] == [("sex", "female"), ("sex", "male")]
    for group in found.groups:
        odd = group.group == "female"
        rows = [i for i, s in enumerate(table.speakers) if (int(s[-2:]) % 2 == 1) == odd]
        part = evaluate_tables([table.take(rows)], replicates=10)
        expected = part.score(View.AUDIOVISUAL, "accuracy").pooled.estimate
        assert group.score.estimate == pytest.approx(expected)
        assert group.score.low < expected < group.score.high
        assert (group.speakers, group.clips) == (6, len(rows))


def test_nothing_is_said_about_groups_that_are_not_known() -> None:
    table = make_table()
    side = predicted([table], [0], None)
    assert diagnose(side, side, manifest_of(table), "uar", replicates=100).groups == ()
