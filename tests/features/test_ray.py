"""Extraction on Ray: the same store as without, whatever dies on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction import (
    MANY,
    NAMES,
    LoggingExtractor,
    Mortal,
    WithoutWeights,
    contents,
    is_alive,
    make_manifest,
    wait_until,
)

from vavl.cli import run as run_command
from vavl.data.manifest import Manifest, Utterance
from vavl.data.store import FeatureStore
from vavl.errors import EXIT_OK, InputError, StoreError
from vavl.features.extract import ExtractionReport, extract
from vavl.features.registry import build_extractor


def ray_extract(manifest: Manifest, extractor: Any, out: Path | str) -> ExtractionReport:
    return extract(
        manifest, extractor, out, engine="ray", workers=2, clips_per_shard=3, progress=False
    )


@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_that_is_killed_loses_and_repeats_nothing(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, NAMES)
    local = LoggingExtractor(tmp_path / "local.log")
    extract(manifest, local, tmp_path / "local", progress=False, clips_per_shard=3)

    extractor = Mortal(tmp_path / "log", victim="clip-04")
    report = ray_extract(manifest, extractor, tmp_path / "store")
    assert (report.done, report.skipped, report.failed) == (10, 0, {})
    assert contents(tmp_path / "store") == contents(tmp_path / "local")
    tried = Counter(extractor.read())
    assert {name for name, times in tried.items() if times > 1} == {"clip-03", "clip-04"}
    pids = {line.split()[1] for line in extractor.log.read_text().splitlines()}
    assert str(os.getpid()) not in pids


@pytest.mark.usefixtures("ray_cluster")
def test_the_command(tmp_path: Path, write_wav, noise) -> None:
    names = ["a", "b", "c"]
    for number, name in enumerate(names):
        write_wav(noise(0.5, number), f"{name}.wav")
    clips = [Utterance(name, "test", "ann", audio_path=f"{name}.wav") for name in names]
    Manifest(clips, root=tmp_path).save(tmp_path / "manifest.parquet")
    command = ["extract", str(tmp_path / "manifest.parquet"), "--acoustic", "logmel"]
    on_ray = ["--engine", "ray", "--workers", "1", "--clips-per-shard", "2"]
    assert run_command([*command, *on_ray, "--out", str(tmp_path / "ray")]) == EXIT_OK
    assert run_command([*command, "--clips-per-shard", "2", "--out", str(tmp_path / "here")]) == 0
    assert contents(tmp_path / "ray" / "acoustic") == contents(tmp_path / "here" / "acoustic")


@pytest.mark.usefixtures("ray_cluster")
def test_clips_that_fail_or_kill_are_recorded_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAVL_CACHE", str(tmp_path / "cache"))
    bad = ["crash", "nan", "wide", "gone"]
    manifest = make_manifest(tmp_path, [*NAMES, *bad, "die"])
    (tmp_path / "gone.npy").unlink()
    extractor = LoggingExtractor(tmp_path / "log")
    out = f"pretend://{tmp_path}/store"
    report = ray_extract(manifest, extractor, out)
    assert report.done == len(NAMES)
    assert report.failed.pop("die") == "each of the 3 processes that began it died"
    assert extractor.read().count("die") == 3
    alive = manifest.select([*NAMES, *bad])
    local = extract(alive, extractor, tmp_path / "local", progress=False, clips_per_shard=3)
    assert report.failed == local.failed
    store, expected = FeatureStore.open(out), FeatureStore.open(tmp_path / "local")
    assert set(store.ids) == set(expected.ids)
    for name in NAMES:
        np.testing.assert_array_equal(store.read(name), expected.read(name))
    assert set(store.failures()) == {*bad, "die"}

    np.save(tmp_path / "gone.npy", np.ones((1, 2)))
    extractor.log.unlink()
    again = ray_extract(alive, extractor, out)
    assert sorted(extractor.read()) == sorted(bad)
    assert (again.done, again.skipped) == (1, len(NAMES))
    assert set(FeatureStore.open(out).failures()) == {*bad, "die"} - {"gone"}


SLOW_JOB = """
import sys
from pathlib import Path
import ray
from extraction import MANY, LoggingExtractor, make_manifest
from vavl.features.extract import ExtractionReport, extract
from vavl.features.registry import build_extractor

folder = Path(sys.argv[1])
ray.init(sys.argv[2], log_to_driver=False)
manifest = make_manifest(folder, MANY)
extractor = LoggingExtractor(folder / "log", delay_s=0.02)
extract(manifest, extractor, folder / "store", engine="ray", workers=1, clips_per_shard=16)
"""


def test_a_killed_driver_goes_on_where_it_stopped(tmp_path: Path, ray_cluster: str) -> None:
    script, store, log = tmp_path / "job.py", tmp_path / "store", tmp_path / "log"
    script.write_text(SLOW_JOB)
    job = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), ray_cluster],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    # Ray takes seconds to start an actor, and minutes on a machine that is busy.
    wait_until(lambda: len(list(store.glob("shard-*.json"))) >= 2, job, limit_s=300)
    job.kill()  # SIGKILL: no handler runs
    job.wait()
    pids = {int(line.split()[1]) for line in log.read_text().splitlines()}
    wait_until(lambda: not any(is_alive(pid) for pid in pids))  # Ray ends the actors of the job

    finished = FeatureStore.open(store).ids
    assert 32 <= len(finished) < len(MANY)
    assert len(log.read_text().splitlines()) - len(finished) <= 16  # no more than a shard is lost
    log.unlink()
    extractor = LoggingExtractor(log)
    manifest = make_manifest(tmp_path, MANY)
    report = extract(
        manifest, extractor, store, engine="ray", workers=1, clips_per_shard=16, progress=False
    )
    assert report.skipped == len(finished)
    assert sorted(extractor.read()) == [name for name in MANY if name not in finished]
    extract(manifest, extractor, tmp_path / "once", clips_per_shard=16, progress=False)
    ours = {name: data for name, data in contents(store).items() if ".part" not in name}
    assert ours == contents(tmp_path / "once")


@pytest.mark.usefixtures("ray_cluster")
def test_what_concerns_all_clips_stops_the_job(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, NAMES)
    extractor = WithoutWeights(tmp_path / "log")
    with pytest.raises(InputError, match=r"^the weights are damaged"):
        ray_extract(manifest, extractor, tmp_path / "store")
    assert not extractor.log.exists()
    with pytest.raises(StoreError, match=r"full://.*cannot be reached.*No space left"):
        ray_extract(manifest, LoggingExtractor(extractor.log), f"full://{tmp_path}/full")
    with pytest.raises(InputError, match=r"threads: expected at most 2.*got 3"):
        extract(manifest, extractor, tmp_path / "store", engine="ray", threads=3, progress=False)


def test_a_place_that_actors_cannot_see_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["a"])
    with pytest.raises(InputError, match="memory://store: expected a place that all"):
        ray_extract(manifest, LoggingExtractor(tmp_path / "log"), "memory://store")


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    manifest = make_manifest(tmp_path, ["a"])
    with pytest.raises(InputError, match=r"ray: needed for --engine ray.*'vavl\[ray\]'"):
        ray_extract(manifest, LoggingExtractor(tmp_path / "log"), tmp_path / "store")
    with pytest.raises(InputError, match="engine: expected 'local' or 'ray', got 'spark'"):
        extract(manifest, LoggingExtractor(tmp_path / "log"), tmp_path, engine="spark")


@pytest.mark.usefixtures("ray_cluster")
def test_on_a_cluster_without_gpus_auto_is_the_cpu(tmp_path: Path, write_wav, noise) -> None:
    write_wav(noise(0.3), "a.wav")
    manifest = Manifest([Utterance("a", "test", "ann", audio_path="a.wav")], root=tmp_path)
    there = build_extractor("acoustic", "whisper-base", device="auto")
    assert ray_extract(manifest, there, tmp_path / "ray").failed == {}
    here = build_extractor("acoustic", "whisper-base")
    extract(manifest, here, tmp_path / "here", progress=False)
    stores = [FeatureStore.open(tmp_path / name) for name in ("ray", "here")]
    np.testing.assert_allclose(*(store.read("a") for store in stores), atol=1e-2)
    gpu = build_extractor("acoustic", "whisper-base", device="cuda")
    with pytest.raises(InputError, match="device: expected cpu, or a machine with a GPU"):
        ray_extract(manifest, gpu, tmp_path / "gpu")
