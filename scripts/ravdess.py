"""RAVDESS from the corpus to the table in docs/results/ravdess.md: one command, resumable.

    python scripts/ravdess.py RAVDESS_FOLDER WHISPER_BASE_ENCODER_FOLDER

Steps: the utterance table; a probe that chooses among layers of Whisper's encoder on development
speakers; their features at five speeds; five folds for each seed, two at a time; scores.
With ``--development`` the folds keep development speakers apart and are scored on them instead:
this is how the settings in configs/ravdess.toml were compared. The test folds are not touched then.
With ``--stores 3`` it ends after the features of layer 3, which the studies of RAVDESS train on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vavl.config.experiment import load_experiment
from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.data.manifest import Manifest
from vavl.data.partition import given_folds
from vavl.data.store import FeatureStore
from vavl.features.extract import extract
from vavl.features.registry import Extractor, build_extractor
from vavl.types import Modality

CONFIG = Path(__file__).parents[1] / "configs" / "ravdess.toml"
STORES = Path("stores/ravdess")
SPEEDS = (1.0, 0.9, 0.95, 1.06, 1.1)
CANDIDATES = ((3,), (4,), (2, 3, 4))
SILENCE_DB = 30.0
"""Steps so far below a clip's loudest one are left out; chosen on development speakers, too."""


def acoustic_store(layers: Sequence[int], speed: float, silence_db: float | None) -> Path:
    """Where the features of some layers lie."""
    silence = "" if silence_db is None else f"-silence-{silence_db:g}"
    kind = f"layers-{'-'.join(map(str, layers))}{silence}"
    return STORES / kind / f"speed-{speed}" / "acoustic"


def extract_acoustic(
    manifest: Manifest,
    encoder: str,
    layers: Sequence[int],
    speeds: Sequence[float] = SPEEDS,
    silence_db: float | None = SILENCE_DB,
) -> None:
    """Features of some layers, at every speed."""
    for speed in speeds:
        layer = layers if len(layers) > 1 else layers[0]
        options = {} if silence_db is None else {"silence_db": silence_db}
        extractor = build_extractor(
            Modality.ACOUSTIC, f"hf:{encoder}", layer=layer, speed=speed, **options
        )
        complete(manifest, extractor, acoustic_store(layers, speed, silence_db))


def complete(manifest: Manifest, extractor: Extractor, out: Path) -> None:
    """Extracts the features of every clip, or stops: the table is about all of them."""
    report = extract(manifest, extractor, out, workers=2)
    print(f"{out}: {report.summary()}", flush=True)
    if report.failed:
        raise SystemExit(f"{out}: {len(report.failed)} clips failed, see failures.csv there")


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


def train(seed: int, fold: int, *, development: bool) -> str:
    """Trains one fold in a process of its own, so that two run at a time on two cores."""
    name = f"ravdess-development-{seed}" if development else f"ravdess-{seed}"
    command = [
        *(sys.executable, "-m", "vavl", "train", str(CONFIG), "--name", name),
        *("--training.seed", str(seed), "--threads", "1", "--folds", f"fold-{fold}"),
    ]
    if development:
        command += ["--development_share", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return name


def main() -> None:
    """Runs all steps that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="folder with manifest.csv, audio16k, visual_au.npz")
    parser.add_argument("encoder", help="folder or hub id of whisper-base's encoder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--stores", type=int, nargs="+", metavar="LAYER", help="only extract them")
    options = parser.parse_args()

    table = Path("data/ravdess/manifest.parquet")
    manifest = (
        Manifest.load(table) if table.is_file() else prepare_ravdess(options.root, table.parent)
    )
    complete(manifest, build_extractor(Modality.VISUAL, "arrays"), STORES / "visual")
    if options.stores:
        extract_acoustic(manifest, options.encoder, options.stores, silence_db=None)
        return
    scores = {}
    for layers in CANDIDATES:
        extract_acoustic(manifest, options.encoder, layers, speeds=SPEEDS[:1])
        store = acoustic_store(layers, SPEEDS[0], SILENCE_DB)
        scores[layers] = probe(manifest, FeatureStore.open(store))
    best = max(scores, key=lambda layers: scores[layers])
    print(f"Development accuracy of a probe by layers: {scores}; {best} are taken")
    configured, chosen = (
        load_experiment(CONFIG).data.acoustic,
        acoustic_store(best, SPEEDS[0], SILENCE_DB),
    )
    if configured != str(chosen):
        raise SystemExit(f"{CONFIG} trains on {configured}: change it to {chosen}")
    extract_acoustic(manifest, options.encoder, best)

    started = time.perf_counter()
    jobs = [(seed, fold) for seed in options.seeds for fold in range(5)]
    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(lambda job: train(*job, development=options.development), jobs))
    seconds = time.perf_counter() - started
    print(f"{len(jobs)} folds trained in {seconds:.0f} s, two at a time")
    runs = [Path("runs") / name for name in dict.fromkeys(names)]
    if options.development:
        report_development(runs)
        return
    subprocess.run([sys.executable, "-m", "vavl", "evaluate", *map(str, runs)], check=True)


def report_development(runs: list[Path]) -> None:
    """Prints the mean development accuracy of the last epoch."""
    rows = []
    for history in sorted(path for run in runs for path in run.glob("fold-*/metrics.jsonl")):
        record = json.loads(history.read_text().splitlines()[-1])["development"]
        rows.append([record[modality]["accuracy"] for modality in Modality])
        print(history.parent, dict(zip(Modality, rows[-1], strict=True)))
    print("mean", dict(zip(map(str, Modality), np.mean(rows, axis=0).round(4), strict=True)))


if __name__ == "__main__":
    main()
