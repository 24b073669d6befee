"""The bundled model `compact`: voices of RAVDESS and faces of faces48, from data to scored weights.

    python scripts/train_compact.py RAVDESS_FOLDER FACES48_NPZ

Nobody is both heard and seen in this data: each voice is paired with other people's faces of the
same emotion. The actors of fold 0 and the test split of faces48 are held out from everything but
the last scores. Development actors (a share of the others) and the validation split of faces48
were used to choose settings and to fit the temperatures. With ``--development`` only they are
scored. Writes the model to --out, and with --ship into the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compact_data import FaceViews, Voices, batches
from compact_face_augment import augmented
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vavl.config.experiment import TrainingConfig
from vavl.config.models import VAVLConfig
from vavl.data.corpora.ravdess import prepare_ravdess
from vavl.data.manifest import Manifest
from vavl.data.partition import given_folds
from vavl.data.store import FeatureStore
from vavl.features.compact_face import CLASSES, CompactFaceFeatures
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.metrics import accuracy, confusion_matrix, uar
from vavl.models.pretrained import Calibration, write_calibration, write_features, write_model
from vavl.models.sequences import Sequences
from vavl.models.vavl import VAVL, Unimodal
from vavl.training.loop import learning_rate
from vavl.training.objective import Objective
from vavl.training.setup import make_optimizer
from vavl.types import FeatureSpec, Modality

sys.path.append(str(Path(__file__).parents[1] / "research"))
from calibration import expected_calibration_error, fit_temperature

SPEEDS = (1.0, 0.92, 1.08)
VIEWS = 4
FACES_PER_CLASS = 1200
PAIRINGS = 20
PACKAGE = Path(__file__).parents[1] / "src" / "vavl" / "inference" / "assets" / "compact"

TRAINING = TrainingConfig(
    schedule="joint",
    epochs=30,
    batch_size=16,
    learning_rate=1.5e-3,
    learning_rate_schedule="cosine",
    warmup_epochs=1,
    betas=(0.9, 0.99),
    weight_decay=0.1,
    decoupled_weight_decay=True,
    gradient_clip=5.0,
    alpha=0.2,
    label_smoothing=0.1,
    visual_noise=0.3,
)


@dataclass(frozen=True)
class Data:
    """Everything the model is trained and scored on."""

    voices: dict[str, Voices]
    training_faces: FaceViews
    faces: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]
    specs: dict[Modality, FeatureSpec]


def read_data(ravdess: Path, faces48: Path, work: Path) -> Data:
    """Utterance table, log-mel stores, and embeddings of faces; what is there is not redone."""
    table = work / "ravdess" / "manifest.parquet"
    manifest = Manifest.load(table) if table.is_file() else prepare_ravdess(ravdess, table.parent)
    stores = []
    for speed in SPEEDS:
        extractor = build_extractor(Modality.ACOUSTIC, "logmel-pitch", speed=speed)
        report = extract(manifest, extractor, work / f"speed-{speed}")
        if report.failed:
            raise SystemExit(report.summary())
        stores.append(FeatureStore.open(work / f"speed-{speed}"))
    fold = given_folds(manifest, development_share=0.2, balance_by="sex")[0]
    voices = {
        "train": Voices.of(manifest, fold.train, stores),
        "development": Voices.of(manifest, fold.development, stores),
        "test": Voices.of(manifest, fold.test, stores),
    }
    network = CompactFaceFeatures()
    visual = build_extractor(Modality.VISUAL, "compact-face").spec
    cache = work / f"faces-{network.weights_sha256[:12]}.npz"
    if not cache.is_file():
        np.savez(cache, **embed_faces(np.load(faces48, allow_pickle=False), network))
    kept = np.load(cache, allow_pickle=False)
    return Data(
        voices,
        FaceViews(kept["views"], kept["view_labels"]),
        {name: (kept[name], kept[f"{name}_labels"]) for name in ("development", "test")},
        {Modality.ACOUSTIC: stores[0].spec, Modality.VISUAL: visual},
    )


def embed_faces(data: Any, network: CompactFaceFeatures) -> dict[str, NDArray[Any]]:
    """Random views of training faces, and the faces of the other splits as they are."""
    images, labels, split = data["images"], data["labels"], data["split"]
    random, chance = np.random.default_rng(0), torch.Generator().manual_seed(0)
    chosen = np.concatenate(
        [
            random.permutation(np.flatnonzero((split == 0) & (labels == label)))[:FACES_PER_CLASS]
            for label in range(len(CLASSES))
        ]
    )
    crops = torch.from_numpy(images[chosen])
    views = [crops.numpy()]
    while len(views) < VIEWS:
        changed = torch.cat([augmented(part, 48, chance) for part in crops.split(512)])
        views.append(changed.round().clamp(0, 255).to(torch.uint8).numpy())
    kept: dict[str, NDArray[Any]] = {
        "views": np.stack([network.embed(view) for view in views], 1).astype(np.float16),
        "view_labels": labels[chosen].astype(np.int64),
    }
    for name, number in (("development", 1), ("test", 2)):
        kept[name] = network.embed(images[split == number])
        kept[f"{name}_labels"] = labels[split == number].astype(np.int64)
    return kept


def train(data: Data, settings: TrainingConfig, show: Callable[[str], None]) -> VAVL:
    """Trains the model; returns the running average of its weights over the last steps."""
    torch.manual_seed(settings.seed)
    model = VAVL(
        VAVLConfig.preset(
            "small",
            acoustic_dim=data.specs[Modality.ACOUSTIC].dim,
            visual_dim=data.specs[Modality.VISUAL].dim,
            categories=CLASSES,
            fusion_base="product",
        )
    )
    voices = data.voices["train"]
    frames = np.concatenate([voices.read(index) for index in range(len(voices.ids))])
    faces = data.training_faces.embeddings.reshape(-1, model.config.visual_dim).astype(np.float32)
    for modality, x in ((Modality.ACOUSTIC, frames), (Modality.VISUAL, faces)):
        statistics = map(torch.from_numpy, (x.mean(0), x.std(0)))
        model.normalisation(modality).set_statistics(*statistics)
    objective = Objective(model, settings)
    optimizer = make_optimizer(model, settings)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    random = np.random.default_rng(settings.seed)
    for epoch in range(settings.epochs):
        started, losses = time.perf_counter(), []
        objective.train()
        steps = -(-len(voices.ids) // settings.batch_size)
        for step, batch in enumerate(
            batches(voices, data.training_faces, settings.batch_size, random)
        ):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch + step / steps)
            loss = torch.stack(list(objective(batch, objective.steps[0]).values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip or 5.0)
            optimizer.step()
            average.update_parameters(model)
            losses.append(loss.item())
        seconds = time.perf_counter() - started
        line = f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, {seconds:.0f} s"
        if (epoch + 1) % 5 == 0 or epoch + 1 == settings.epochs:
            found = unimodal(average.module, data, "development")
            figures = {m: round(uar(labels, x.argmax(1)), 3) for m, (labels, x) in found.items()}
            line += f", development UAR {figures}"
        show(line)
    trained: VAVL = average.module
    return trained


Scored = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Labels ``(N,)`` and logits ``(N, 7)``."""


def read(model: VAVL, modality: Modality, clips: Iterable[NDArray[np.float32]]) -> Unimodal:
    """What the model makes of sequences of one modality, one at a time."""
    found = []
    for x in clips:
        sequence = model.normalisation(modality).normalise(torch.from_numpy(x)[None])
        mask = torch.ones(1, len(x), dtype=torch.bool)
        found.append(model.encode(modality, Sequences.whole(sequence, mask)))
    return Unimodal(
        torch.arange(len(found)),
        *(
            torch.cat([getattr(each, name) for each in found])
            for name in ("values", "representation", "head", "reconstruction")
        ),
    )


@torch.inference_mode()
def read_split(model: VAVL, data: Data, split: str) -> dict[Modality, Any]:
    """Labels of all voices and faces of a split, and what the model makes of them."""
    model.eval()
    voices = data.voices[split]
    faces, labels = data.faces[split]
    heard = read(model, Modality.ACOUSTIC, map(voices.read, range(len(voices.ids))))
    seen = read(model, Modality.VISUAL, (face[None] for face in faces))
    return {Modality.ACOUSTIC: (voices.labels, heard), Modality.VISUAL: (labels, seen)}


@torch.inference_mode()
def unimodal(model: VAVL, data: Data, split: str) -> dict[Modality, Scored]:
    """Labels and logits of all voices and faces of a split."""
    return {
        modality: (labels, found.values.numpy())
        for modality, (labels, found) in read_split(model, data, split).items()
    }


@torch.inference_mode()
def composed(model: VAVL, data: Data, split: str) -> list[Scored]:
    """Each voice with a face of the same emotion, drawn anew for each of the pairings."""
    found = read_split(model, data, split)
    labels, heard = found[Modality.ACOUSTIC]
    face_labels, seen = found[Modality.VISUAL]
    pairings = []
    for seed in range(PAIRINGS):
        random = np.random.default_rng(seed)
        partners = torch.tensor(
            [random.choice(np.flatnonzero(face_labels == label)) for label in labels]
        )
        pairings.append((labels, model.fuse(heard, seen.at(partners)).numpy()))
    return pairings


def measures(labels: NDArray[np.int64], logits: NDArray[np.float32], temperature: float) -> Any:
    """Everything that is reported of one set."""
    scaled = logits / temperature
    probabilities = np.exp(scaled - scaled.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    guesses = logits.argmax(1)
    return {
        "clips": len(labels),
        "accuracy": round(accuracy(labels, guesses), 4),
        "uar": round(uar(labels, guesses), 4),
        "ece": round(expected_calibration_error(labels, probabilities), 4),
        "confusion": confusion_matrix(labels, guesses, classes=len(CLASSES)).tolist(),
    }


def fit_temperatures(model: VAVL, data: Data) -> dict[Modality, float]:
    """One temperature per prediction, fitted on the development data."""
    fitted = {
        modality: fit_temperature(*found)
        for modality, found in unimodal(model, data, "development").items()
    }
    pairings = composed(model, data, "development")
    labels, logits = (np.concatenate(parts) for parts in zip(*pairings, strict=True))
    return {**fitted, Modality.AUDIOVISUAL: fit_temperature(labels, logits)}


def score(model: VAVL, data: Data, split: str, temperatures: dict[Modality, float]) -> Any:
    """All figures on one split."""
    result = {
        str(modality): measures(*found, temperatures[modality])
        for modality, found in unimodal(model, data, split).items()
    }
    each = [
        measures(*pairing, temperatures[Modality.AUDIOVISUAL])
        for pairing in composed(model, data, split)
    ]
    result["composed pairs"] = {
        "pairings": len(each),
        **{
            f"{name} {kind}": round(float(function([one[name] for one in each])), 4)
            for name in ("accuracy", "uar", "ece")
            for kind, function in (("mean", np.mean), ("deviation", np.std))
        },
    }
    return result


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ravdess", type=Path, help="folder with manifest.csv and audio16k")
    parser.add_argument("faces48", type=Path, help="faces48.npz")
    parser.add_argument("--work", type=Path, default=Path("data/compact"), help="what can be kept")
    parser.add_argument("--out", type=Path, default=Path("runs/compact"))
    parser.add_argument("--epochs", type=int, default=TRAINING.epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--development", action="store_true", help="leave the test data alone")
    parser.add_argument("--ship", action="store_true", help="copy the model into the package")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = read_data(options.ravdess, options.faces48, options.work)
    settings = TRAINING.model_copy(update={"epochs": options.epochs, "seed": options.seed})
    model = train(data, settings, lambda line: print(line, flush=True))
    state = {
        name: value.half() if value.ndim > 1 and value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    write_model(options.out, model.config, state)
    model = VAVL.from_pretrained(
        options.out
    )  # what is scored is what is shipped, rounding included
    temperatures = fit_temperatures(model, data)
    write_features(options.out, data.specs)
    write_calibration(options.out, Calibration(temperatures))
    splits = ("development",) if options.development else ("development", "test")
    scores = {split: score(model, data, split, temperatures) for split in splits}
    scores["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    (options.out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    print(json.dumps(scores))
    if options.ship:
        shutil.rmtree(PACKAGE, ignore_errors=True)
        PACKAGE.mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "features.json", "calibration.json"):
            shutil.copy(options.out / name, PACKAGE / name)


if __name__ == "__main__":
    main()
