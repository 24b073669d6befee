"""Batches: padding, targets, buckets, statistics, and reading ahead."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import reading_threads

from vavl.data.dataset import BucketSampler, UtteranceDataset, read_ahead, sorted_batches
from vavl.data.manifest import Manifest, Utterance
from vavl.data.store import FeatureStore, StoreWriter
from vavl.errors import InputError, StoreError
from vavl.types import FeatureSpec, Modality

ACOUSTIC, VISUAL = Modality.ACOUSTIC, Modality.VISUAL


def make_store(
    path: Path, modality: Modality, lengths: dict[str, int], seed: int = 0
) -> FeatureStore:
    rng = np.random.default_rng(seed)
    with StoreWriter(path, FeatureSpec(modality, "arrays", 3, 50.0)) as writer:
        for utterance_id, length in lengths.items():
            writer.write(utterance_id, 100 + seed * 1000 + rng.normal(size=(length, 3)))
    return FeatureStore.open(path)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        [
            Utterance("both", "c", "ann", audio_path="a.wav", category="happy"),
            Utterance("sound", "c", "ann", audio_path="b.wav", attributes={"arousal": 0.5}),
            Utterance(
                "face",
                "c",
                "bob",
                visual_features_path="c.npy",
                category="sad",
                votes={"sad": 3, "happy": 1, "calm": 4},
            ),
            Utterance("nothing", "c", "bob", audio_path="d.wav", category="sad"),
        ],
        root=Path(),
    )


@pytest.fixture
def stores(tmp_path: Path) -> dict[Modality, FeatureStore]:
    return {
        ACOUSTIC: make_store(tmp_path / "a", ACOUSTIC, {"both": 5, "sound": 2}),
        VISUAL: make_store(tmp_path / "v", VISUAL, {"both": 1, "face": 4}),
    }


def test_batch(manifest: Manifest, stores: dict[Modality, FeatureStore]) -> None:
    ids = ["both", "sound", "face", "nothing"]
    dataset = UtteranceDataset(
        manifest, ids, stores, categories=("happy", "sad"), attributes=("arousal",), soft=True
    )
    assert dataset.absent == ["nothing"]
    batch = dataset[[2, 0, 1]]
    assert batch.utterance_ids == ["face", "both", "sound"]
    assert batch.acoustic is not None
    assert batch.acoustic_mask is not None
    assert batch.visual_mask is not None
    assert batch.acoustic_mask.sum(1).tolist() == [0, 5, 2]
    assert batch.visual_mask.sum(1).tolist() == [4, 1, 0]
    assert batch.acoustic.shape == (3, 5, 3)
    assert torch.equal(batch.acoustic[1], torch.from_numpy(stores[ACOUSTIC].read("both")).float())
    assert (batch.acoustic[2, 2:] == 0).all()
    assert batch.category_targets is not None
    assert batch.attribute_targets is not None
    assert batch.category_targets[0].tolist() == [0.25, 0.75], "votes for other categories go"
    assert batch.category_targets[1].tolist() == [1.0, 0.0]
    assert batch.category_targets[2].isnan().all()
    assert batch.attribute_targets[:, 0].isnan().tolist() == [True, True, False]


def test_clips_taken_apart_are_two_items_that_know_nothing_of_each_other(
    manifest: Manifest, stores: dict[Modality, FeatureStore]
) -> None:
    ids = ["both", "sound", "face"]
    whole = UtteranceDataset(manifest, ids, stores, categories=("happy", "sad"))
    apart = UtteranceDataset(manifest, ids, stores, categories=("happy", "sad"), apart=ids)
    assert apart.ids == ["both", "both", "sound", "face"]
    assert apart.lengths.tolist() == [[5, 0, 2, 0], [0, 1, 0, 4]]
    assert apart.labels.tolist() == [0, 0, -1, 1]
    batch, pair = apart[[0, 1]], whole[[0]]
    assert batch.acoustic is not None
    assert batch.acoustic_mask is not None
    assert batch.visual_mask is not None
    assert batch.acoustic_mask.any(1).tolist() == [True, False]
    assert batch.visual_mask.any(1).tolist() == [False, True]
    assert torch.equal(batch.acoustic[0], pair.acoustic[0])  # type: ignore[index]
    assert torch.equal(batch.visual[1], pair.visual[0])  # type: ignore[index]
    for modality in (ACOUSTIC, VISUAL):
        for one, other in zip(
            apart.feature_statistics(modality), whole.feature_statistics(modality), strict=True
        ):
            assert torch.equal(one, other)


def test_a_modality_that_no_clip_of_the_batch_has(
    manifest: Manifest, stores: dict[Modality, FeatureStore]
) -> None:
    dataset = UtteranceDataset(manifest, ["sound", "both"], stores, categories=("happy", "sad"))
    batch = dataset[[0]]
    assert batch.visual is None
    assert batch.visual_mask is None
    assert batch.attribute_targets is None


def test_steps_without_a_face_keep_their_place_and_are_masked(
    manifest: Manifest, tmp_path: Path
) -> None:
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    features[[0, 2]] = np.nan
    with StoreWriter(tmp_path / "gaps", FeatureSpec(VISUAL, "arrays", 3, 25.0)) as writer:
        writer.write("face", features)
    dataset = UtteranceDataset(manifest, ["face"], {VISUAL: FeatureStore.open(tmp_path / "gaps")})
    batch = dataset[[0]]
    assert batch.visual is not None
    assert batch.visual_mask is not None
    assert batch.visual_mask.tolist() == [[False, True, False, True]]
    assert batch.visual[0].tolist() == [[0, 0, 0], [3, 4, 5], [0, 0, 0], [9, 10, 11]]
    mean, std = dataset.feature_statistics(VISUAL)
    assert mean.tolist() == [6, 7, 8]
    assert std.tolist() == [3, 3, 3]


def test_no_features_at_all(manifest: Manifest, stores: dict[Modality, FeatureStore]) -> None:
    with pytest.raises(InputError, match="none of the 1 utterances"):
        UtteranceDataset(manifest, ["nothing"], stores)
    with pytest.raises(InputError, match="at least one feature store"):
        UtteranceDataset(manifest, ["both"], {})


def test_statistics_equal_numpy(manifest: Manifest, stores: dict[Modality, FeatureStore]) -> None:
    dataset = UtteranceDataset(manifest, ["both", "sound", "face"], stores)
    mean, std = dataset.feature_statistics(ACOUSTIC)
    frames = np.concatenate([stores[ACOUSTIC].read(i) for i in ("both", "sound")]).astype(float)
    assert np.allclose(mean, frames.mean(0), rtol=1e-6)
    assert np.allclose(std, frames.std(0), rtol=1e-4)


def test_variants_are_drawn_by_clip_and_seeded(
    manifest: Manifest, stores: dict[Modality, FeatureStore], tmp_path: Path
) -> None:
    faster = make_store(tmp_path / "fast", ACOUSTIC, {"both": 4}, seed=1)
    dataset = UtteranceDataset(manifest, ["both", "sound"], stores, variants={ACOUSTIC: [faster]})

    def lengths(rows: list[int]) -> list[int]:
        mask = dataset[rows].acoustic_mask
        assert mask is not None
        return mask.sum(1).tolist()

    assert lengths([0, 1]) == [5, 2], "nothing is drawn before it is asked for"
    drawn = []
    state = torch.get_rng_state()
    for seed in range(40):
        dataset.draw_variants(seed)
        drawn.append(lengths([0, 1]))
        # Nor does it matter how often, in which batch and in which order clips are read.
        assert lengths([1]) + lengths([0]) == drawn[-1][::-1]
    assert {first for first, _ in drawn} == {4, 5}
    assert {second for _, second in drawn} == {2}, "a clip without a variant stays as it is"
    for seed in range(40):
        dataset.draw_variants(seed)
        assert lengths([0, 1]) == drawn[seed]
    assert torch.equal(torch.get_rng_state(), state), "reading takes none of the random numbers"


def test_all_variants_are_drawn_equally_often(tmp_path: Path) -> None:
    names = [f"clip-{index}" for index in range(900)]
    manifest = Manifest(
        [Utterance(name, "c", "ann", audio_path="a.wav") for name in names], root=Path()
    )
    own, *others = (
        make_store(tmp_path / str(steps), ACOUSTIC, dict.fromkeys(names, steps))
        for steps in (1, 2, 3)
    )
    dataset = UtteranceDataset(manifest, names, {ACOUSTIC: own}, variants={ACOUSTIC: others})
    dataset.draw_variants(0)
    batch = dataset[range(len(names))]
    assert batch.acoustic_mask is not None
    counts = batch.acoustic_mask.sum(1).bincount().tolist()
    assert counts[1:] == pytest.approx([300] * 3, abs=60)  # four standard deviations


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=200),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_sampler_visits_each_clip_once(lengths: list[int], batch_size: int, seed: int) -> None:
    sampler = BucketSampler(lengths, batch_size, seed=seed)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert list(sampler) == batches
    if len(lengths) > 20 and batch_size < len(lengths):
        epochs = []
        for epoch in range(1, 25):  # of two batches, one epoch in two begins with the same
            sampler.set_epoch(epoch)
            epochs.append(list(sampler))
        assert any(other != batches for other in epochs)
    flat = [i for batch in sorted_batches(lengths, batch_size) for i in batch]
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)


def test_buckets_save_padding() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 400, size=1000)

    def padding(batches: list[list[int]]) -> float:
        padded = sum(max(lengths[batch]) * len(batch) for batch in batches)
        return float(padded / lengths.sum() - 1)

    order = rng.permutation(1000).tolist()
    shuffled = padding([order[i : i + 32] for i in range(0, 1000, 32)])
    assert padding(list(BucketSampler(lengths.tolist(), 32))) < 0.4 * shuffled


WAIT_S = 30


class Result:
    """Something that can be watched being freed."""

    def __init__(self, item: int) -> None:
        self.item = item


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_are_those_of_plain_calls_in_order(ahead: int, count: int) -> None:
    with read_ahead(str, range(count), ahead) as results:
        assert list(results) == [str(item) for item in range(count)]
    assert not reading_threads()


def test_the_next_is_read_while_one_is_used() -> None:
    read = [threading.Event() for _ in range(5)]
    with read_ahead(lambda item: read[item].set(), range(5)) as results:
        for index, _ in enumerate(results):
            assert read[min(index + 1, 4)].wait(WAIT_S)
            assert len(reading_threads()) == 1


@pytest.mark.parametrize("ahead", [1, 2])
def test_no_more_is_read_than_was_asked_for_and_what_was_used_is_freed(ahead: int) -> None:
    taken: list[int] = []
    made: weakref.WeakSet[Result] = weakref.WeakSet()

    def items() -> object:
        for item in range(20):
            taken.append(item)
            yield item

    def read(item: int) -> Result:
        result = Result(item)
        made.add(result)
        return result

    with read_ahead(read, items(), ahead) as results:  # type: ignore[arg-type]
        for used in range(1, 21):
            assert next(results).item == used - 1
            assert len(taken) == min(used + ahead, 20)
            assert len(made) <= ahead


def test_an_error_comes_out_in_the_place_of_its_result() -> None:
    mistake = StoreError("shard-00000: cannot be read")

    def read(item: int) -> int:
        if item == 2:
            raise mistake
        return item

    found: list[int] = []
    with (
        pytest.raises(StoreError, match="shard-00000: cannot be read") as raised,
        read_ahead(read, range(9)) as results,
    ):
        found.extend(results)
    # The same object, so that what it was caused by is there too.
    assert raised.value is mistake
    assert not reading_threads()
    with read_ahead(read, range(9)) as results:
        assert [next(results), next(results)] == [0, 1]  # what was read before is not lost


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_the_thread_ends_when_the_context_is_left(error: type[BaseException]) -> None:
    begun: list[int] = []

    def use_one() -> None:
        with read_ahead(begun.append, range(1000)) as results:
            next(results)
            raise error

    with pytest.raises(error):
        use_one()
    assert not reading_threads()
    assert len(begun) <= 2
    with read_ahead(begun.append, range(1000)) as results:
        next(results)
    assert not reading_threads()


def test_operations_in_the_thread_take_no_threads_of_those_that_compute() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with read_ahead(lambda _: torch.get_num_threads(), range(3)) as results:
            assert list(results) == [1, 1, 1]
            assert torch.get_num_threads() == 2
        found: list[int] = []
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found == [2], "a thread begun later"
    finally:
        torch.set_num_threads(before)
