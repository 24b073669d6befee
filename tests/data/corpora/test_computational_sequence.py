"""What the CMU SDK writes is read; what reaches out of the file is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from miniatures import write_csd

from vavl.data.corpora.computational_sequence import ComputationalSequence
from vavl.errors import InputError, MediaError

h5py = pytest.importorskip("h5py")

FEATURES = np.arange(12.0, dtype=np.float32).reshape(4, 3)
INTERVALS = np.stack([np.arange(4.0), np.arange(1.0, 5.0)], axis=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.csd"
    write_csd(path, "Some", {"b": (FEATURES, INTERVALS), "a": (FEATURES + 1, INTERVALS)}, ["x"])
    return path


def test_what_is_written_is_read(path: Path) -> None:
    with ComputationalSequence(path) as csd:
        assert list(csd) == ["a", "b"]
        assert len(csd) == 2
        assert "c" not in csd
        assert csd.dimension_names() == ["x"]
        stored = csd.read("b")
    np.testing.assert_array_equal(stored.features, FEATURES)
    assert stored.features.dtype == np.float32
    np.testing.assert_array_equal(stored.between(1.0, 3.0), FEATURES[1:3])
    # Each step belongs to one of two spans that meet.
    np.testing.assert_array_equal(stored.between(0.0, 1.5), FEATURES[:1])
    np.testing.assert_array_equal(stored.between(1.5, 9.0), FEATURES[1:])
    assert stored.between(7.0, 9.0).shape == (0, 3)


def test_what_is_not_there(path: Path, tmp_path: Path) -> None:
    with ComputationalSequence(path) as csd, pytest.raises(MediaError, match="no video 'c'"):
        csd.read("c")
    with pytest.raises(InputError, match="does not exist"):
        ComputationalSequence(tmp_path / "none.csd")
    (tmp_path / "text.csd").write_text("no HDF5")
    with pytest.raises(MediaError, match=r"text\.csd: not an HDF5 file"):
        ComputationalSequence(tmp_path / "text.csd")
    with h5py.File(tmp_path / "other.csd", "w") as file:
        file.create_group("Some/other")
    with pytest.raises(MediaError, match=r"Some/data: not there"):
        ComputationalSequence(tmp_path / "other.csd")


def read_everything(path: Path) -> None:
    with ComputationalSequence(path) as csd:
        csd.dimension_names()
        for video in csd:
            csd.read(video)


def test_a_truncated_file(path: Path) -> None:
    content = path.read_bytes()
    for size in range(0, len(content) - 1, len(content) // 40):
        path.write_bytes(content[:size])
        with pytest.raises(MediaError, match=r"some\.csd"):
            read_everything(path)


def test_links_and_data_in_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(12.0).tobytes())
    write_csd(tmp_path / "other.csd", "Some", {"c": (FEATURES, INTERVALS)})
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.csd"), "Some/data/c/features", (4, 3))
    with h5py.File(path, "a") as file:
        data = file["Some/data"]
        data["outside"] = h5py.ExternalLink(str(tmp_path / "other.csd"), "/Some/data/c")
        data["soft"] = h5py.SoftLink("/Some/data/a")
        for name in ("raw", "virtual", "linked"):
            data.create_group(name)["intervals"] = INTERVALS
        external = [(str(secret), 0, 96)]
        data["raw"].create_dataset("features", (4, 3), "f8", external=external)
        data["virtual"].create_virtual_dataset("features", layout)
        data["linked"]["features"] = h5py.ExternalLink(
            str(tmp_path / "other.csd"), "/Some/data/c/features"
        )
    with ComputationalSequence(path) as csd:
        for video in ("outside", "soft", "linked"):
            with pytest.raises(MediaError, match="a link that leads elsewhere"):
                csd.read(video)
        for video in ("raw", "virtual"):
            with pytest.raises(MediaError, match="its data lie in another file"):
                csd.read(video)
        assert csd.read("a").features.shape == (4, 3)


def test_anything_but_numbers_is_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        data = file["Some/data"]
        for name in ("text", "short", "deep", "nan", "huge", "folder"):
            data.create_group(name)["intervals"] = INTERVALS
        data["text"]["features"] = [["a"] * 3] * 4
        data["short"]["features"] = FEATURES[:3]
        data["deep"]["features"] = np.zeros((4, 3, 1))
        data["nan"]["features"] = FEATURES
        data["nan"]["intervals"][0, 0] = np.nan
        data["huge"].create_dataset("features", (2**40, 3), "f4", chunks=(1024, 3))
        data["folder"].create_group("features")
    with ComputationalSequence(path) as csd:
        for video, message in {
            "text": "expected numbers, got object",
            "short": r"got \(3, 3\) and \(4, 2\)",
            "deep": r"expected features \(T, D\)",
            "nan": "finite intervals",
            "huge": "too large",
            "folder": "expected a dataset",
        }.items():
            with pytest.raises(MediaError, match=message):
                csd.read(video)


@pytest.mark.parametrize("names", ["no JSON", json.dumps({"a": 1}), json.dumps([1, 2])])
def test_names_that_are_none(path: Path, names: str) -> None:
    with h5py.File(path, "a") as file:
        file["Some/metadata/dimension names"][0] = names
    with ComputationalSequence(path) as csd, pytest.raises(MediaError):
        csd.dimension_names()


def test_h5py_is_needed_for_nothing_else() -> None:
    code = (
        "import sys; sys.modules['h5py'] = None\n"
        "from vavl.data.corpora import CORPORA\n"
        "from vavl.data.corpora.computational_sequence import ComputationalSequence\n"
        "try: ComputationalSequence('a.csd')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'vavl[mosei]'" in done.stdout
