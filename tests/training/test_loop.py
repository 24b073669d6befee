"""Training end to end on a small corpus: it learns, resumes, and keeps what it promises."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from numpy.typing import NDArray
from safetensors.torch import load_file
from tiny import Killed, TinyCorpus, kill_in_the_second_epoch, reading_threads

import vavl
from vavl.config.experiment import TrainingConfig
from vavl.data.dataset import UtteranceDataset
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.store import FeatureStore
from vavl.errors import InputError, StoreError
from vavl.evaluation.evaluate import evaluate_runs
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.training import loop
from vavl.training.checkpoint import Progress, read_checkpoint, restore, save_checkpoint
from vavl.training.experiment import make_datasets, make_partitions, open_stores, train_experiment
from vavl.training.run_folder import FoldDirectory, folds_of_run
from vavl.training.scoring import run_model
from vavl.training.setup import compile_layers
from vavl.types import Batch, Modality


def weights(fold: FoldDirectory) -> dict[str, torch.Tensor]:
    return load_file(fold.path / "model.safetensors")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """However a training ends: at its last epoch, out of patience, or by an error."""
    yield
    assert not reading_threads()


def everything_drawn(faster_voices: Path) -> dict[str, object]:
    """Options of a training in which all that can be random is."""
    return {
        "data__acoustic_variants": [str(faster_voices)],
        "training__epochs": 3,
        "training__mixup": 0.5,
        "training__visual_noise": 0.3,
        "training__modality_dropout": 0.2,
        "training__time_masking": 0.2,
    }


def assert_same_training(fold: FoldDirectory, expected: FoldDirectory) -> None:
    """Bit for bit: the weights, and what was recorded of each epoch but its duration."""
    found = weights(fold)
    for name, value in weights(expected).items():
        assert torch.equal(value, found[name]), name
    one, other = (
        [{k: v for k, v in record.items() if k != "seconds"} for record in f.history()]
        for f in (fold, expected)
    )
    assert one == other


def test_resumed_equals_uninterrupted_bit_for_bit(
    tiny_corpus: TinyCorpus, faster_voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = everything_drawn(faster_voices)
    whole = tiny_corpus.experiment(tmp_path / "whole", **options)
    [expected] = train_experiment(whole, only=["fold-0"])

    broken = tiny_corpus.experiment(tmp_path / "broken", **options)
    begun = kill_in_the_second_epoch(monkeypatch)
    with pytest.raises(Killed):
        train_experiment(broken, only=["fold-0"])
    fold = FoldDirectory(broken.run_dir / "fold-0")
    assert fold.checkpoint_file.is_file()
    assert not fold.finished
    with pytest.raises(StoreError, match="no finished fold"):
        folds_of_run(broken.run_dir)
    train_experiment(broken, only=["fold-0"])
    assert len(begun) == 4, "one epoch before, the one that died, and the two that were left"
    assert not fold.checkpoint_file.exists()
    assert_same_training(fold, expected)


def test_the_timing_of_the_reading_thread_does_not_matter(
    tiny_corpus: TinyCorpus, faster_voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = everything_drawn(faster_voices) | {"training__epochs": 2}
    plain = tiny_corpus.experiment(tmp_path / "plain", **options)
    [expected] = train_experiment(plain, only=["fold-0"])
    original = FeatureStore.read
    reads = itertools.count()

    def now_and_then_slow(store: FeatureStore, utterance_id: str) -> NDArray[np.float16]:
        if next(reads) % 7 == 0:
            time.sleep(0.005)
        return original(store, utterance_id)

    monkeypatch.setattr(FeatureStore, "read", now_and_then_slow)
    slow = tiny_corpus.experiment(tmp_path / "slow", **options)
    assert_same_training(train_experiment(slow, only=["fold-0"])[0], expected)

    # Nor does it matter whether there is such a thread at all.
    monkeypatch.setattr(loop, "read_ahead", lambda read, items: nullcontext(map(read, items)))
    without = tiny_corpus.experiment(tmp_path / "without", **options)
    assert_same_training(train_experiment(without, only=["fold-0"])[0], expected)


def test_variants_take_part_in_training(
    tiny_corpus: TinyCorpus, faster_voices: Path, tmp_path: Path
) -> None:
    folds = [
        train_experiment(tiny_corpus.experiment(tmp_path / name, **options), only=["fold-0"])[0]
        for name, options in {
            "plain": {},
            "varied": {"data__acoustic_variants": [str(faster_voices)]},
        }.items()
    ]
    losses = [[record["train"]["acoustic_loss"] for record in f.history()] for f in folds]
    assert all(plain != varied for plain, varied in zip(*losses, strict=True))


def test_an_error_of_the_reading_thread_comes_out(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = UtteranceDataset.__getitem__
    reads: list[str] = []

    def fails_at_the_third(dataset: UtteranceDataset, positions: list[int]) -> Batch:
        reads.append(threading.current_thread().name)
        if len(reads) == 3:
            raise StoreError("cannot read shard-00000.safetensors")
        return original(dataset, positions)

    monkeypatch.setattr(UtteranceDataset, "__getitem__", fails_at_the_third)
    with pytest.raises(StoreError, match="cannot read shard-00000"):
        train_experiment(tiny_corpus.experiment(tmp_path), only=["fold-0"])
    assert all(name.startswith("read-ahead") for name in reads)


def test_an_interrupted_step_ends_the_reading_thread(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> float:
        assert reading_threads()
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "learning_rate", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_experiment(tiny_corpus.experiment(tmp_path), only=["fold-0"])
    assert not reading_threads(), "while the traceback still holds the frames of the loop"
    del stopped


def test_compiled_training_gives_the_same(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dynamo's part without the compiler, which takes minutes.
    monkeypatch.setattr(loop, "compile_layers", partial(compile_layers, backend="eager"))
    still = {f"model__{kind}": 0.0 for kind in ("dropout", "input_dropout", "head_dropout")}
    still["model__shared_blocks"] = 0  # a block per modality has each kind of layer
    folds = [
        train_experiment(
            tiny_corpus.experiment(
                tmp_path / str(compiled), training__compile=compiled, training__epochs=1, **still
            ),
            only=["fold-0"],
        )[0]
        for compiled in (False, True)
    ]
    torch.testing.assert_close(*map(weights, folds), atol=1e-5, rtol=1e-4)


def test_finished_folds_are_left_alone_and_other_settings_refused(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    [fold] = train_experiment(config, only=["fold-1"])
    before = (fold.path / "model.safetensors").stat().st_mtime_ns
    finished: list[bool] = []
    train_experiment(config, only=["fold-1"], on_fold=lambda fold, done: finished.append(done))
    assert finished == [True]
    assert (fold.path / "model.safetensors").stat().st_mtime_ns == before
    other = tiny_corpus.experiment(tmp_path, training__epochs=2)
    with pytest.raises(StoreError, match=r"training\.epochs: was 1, now 2") as refusal:
        train_experiment(other)
    assert all(way in str(refusal.value) for way in ("same configuration", "--name", "--overwrite"))
    assert "a cosine schedule is stretched" in str(refusal.value)
    with pytest.raises(InputError, match="expected some of"):
        train_experiment(config, only=["fold-9"])


def test_the_scale_of_half_precision_is_kept(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())

    def half_precision(scale: float) -> MixedPrecision:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        return MixedPrecision("16-mixed", "cpu", scaler)

    path, after = tmp_path / "checkpoint.pt", half_precision(2.0)
    save_checkpoint(path, model, optimizer, half_precision(32.0), Progress(epoch=4), {})
    progress, _ = restore(read_checkpoint(path), path, model, optimizer, after)
    assert progress.epoch == 4
    assert after.scaler is not None
    assert after.scaler.get_scale() == 32


def test_a_record_written_just_before_a_kill_is_dropped(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=3)
    original = loop.save_checkpoint
    saved = 0

    def dies_before_the_second(*args: object) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            raise Killed
        original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "save_checkpoint", dies_before_the_second)
    with pytest.raises(Killed):
        train_experiment(config, only=["fold-0"])
    [fold] = train_experiment(config, only=["fold-0"])
    assert [record["epoch"] for record in fold.history()] == [1, 2, 3]


@pytest.mark.parametrize("schedule", ["joint", "alternating"])
def test_it_learns(tiny_corpus: TinyCorpus, tmp_path: Path, schedule: str) -> None:
    config = tiny_corpus.experiment(
        tmp_path,
        training__schedule=schedule,
        training__epochs=16,
        training__learning_rate=3e-3,
        data__attributes=["arousal"],
    )
    [fold] = train_experiment(config, only=["fold-0"])
    history = fold.history()
    assert len(history) == 16
    assert history[-1]["train"]["loss"] < 0.8 * history[0]["train"]["loss"]
    best = max(record["development"]["score"] for record in history)
    summary = json.loads(fold.summary_file.read_text())
    assert summary["best_value"] == pytest.approx(best)
    assert history[summary["best_epoch"] - 1]["development"]["score"] == pytest.approx(best)
    assert best > 0.2, "chance is below 0.1: the mean of UAR over six classes and of CCC"
    provenance = json.loads((config.run_dir / "provenance.json").read_text())
    assert provenance["manifest_sha256"] == tiny_corpus.manifest.sha256
    assert provenance["versions"]["torch"] == torch.__version__
    assert list((fold.path / "tensorboard").iterdir())


def test_early_stopping_and_selection() -> None:
    settings = TrainingConfig(patience=2, selection="loss")
    assert not loop.out_of_patience(loop.Progress(3, 2, -1.0), settings)
    assert loop.out_of_patience(loop.Progress(4, 2, -1.0), settings)
    assert not loop.out_of_patience(loop.Progress(9, 1, 0.5), TrainingConfig())
    report = {"score": 0.7, "loss": 1.5}
    assert loop.selection_value(report, settings, 4) == -1.5
    assert loop.selection_value(report, TrainingConfig(selection="score"), 4) == 0.7
    assert loop.selection_value(report, TrainingConfig(selection="last"), 4) == 4
    assert loop.selection_value(None, settings, 4) == 4


def test_learning_rate() -> None:
    settings = TrainingConfig(
        learning_rate=1.0, epochs=10, learning_rate_schedule="cosine", warmup_epochs=2
    )
    rates = [loop.learning_rate(settings, epoch / 4) for epoch in range(41)]
    assert rates[4] == pytest.approx(0.5)
    assert rates[0] < rates[4] < max(rates)
    assert rates[20] == pytest.approx(0.5)
    assert rates[40] == pytest.approx(0.0, abs=1e-9)
    assert rates[8:] == sorted(rates[8:], reverse=True)


def test_unpaired_corpus_trains_and_has_no_fusion(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    """Half of the clips have sound alone, the others a face alone: not one is paired."""
    utterances = [
        replace(u, visual_features_path=None) if index % 2 else replace(u, audio_path=None)
        for index, u in enumerate(tiny_corpus.manifest)
    ]
    unpaired = Manifest(utterances, root=tiny_corpus.manifest.root)
    folder = tmp_path / "unpaired"
    unpaired.save(folder / "manifest.parquet")
    for modality, name in ((Modality.ACOUSTIC, "logmel"), (Modality.VISUAL, "arrays")):
        report = extract(
            unpaired,
            build_extractor(modality, name),
            folder / "stores" / modality,
            progress=False,
        )
        assert report.absent == len(unpaired) / 2
    config = TinyCorpus(unpaired, folder).experiment(tmp_path)
    [fold] = train_experiment(config, only=["fold-0"])
    record = fold.history()[-1]
    assert set(record["train"]) == {"loss", "acoustic_loss", "visual_loss"}
    assert {"acoustic", "visual"} <= set(record["development"])
    assert "audiovisual" not in record["development"]
    # Its fusion head has learnt nothing: clips with both modalities get the average of the two.
    model = vavl.VAVL.from_pretrained(fold.path)
    x, y = torch.randn(1, 40, 80), torch.randn(1, 9, 17)
    out = model(acoustic=x, visual=y)
    assert out.audiovisual is None
    probabilities = (out.acoustic.softmax(1) + out.visual.softmax(1)) / 2
    assert torch.allclose(out.prediction.softmax(1), probabilities, atol=1e-6)
    assert out.modality == [Modality.AUDIOVISUAL]


def test_a_share_of_the_pairs_is_torn_apart(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    def training_split(share: float, **options: object) -> UtteranceDataset:
        config = tiny_corpus.experiment(
            tmp_path, data__paired_share=share, **{"training__seed": 0, **options}
        )
        stores = open_stores(config)
        partition = make_partitions(config, tiny_corpus.manifest)[0]
        return make_datasets(config, tiny_corpus.manifest, stores, partition)[0]

    def pairs(dataset: UtteranceDataset) -> set[str]:
        return {dataset.ids[row] for row in (dataset.lengths > 0).all(0).nonzero()[0]}

    whole = training_split(1.0)
    before: set[str] = set()
    for share in (0.0, 0.25, 0.5):
        part = training_split(share)
        assert len(pairs(part)) == round(share * len(whole))
        assert len(part) == 2 * len(whole) - len(pairs(part))
        assert set(part.ids) == set(whole.ids)
        assert ((part.lengths > 0).sum(1) == len(whole)).all()  # nothing is lost but the pairing
        assert before <= pairs(part)
        before = pairs(part)
    assert pairs(training_split(0.5, training__seed=1)) != before
    dropped = training_split(0.5, data__unpaired="drop")
    assert set(dropped.ids) == pairs(dropped) == before
    with pytest.raises(InputError, match="no training clip is left"):
        training_split(0.0, data__unpaired="drop")


def test_mixed_paired_and_unpaired_clips(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    """Some clips lack one modality's features: all of the others still count."""
    folder = tmp_path / "mixed"
    utterances = [
        replace(u, visual_features_path=None) if index % 3 == 0 else u
        for index, u in enumerate(tiny_corpus.manifest)
    ]
    mixed = Manifest(utterances, root=tiny_corpus.manifest.root)
    mixed.save(folder / "manifest.parquet")
    mixed = Manifest.load(folder / "manifest.parquet")
    shutil.copytree(tiny_corpus.folder / "stores" / "acoustic", folder / "stores" / "acoustic")
    extract(
        mixed,
        build_extractor(Modality.VISUAL, "arrays"),
        folder / "stores" / "visual",
        progress=False,
    )
    config = TinyCorpus(mixed, folder).experiment(tmp_path, training__class_weights=True)
    [fold] = train_experiment(config, only=["fold-0"])
    development = fold.history()[-1]["development"]
    assert set(development) >= {"score", "acoustic", "visual", "audiovisual"}
    scores = evaluate_runs([config.run_dir], replicates=20)
    assert scores.evaluation.clips == len(Partition.load(fold.partition_file).test)
    assert any("1 of 3 folds" in remark for remark in scores.evaluation.remarks)


def test_attributes_alone_and_votes_alone(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    attributes = tiny_corpus.experiment(
        tmp_path, name="attributes", data__categories=[], data__attributes=["valence"]
    )
    [fold] = train_experiment(attributes, only=["fold-0"])
    assert "valence_ccc" in fold.history()[-1]["development"]
    scored = evaluate_runs([fold.path], replicates=20).evaluation
    assert {score.measure for score in scored.scores} == {"valence_ccc"}

    folder = tmp_path / "votes"
    shutil.copytree(tiny_corpus.folder / "stores", folder / "stores")
    votes = Manifest(
        [replace(u, category=None) for u in tiny_corpus.manifest], root=tiny_corpus.manifest.root
    )
    votes.save(folder / "manifest.parquet")
    config = TinyCorpus(votes, folder).experiment(tmp_path, data__category_targets="votes")
    [fold] = train_experiment(config, only=["fold-0"])
    assert evaluate_runs([fold.path], replicates=20).evaluation.score("acoustic", "accuracy")


def test_test_clips_without_features_are_reported(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path)
    [partition, *_] = make_partitions(config, tiny_corpus.manifest)
    lost = partition.test[:3]
    folder = tmp_path / "lossy"
    tiny_corpus.manifest.save(folder / "manifest.parquet")
    manifest = Manifest.load(folder / "manifest.parquet")
    kept = manifest.select([u.utterance_id for u in manifest if u.utterance_id not in lost])
    for modality, name in ((Modality.ACOUSTIC, "logmel"), (Modality.VISUAL, "arrays")):
        extractor = build_extractor(modality, name)
        extract(kept, extractor, folder / "stores" / modality, progress=False)
    config = TinyCorpus(manifest, folder).experiment(tmp_path)
    train_experiment(config, only=["fold-0"])
    scores = evaluate_runs([config.run_dir], replicates=20)
    assert scores.evaluation.clips == len(partition.test) - 3
    assert any("3 of" in r and "not scored" in r for r in scores.evaluation.remarks)


def test_without_development_speakers_the_last_epoch_is_kept(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path, data__development_share=0)
    [fold] = train_experiment(config, only=["fold-0"])
    summary = json.loads(fold.summary_file.read_text())
    assert (summary["best_epoch"], summary["selection"]) == (2, "last")
    assert fold.history()[-1]["development"] is None


def test_development_without_known_targets_is_named(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path, data__kfold=3)
    [partition, *_] = make_partitions(config, tiny_corpus.manifest)
    folder = tmp_path / "unlabelled"
    shutil.copytree(tiny_corpus.folder / "stores", folder / "stores")
    unlabelled = Manifest(
        [
            replace(u, category=None, votes=None) if u.utterance_id in partition.development else u
            for u in tiny_corpus.manifest
        ],
        root=tiny_corpus.manifest.root,
    )
    unlabelled.save(folder / "manifest.parquet")
    with pytest.raises(InputError, match="known targets of some development clips"):
        train_experiment(TinyCorpus(unlabelled, folder).experiment(tmp_path), only=["fold-0"])


def test_patience_stops(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(
        tmp_path, training__epochs=30, training__patience=1, training__learning_rate=1e-9
    )
    [fold] = train_experiment(config, only=["fold-0"])
    assert len(fold.history()) < 30


def test_changed_data_are_refused(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.folder / "stores", folder / "stores")
    manifest = Manifest(list(tiny_corpus.manifest), root=tiny_corpus.manifest.root)
    manifest.save(folder / "manifest.parquet")
    config = TinyCorpus(manifest, folder).experiment(tmp_path, training__epochs=1)
    train_experiment(config, only=["fold-0"])
    relabelled = Manifest(
        [replace(u, category="happy", votes=None) for u in manifest], root=manifest.root
    )
    relabelled.save(folder / "manifest.parquet")
    with pytest.raises(StoreError, match="the manifest has other contents"):
        train_experiment(config, only=["fold-1"])
    with pytest.raises(StoreError, match="the manifest has other contents"):
        evaluate_runs([config.run_dir])


def test_clips_that_came_later_are_refused(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    store, manifest = tmp_path / "acoustic", tiny_corpus.manifest
    first = Manifest(list(manifest)[1:], root=manifest.root)
    extract(first, build_extractor("acoustic", "logmel"), store, progress=False)
    config = tiny_corpus.experiment(tmp_path, data__acoustic=str(store), training__epochs=1)
    train_experiment(config, only=["fold-0"])
    evaluate_runs([config.run_dir])
    extract(manifest, build_extractor("acoustic", "logmel"), store, progress=False)
    for go_on in (lambda: train_experiment(config), lambda: evaluate_runs([config.run_dir])):
        with pytest.raises(StoreError, match="holds other clips of the manifest"):
            go_on()


def test_only_seeds_may_differ_between_runs_that_are_averaged(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    runs = []
    options: dict[str, dict[str, object]] = {
        "a": {},
        "b": {"training__seed": 20240101},
        "c": {"training__seed": 2, "model__residual": False},
    }
    for name, overrides in options.items():
        config = tiny_corpus.experiment(tmp_path, name=name, training__epochs=1, **overrides)
        train_experiment(config, only=["fold-0"])
        runs.append(config.run_dir)
    scores = evaluate_runs(runs[:2], replicates=20)
    assert scores.evaluation.seeds == ("0", "20240101")
    assert set(scores.histories) == {"a/fold-0", "b/fold-0"}
    with pytest.raises(StoreError, match=r"model\.residual"):
        evaluate_runs(runs)


def test_mistakes_leave_no_run_behind(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'width'"):
        tiny_corpus.experiment(tmp_path, model__widht=3)
    config = tiny_corpus.experiment(tmp_path, data__categories=["happy", "hungry"])
    with pytest.raises(InputError, match="hungry"):
        train_experiment(config)
    assert not config.run_dir.exists()
    with pytest.raises(InputError, match=r"training\.device: 'warp'"):
        train_experiment(tiny_corpus.experiment(tmp_path, training__device="warp"))


def test_one_modality_alone(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path, data__visual=None)
    [fold] = train_experiment(config, only=["fold-0"])
    model = vavl.VAVL.from_pretrained(fold.path)
    with pytest.raises(InputError, match="trained without visual"):
        model(visual=torch.zeros(1, 4, 1))
    assert set(fold.history()[-1]["train"]) == {"loss", "acoustic_loss"}
    assert set(json.loads((fold.path / "features.json").read_text())) == {
        "schema_version",
        "acoustic",
    }


def test_trained_predictions_do_not_depend_on_the_batch(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path)
    [fold] = train_experiment(config, only=["fold-0"])
    model = vavl.VAVL.from_pretrained(fold.path)
    test = Partition.load(fold.partition_file).test
    stores = open_stores(config)
    categories = tiny_corpus.manifest.categories
    together = run_model(
        model, UtteranceDataset(tiny_corpus.manifest, test, stores, categories=categories)
    )
    backwards = run_model(
        model, UtteranceDataset(tiny_corpus.manifest, test[::-1], stores, categories=categories)
    )
    for modality in Modality:
        assert torch.allclose(
            together.by_modality[modality], backwards.by_modality[modality].flip(0), atol=1e-5
        )
    for index in (0, 5, len(test) - 1):
        alone = run_model(
            model,
            UtteranceDataset(tiny_corpus.manifest, [test[index]], stores, categories=categories),
        )
        for modality in Modality:
            assert torch.allclose(
                alone.by_modality[modality][0], together.by_modality[modality][index], atol=1e-5
            )


def test_normalisation_is_fitted_on_training_speakers(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path, training__epochs=1)
    [fold] = train_experiment(config, only=["fold-0"])
    model = vavl.VAVL.from_pretrained(fold.path)
    store = open_stores(config)[Modality.ACOUSTIC]
    ids = Partition.load(fold.partition_file).train
    frames = torch.cat([torch.from_numpy(store.read(i).astype("float64")) for i in ids])
    projection = model.acoustic.projection
    assert torch.allclose(projection.mean, frames.mean(0).float(), atol=1e-4)
    assert torch.allclose(projection.scale, 1 / frames.std(0, correction=0).float(), rtol=1e-4)


def test_diverging_training_says_what_to_do(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    for name, clip in (("free", None), ("clipped", 1.0)):
        config = tiny_corpus.experiment(
            tmp_path, name=name, training__learning_rate=1e18, training__gradient_clip=clip
        )
        with pytest.raises(InputError, match="lower the learning rate"):
            train_experiment(config, only=["fold-0"])


def test_damaged_checkpoint_is_named(tiny_corpus: TinyCorpus, tmp_path: Path) -> None:
    config = tiny_corpus.experiment(tmp_path)
    fold = FoldDirectory(config.run_dir / "fold-0")
    fold.path.mkdir(parents=True)
    fold.checkpoint_file.write_bytes(b"not a checkpoint")
    with pytest.raises(StoreError, match=r"checkpoint\.pt: damaged"):
        train_experiment(config, only=["fold-0"])


def test_a_checkpoint_of_other_random_numbers_is_refused(
    tiny_corpus: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_corpus.experiment(tmp_path)
    kill_in_the_second_epoch(monkeypatch)
    with pytest.raises(Killed):
        train_experiment(config, only=["fold-0"])
    file = FoldDirectory(config.run_dir / "fold-0").checkpoint_file
    torch.save(torch.load(file, weights_only=True) | {"schema_version": 1}, file)
    with pytest.raises(StoreError, match="version 3, got 1: begun by another release"):
        train_experiment(config, only=["fold-0"])
