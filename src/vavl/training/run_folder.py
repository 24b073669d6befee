"""Run directories: what a training leaves behind, and how it is opened again.

::

    runs/NAME/
      config.toml          the resolved configuration, every default spelled out
      provenance.json      versions, git revision, command, hashes of the data
      fold-0/              one folder per partition
        partition.json     who was in which split
        config.json        sizes and outputs of the model
        model.safetensors  weights of the chosen epoch
        features.json      how the features of each modality were made
        encoders.json      which encoder was tuned, if one was; what was tuned is in the weights
        metrics.jsonl      one JSON line per epoch
        tensorboard/
        checkpoint.pt      only while training goes on: the state to resume from
        training.json      chosen epoch and its score: written last, so it marks a finished fold
        predictions.parquet  outputs on the test split; written by the evaluation
      final/               as a fold: the model of all speakers, if there is one
      README.md            model card; final/ has its own
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vavl.config.experiment import ExperimentConfig, load_experiment, to_toml
from vavl.data.manifest import Manifest
from vavl.data.store import FeatureStore
from vavl.errors import StoreError, VavlError, all_problems
from vavl.media.files import natural_key
from vavl.models.pretrained import (
    CARD_FILE,
    CONFIG_FILE,
    ENCODERS_FILE,
    FEATURES_FILE,
    WEIGHTS_FILE,
)
from vavl.system.atomic import atomic_write, read_json, write_json
from vavl.system.locks import LOCK_FILE, alone
from vavl.system.revision import git_revision
from vavl.types import Modality

SCHEMA_VERSION = 1
"""Version of the JSON files of a run."""

CONFIGURATION_FILE = "config.toml"

TRAINS_HERE = "another process trains this fold; wait until it has ended, or end it"
"""What to say where two would write to the same fold."""

PROVENANCE_FILE = "provenance.json"
"""What else the numbers of a run depend on, beside its configuration."""

RECORDED_PACKAGES = (
    *("vavl", "torch", "lightning-fabric", "transformers", "safetensors", "numpy"),
    *("onnx", "onnxruntime"),
)


FINAL = "final"
"""Name of the folder, and of the partition, of the model that was trained on all speakers."""

CARD_MARK = "<!-- Written by vavl; without this line it stays as you change it. -->"
"""What marks a card as ours, to be written again."""


class FoldDirectory:
    """The folder of one partition of a run; the module's docstring says what is in its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partition_file = path / "partition.json"
        self.history_file = path / "metrics.jsonl"
        self.checkpoint_file = path / "checkpoint.pt"
        self.summary_file = path / "training.json"
        self.predictions_file = path / "predictions.parquet"

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.summary_file.is_file()

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights a finished fold kept, counted from 1."""
        return int(read_json(self.summary_file, SCHEMA_VERSION)["best_epoch"])

    def history(self) -> list[dict[str, Any]]:
        """The epochs so far; a line cut short by a crash is left out."""
        if not self.history_file.is_file():
            return []
        records = []
        for line in self.history_file.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records


def folds_of_run(path: Path) -> list[FoldDirectory]:
    """The finished folds of a run, or the one fold that the path is; StoreError without any.

    The model of all speakers is no fold: it has nobody left to be tested on.
    """
    if FoldDirectory(path).finished:
        if path.name == FINAL:
            raise StoreError(
                f"run: expected a run or a fold of it, got {path}, the model of all speakers, "
                f"which leaves nobody to test it on; {path.parent} has the folds"
            )
        return [FoldDirectory(path)]
    if not path.is_dir():
        raise StoreError(f"run: expected a folder written by `vavl train`, found none at {path}")
    folds = [
        FoldDirectory(p)
        for p in sorted(path.iterdir(), key=lambda folder: natural_key(folder.name))
        if p.is_dir() and p.name != FINAL
    ]
    finished = [fold for fold in folds if fold.finished]
    if not finished:
        raise StoreError(
            f"run: {path} holds no finished fold; run the same `vavl train` again to finish it"
        )
    return finished


def has_learned(run_dir: Path) -> bool:
    """Whether any fold of a run has a finished epoch; a folder without one is no run yet."""
    return any(fold.finished or fold.history() for fold in _begun_folds(run_dir))


def _begun_folds(run_dir: Path) -> list[FoldDirectory]:
    return [FoldDirectory(file.parent) for file in sorted(run_dir.glob("*/partition.json"))]


def open_run(
    config: ExperimentConfig,
    manifest: Manifest,
    stores: Mapping[Modality, FeatureStore],
    *,
    overwrite: bool = False,
) -> None:
    """Makes the run's folder, or checks that it holds this run.

    What else lies in the folder stays. A run without a finished epoch is no run: another takes its
    place.

    Args:
        config: The experiment.
        manifest: Its utterances.
        stores: Its features.
        overwrite: Whether to begin a run anew that is there, whatever it is.

    Raises:
        StoreError: The folder holds a run with another configuration or of other data, all of
            which is named; or a process trains in what is to be made anew.
    """
    run_dir = config.run_dir
    with alone(run_dir, "another process is opening this run", wait_s=60):
        if has_learned(run_dir) and not overwrite:
            check_configuration(config)
            if (run_dir / PROVENANCE_FILE).is_file():
                check_provenance(run_dir, manifest, stores)
                return
        elif overwrite or not _is_this_run(config, manifest, stores):
            _remove_run(run_dir)
        with atomic_write(run_dir / CONFIGURATION_FILE) as temporary:
            temporary.write_text(to_toml(config), encoding="utf-8")
        _record_provenance(config, manifest, stores)


def _is_this_run(
    config: ExperimentConfig, manifest: Manifest, stores: Mapping[Modality, FeatureStore]
) -> bool:
    """Whether the folder of a run was made for the same configuration and data."""
    try:
        check_configuration(config)
        check_provenance(config.run_dir, manifest, stores)
    except VavlError:  # also where there are none
        return False
    return True


def check_configuration(config: ExperimentConfig) -> None:
    """Raises StoreError, with the differences, if the run's folder has another configuration."""
    before = load_experiment(config.run_dir / CONFIGURATION_FILE)
    differences = configuration_differences(before, config)
    if not differences:
        return
    ways = _WAYS_OUT.format("train with the same configuration")
    if [line.partition(":")[0] for line in differences] == ["training.epochs"]:
        ways = (
            "\nA run cannot be given more or fewer epochs: a cosine schedule is stretched over all "
            f"of them, and a finished fold keeps no state to go on from.{ways}"
        )
    raise StoreError(
        all_problems(f"{config.run_dir} holds a run with another configuration", differences) + ways
    )


_WAYS_OUT = (
    "\nThree ways out: {}, train under another name (--name), or begin this run anew "
    "(--overwrite), which removes its models."
)

_FILES_OF_FOLD = (
    *(CONFIG_FILE, WEIGHTS_FILE, FEATURES_FILE, ENCODERS_FILE),
    *("metrics.jsonl", "tensorboard/events.*", "checkpoint.pt", "training.json"),
    *("predictions*.parquet", "evaluation*/report.html", "evaluation*/scores.*", LOCK_FILE),
    "partition.json",  # last: without it nobody knows that the rest is ours
)
_FILES_OF_RUN = (
    *(CONFIGURATION_FILE, PROVENANCE_FILE),
    *("evaluation*/report.html", "evaluation*/scores.*"),
)


def is_own_card(folder: Path) -> bool:
    """Whether a folder has a model card that vavl wrote and nobody has taken over."""
    card = folder / CARD_FILE
    return card.is_file() and CARD_MARK in card.read_text(encoding="utf-8", errors="replace")


def _remove_run(run_dir: Path) -> None:
    """Removes what training and evaluation have written, and folders that are empty then.

    Raises StoreError if a process trains in one of the folds.
    """
    folds = [fold.path for fold in _begun_folds(run_dir)]
    with ExitStack() as locks:
        for fold in folds:
            locks.enter_context(alone(fold, TRAINS_HERE))
    for folder, patterns in (
        *((fold, _FILES_OF_FOLD) for fold in folds),
        (run_dir, _FILES_OF_RUN),
    ):
        if is_own_card(folder):
            (folder / CARD_FILE).unlink()
        files = [file for pattern in patterns for file in folder.glob(pattern)]
        for file in files:
            file.unlink()
        for emptied in sorted({folder, *(file.parent for file in files)} - {run_dir}, reverse=True):
            with suppress(OSError):  # something else lies there
                emptied.rmdir()


def configuration_differences(
    before: ExperimentConfig, now: ExperimentConfig, ignored: Sequence[str] = ()
) -> list[str]:
    """What differs between two experiments, but where they run and ``ignored`` dotted keys."""
    free = {"runs_dir", "training.device", "training.threads", *ignored}
    lines = differing_lines(before.model_dump(mode="json"), now.model_dump(mode="json"))
    return [line for line in lines if line.partition(":")[0] not in free]


def differing_lines(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """One line for each dotted key whose value differs between two nested mappings."""
    lines = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differing_lines(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: was {old!r}, now {new!r}")
    return lines


def _record_provenance(
    config: ExperimentConfig, manifest: Manifest, stores: Mapping[Modality, FeatureStore]
) -> None:
    """Stores what else the numbers depend on."""
    content = {
        "manifest_sha256": manifest.sha256,
        "features": {str(modality): store.spec.key for modality, store in stores.items()},
        "clips": {str(modality): _clips(store, manifest) for modality, store in stores.items()},
        "versions": package_versions(),
        "platform": platform.platform(),
        "git_revision": git_revision(Path.cwd()),
        "command": sys.argv[1:],
    }
    write_json(config.run_dir / PROVENANCE_FILE, SCHEMA_VERSION, content)


def check_provenance(
    run_dir: Path, manifest: Manifest, stores: Mapping[Modality, FeatureStore]
) -> None:
    """Raises StoreError unless manifest and features are those that a run was begun with."""
    content = read_json(run_dir / PROVENANCE_FILE, SCHEMA_VERSION)
    problems = []
    if content["manifest_sha256"] != manifest.sha256:
        problems.append("the manifest has other contents")
    for modality, key in content["features"].items():
        store = stores.get(Modality(modality))
        if store is not None and store.spec.key != key:
            problems.append(
                f"{store.path}: made by another extractor than the {modality} features that the "
                f"run was trained on; now it holds {store.spec.description}"
            )
    # Runs of earlier releases did not record this.
    for modality, digest in content.get("clips", {}).items():
        store = stores.get(Modality(modality))
        if store is not None and _clips(store, manifest) != digest:
            problems.append(f"{store.path}: holds other clips of the manifest, or other lengths")
    if problems:
        raise StoreError(
            all_problems(f"{run_dir}: the data have changed since the run was begun", problems)
            + _WAYS_OUT.format("put them back")
        )


def _clips(store: FeatureStore, manifest: Manifest) -> str:
    """Hash of which clips of the manifest a store holds, and of their numbers of steps."""
    held = zip(store.ids, store.lengths.tolist(), strict=True)
    known = sorted((clip, length) for clip, length in held if clip in manifest.by_id)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
