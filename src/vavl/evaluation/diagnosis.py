"""Signs that a good score hides something, looked for in the predictions of one variant.

- *Poor unimodal scores beside good audio-visual ones*: joint training may starve a modality, which
  goes unnoticed until the other one is missing. Source: Wang, Tran and Feiszli 2020, "What makes
  training multi-modal classification networks hard?"; Huang et al. 2022, "Modality competition".
- *A fusion that copies one modality*: where the two modalities disagree, it sides with one of them
  nearly always. Source: Wu et al. 2022, "Characterizing and overcoming the greedy nature of
  learning in multi-modal deep neural networks".
- *A gap between training and held-out scores*: what the model knows about its training speakers
  alone.
- *Scores that differ between groups of speakers*, where the manifest knows about groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vavl.data.manifest import Manifest
from vavl.evaluation.bootstrap import Interval, Scope
from vavl.evaluation.compare import Predicted, fold_scores
from vavl.evaluation.quantities import CATEGORY, Quantity, quantities, quantity_of
from vavl.evaluation.scores import resampled_scores
from vavl.evaluation.views import TRAINED_VIEWS, View
from vavl.evaluation.wording import percent
from vavl.metrics.sentiment import LOWER_IS_BETTER

GROUPS = ("sex", "age", "race", "ethnicity")
"""Fields of a manifest's metadata that tell groups of speakers apart."""

COPYING = 0.9
"""Share of the disagreements from which on a fusion that sides with one modality is named."""

GAP = 0.25
"""A score on the training clips that is so much better than the held-out one is named."""

BEHIND = 0.6
"""A modality whose score is below this share of the audio-visual one is named; errors are
compared the other way round."""


@dataclass(frozen=True)
class Sides:
    """Whom the fusion sides with where the two modalities name different categories.

    Attributes:
        disagreements: Share of the clips with both where they do; mean over seeds.
        shares: Share of these clips in which the fusion names the category of ``acoustic``, of
            ``visual``, or another one (``neither``).
    """

    disagreements: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class GroupScore:
    """A score of the speakers of one group.

    Attributes:
        field: What the group is told apart by, e.g. ``"sex"``.
        group: The value.
        score: With its interval over the group's speakers.
        speakers: How many.
        clips: Of theirs.
    """

    field: str
    group: str
    score: Interval
    speakers: int
    clips: int


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at, and what was found.

    Attributes:
        measure: The measure of the scores.
        views: Score of each modality and of the fusion on the clips that have both.
        training: Score on the training clips, mean over folds, of the models of the first seed.
        held_out: Score of the same models on the test clips.
        sides: Whom the fusion sides with; None without a fusion or without categories.
        groups: Scores of groups of speakers.
        signs: In sentences, what should make one look closer.
    """

    measure: str
    views: Mapping[View, float]
    training: float
    held_out: float
    sides: Sides | None
    groups: tuple[GroupScore, ...]
    signs: tuple[str, ...]


def diagnose(
    variant: Predicted,
    training: Predicted,
    manifest: Manifest,
    measure: str,
    *,
    replicates: int,
) -> Diagnosis:
    """Looks for signs of failure in the predictions of a variant.

    Args:
        variant: What it predicted.
        training: What the models of the first seed predicted for their training clips.
        manifest: Its utterances, for the groups of speakers.
        measure: Name of a measure.
        replicates: Resamples of speakers.
    """
    quantity = quantity_of(variant.tables, measure)
    views = _views(quantity, measure)
    found = [q for q in quantities(variant.tables) if q.name == CATEGORY]
    sides = _sides(found[0]) if found else None
    groups = _groups(variant, quantity, manifest, measure, replicates)
    first = Predicted(training.seeds, variant.tables[:1], variant.view)
    seen, unseen = (_fold_mean(side, measure) for side in (training, first))
    lower = measure in LOWER_IS_BETTER
    signs = _signs(views, sides, lower_is_better=lower)
    if (unseen - seen if lower else seen - unseen) > GAP:
        signs.append(
            f"The models know their training clips by heart ({seen:.3f} against {unseen:.3f} on "
            "speakers they have not met): more regularisation, or more speakers, may help."
        )
    return Diagnosis(measure, views, seen, unseen, sides, groups, tuple(signs))


def _fold_mean(side: Predicted, measure: str) -> float:
    return float(np.mean(list(fold_scores(side, measure).values())))


def _views(quantity: Quantity, measure: str) -> dict[View, float]:
    shown = [view for view in TRAINED_VIEWS if view in quantity.views]
    rows = np.logical_and.reduce([quantity.known, *(quantity.unaided(view) for view in shown)])
    if not rows.any():
        return {}
    one_group = np.zeros(len(rows), np.int64)
    return {
        view: float(quantity.group_scores(measure, view, rows, one_group).mean()) for view in shown
    }


def _sides(quantity: Quantity) -> Sides | None:
    if not set(TRAINED_VIEWS) <= set(quantity.views):
        return None
    rows = np.logical_and.reduce([quantity.unaided(view) for view in TRAINED_VIEWS])
    acoustic, visual, fused = (quantity.predictions[view][:, rows] for view in TRAINED_VIEWS)
    apart = acoustic != visual  # (seeds, clips)
    if not apart.any():
        return Sides(0.0, {})
    shares = {
        "acoustic": float((fused == acoustic)[apart].mean()),
        "visual": float((fused == visual)[apart].mean()),
    }
    return Sides(float(apart.mean()), shares | {"neither": 1 - sum(shares.values())})


def _groups(
    variant: Predicted, quantity: Quantity, manifest: Manifest, measure: str, replicates: int
) -> tuple[GroupScore, ...]:
    table = variant.tables[0]
    rows = quantity.scored(variant.view)
    found = []
    for field in GROUPS:
        of_clip = np.array(
            [manifest.by_id[i].metadata.get(field) or "" for i in table.utterance_ids]
        )
        names = [name for name in np.unique(of_clip[rows]) if name]
        if len(names) < 2:
            continue
        for name in names:
            mine = rows & (of_clip == name)
            scope = Scope(mine, table.speakers, replicates, (0, 2))
            score = resampled_scores(quantity, variant.view, mine, scope).interval(measure)
            found.append(GroupScore(field, str(name), score, scope.speakers, int(mine.sum())))
    return tuple(found)


def _signs(views: Mapping[View, float], sides: Sides | None, *, lower_is_better: bool) -> list[str]:
    signs = []
    fused = views.get(View.AUDIOVISUAL)
    for view, score in views.items():
        if fused is None or view is View.AUDIOVISUAL:
            continue
        worse, better = (fused, score) if lower_is_better else (score, fused)
        if worse < BEHIND * better:
            signs.append(
                f"The {view} prediction is far behind ({score:.3f} against {fused:.3f}): compare "
                "it with a model of that modality alone before relying on it."
            )
        elif better < worse:
            signs.append(f"The {view} prediction is ahead of the fusion.")
    for name, share in (sides.shares if sides else {}).items():
        if share > COPYING and name != "neither":
            signs.append(
                f"The fusion follows the {name} prediction in {percent(share)} of the "
                "disagreements."
            )
    return signs
