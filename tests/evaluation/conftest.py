"""Made-up predictions with known properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vavl.evaluation.predictions import PredictionTable
from vavl.types import Modality

CATEGORIES = ("angry", "calm", "happy", "sad")
ATTRIBUTES = ("arousal", "valence")
SKILL = {Modality.ACOUSTIC: 1.6, Modality.VISUAL: 0.8, Modality.AUDIOVISUAL: 2.4}


def make_table(
    *,
    clips: int = 240,
    speakers: int = 12,
    folds: int = 3,
    categories: tuple[str, ...] = CATEGORIES,
    attributes: tuple[str, ...] = (),
    unknown: float = 0.0,
    without_sound: float = 0.0,
    without_face: float = 0.0,
    data_seed: int = 0,
    model_seed: int = 0,
) -> PredictionTable:
    """Random clips; ``model_seed`` changes what the model says and nothing else."""
    data, model = np.random.default_rng(data_seed), np.random.default_rng([model_seed, 1])
    speaker = np.arange(clips) % speakers
    target = data.integers(0, max(len(categories), 1), clips)
    true_values = data.uniform(0.1, 0.9, (clips, len(attributes)))
    logits, outputs = {}, {}
    for modality, skill in SKILL.items():
        noise = model.normal(size=(clips, len(categories)))
        logits[modality] = noise + skill * (target[:, None] == np.arange(len(categories)))
        wrong = model.normal(0, 0.3 / skill, true_values.shape)
        outputs[modality] = 0.5 + 0.7 * (true_values - 0.5) + wrong
    lost = data.uniform(size=clips)
    no_sound = lost < without_sound
    no_face = lost > 1 - without_face
    for values in (logits, outputs):
        values[Modality.ACOUSTIC][no_sound] = np.nan
        values[Modality.VISUAL][no_face] = np.nan
        values[Modality.AUDIOVISUAL][no_sound | no_face] = np.nan
    hidden = data.uniform(size=clips) < unknown
    return PredictionTable(
        categories=categories,
        attributes=attributes,
        utterance_ids=tuple(f"clip-{number:04d}" for number in range(clips)),
        speakers=tuple(f"speaker-{number:02d}" for number in speaker),
        partitions=tuple(f"fold-{number % folds}" for number in speaker),
        category_targets=np.where(hidden, -1, target) if categories else np.full(clips, -1),
        attribute_targets=np.where(hidden[:, None], np.nan, true_values),
        logits=logits if categories else {},
        attribute_outputs=outputs if attributes else {},
    )


@pytest.fixture
def table() -> PredictionTable:
    """Categories and attributes; some targets unknown, some clips without sound or face."""
    return make_table(attributes=ATTRIBUTES, unknown=0.1, without_sound=0.15, without_face=0.1)


@pytest.fixture(scope="session")
def make() -> Callable[..., PredictionTable]:
    """:func:`make_table`."""
    return make_table


@pytest.fixture
def change() -> Callable[..., PredictionTable]:
    """``change(table, field=value)``: the same table with other fields."""
    return replace
