"""Stores at addresses: the same as in a folder, and read from copies kept by their hash."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pretend_remote  # noqa: F401 - makes fsspec know pretend:// and full://
import pytest

from vavl.data.store import FeatureStore, StoreWriter
from vavl.data.store_folder import StoreFolder, cache_folder, open_folder
from vavl.errors import InputError, StoreError
from vavl.types import FeatureSpec, Modality

SPEC = FeatureSpec(Modality.ACOUSTIC, "logmel", 3, 100.0)


@pytest.fixture(params=["memory", "pretend", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Addresses of an empty folder."""
    yield f"{request.param}://{tmp_path}/remote/store"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps copies apart from those of the user."""
    monkeypatch.setenv("VAVL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(path: str | Path, names: list[str], clips_per_shard: int = 2) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    clips = {name: generator.normal(size=(4, 3)).astype(np.float16) for name in names}
    with StoreWriter(path, SPEC, clips_per_shard) as writer:
        for name, frames in clips.items():
            if name not in writer.completed:
                writer.write(name, frames)
    return clips


def contents(address: str) -> dict[str, bytes]:
    folder = open_folder(address)
    names = list(folder.sizes())
    return dict(zip(names, folder.read(names), strict=True))


def test_a_store_at_an_address_is_that_of_a_folder(address: str, tmp_path: Path) -> None:
    clips = fill(address, ["a", "b", "c"])
    fill(tmp_path / "local", ["a", "b", "c"])
    assert contents(address) == contents(str(tmp_path / "local"))
    store = FeatureStore.open(address)
    assert store.ids == ("a", "b", "c")
    assert store.verify() == []
    for name, frames in clips.items():
        np.testing.assert_array_equal(store.read(name), frames)
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read("c"), clips["c"])


def test_what_is_there_is_not_done_again(address: str) -> None:
    fill(address, ["a", "b"])
    with StoreWriter(address, SPEC) as writer:
        assert writer.completed == {"a", "b"}
        writer.record_failure("c", "MediaError: no file")
    assert FeatureStore.open(address).failures() == {"c": "MediaError: no file"}
    fill(address, ["a", "b", "c"])
    store = FeatureStore.open(address)
    assert (store.ids, store.failures()) == (("a", "b", "c"), {})
    with pytest.raises(StoreError, match="holds other features"):
        StoreWriter(address, FeatureSpec(Modality.ACOUSTIC, "logmel", 3, 50.0))


def test_truncated_shards_and_sidecars_are_redone(address: str) -> None:
    fill(address, ["a", "b", "c", "d", "e"])
    whole = contents(address)
    folder = open_folder(address)
    folder.write("shard-00000.safetensors", whole["shard-00000.safetensors"][:-7])
    folder.write("shard-00001.json", whole["shard-00001.json"][:-7])
    with pytest.raises(StoreError, match=r"(?s)shard-00001\.json.*shard-00000\.safetensors"):
        FeatureStore.open(address)
    writer = StoreWriter(address, SPEC)
    assert set(writer.dropped) == {"shard-00000.safetensors", "shard-00001.safetensors"}
    assert writer.completed == {"e"}
    fill(address, ["a", "b", "c", "d", "e"])
    assert contents(address) == whole


def test_copies_are_fetched_once_and_kept_by_their_hash(cache: Path, tmp_path: Path) -> None:
    address = f"pretend://{tmp_path}/remote"
    clips = fill(address, ["a", "b", "c"])
    store = FeatureStore.open(address)
    assert not cache.exists()
    store.read("a")
    assert len(list(cache.iterdir())) == 1  # only the shard that was read
    for path in (tmp_path / "remote").glob("*.safetensors"):
        if "00000" in path.name:
            path.unlink()
    np.testing.assert_array_equal(store.read("b"), clips["b"])
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.read("b"), clips["b"])
    assert cache_folder() == cache


def test_a_store_goes_on_where_the_cache_was_cleared_or_lies_elsewhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = fill(f"pretend://{tmp_path}/remote", ["a", "b"])
    store = FeatureStore.open(f"pretend://{tmp_path}/remote")
    store.read("a")
    content = pickle.dumps(store)
    assert str(cache).encode() not in content
    shutil.rmtree(cache)
    np.testing.assert_array_equal(store.read("b"), clips["b"])
    monkeypatch.setenv("VAVL_CACHE", str(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(pickle.loads(content).read("b"), clips["b"])
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    for folder in (cache, tmp_path / "elsewhere", tmp_path / "remote"):
        shutil.rmtree(folder)
    with pytest.raises(StoreError, match=r"cannot read shard-00000\.safetensors"):
        store.read("a")


def test_a_copy_that_is_not_the_recorded_file_is_refused(cache: Path, tmp_path: Path) -> None:
    address = f"pretend://{tmp_path}/remote"
    fill(address, ["a"])
    path = tmp_path / "remote" / "shard-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    store = FeatureStore.open(address)
    with pytest.raises(StoreError, match=r"shard-00000\.safetensors: damaged"):
        store.read("a")
    assert list(cache.iterdir()) == []
    assert store.verify() == ["shard-00000.safetensors"]


def test_a_hash_cannot_lead_out_of_the_cache(tmp_path: Path) -> None:
    fill(f"pretend://{tmp_path}/remote", ["a"])
    sidecar = tmp_path / "remote" / "shard-00000.json"
    text = sidecar.read_text()
    at = text.index('"sha256": "') + len('"sha256": "')
    sidecar.write_text(text[:at] + "../../stolen" + text[at + 64 :])
    with pytest.raises(StoreError, match=r"shard-00000\.json: not a valid sidecar"):
        FeatureStore.open(f"pretend://{tmp_path}/remote")


def test_addresses_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere://x: expected .*s3://.*got nowhere://"):
        open_folder("nowhere://x")
    with pytest.raises(StoreError, match=r"memory://none.*no such folder"):
        FeatureStore.open("memory://none")
    with (
        pytest.raises(StoreError, match=r"full://.*cannot be reached.*No space left"),
        StoreWriter(f"full://{tmp_path}/x", SPEC) as writer,
    ):
        writer.write("a", np.ones((1, 3)))


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://host/store", "reference://store", "github://org:name@/store", "ssh://host/store"),
        *("zip://store::http://host/a.zip", "simplecache::s3://bucket/store", "S3://bucket/store"),
        *("data://x", "libarchive://x", "jupyter://host", "://x", "dir://x", "cached://s3"),
    ],
)
def test_other_addresses_are_refused_by_name(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_: pytest.fail("it was followed"))
    for open_it in (open_folder, FeatureStore.open, lambda address: StoreWriter(address, SPEC)):
        with pytest.raises(InputError, match="not followed") as caught:
            open_it(address)
        assert str(caught.value).startswith(address)


def test_the_web_is_read_alone() -> None:
    folder = StoreFolder("https://example.org/store", is_local=False)
    with pytest.raises(InputError, match=r"example\.org/store: .*written to"):
        folder.prepare()


def test_a_folder_of_this_machine_may_have_any_name_and_hold_links(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]::x"
    clips = fill(folder, ["a", "b", "c"])
    moved = tmp_path / "moved.safetensors"
    try:
        (folder / "shard-00000.safetensors").rename(moved)
        (folder / "shard-00000.safetensors").symlink_to(moved)
    except OSError:
        pytest.skip("symbolic links are not allowed here")
    store = FeatureStore.open(folder)
    assert store.path == str(folder)
    assert store.verify() == []
    np.testing.assert_array_equal(store.read("b"), clips["b"])
    assert StoreWriter(folder, SPEC).completed == {"a", "b", "c"}
