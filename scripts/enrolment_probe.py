"""What it is worth to know the speaker, for a linear model: docs/results/enrolment.md.

    python scripts/enrolment_probe.py data/ravdess/manifest.parquet stores/ravdess/speed-1.0

A logistic regression on mean and deviation over time of each clip's features, one for the sound and
one for the face, on the folds of the manifest; trained without and with normalisation by speaker,
and tested with more and more unlabelled clips of the test speakers. With ``--development`` the
strength of the prior is compared on development speakers instead, and no test fold is touched.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import Manifest
from vavl.data.moments import PRIOR_CLIPS, Moments, SequenceMap, pooled
from vavl.data.partition import Partition, given_folds
from vavl.data.store import FeatureStore
from vavl.evaluation.fusion import View
from vavl.evaluation.predictions import PredictionTable
from vavl.studies.comparison import mean_test_share
from vavl.studies.enrolment import (
    MIXED,
    NOTHING,
    Condition,
    KnownSpeakers,
    possible_conditions,
    score_conditions,
)
from vavl.studies.enrolment_report import write_enrolment
from vavl.training.speakers import SEEN_SPEAKERS, SpeakerNormalisation
from vavl.types import STREAMS, Modality

INVERSE_PENALTY = {Modality.ACOUSTIC: 0.003, Modality.VISUAL: 0.03}
PRIORS = (1.0, 2.0, 5.0, 10.0, 20.0)
VIEWS = (View.ACOUSTIC, View.VISUAL, View.PRODUCT)


class Fold:
    """The two classifiers of a fold, without and with normalisation of the training speakers."""

    def __init__(
        self,
        partition: Partition,
        manifest: Manifest,
        stores: Mapping[Modality, FeatureStore],
        clips: Mapping[Modality, Mapping[str, Moments]],
        tested: Sequence[str],
    ) -> None:
        self.partition, self.manifest, self.stores = partition, manifest, stores
        self.clips, self.tested = clips, tested
        self.training = self.priors(PRIOR_CLIPS)
        by_speaker = SpeakerNormalisation(manifest, stores, self.training)
        self.by_speaker = by_speaker
        self.models = {
            known: {m: self.fitted(m, by_speaker if known else None) for m in STREAMS}
            for known in (False, True)
        }

    def priors(self, clips: float) -> dict[Modality, Moments]:
        """The training statistics, as that many clips."""
        found = {
            m: pooled((self.clips[m][i] for i in self.partition.train), self.stores[m].spec.dim)
            for m in STREAMS
        }
        return {m: Moments(clips, all.mean, all.variance) for m, all in found.items()}

    def inputs(
        self, modality: Modality, names: Sequence[str], read: SequenceMap | None
    ) -> NDArray[np.float64]:
        """Mean and deviation of each clip, ``(N, 2 D)``; of one step only the mean, ``(N, D)``."""
        rows = []
        for name in names:
            clip = self.clips[modality][name]
            ends = np.stack(
                [clip.mean, clip.mean + clip.std]
            )  # of an affine map these two tell all
            if read is not None:
                ends = read(modality, name, ends)
            one_step = self.stores[modality].lengths.max() == 1
            rows.append(ends[0] if one_step else np.concatenate([ends[0], ends[1] - ends[0]]))
        return np.array(rows, dtype=np.float64)

    def labels(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Category of each clip."""
        categories = self.manifest.categories
        return np.array([categories.index(str(self.manifest.by_id[i].category)) for i in names])

    def fitted(self, modality: Modality, read: SequenceMap | None) -> object:
        """A classifier of the training clips."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        regression = LogisticRegression(C=INVERSE_PENALTY[modality], max_iter=2000)
        x = self.inputs(modality, self.partition.train, read)
        return make_pipeline(StandardScaler(), regression).fit(x, self.labels(self.partition.train))

    def table(self, read: SequenceMap | None, *, known: bool) -> PredictionTable:
        """Predictions for the tested clips."""
        logits = {
            m: model.predict_log_proba(self.inputs(m, self.tested, read))  # type: ignore[attr-defined]
            for m, model in self.models[known].items()
        }
        return PredictionTable(
            categories=self.manifest.categories,
            attributes=(),
            utterance_ids=tuple(self.tested),
            speakers=tuple(self.manifest.by_id[i].speaker for i in self.tested),
            partitions=(self.partition.name,) * len(self.tested),
            category_targets=self.labels(self.tested),
            attribute_targets=np.empty((len(self.tested), 0), np.float32),
            logits=logits,
        )

    def speakers(self, prior: float = PRIOR_CLIPS) -> KnownSpeakers:
        """The tested speakers, to be known from some of their clips."""
        return KnownSpeakers(self.manifest, self.tested, self.clips, self.priors(prior))


def score(
    folds: Sequence[Fold], speakers: Sequence[KnownSpeakers], *, known: bool, draws: int, out: Path
) -> None:
    """Predicts under all conditions, and writes the report."""
    tables: defaultdict[Condition, list[tuple[str, PredictionTable]]] = defaultdict(list)
    for condition in possible_conditions(speakers, (MIXED, "neutral")):
        for draw in range(draws if condition.draws else 1):
            for fold, others in zip(folds, speakers, strict=True):
                read = None if condition == NOTHING else others.sequence_map(condition, draw)
                tables[condition].append((str(draw), fold.table(read, known=known)))
    share = mean_test_share({fold.partition.name: fold.partition for fold in folds})
    results = score_conditions(tables, VIEWS, test_share=share, replicates=2000)
    remarks = (
        f"Logistic regressions on pooled features, trained {'with' if known else 'without'} "
        f"normalisation by speaker; {draws} draws, prior of {PRIOR_CLIPS:g} clips."
    )
    print(write_enrolment(results, out, remarks).read_text(encoding="utf-8"), flush=True)


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
    parser.add_argument("stores", type=Path, help="folder with the stores acoustic and visual")
    parser.add_argument("--out", type=Path, default=Path("studies/enrolment-probe"))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--development", action="store_true")
    options = parser.parse_args()

    manifest = Manifest.load(options.manifest)
    stores = {m: FeatureStore.open(options.stores / m) for m in STREAMS}
    clips = {
        m: {i: Moments.of_clip(store.read(i)) for i in store.ids} for m, store in stores.items()
    }
    share = 0.2 if options.development else 0.0
    folds = [
        Fold(p, manifest, stores, clips, p.development if options.development else p.test)
        for p in given_folds(manifest, development_share=share, balance_by="sex")
    ]
    if options.development:
        for prior in PRIORS:
            for count in (1, 2, 5, 10, 30):
                maps = [f.speakers(prior).sequence_map(Condition(MIXED, count)) for f in folds]
                tables = [f.table(read, known=True) for f, read in zip(folds, maps, strict=True)]
                print(f"prior {prior:g}, {count} clips: {accuracies(tables)}", flush=True)
        return
    print(f"strangers: {accuracies([fold.table(None, known=False) for fold in folds])}")
    known = accuracies([fold.table(fold.by_speaker, known=True) for fold in folds])
    print(
        f"trained and tested with normalisation by speaker: {known}\n  {SEEN_SPEAKERS}", flush=True
    )
    speakers = [fold.speakers() for fold in folds]
    for trained, name in ((False, "without"), (True, "with")):
        score(folds, speakers, known=trained, draws=options.draws, out=options.out / name)


if __name__ == "__main__":
    main()
