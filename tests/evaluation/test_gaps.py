"""Gaps in test clips: what is hidden, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TinyCorpus

from vavl.data.dataset import UtteranceDataset
from vavl.data.store import FeatureStore
from vavl.errors import InputError
from vavl.evaluation.gaps import ClipsWithGaps, Gaps, hidden_span
from vavl.types import STREAMS


def datasets(corpus: TinyCorpus, gaps: Gaps) -> tuple[UtteranceDataset, UtteranceDataset]:
    stores = {m: FeatureStore.open(corpus.folder / "stores" / m) for m in STREAMS}
    ids = [utterance.utterance_id for utterance in corpus.manifest][:10]
    return (
        UtteranceDataset(corpus.manifest, ids, stores),
        ClipsWithGaps(corpus.manifest, ids, stores, gaps=gaps),
    )


def test_the_asked_share_is_hidden_in_one_span_and_the_rest_is_as_before(
    tiny_corpus: TinyCorpus,
) -> None:
    whole, gappy = datasets(tiny_corpus, Gaps(visual=0.4))
    rows = list(range(10))
    before, after = whole[rows], gappy[rows]
    assert before.visual_mask is not None
    assert after.visual_mask is not None
    assert torch.equal(before.visual, after.visual)  # type: ignore[arg-type]
    assert torch.equal(before.acoustic_mask, after.acoustic_mask)  # type: ignore[arg-type]
    for full, left in zip(before.visual_mask.numpy(), after.visual_mask.numpy(), strict=True):
        assert not (left & ~full).any()
        hidden = np.flatnonzero(full & ~left)
        assert len(hidden) == round(0.4 * full.sum())
        assert np.array_equal(hidden, np.arange(hidden[0], hidden[-1] + 1))


def test_the_gap_of_a_clip_depends_on_neither_its_neighbours_nor_their_order(
    tiny_corpus: TinyCorpus,
) -> None:
    _, gappy = datasets(tiny_corpus, Gaps(acoustic=0.5))
    together, alone = gappy[[3, 5, 7]], gappy[[5]]
    assert together.acoustic_mask is not None
    assert alone.acoustic_mask is not None
    steps = alone.acoustic_mask.shape[1]
    assert torch.equal(together.acoustic_mask[1, :steps], alone.acoustic_mask[0])
    _, other = datasets(tiny_corpus, Gaps(acoustic=0.5, seed=1))
    assert not torch.equal(other[[3, 5, 7]].acoustic_mask, together.acoustic_mask)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [0.0, 0.31, 0.5, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_a_longer_gap_covers_a_shorter_one_and_leaves_a_step(steps: int, place: float) -> None:
    before: set[int] = set()
    for share in np.linspace(0, 0.99, 34):
        hidden = set(range(steps)[hidden_span(steps, float(share), place)])
        assert before <= hidden
        assert len(hidden) < steps
        before = hidden


def test_a_share_of_all_steps_is_refused() -> None:
    with pytest.raises(InputError, match="acoustic"):
        Gaps(acoustic=1.0)
