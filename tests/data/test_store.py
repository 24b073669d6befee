"""The feature store: what is written comes back, damage is found, other features are refused."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from vavl.data.store import FeatureStore, StoreWriter
from vavl.errors import InputError, StoreError
from vavl.types import FeatureSpec, Modality

SPEC = FeatureSpec(Modality.ACOUSTIC, "logmel", 3, 100.0, {"normalization": "utterance"})


def clip(seed: int, length: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, SPEC.dim)).astype(np.float32)


def fill(path: Path, number: int, clips_per_shard: int = 2) -> dict[str, np.ndarray]:
    clips = {f"clip-{i:02d}": clip(i, 1 + i % 5) for i in range(number)}
    with StoreWriter(path, SPEC, clips_per_shard) as writer:
        for utterance_id, features in clips.items():
            writer.write(utterance_id, features)
    return clips


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 9), max_size=12),
    dim=st.integers(1, 5),
    clips_per_shard=st.integers(1, 5),
)
def test_what_is_written_comes_back(
    lengths: dict[str, int], dim: int, clips_per_shard: int
) -> None:
    generator = np.random.default_rng(0)
    clips = {i: generator.normal(size=(n, dim)).astype(np.float16) for i, n in lengths.items()}
    spec = FeatureSpec(Modality.VISUAL, "arrays", dim, None)
    with tempfile.TemporaryDirectory() as folder:
        with StoreWriter(folder, spec, clips_per_shard) as writer:
            for utterance_id, features in clips.items():
                writer.write(utterance_id, features)
        store = FeatureStore.open(folder)
        assert store.spec == spec
        assert store.ids == tuple(clips)
        assert store.lengths.dtype == np.int64
        assert store.verify() == []
        for row, (utterance_id, features) in enumerate(clips.items()):
            assert utterance_id in store
            assert store.row(utterance_id) == row
            assert store.lengths[row] == len(features)
            np.testing.assert_array_equal(store.read(utterance_id), features)
            assert store.read(utterance_id).dtype == np.float16
        del store  # Windows does not remove a folder with mapped files


def test_float32_is_rounded_to_half_precision(tmp_path: Path) -> None:
    clips = fill(tmp_path, 3)
    store = FeatureStore.open(tmp_path)
    np.testing.assert_array_equal(store.read("clip-02"), clips["clip-02"].astype(np.float16))


@pytest.mark.parametrize(
    "arrange",
    [np.asfortranarray, lambda a: a.T.copy().T, lambda a: np.repeat(a, 2, axis=1)[:, ::2]],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_layout_in_memory_does_not_matter(tmp_path: Path, arrange, dtype) -> None:
    clips = {f"clip-{i}": clip(i, 5).astype(dtype) for i in range(3)}
    with StoreWriter(tmp_path, SPEC) as writer:
        for utterance_id, features in clips.items():
            writer.write(utterance_id, arrange(features))
    store = FeatureStore.open(tmp_path)
    for utterance_id, features in clips.items():
        np.testing.assert_array_equal(store.read(utterance_id), features.astype(np.float16))


def test_resuming_gives_the_same_files_as_one_run(tmp_path: Path) -> None:
    clips = fill(tmp_path / "once", 7)
    with StoreWriter(tmp_path / "twice", SPEC, 2) as writer:
        for utterance_id in list(clips)[:4]:
            writer.write(utterance_id, clips[utterance_id])
    with StoreWriter(tmp_path / "twice", SPEC, 2) as writer:
        assert writer.completed == set(list(clips)[:4])
        for utterance_id in list(clips)[4:]:
            writer.write(utterance_id, clips[utterance_id])
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, Path.unlink])
def test_a_damaged_shard_is_dropped_and_redone_alone(tmp_path: Path, damage) -> None:
    clips = fill(tmp_path, 7)
    whole = contents(tmp_path)
    damage(tmp_path / "shard-00001.safetensors")
    with StoreWriter(tmp_path, SPEC, 2) as writer:
        assert writer.dropped == ("shard-00001.safetensors",)
        missing = [utterance_id for utterance_id in clips if utterance_id not in writer.completed]
        assert missing == ["clip-02", "clip-03"]
        for utterance_id in missing:
            writer.write(utterance_id, clips[utterance_id])
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("damage", [truncate, empty])
def test_a_damaged_sidecar_makes_its_clips_be_redone(tmp_path: Path, damage) -> None:
    clips = fill(tmp_path, 4)
    damage(tmp_path / "shard-00000.json")
    with pytest.raises(StoreError, match=r"shard-00000\.json: not a valid sidecar"):
        FeatureStore.open(tmp_path)
    assert StoreWriter(tmp_path, SPEC).completed == set(clips) - {"clip-00", "clip-01"}


def test_data_without_a_sidecar_does_not_exist(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    (tmp_path / "shard-00001.json").unlink()
    assert FeatureStore.open(tmp_path).ids == ("clip-00", "clip-01")
    assert StoreWriter(tmp_path, SPEC).completed == {"clip-00", "clip-01"}


def test_opening_names_every_truncated_shard_and_the_remedy(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    truncate(tmp_path / "shard-00000.safetensors")
    (tmp_path / "shard-00002.safetensors").unlink()
    with pytest.raises(StoreError) as error:
        FeatureStore.open(tmp_path)
    message = str(error.value)
    assert "shard-00000.safetensors" in message
    assert "shard-00002.safetensors" in message
    assert "shard-00001" not in message
    assert "Run the same extraction again" in message


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    store = FeatureStore.open(tmp_path)
    assert store.verify() == []
    flip_a_bit(tmp_path / "shard-00001.safetensors")
    assert store.verify() == ["shard-00001.safetensors"]


def test_a_shard_whose_header_lies_is_reported_on_reading(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    path = tmp_path / "shard-00000.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(StoreError, match=r"cannot read shard-00000\.safetensors"):
        FeatureStore.open(tmp_path).read("clip-00")


def admit_size(path: Path) -> None:
    """Has the sidecar of a shard say how large it is now."""
    sidecar = path.with_suffix(".json")
    content = json.loads(sidecar.read_text()) | {"bytes": path.stat().st_size}
    sidecar.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "tensors",
    [
        {"frames": np.zeros((3, 4), np.float16)},
        {"frames": np.zeros((3, 3), np.float32)},
        {"frames": np.zeros(9, np.float16)},
        {"frames": np.zeros((2, 3), np.float16)},
        {"others": np.zeros((3, 3), np.float16)},
        {"frames": np.zeros((3, 3), np.float16), "others": np.zeros(9, np.float16)},
    ],
)
def test_a_shard_of_another_content_is_reported_on_reading(
    tmp_path: Path, tensors: dict[str, np.ndarray]
) -> None:
    fill(tmp_path, 2)  # one step and two
    path = tmp_path / "shard-00000.safetensors"
    save_file(tensors, path)
    admit_size(path)
    with pytest.raises(StoreError, match=r"cannot read shard-00000\.safetensors"):
        FeatureStore.open(tmp_path).read("clip-01")


def test_bytes_behind_the_rows_are_not_taken_for_rows(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    path = tmp_path / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes() + bytes(6))
    admit_size(path)
    with pytest.raises(StoreError, match=r"cannot read shard-00000\.safetensors"):
        FeatureStore.open(tmp_path).read("clip-01")


def test_a_shard_cut_short_between_two_reads_is_reported(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    store = FeatureStore.open(tmp_path)
    store.read("clip-00")
    truncate(tmp_path / "shard-00000.safetensors")
    with pytest.raises(StoreError, match=r"cannot read shard-00000\.safetensors: it ends early"):
        store.read("clip-01")


def test_features_with_another_key_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    other = FeatureSpec(
        Modality.ACOUSTIC, "hf", 3, 50.0, {"layer": 3}, weights_sha256="ab" * 32, source="org/name"
    )
    with pytest.raises(StoreError) as error:
        StoreWriter(tmp_path, other)
    message = str(error.value)
    assert "logmel" in message
    assert "hf" in message
    assert "org/name" in message
    assert "--out" in message
    assert FeatureStore.open(tmp_path).spec == SPEC


def test_a_shard_of_other_features_is_not_taken_for_ours(tmp_path: Path) -> None:
    fill(tmp_path / "mine", 2)
    other = FeatureSpec(Modality.ACOUSTIC, "logmel", 3, 100.0, {"normalization": "none"})
    with StoreWriter(tmp_path / "other", other) as writer:
        writer.write("foreign", clip(9))
    for name in ("shard-00000.json", "shard-00000.safetensors"):
        (tmp_path / "other" / name).rename(tmp_path / "mine" / name.replace("00000", "00001"))
    with pytest.raises(StoreError, match=r"shard-00001\.json"):
        FeatureStore.open(tmp_path / "mine")


def test_the_source_of_the_weights_is_not_part_of_the_key(tmp_path: Path) -> None:
    here = FeatureSpec(Modality.ACOUSTIC, "hf", 3, 50.0, weights_sha256="ab", source="/here")
    there = FeatureSpec(Modality.ACOUSTIC, "hf", 3, 50.0, weights_sha256="ab", source="/there")
    with StoreWriter(tmp_path, here) as writer:
        writer.write("a", clip(0))
    assert StoreWriter(tmp_path, there).completed == {"a"}


BAD_FEATURES = {
    "only NaN": (np.full((2, 3), np.nan), r"at least one known step, all 2 are NaN"),
    "NaN": (np.array([[1, np.nan, 2]]), r"finite.*step 0, dimension 1"),
    "infinite": (np.array([[1, 2, np.inf]]), "finite"),
    "overflow": (np.array([[1.0, -7e4, 2.0]]), "65504.*got 70000"),
    "wrong dimension": (np.ones((2, 4)), r"\(T, 3\).*got \(2, 4\)"),
    "no step": (np.ones((0, 3)), r"T >= 1, got \(0, 3\)"),
    "wrong rank": (np.ones(3), r"got \(3,\)"),
}


@pytest.mark.parametrize(("features", "message"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_features_that_do_not_fit_are_refused_and_leave_no_trace(
    tmp_path: Path, features: np.ndarray, message: str
) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        with pytest.raises(InputError, match=rf"'bad'.*{message}"):
            writer.write("bad", features)
        writer.write("good", clip(1))
    assert FeatureStore.open(tmp_path).ids == ("good",)


def test_the_largest_half_precision_numbers_are_kept(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.write("edge", np.array([[65504.0, -65504.0, 0.0]]))
    np.testing.assert_array_equal(
        FeatureStore.open(tmp_path).read("edge"), np.array([[65504, -65504, 0]], np.float16)
    )


def test_an_id_is_written_once(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    with (
        StoreWriter(tmp_path, SPEC) as writer,
        pytest.raises(InputError, match=r"'clip-00'.*already"),
    ):
        writer.write("clip-00", clip(0))


def test_failures_are_kept_until_the_clip_succeeds(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.record_failure("a", 'MediaError: "a.wav",\n  empty')
        writer.record_failure("b", "MediaError: no file")
    store = FeatureStore.open(tmp_path)
    assert store.failures() == {
        "a": 'MediaError: "a.wav", empty',
        "b": "MediaError: no file",
    }
    with pytest.raises(StoreError, match=r"'b' is not in it.*no file"):
        store.read("b")
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.write("a", clip(0))
    assert set(FeatureStore.open(tmp_path).failures()) == {"b"}
    with StoreWriter(tmp_path, SPEC) as writer:
        writer.write("b", clip(1))
    assert not (tmp_path / "failures.csv").exists()


def test_an_unknown_clip_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    with pytest.raises(StoreError, match="'nobody' is not in it: it was not extracted"):
        FeatureStore.open(tmp_path).read("nobody")


def test_an_error_or_ctrl_c_keeps_what_was_collected(tmp_path: Path) -> None:
    def interrupted() -> None:
        with StoreWriter(tmp_path, SPEC) as writer:
            writer.write("a", clip(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert FeatureStore.open(tmp_path).ids == ("a",)


def test_a_store_can_be_sent_to_another_process(tmp_path: Path) -> None:
    clips = fill(tmp_path, 4)
    store = FeatureStore.open(tmp_path)
    store.read("clip-00")
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read("clip-03"), clips["clip-03"].astype(np.float16))


def test_lengths_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    with pytest.raises(ValueError, match="read-only"):
        FeatureStore.open(tmp_path).lengths[0] = 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema version 99 is newer"),
        ({"key": "0" * 64}, "does not belong to its key"),
        ({"spec": {}}, "not a valid store description"),
    ],
)
def test_a_store_description_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    fill(tmp_path, 1)
    path = tmp_path / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match=message):
        FeatureStore.open(tmp_path)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        FeatureStore.open(tmp_path / "missing")
    with pytest.raises(StoreError, match=r"no store\.json"):
        FeatureStore.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="not a valid store description"):
        FeatureStore.open(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="expected a folder"):
        StoreWriter(file, SPEC)
    with pytest.raises(InputError, match="clips_per_shard"):
        StoreWriter(tmp_path / "new", SPEC, 0)


def test_parts_of_a_killed_writer_are_removed_when_old(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    old, young = tmp_path / ".aa.part.safetensors", tmp_path / ".bb.part.safetensors"
    for part in (old, young):
        part.write_bytes(b"half")
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    StoreWriter(tmp_path, SPEC)
    assert not old.exists()
    assert young.exists()


def open_files() -> list[Path]:
    return [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]


def test_reading_leaves_nothing_open_or_mapped(tmp_path: Path) -> None:
    # What stays mapped counts as memory: a training would grow by all its stores.
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("only Linux tells what is mapped")
    with StoreWriter(tmp_path, FeatureSpec(Modality.VISUAL, "arrays", 2, None)) as writer:
        writer.write("clip", [[0.5, 1.0], [1.5, 2.0]])
    frames = FeatureStore.open(tmp_path).read("clip")
    assert str(tmp_path) not in maps.read_text(encoding="utf-8")
    assert not any(str(tmp_path) in str(file.readlink()) for file in open_files())
    assert frames.tolist() == [[0.5, 1.0], [1.5, 2.0]]


def test_a_flipped_bit_is_no_feature(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, FeatureSpec(Modality.VISUAL, "arrays", 2, None)) as writer:
        writer.write("a", np.ones((5, 2)))
    shard = next(tmp_path.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged, its hash is not the recorded one.*again"):
        FeatureStore.open(tmp_path).read("a")
