"""Sequences that are completed, stacked and subsampled."""

from __future__ import annotations

import torch
from small_models import (
    ACOUSTIC,
    VISUAL,
    sized,
)

from vavl.models.baselines.sfav import stacked
from vavl.models.conformer import lengths_to_mask
from vavl.models.sequences import Predicted, Sequences, completed, in_common, subsampled


def test_parts_are_reduced_to_the_clips_that_all_have() -> None:
    parts = [
        Predicted(torch.tensor(rows), torch.tensor(rows)[:, None].float())
        for rows in ([0, 2, 3, 5], [2, 3, 4, 5], [1, 3, 5])
    ]
    for part in in_common(*parts):
        assert part.rows.tolist() == part.values[:, 0].tolist() == [3, 5]
    assert not any(in_common(parts[0], Predicted(torch.tensor([1, 4]), torch.zeros(2, 1))))


def test_clips_are_completed_with_one_step_of_zeros() -> None:
    config = sized("sfav")
    acoustic = Sequences(
        torch.tensor([0, 3]), torch.ones(2, 5, 6), lengths_to_mask(torch.tensor([5, 3]), 5)
    )
    visual = Sequences(torch.tensor([1, 3]), torch.ones(2, 4, 4), torch.ones(2, 4) > 0)
    a, v = completed({ACOUSTIC: acoustic, VISUAL: visual}, config)
    assert a.rows.tolist() == v.rows.tolist() == [0, 1, 3]
    assert a.mask.sum(1).tolist() == [5, 1, 3]
    assert v.mask.sum(1).tolist() == [1, 4, 4]
    assert (a.x[1] == 0).all()
    assert (v.x[0] == 0).all()
    a, v = completed({ACOUSTIC: acoustic}, config)
    assert (v.x.shape, a.rows.tolist()) == ((2, 1, 4), [0, 3])
    nobody = visual.at(torch.zeros(2) > 0)
    without = completed({ACOUSTIC: acoustic, VISUAL: nobody}, config)
    assert without[1].x.shape == v.x.shape, (
        "a modality that no clip has is like one that is not there"
    )
    both = stacked([acoustic, Sequences(acoustic.rows, acoustic.x[:, :2], acoustic.mask[:, :2])])
    assert both.mask.sum(1).tolist() == [5, 3, 2, 2]


def test_subsampled_steps_are_means_of_the_valid_ones() -> None:
    x = torch.arange(7.0).view(1, 7, 1).expand(1, 7, 6).clone()
    mask = torch.tensor([[True, True, False, True, False, False, False]])
    x[~mask] = torch.inf
    config = sized("mult", acoustic_subsampling=2)
    part = subsampled({ACOUSTIC: Sequences.whole(x, mask)}, config)[ACOUSTIC]
    assert part.mask.tolist() == [[True, True, False, False]]
    assert part.x[0, :, 0].tolist() == [0.5, 3.0, 0.0, 0.0]
