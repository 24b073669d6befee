"""A model folder may come from anywhere: whatever stands in it, the answer is an error of ours."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from small_models import tiny

import vavl
from vavl.data.partition import Partition
from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError, VavlError
from vavl.features.registry import build_extractor
from vavl.inference.loading import model_folder
from vavl.models.pretrained import (
    CALIBRATION_FILE,
    CONFIG_FILE,
    FEATURES_FILE,
    write_encoders,
    write_features,
)
from vavl.types import Modality

ODD: tuple[Any, ...] = (
    *(None, True, "", "x", "../../x", [], [[]], {}, {"a": 1}, [1, 2], ["x"]),
    *(-1, 0, 1, 2.5, 10**9, 10**30, -1e308),
)


EVERY = 7
"""So many of them are not tried, so that it takes seconds."""


def odd(content: Any) -> Iterator[Any]:
    """The same JSON with one value after another replaced, left out, or put in."""
    yield from ODD
    if isinstance(content, dict):
        for name, value in content.items():
            yield {n: v for n, v in content.items() if n != name}
            for other in odd(value):
                yield {**content, name: other}
        yield {**content, "unknown": 1}
    elif isinstance(content, list):
        for place, value in enumerate(content[:2]):
            for other in odd(value):
                yield [*content[:place], other, *content[place + 1 :]]


@pytest.fixture(params=["compact", "vavl", "mult"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    if request.param == "compact":
        shutil.copytree(model_folder(None), folder)
    else:
        tiny(request.param, acoustic_dim=80).save_pretrained(folder)
        write_features(
            folder, {Modality.ACOUSTIC: build_extractor(Modality.ACOUSTIC, "logmel").spec}
        )
        (folder / CALIBRATION_FILE).write_text(
            '{"schema_version": 1, "acoustic": 2.0, "unsure_below": 0.1}'
        )
    return folder


@pytest.mark.parametrize("file", [CONFIG_FILE, FEATURES_FILE, CALIBRATION_FILE])
def test_whatever_a_model_folder_says(folder: Path, file: str) -> None:
    path = folder / file
    original = path.read_text(encoding="utf-8")
    refused = tried = 0
    for content in list(odd(json.loads(original)))[::EVERY]:
        path.write_text(json.dumps(content), encoding="utf-8")
        tried += 1
        try:
            reader = vavl.load(folder).reader
            for modality in reader.specs:
                getattr(reader, f"{modality}_extractor")
        except VavlError:
            refused += 1
    path.write_text(original, encoding="utf-8")
    vavl.load(folder)
    assert refused > tried / 4  # a hash or a source of weights may be any text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"a":' * 100_000,
        "NaN",
        '{"schema_version": 1, "acoustic": NaN}',
        "\\xff",
    ],
)
def test_text_that_is_no_json(folder: Path, text: str) -> None:
    for file in (CONFIG_FILE, FEATURES_FILE, CALIBRATION_FILE):
        shutil.copy(folder / file, folder / "kept")
        (folder / file).write_text(text)
        with pytest.raises(VavlError):
            vavl.load(folder)
        shutil.copy(folder / "kept", folder / file)


@pytest.mark.parametrize(
    "sizes",
    [
        {"encoder_blocks": 100_000},
        {"encoder_blocks": 50},
        {"acoustic_dim": 10**9},
        {"width": 65_536, "heads": 2},
        {"head_widths": [65_536] * 16},
        {"head_widths": [1] * 10**5},
        {"categories": [str(number) for number in range(10**5)]},
    ],
)
def test_sizes_are_not_believed(tmp_path: Path, sizes: dict[str, Any]) -> None:
    """They are compared with the weights, before memory is taken."""
    folder = tmp_path / "model"
    tiny("vavl").save_pretrained(folder)
    content = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**content, **sizes}))
    began_s = time.process_time()
    with pytest.raises(VavlError):
        vavl.load(folder)
    assert time.process_time() - began_s < 10


def test_whatever_a_partition_or_a_profile_says(tmp_path: Path) -> None:
    partition = tmp_path / "partition.json"
    Partition("fold-0", ("a", "b"), ("c",), ("d",)).save(partition)
    for content in odd(json.loads(partition.read_text())):
        partition.write_text(json.dumps(content))
        try:
            Partition.load(partition)
        except VavlError:
            continue
    recognizer = vavl.load()
    path = tmp_path / "profile.safetensors"
    recognizer.adapt([{"acoustic": np.ones((5, 1536)) * n} for n in range(2)], speaker="ann").save(
        path
    )

    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        [(name, header)] = file.metadata().items()
    refused = 0
    for content in odd(json.loads(header)):
        save_file(tensors, path, metadata={name: json.dumps(content)})
        try:
            recognizer.profile_of(SpeakerProfile.load(path))
        except VavlError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("modality", "extractor", "source"),
    [
        ("acoustic", "hf", "evil/encoder@0123456789012345678901234567890123456789"),
        ("acoustic", "wav2vec2-large-robust-12", None),
        ("acoustic", "hf", "http://example.org/encoder"),
        ("acoustic", "hf", "//example.org/encoder"),
        ("visual", "hf", "evil/encoder"),
        ("visual", "efficientnet-b2-affectnet", None),
        ("visual", "efficientnet-b2-affectnet", "https://example.org/encoder.onnx"),
    ],
)
def test_a_model_folder_sends_no_request(
    modality: str,
    extractor: str,
    source: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder(None), folder)
    content = json.loads((folder / FEATURES_FILE).read_text())
    content[modality] |= {"extractor": extractor, "source": source}
    (folder / FEATURES_FILE).write_text(json.dumps(content))
    asked: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("no connection")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    reader = vavl.load(folder).reader
    with pytest.raises(InputError, match=r"nothing is fetched|not followed"):
        getattr(reader, f"{modality}_extractor")
    assert not asked
    if source == "evil/encoder":  # where the user says that it may
        with pytest.raises(InputError, match="connection"):
            _ = vavl.load(folder, local_files_only=False).reader.visual_extractor
        assert asked


def test_a_tuned_encoder_sends_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    tiny("vavl", acoustic_dim=80).save_pretrained(folder)
    write_encoders(folder, {Modality.ACOUSTIC: {"extractor": "hf:evil/encoder", "tune": "last:1"}})
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a request"))
    with pytest.raises(InputError, match="nothing is fetched"):
        vavl.load(folder)
