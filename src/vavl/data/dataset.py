"""Batches of padded sequences with their targets, from a manifest and its feature stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vavl.data.manifest import Manifest, Utterance, most_chosen
from vavl.data.speakers import SequenceMap
from vavl.data.store import FeatureStore, known_steps
from vavl.errors import InputError
from vavl.types import STREAMS, Batch, Modality

Item = TypeVar("Item")
Read = TypeVar("Read")


@contextmanager
def read_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Iterator[Read]]:
    """Calls a function on items in a thread, in their order, one call ahead of its use.

    Files are read, copied and converted without Python's lock, beside the computation. The function
    must leave torch's global random numbers alone: which of two threads draws first is chance.

    Yields:
        The results, once. A call that failed raises its error in the place of its result. The
        thread ends with the context, after the call that it is in.

    Example:
        >>> with read_ahead(str.upper, "abc") as results:
        ...     list(results)
        ['A', 'B', 'C']
    """
    threads = torch.get_num_threads()
    # Operations of torch in this thread get no threads of their own beside those that compute.
    reader = ThreadPoolExecutor(1, "read-ahead", torch.set_num_threads, (1,))

    def results() -> Iterator[Read]:
        waiting: deque[Future[Read]] = deque()
        for item in items:
            waiting.append(reader.submit(read, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield results()
    finally:
        reader.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # of threads yet to come; each has a number of its own


class UtteranceDataset(Dataset[Batch]):
    """The clips of one split, read a batch at a time.

    An item is a whole batch: the index is a list of positions, so that one call pads all of them.

    Args:
        manifest: Utterance table.
        ids: Which utterances. Those that no store has are left out and listed in :attr:`absent`.
        stores: By modality; a clip that a store lacks has no such modality.
        categories: In the order of the targets; empty for a model without categories.
        attributes: In the order of the targets; empty for a model without attributes.
        soft: Targets are the distribution of the raters' votes where there are votes.
        variants: Further stores of the same clips, e.g. at other speeds, see :meth:`draw_variants`.
        apart: Utterances whose sound and face become two items.
        sequence_map: What each sequence is replaced by, e.g. normalised by its speaker; not in
            :meth:`feature_statistics`. May be set later.

    Raises:
        InputError: No store is given, or no clip is left.
    """

    def __init__(
        self,
        manifest: Manifest,
        ids: Sequence[str],
        stores: Mapping[Modality, FeatureStore],
        *,
        categories: Sequence[str] = (),
        attributes: Sequence[str] = (),
        soft: bool = False,
        variants: Mapping[Modality, Sequence[FeatureStore]] | None = None,
        apart: Collection[str] = (),
        sequence_map: SequenceMap | None = None,
    ) -> None:
        if not stores:
            raise InputError("stores: expected at least one feature store, got none")
        self.stores = dict(stores)
        self.sequence_map = sequence_map
        self.variants = {m: tuple(further) for m, further in (variants or {}).items()}
        self._draws: dict[Modality, NDArray[np.float64]] = {}
        self.categories = tuple(categories)
        self.attributes = tuple(attributes)
        self.ids = [i for i in ids if any(i in store for store in stores.values())]
        self.absent = sorted(set(ids) - set(self.ids))
        if not self.ids:
            raise InputError(
                f"stores: none of the {len(ids)} utterances of this split has features; were the "
                "stores extracted from this manifest?"
            )
        lengths = np.array([[_steps(stores.get(m), i) for i in self.ids] for m in STREAMS])
        apart = frozenset(apart)
        split = lengths.all(0) & np.array([i in apart for i in self.ids])
        # A clip that is taken apart stands twice: once without its face, once without its sound.
        rows = np.repeat(np.arange(len(self.ids)), np.where(split, 2, 1))
        again = np.append(False, rows[1:] == rows[:-1])
        lacks = np.stack([again, split[rows] & ~again])
        self.ids = [self.ids[row] for row in rows]
        self.lengths = np.where(lacks, 0, lengths[:, rows])
        """``(2, N)`` steps per modality (acoustic, visual), 0 where it is absent."""
        utterances = [manifest.by_id[i] for i in self.ids]
        self.speakers = [utterance.speaker for utterance in utterances]
        self.labels = torch.tensor([_label(u, categories) for u in utterances])
        """``(N,)`` the one category that a clip is scored by, -1 where unknown."""
        self.category_targets = (
            torch.stack([_distribution(u, categories, soft) for u in utterances])
            if categories
            else None
        )
        self.attribute_targets = (
            torch.tensor(
                [[(u.attributes or {}).get(a, np.nan) for a in attributes] for u in utterances],
                dtype=torch.float32,
            )
            if attributes
            else None
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        rows = list(positions)
        acoustic, acoustic_mask = self._padded(Modality.ACOUSTIC, rows)
        visual, visual_mask = self._padded(Modality.VISUAL, rows)
        return Batch(
            utterance_ids=[self.ids[row] for row in rows],
            acoustic=acoustic,
            acoustic_mask=acoustic_mask,
            visual=visual,
            visual_mask=visual_mask,
            category_targets=None if self.category_targets is None else self.category_targets[rows],
            attribute_targets=(
                None if self.attribute_targets is None else self.attribute_targets[rows]
            ),
        )

    def draw_variants(self, seed: int) -> None:
        """Draws anew which of the stores each clip is read from; at first it is the first one.

        All those that have the clip are equally likely. It is drawn for each clip once, so that
        it does not matter in which batch, when, and by which thread or rank the clip is read.
        """
        rng = np.random.default_rng(seed)
        self._draws = {modality: rng.random(len(self)) for modality in self.variants}

    def _padded(self, modality: Modality, rows: list[int]) -> tuple[Tensor | None, Tensor | None]:
        """``(B, T, D)`` padded with zeros and ``(B, T)`` mask, or None where all lack it."""
        names = [self.ids[row] for row in rows]
        sources = [self._source(modality, row) for row in rows]
        lengths = [_steps(source, name) for source, name in zip(sources, names, strict=True)]
        if not any(lengths):
            return None, None
        shape = (len(rows), max(lengths), self.stores[modality].spec.dim)
        padded, mask = np.empty(shape, dtype=np.float32), np.zeros(shape[:2], dtype=bool)
        for place, valid, name, source, steps in zip(
            padded, mask, names, sources, lengths, strict=True
        ):
            place[steps:] = 0
            if source is None:
                continue
            frames: NDArray[np.floating] = source.read(name)
            if self.sequence_map is not None:
                frames = self.sequence_map(modality, name, frames)
            known = known_steps(frames)
            valid[:steps] = known
            # Widened by torch, which is several times faster at that than numpy.
            torch.from_numpy(place[:steps]).copy_(
                torch.from_numpy(frames if known.all() else np.nan_to_num(frames))
            )
        return torch.from_numpy(padded), torch.from_numpy(mask)

    def _source(self, modality: Modality, row: int) -> FeatureStore | None:
        """The store that a clip is read from, the drawn one of those that have it."""
        if not self.lengths[STREAMS.index(modality), row]:
            return None
        store = self.stores[modality]
        if modality not in self._draws:
            return store
        found = [store, *(s for s in self.variants[modality] if self.ids[row] in s)]
        return found[int(self._draws[modality][row] * len(found))]

    def feature_statistics(self, modality: Modality) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``(D,)`` over all frames of a modality, in one pass.

        Sums are kept in float64 around the first clip's mean, so that large offsets do not cancel.

        Raises:
            InputError: No clip of this split has the modality.
        """
        store = self.stores[modality]
        origin: np.ndarray | None = None
        count, total, squares = 0, np.zeros(store.spec.dim), np.zeros(store.spec.dim)
        for row in np.flatnonzero(self.lengths[STREAMS.index(modality)]):
            frames = store.read(self.ids[row])
            frames = frames[known_steps(frames)].astype(np.float64)
            if not np.isfinite(frames).all():
                raise InputError(
                    f"{modality}: expected finite features, got NaN or infinity in utterance "
                    f"{self.ids[row]!r} of {store.path}; extract it again or leave it out"
                )
            if origin is None:
                origin = frames.mean(0)
            frames -= origin
            count += len(frames)
            total += frames.sum(0)
            squares += np.square(frames).sum(0)
        if origin is None:
            raise InputError(f"{modality}: no training clip has features of this modality")
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        return torch.from_numpy(origin + mean).float(), torch.from_numpy(std).float()


def _steps(store: FeatureStore | None, utterance_id: str) -> int:
    """Steps of a clip in a store, 0 where it is absent."""
    if store is None or utterance_id not in store:
        return 0
    return int(store.lengths[store.row(utterance_id)])


def _distribution(utterance: Utterance, categories: Sequence[str], soft: bool) -> Tensor:
    """``(C,)`` target distribution of one clip; NaN where it has no label among the categories."""
    target = torch.zeros(len(categories))
    if soft and utterance.votes:
        for index, category in enumerate(categories):
            target[index] = float(utterance.votes.get(category, 0.0))
    elif utterance.category in categories:
        target[categories.index(utterance.category)] = 1.0
    total = target.sum()
    return target / total if total > 0 else torch.full_like(target, torch.nan)


def _label(utterance: Utterance, categories: Sequence[str]) -> int:
    """Index of a clip's category, else of the one with most votes; -1 if that is not one."""
    category = utterance.category
    if category is None and utterance.votes:
        chosen = most_chosen({name: utterance.votes.get(name, 0.0) for name in categories})
        category = chosen[0] if len(chosen) == 1 else None
    return categories.index(category) if category in categories else -1


_POOL = 8
"""Batches whose clips are sorted together by length."""


class BucketSampler(Sampler[list[int]]):
    """Positions for batches of clips of similar length, in a seeded order that differs per epoch.

    Clips are shuffled, cut into pools of several batches, sorted by length within a pool and cut
    into batches; the batches are shuffled again. Padding shrinks, and batches still vary.

    Args:
        lengths: ``(N,)`` steps of each clip.
        batch_size: Clips per batch.
        seed: Seed of the order.
        rank: Which of the disjoint shares of each batch is given; it may be empty.
        ranks: Number of shares.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        # Every ranks-th clip, so that each share has long and short ones.
        self.share = slice(rank, None, ranks)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        span = _POOL * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), span):
            pool = order[start : start + span]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [
                pool[i : i + self.batch_size].tolist() for i in range(0, len(pool), self.batch_size)
            ]
        for index in rng.permutation(len(batches)):
            yield batches[index][self.share]


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Positions in batches from the longest clip to the shortest, for scoring without gradients."""
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
