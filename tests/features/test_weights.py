"""Checkpoints are found in folders and in the cache of the hub, also without a network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vavl.errors import InputError
from vavl.features.weights import find_checkpoint

OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture
def hub_home(tmp_path: Path, tiny_encoder: Callable[..., Path]) -> Path:
    """A cache as the hub's client writes it: a repository with two revisions, main being NEW."""
    repository = tmp_path / "home" / "hub" / "models--org--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(NEW)
    for commit, class_name in ((OLD, "HubertModel"), (NEW, "Wav2Vec2Model")):
        shutil.copytree(tiny_encoder(class_name), repository / "snapshots" / commit)
    return tmp_path / "home"


def find_offline(hub_home: Path, requests: list[tuple[str, str | None]]) -> list[str]:
    """Finds checkpoints in a process of its own: the client reads its settings when imported."""
    code = """
import json, sys
from vavl.errors import InputError
from vavl.features.weights import find_checkpoint
answers = []
for source, revision in json.load(sys.stdin):
    try:
        checkpoint = find_checkpoint(source, revision)
        answers.append(f"{checkpoint.model_type} {checkpoint.source}")
    except InputError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(requests),
        env={**os.environ, "HF_HOME": str(hub_home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_hub_ids_are_found_in_the_cache_without_a_network(hub_home: Path) -> None:
    main, pinned, short, unknown_revision, unknown, contradiction = find_offline(
        hub_home,
        [
            ("org/encoder", None),
            ("org/encoder", OLD),
            (f"org/encoder@{OLD}", None),
            ("org/encoder", "3" * 40),
            ("org/other", None),
            (f"org/encoder@{OLD}", NEW),
        ],
    )
    assert main == f"wav2vec2 org/encoder@{NEW}"  # the commit is noted, not the branch
    assert pinned == f"hubert org/encoder@{OLD}"
    assert short == pinned
    assert "org/encoder at revision 333" in unknown_revision
    assert "org/other: neither a local folder nor" in unknown
    assert "HF_HUB_OFFLINE" in unknown
    assert "contradict each other" in contradiction


def test_the_hash_is_that_of_all_weight_files_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"second")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"first")
    (tmp_path / "unrelated.safetensors").write_bytes(b"other")
    weight_map = {f"t{n}": f"model-0000{n}-of-00002.safetensors" for n in (2, 1)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = find_checkpoint(str(tmp_path))
    assert checkpoint.weights_sha256 == hashlib.sha256(b"firstsecond").hexdigest()
    (tmp_path / "model.safetensors").write_bytes(b"whole")  # which the index then yields to
    assert find_checkpoint(str(tmp_path)).weights_sha256 == hashlib.sha256(b"whole").hexdigest()


def test_settings_without_effect_do_not_change_the_hash_of_the_settings(tmp_path: Path) -> None:
    def config_sha256(**settings: object) -> str:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2", **settings}))
        (tmp_path / "model.safetensors").write_bytes(b"")
        return find_checkpoint(str(tmp_path)).config_sha256()

    plain = config_sha256()
    assert config_sha256(transformers_version="9.9", id2label={"0": "happy"}) == plain
    assert config_sha256(num_attention_heads=4) != plain


@pytest.mark.parametrize("source", ["./missing", "a/b/c", "/missing", "~/missing", "a\\b"])
def test_a_path_is_not_asked_for_on_the_hub(source: str) -> None:
    with pytest.raises(InputError, match="expected a folder with a pretrained model"):
        find_checkpoint(source)


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"revision: .* is a local folder"):
        find_checkpoint(str(tmp_path), "main")
