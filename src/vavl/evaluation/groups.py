"""Scores of groups of clips, e.g. by sex, sentence or intensity: ``vavl evaluate --by``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vavl.data.manifest import Manifest
from vavl.errors import InputError, did_you_mean
from vavl.evaluation.predictions import PredictionTable, align
from vavl.evaluation.scores import GroupScore, resampled_scores, scopes
from vavl.evaluation.views import TRAINED_VIEWS, quantities

_MOST_GROUPS = 50


def values_of(manifests: Sequence[Manifest], column: str) -> dict[str, str]:
    """Clip to its value in a column of the utterance tables; clips without one are left out.

    Args:
        manifests: The tables.
        column: ``category``, ``speaker``, ``corpus``, or a column of the metadata.

    Raises:
        InputError: No table has the column, with the names of those that there are.
    """
    found: dict[str, str] = {}
    known: set[str] = set()
    for clip in (clip for manifest in manifests for clip in manifest):
        about = {"corpus": clip.corpus, "speaker": clip.speaker, **clip.metadata}
        if clip.category is not None:
            about["category"] = clip.category
        known |= about.keys()
        if column in about:
            found[clip.utterance_id] = about[column]
    if not found:
        raise InputError(
            f"--by: expected a column of the utterance table ({', '.join(sorted(known))}), got "
            f"{column!r}{did_you_mean(column, known)}"
        )
    return found


def group_scores(
    tables: Sequence[PredictionTable],
    columns: Mapping[str, Mapping[str, str]],
    *,
    seeds: Sequence[str | int] | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> tuple[GroupScore, ...]:
    """Scores the clips of each value of some columns, and how far they are from all other clips.

    A group and the rest are scored in the same resamples of all speakers, so that it does not
    matter whether the same speakers are in both (sentences) or not (sexes). Where one side has too
    few speakers, there is no interval.

    Args:
        tables: As of :func:`vavl.evaluation.scores.evaluate_tables`, as the other arguments.
        columns: Name of a column to the value of each clip, see :func:`values_of`.
        seeds: The seed that each table was trained with.
        replicates: Bootstrap resamples.
        seed: Seed of the resamples.

    Raises:
        InputError: The tables do not fit each other, or a column has more than 50 values.
    """
    _, aligned = align(tables, seeds)
    first = aligned[0]
    everything, _ = scopes(first, replicates, seed)
    scored = quantities(aligned)
    found = []
    for column, values in columns.items():
        mine = np.array([values.get(name, "") for name in first.utterance_ids])
        names = sorted(set(mine[mine != ""].tolist()))
        if len(names) > _MOST_GROUPS:
            raise InputError(
                f"--by {column}: expected at most {_MOST_GROUPS} groups, got {len(names)}"
            )
        for quantity in scored:
            for view in (view for view in TRAINED_VIEWS if view in quantity.views):
                rows = quantity.scored(view) & (mine != "")
                for name in names:
                    inside, outside = rows & (mine == name), rows & (mine != name)
                    if not inside.any():
                        continue
                    group = resampled_scores(quantity, view, inside, everything)
                    rest = resampled_scores(quantity, view, outside, everything)
                    found += [
                        GroupScore(
                            *(column, name, quantity.name, view, measure),
                            score=group.interval(measure),
                            above_rest=group.minus(rest, measure),
                            clips=int(inside.sum()),
                            speakers=group.speakers,
                        )
                        for measure in quantity.compared
                    ]
    return tuple(found)
