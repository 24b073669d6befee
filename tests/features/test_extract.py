"""Extraction of a manifest: failures harm no other clip, and a killed job loses next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from extraction import (
    MANY,
    NAMES,
    LoggingExtractor,
    WithoutWeights,
    contents,
    is_alive,
    make_manifest,
    wait_until,
)

from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import Partition
from vavl.data.store import FeatureStore
from vavl.errors import InputError, StoreError
from vavl.features.arrays import ArrayFeatures
from vavl.features.extract import ExtractionReport, extract, training_statistics
from vavl.features.registry import build_extractor


def test_features_of_all_clips_in_the_order_of_their_ids(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, NAMES[::-1])
    report = extract(
        manifest, ArrayFeatures("visual"), tmp_path / "store", progress=False, clips_per_shard=4
    )
    assert (report.done, report.skipped, report.absent, report.failed) == (10, 0, 0, {})
    store = FeatureStore.open(tmp_path / "store")
    assert store.ids == tuple(NAMES)
    assert store.spec.dim == 2
    for name in NAMES:
        np.testing.assert_array_equal(store.read(name), np.load(tmp_path / f"{name}.npy"))


@pytest.mark.parametrize("class_name", ["Wav2Vec2Model", "WhisperModel"])
@pytest.mark.parametrize("layer", [None, 0, 2])
def test_the_store_holds_what_the_encoder_gives(
    tmp_path: Path, tiny_encoder, write_wav, noise, class_name: str, layer: int | None
) -> None:
    path = write_wav(noise(0.4), "clip.wav")
    manifest = Manifest([Utterance("clip", "test", "ann", audio_path="clip.wav")], root=tmp_path)
    encoder = build_extractor("acoustic", f"hf:{tiny_encoder(class_name)}", layer=layer)
    extract(manifest, encoder, tmp_path / "store", progress=False)
    features = encoder.extract_file(path)
    assert features.flags.c_contiguous
    read = FeatureStore.open(tmp_path / "store").read("clip")
    np.testing.assert_allclose(read, features, atol=0.005)


def test_processes_give_the_same_store_as_one(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, [*NAMES, "crash"])
    extractor = LoggingExtractor(tmp_path / "log")
    alone = extract(manifest, extractor, tmp_path / "alone", progress=False, clips_per_shard=3)
    extractor.log.unlink()
    together = extract(
        manifest, extractor, tmp_path / "together", workers=2, progress=False, clips_per_shard=3
    )
    assert contents(tmp_path / "alone") == contents(tmp_path / "together")
    assert alone.failed == together.failed
    pids = {line.split()[1] for line in extractor.log.read_text().splitlines()}
    assert str(os.getpid()) not in pids


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_clip_is_recorded_and_tried_again(tmp_path: Path, workers: int) -> None:
    bad = ["crash", "nan", "overflow", "wide", "gone"]
    manifest = make_manifest(tmp_path, ["a", *bad, "z"])
    (tmp_path / "gone.npy").unlink()
    out, extractor = tmp_path / "store", LoggingExtractor(tmp_path / "log")
    report = extract(manifest, extractor, out, workers=workers, progress=False)
    assert report.done == 2
    assert set(report.failed) == set(bad)
    assert report.failed["crash"] == "RuntimeError: broken in two lines"
    assert "NaN" in report.failed["nan"]
    assert "65504" in report.failed["overflow"]
    assert "(T, 2)" in report.failed["wide"]
    assert "FileNotFoundError" in report.failed["gone"]
    assert not report.all_failed
    assert FeatureStore.open(out).ids == ("a", "z")
    assert FeatureStore.open(out).failures() == report.failed

    np.save(tmp_path / "gone.npy", np.ones((1, 2)))
    extractor.log.unlink()
    again = extract(manifest, extractor, out, workers=workers, progress=False)
    assert sorted(extractor.read()) == sorted(bad)  # and neither a nor z
    assert (again.done, again.skipped) == (1, 2)
    assert set(FeatureStore.open(out).failures()) == set(bad) - {"gone"}


def test_unreadable_files_are_recorded_by_the_real_extractors(tmp_path: Path, write_wav) -> None:
    write_wav(np.sin(np.arange(8000) / 9), "good.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound\n" * 99)
    names = ["good", "empty", "text", "missing"]
    manifest = Manifest(
        [Utterance(name, "test", "ann", audio_path=f"{name}.wav") for name in names], root=tmp_path
    )
    extractor = build_extractor("acoustic", "logmel")
    report = extract(manifest, extractor, tmp_path / "store", progress=False)
    assert FeatureStore.open(tmp_path / "store").ids == ("good",)
    assert report.failed.keys() == {"empty", "text", "missing"}
    for name, reason in report.failed.items():
        assert not reason.startswith("MediaError")
        assert f"{name}.wav" in reason


def test_start_and_end_of_an_utterance_are_cut_out(tmp_path: Path, write_wav, noise) -> None:
    write_wav(noise(2.0), "long.wav")
    manifest = Manifest(
        [
            Utterance("whole", "test", "ann", audio_path="long.wav"),
            Utterance("part", "test", "ann", audio_path="long.wav", start_s=0.5, end_s=1.25),
        ],
        root=tmp_path,
    )
    extract(manifest, build_extractor("acoustic", "logmel"), tmp_path / "store", progress=False)
    store = FeatureStore.open(tmp_path / "store")
    assert store.lengths[store.row("whole")] == 198
    assert store.lengths[store.row("part")] == 73


def test_statistics_of_the_training_clips_alone(tmp_path: Path, write_wav, noise) -> None:
    quiet, loud = noise(1.0) * 0.05, noise(1.0)
    write_wav(np.concatenate([quiet, loud]), "long.wav")
    manifest = Manifest(
        [
            Utterance("quiet", "test", "ann", audio_path="long.wav", end_s=1.0),
            Utterance("loud", "test", "bob", audio_path="long.wav", start_s=1.0),
        ],
        root=tmp_path,
    )
    partition = tmp_path / "partition.json"
    Partition("fold-0", ("quiet",), (), ("loud",)).save(partition)
    found = training_statistics(manifest, partition)
    assert found["corpus_std"] == pytest.approx(quiet.std(), rel=0.01)


def test_clips_without_the_modality_are_counted_only(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["face"])
    deaf = Utterance("voice", "test", "ann", audio_path="voice.wav")
    mixed = Manifest([*manifest, deaf], root=tmp_path)
    report = extract(mixed, ArrayFeatures("visual"), tmp_path / "store", progress=False)
    assert (report.done, report.absent, report.failed) == (1, 1, {})
    with pytest.raises(InputError, match=r"visual_features_path.*leave out --visual"):
        extract(mixed.select(["voice"]), ArrayFeatures("visual"), tmp_path / "x", progress=False)
    assert not (tmp_path / "x").exists()


def test_a_job_in_which_everything_failed_says_so(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["crash"])
    report = extract(
        manifest, LoggingExtractor(tmp_path / "log"), tmp_path / "store", progress=False
    )
    assert report.all_failed
    assert "every clip failed (first: crash: RuntimeError" in report.summary()
    assert not ExtractionReport(done=1, skipped=0, failed={"a": "b"}, seconds=1.0).all_failed


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"\0" + data[1:]])
def test_a_damaged_shard_is_redone_alone(tmp_path: Path, damage) -> None:
    manifest = make_manifest(tmp_path, NAMES)
    out, extractor = tmp_path / "store", LoggingExtractor(tmp_path / "log")
    extract(manifest, extractor, out, progress=False, clips_per_shard=4)
    whole = contents(out)
    shard = out / "shard-00001.safetensors"
    shard.write_bytes(damage(shard.read_bytes()))
    extractor.log.unlink()
    report = extract(manifest, extractor, out, progress=False, clips_per_shard=4)
    assert extractor.read() == NAMES[4:8]
    assert report.damaged_shards == (shard.name,)
    assert contents(out) == whole


def test_a_store_of_another_extractor_is_left_alone(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, NAMES)
    out = tmp_path / "store"
    extract(manifest, LoggingExtractor(tmp_path / "log"), out, progress=False)
    whole = contents(out)
    other = LoggingExtractor(tmp_path / "log", parameters={"layer": "4"})
    with pytest.raises(StoreError, match=r"(?s)logging.*logging.*\"layer\": \"4\".*--out"):
        extract(manifest, other, out, progress=False)
    assert contents(out) == whole


@pytest.mark.parametrize("workers", [0, 1])
def test_weights_that_cannot_be_loaded_stop_the_job(tmp_path: Path, workers: int) -> None:
    manifest = make_manifest(tmp_path, NAMES)
    extractor = WithoutWeights(tmp_path / "log")
    with pytest.raises(InputError, match="the weights are damaged"):
        extract(manifest, extractor, tmp_path / "store", workers=workers, progress=False)
    assert not extractor.log.exists()


def test_a_clip_that_a_worker_dies_at_is_recorded(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, [*NAMES, "die", "zoe"])
    extractor = LoggingExtractor(tmp_path / "log")
    report = extract(manifest, extractor, tmp_path / "store", workers=1, progress=False)
    store = FeatureStore.open(tmp_path / "store")
    assert report.failed.keys() == {"die"}
    assert "died" in report.failed["die"]
    assert store.failures()["die"] == report.failed["die"]
    assert "zoe" in store


def test_the_number_of_workers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers"):
        extract(make_manifest(tmp_path, ["a"]), ArrayFeatures("visual"), tmp_path, workers=-1)


def test_progress_goes_to_standard_error(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setattr("vavl.system.progress.LEAST_S", 0.0)
    manifest = make_manifest(tmp_path, ["a", "crash"])
    extract(manifest, LoggingExtractor(tmp_path / "log"), tmp_path / "store")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "extracting visual: 2 of 2" in captured.err
    assert "1 failed" in captured.err


SLOW_JOB = """
import sys
from pathlib import Path
from extraction import MANY, LoggingExtractor, make_manifest
from vavl.features.extract import extract

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    manifest = make_manifest(folder, MANY)
    extractor = LoggingExtractor(folder / "log", delay_s=0.02)
    out = folder / "store"
    extract(manifest, extractor, out, workers=int(sys.argv[2]), progress=False, clips_per_shard=16)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_job_goes_on_where_it_stopped(tmp_path: Path, workers: int) -> None:
    script, store, log = tmp_path / "job.py", tmp_path / "store", tmp_path / "log"
    script.write_text(SLOW_JOB)
    job = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(workers)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_until(lambda: len(list(store.glob("shard-*.json"))) >= 2, job)
    job.kill()  # SIGKILL: no handler runs
    job.wait()
    pids = {int(line.split()[1]) for line in log.read_text().splitlines()}
    if os.name == "posix":  # workers do not outlive their parent
        wait_until(lambda: not any(is_alive(pid) for pid in pids))

    finished = FeatureStore.open(store).ids
    attempted = len(log.read_text().splitlines())
    assert 32 <= len(finished) < len(MANY)
    assert attempted - len(finished) <= 16 + 4 * workers  # no more than a shard is lost
    log.unlink()
    extractor = LoggingExtractor(log)
    manifest = make_manifest(tmp_path, MANY)
    report = extract(manifest, extractor, store, progress=False, clips_per_shard=16)
    assert report.skipped == len(finished)
    assert extractor.read() == [name for name in MANY if name not in finished]
    extract(manifest, extractor, tmp_path / "once", progress=False, clips_per_shard=16)
    ours = {name: data for name, data in contents(store).items() if not name.endswith(".part")}
    assert ours == contents(tmp_path / "once")
