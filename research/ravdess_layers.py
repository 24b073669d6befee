"""Which layers of Whisper's encoder serve RAVDESS best, on development speakers; resumable.

    python research/ravdess_layers.py RAVDESS_FOLDER WHISPER_BASE_ENCODER_FOLDER

For each choice of layers: the features without silence, and a logistic regression on their mean and
deviation over time, scored on the development speakers of the five folds. No test fold is touched.
The study `ravdess` trains on the best of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.data.manifest import Manifest
from vavl.data.partition import given_folds
from vavl.data.store import FeatureStore
from vavl.features.extract import extract
from vavl.features.registry import build_extractor

CANDIDATES = ((3,), (4,), (2, 3, 4))
SILENCE_DB = 30.0
"""Steps so far below a clip's loudest one are left out; chosen on development speakers, too."""


def probe(manifest: Manifest, store: FeatureStore) -> float:
    """Accuracy of a logistic regression on pooled features, on development speakers, five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pooled = {}
    for utterance_id in store.ids:
        frames = store.read(utterance_id).astype(np.float32)
        frames = frames[~np.isnan(frames[:, 0])]  # silence has no features
        pooled[utterance_id] = np.concatenate([frames.mean(0), frames.std(0)])
    scores = []
    for partition in given_folds(manifest, development_share=0.2, balance_by="sex"):
        x, y = (
            [np.array([get(i) for i in ids]) for ids in (partition.train, partition.development)]
            for get in (pooled.__getitem__, lambda i: str(manifest.by_id[i].category))
        )
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
        scores.append(model.fit(x[0], y[0]).score(x[1], y[1]))
    return float(np.mean(scores))


def main() -> None:
    """Extracts and scores every choice of layers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder with manifest.csv, audio16k, visual_au.npz")
    parser.add_argument("encoder", help="folder or hub id of whisper-base's encoder")
    options = parser.parse_args()

    table = Path("data/ravdess/manifest.parquet")
    manifest = (
        Manifest.load(table)
        if table.is_file()
        else prepare_ravdess(root=options.root, out=table.parent)
    )
    for layers in CANDIDATES:
        out = Path(
            f"stores/ravdess/layers-{'-'.join(map(str, layers))}-silence-{SILENCE_DB:g}",
            "speed-1.0/acoustic",
        )
        extractor = build_extractor(
            "acoustic",
            f"hf:{options.encoder}",
            layer=layers if len(layers) > 1 else layers[0],
            speed=1.0,
            silence_db=SILENCE_DB,
        )
        report = extract(manifest, extractor, out, workers=2)
        if report.failed:
            raise SystemExit(f"{out}: {len(report.failed)} clips failed, see failures.csv there")
        accuracy = probe(manifest, FeatureStore.open(out))
        print(f"layers {layers}: development accuracy {accuracy:.3f}", flush=True)


if __name__ == "__main__":
    main()
