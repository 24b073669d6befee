"""What it is worth to know the speaker, for a linear model: docs/results/enrolment.md.

    python research/enrolment_probe.py data/ravdess/manifest.parquet ACOUSTIC_STORE VISUAL_STORE

A logistic regression on mean and deviation over time of each clip's features, one for the sound and
one for the face, on the folds of the manifest; trained without and with normalisation by speaker,
and tested with more and more unlabelled clips of the test speakers. With ``--development`` the
clips of development speakers are scored instead, to choose the strength of the prior by.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import Manifest
from vavl.data.partition import Partition, given_folds
from vavl.data.speakers import (
    PRIOR_CLIPS,
    SEEN_SPEAKERS,
    Moments,
    SequenceMap,
    SpeakerNormalisation,
    pooled,
    speaker_moments,
    training_moments,
)
from vavl.data.store import FeatureStore
from vavl.evaluation.compare import (
    Predicted,
    compare,
    mean_test_share,
    predicted,
    variant_scores,
)
from vavl.evaluation.conditions import Condition, KnownClips, clip_moments, known_clips
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.views import View
from vavl.evaluation.wording import signed
from vavl.types import STREAMS, Modality

INVERSE_PENALTY = {Modality.ACOUSTIC: 0.003, Modality.VISUAL: 0.03}
CONDITIONS = (
    *(Condition(known_clips=number) for number in (0, 1, 2, 5, 10, 30, "all")),
    *(Condition(known_clips=number, known_category="neutral") for number in (1, 2, "all")),
)
VIEWS = (View.ACOUSTIC, View.VISUAL, View.PRODUCT)


@dataclass(frozen=True)
class Data:
    """What all folds have in common: clips, and the moments of each clip and each speaker."""

    manifest: Manifest
    one_step: dict[Modality, bool]
    clips: dict[Modality, dict[str, Moments]]
    speakers: dict[Modality, dict[str, Moments]]

    @classmethod
    def load(cls, manifest: Path, acoustic: Path, visual: Path) -> Data:
        """Reads everything once."""
        table = Manifest.load(manifest)
        folders = {Modality.ACOUSTIC: acoustic, Modality.VISUAL: visual}
        stores = {m: FeatureStore.open(folder) for m, folder in folders.items()}
        return cls(
            table,
            {m: int(store.lengths.max()) == 1 for m, store in stores.items()},
            {m: clip_moments(store, store.ids) for m, store in stores.items()},
            {m: speaker_moments(table, store) for m, store in stores.items()},
        )


class Fold:
    """The two classifiers of a fold, without and with normalisation of the training speakers."""

    def __init__(self, partition: Partition, data: Data, prior_clips: float) -> None:
        self.partition, self.data = partition, data
        priors = {m: self.prior(m, prior_clips) for m in STREAMS}
        self.by_speaker = SpeakerNormalisation(data.manifest, data.speakers, priors)
        self.priors = priors
        self.models = {
            known: {m: self.fitted(m, self.by_speaker if known else None) for m in STREAMS}
            for known in (False, True)
        }

    def prior(self, modality: Modality, clips_alike: float) -> Moments:
        """The training statistics, as that many clips."""
        clips = [self.data.clips[modality][name] for name in self.partition.train]
        training = pooled(clips, len(clips[0].mean))
        return training_moments(training.mean, training.std, clips_alike)

    def inputs(
        self, modality: Modality, names: Sequence[str], read: SequenceMap | None
    ) -> NDArray[np.float64]:
        """Mean and deviation of each clip, ``(N, 2 D)``; of one step only the mean, ``(N, D)``."""
        rows = []
        for name in names:
            clip = self.data.clips[modality][name]
            # Of an affine map these two tell all.
            ends = np.stack([clip.mean, clip.mean + clip.std])
            if read is not None:
                ends = read(modality, name, ends)
            parts = [ends[0]] if self.data.one_step[modality] else [ends[0], ends[1] - ends[0]]
            rows.append(np.concatenate(parts))
        return np.array(rows, dtype=np.float64)

    def labels(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Category of each clip."""
        categories = self.data.manifest.categories
        return np.array(
            [categories.index(str(self.data.manifest.by_id[i].category)) for i in names]
        )

    def fitted(self, modality: Modality, read: SequenceMap | None) -> object:
        """A classifier of the training clips."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        regression = LogisticRegression(C=INVERSE_PENALTY[modality], max_iter=2000)
        x = self.inputs(modality, self.partition.train, read)
        return make_pipeline(StandardScaler(), regression).fit(x, self.labels(self.partition.train))

    def known_table(self, condition: Condition, *, known: bool) -> PredictionTable:
        """Predictions for the tested clips, each normalised by other clips of its speaker."""
        if not condition.known_clips:
            return self.table(None, known=known)
        clips = known_clips(
            condition, map(self.data.manifest.by_id.__getitem__, self.partition.test)
        )
        return self.table(KnownClips(clips, self.data.clips, self.priors), known=known)

    def table(self, read: SequenceMap | None, *, known: bool) -> PredictionTable:
        """Predictions for the tested clips."""
        logits = {
            m: model.predict_log_proba(self.inputs(m, self.partition.test, read))  # type: ignore[attr-defined]
            for m, model in self.models[known].items()
        }
        return PredictionTable(
            categories=self.data.manifest.categories,
            attributes=(),
            utterance_ids=tuple(self.partition.test),
            speakers=tuple(self.data.manifest.by_id[i].speaker for i in self.partition.test),
            partitions=(self.partition.name,) * len(self.partition.test),
            category_targets=self.labels(self.partition.test),
            attribute_targets=np.empty((len(self.partition.test), 0), np.float32),
            logits=logits,
        )


def score(folds: Sequence[Fold], options: argparse.Namespace, *, known: bool) -> None:
    """Predicts under all conditions; prints scores and their differences from nothing known."""
    share = mean_test_share({fold.partition.name: fold.partition for fold in folds})
    print(f"trained {'with' if known else 'without'} normalisation by speaker")
    strangers: dict[View, Predicted] = {}
    for condition in CONDITIONS:
        draws = condition.model_copy(update={"draws": options.draws}).single_draws()
        tables = [fold.known_table(draw, known=known) for draw in draws for fold in folds]
        labels = [draw.seed for draw in draws for _ in folds]
        cells = []
        for view in VIEWS:
            found = predicted(tables, labels, view)
            settings = {"replicates": options.replicates}
            pooled = variant_scores(found, ["accuracy"], **settings)["accuracy"].pooled
            other = strangers.setdefault(view, found)
            names = (condition.name, CONDITIONS[0].name)
            compared = compare(names, found, other, "accuracy", test_share=share, **settings)
            cells.append(f"{view} {pooled.estimate:.3f} ({signed(compared.difference)})")
        print(f"  {condition.name}: {', '.join(cells)}", flush=True)


def accuracies(tables: Sequence[PredictionTable]) -> dict[str, float]:
    """Mean over folds of each view's accuracy."""
    found = {}
    for view in VIEWS:
        scores = []
        for table in tables:
            used = STREAMS if view is View.PRODUCT else (Modality(view),)
            best = np.sum([table.logits[m] for m in used], axis=0).argmax(1)
            scores.append(np.mean(best == table.category_targets))
        found[str(view)] = round(float(np.mean(scores)), 3)
    return found


def main() -> None:
    """Fits the models and prints what they score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("acoustic", type=Path, help="feature store")
    parser.add_argument("visual", type=Path, help="feature store")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--prior", type=float, default=PRIOR_CLIPS, help="clips it counts as")
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--development", action="store_true")
    options = parser.parse_args()

    data = Data.load(options.manifest, options.acoustic, options.visual)
    share = 0.2 if options.development else 0.0
    folds = [
        Fold(replace(p, test=p.development) if options.development else p, data, options.prior)
        for p in given_folds(data.manifest, development_share=share, balance_by="sex")
    ]
    print(f"strangers: {accuracies([fold.table(None, known=False) for fold in folds])}")
    known = accuracies([fold.table(fold.by_speaker, known=True) for fold in folds])
    print(
        f"trained and tested with normalisation by speaker: {known}\n  {SEEN_SPEAKERS}", flush=True
    )
    for trained in (False, True):
        score(folds, options, known=trained)


if __name__ == "__main__":
    main()
