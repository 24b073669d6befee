"""Readers of bytes from anywhere give a value or an error of ours, and nothing else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vavl.config.experiment import load_experiment
from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import Partition
from vavl.data.speakers import SpeakerProfile
from vavl.data.store import FeatureStore, StoreWriter
from vavl.errors import VavlError
from vavl.features.arrays import read_array
from vavl.inference.turns import read_turns
from vavl.media.audio import read_audio
from vavl.media.container import media_info
from vavl.models.pretrained import read_calibration, read_encoders, read_features
from vavl.system.atomic import read_json
from vavl.types import FeatureSpec, Modality

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
TEXTS = JSON.map(lambda content: json.dumps(content).encode())
LINES = st.lists(st.text("0123456789:,.->abc{}[]\"'\t =\ufeff\0é", max_size=30), max_size=6).map(
    lambda lines: "\n".join(lines).encode()
)
BYTES = st.binary(max_size=200)


def wav(content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt " + content


def npy(content: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(content), 100)) + content


def safetensors(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content + bytes(16)


READERS: dict[str, tuple[Callable[[Path], object], st.SearchStrategy[bytes]]] = {
    "array.npy": (read_array, BYTES | BYTES.map(npy)),
    "sound.wav": (read_audio, BYTES | BYTES.map(wav)),
    "film.mp4": (media_info, BYTES | BYTES.map(lambda b: b"\0\0\0\x18ftypmp42" + b)),
    "table.parquet": (Manifest.load, BYTES | BYTES.map(lambda b: b"PAR1" + b + b"PAR1")),
    "partition.json": (Partition.load, TEXTS | BYTES),
    "any.json": (lambda path: read_json(path, 1), TEXTS | BYTES),
    "features.json": (lambda path: read_features(path.parent), TEXTS | BYTES),
    "calibration.json": (lambda path: read_calibration(path.parent), TEXTS | BYTES),
    "encoders.json": (lambda path: read_encoders(path.parent), TEXTS | BYTES),
    "profile.safetensors": (SpeakerProfile.load, BYTES | TEXTS.map(safetensors)),
    "experiment.toml": (load_experiment, LINES | BYTES),
    **{f"turns.{kind}": (read_turns, LINES | BYTES) for kind in ("srt", "vtt", "rttm", "csv")},
}
PLACES = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", READERS)
@PLACES
@given(data=st.data())
def test_readers(tmp_path: Path, name: str, data: st.DataObject) -> None:
    read, contents = READERS[name]
    path = tmp_path / name
    path.write_bytes(data.draw(contents))
    with suppress(VavlError):
        read(path)


@PLACES
@given(data=st.data())
def test_stores(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "store"
    if not folder.exists():
        with StoreWriter(folder, FeatureSpec(Modality.VISUAL, "arrays", 2, None)) as writer:
            writer.write("a", np.ones((3, 2)))
    path = data.draw(st.sampled_from(sorted(p for p in folder.iterdir() if p.is_file())))
    before = path.read_bytes()
    path.write_bytes(data.draw(TEXTS | BYTES | st.just(before[:-1])))
    try:
        with suppress(VavlError):
            store = FeatureStore.open(folder)
            assert np.isfinite(store.read("a")).all()
    finally:
        path.write_bytes(before)


def test_whole_files_are_read(tmp_path: Path) -> None:
    """So that the readers above are those that read."""
    Manifest([Utterance("a", "c", "s", audio_path="a.wav")], root=tmp_path).save(
        tmp_path / "table.parquet"
    )
    Partition("fold-0", ("a",), ("b",), ("c",)).save(tmp_path / "partition.json")
    np.save(tmp_path / "array.npy", np.ones((2, 3)))
    (tmp_path / "turns.csv").write_text("start_s,end_s\n0,1\n")
    for name in ("table.parquet", "partition.json", "array.npy", "turns.csv"):
        assert READERS[name][0](tmp_path / name) is not None
