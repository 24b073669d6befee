"""Precomputed arrays: read as they are, or refused with file, expectation and finding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vavl.errors import InputError, MediaError
from vavl.features.arrays import ArrayFeatures, read_array


def save(folder: Path, array: object, name: str = "clip.npy") -> Path:
    np.save(folder / name, array, allow_pickle=True)
    return folder / name


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i4", "u1", "?"])
def test_numbers_of_any_kind_become_single_precision(tmp_path: Path, dtype: str) -> None:
    array = np.arange(6).reshape(3, 2).astype(dtype)
    read = read_array(save(tmp_path, array))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float32))


def test_one_vector_is_a_sequence_of_one_step(tmp_path: Path) -> None:
    path = save(tmp_path, np.arange(35.0))
    assert ArrayFeatures("visual", dim=35).extract_file(path).shape == (1, 35)


def test_an_array_belongs_to_its_utterance_as_a_whole(tmp_path: Path) -> None:
    path = save(tmp_path, np.ones((50, 3)))
    assert ArrayFeatures("visual", 3, 25.0).extract_file(path, 0.5, 1.0).shape == (50, 3)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-5])
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def save_npz(folder: Path) -> Path:
    np.savez(folder / "clip.npz", a=np.ones(3))
    return (folder / "clip.npz").rename(folder / "clip.npy")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda d: d / "missing.npy", ["does not exist"]),
        (lambda d: d, ["folder"]),
        (lambda d: write(d / "empty.npy", b""), ["not a .npy file"]),
        (lambda d: write(d / "text.npy", b"1 2 3"), ["not a .npy file"]),
        (save_npz, ["not a .npy file"]),
        (lambda d: cut(save(d, np.ones((9, 3)))), ["damaged"]),
        (lambda d: write(d / "head.npy", b"\x93NUMPY\x01\x00\xff\xff"), ["damaged"]),
        (lambda d: save(d, np.array([{}, 1], dtype=object)), ["damaged"]),
        (lambda d: save(d, np.array(["a", "b", "c"])), ["real numbers", "<U1"]),
        (lambda d: save(d, np.ones(3, complex)), ["real numbers", "complex128"]),
        (lambda d: save(d, np.ones((2, 2, 3))), ["(T, 3)", "(2, 2, 3)"]),
        (lambda d: save(d, np.array(1.0)), ["(T, 3)", "()"]),
        (lambda d: save(d, np.ones((0, 3))), ["empty", "(0, 3)"]),
        (lambda d: save(d, np.ones((5, 0))), ["empty", "(5, 0)"]),
        (lambda d: save(d, np.ones((5, 4))), ["expected 3 features", "got 4", "(5, 4)"]),
        (lambda d: save(d, np.ones(4)), ["expected 3 features", "got 4", "(4,)"]),
        (lambda d: save(d, np.array([[1, np.nan, 2], [np.nan, 1, 2]])), ["got 2 NaN", "of 6"]),
        (lambda d: save(d, np.full((2, 3), np.nan)), ["at least one known step"]),
        (lambda d: save(d, np.array([1, 2, np.inf])), ["got 1 NaN or infinite"]),
        (lambda d: save(d, np.array([1, 2, 1e300])), ["got 1 NaN or infinite"]),
    ],
)
def test_errors_name_file_expectation_and_finding(tmp_path: Path, make, parts: list[str]) -> None:
    path = make(tmp_path)
    with pytest.raises(MediaError) as error:
        ArrayFeatures("visual", dim=3).extract_file(path)
    for part in [str(path), *parts]:
        assert part in str(error.value)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    path = save(tmp_path, np.array([Trap()], dtype=object))
    with pytest.raises(MediaError):
        read_array(path)
    assert not (tmp_path / "sprung").exists()


def test_the_dimension_is_that_of_the_first_readable_file(tmp_path: Path) -> None:
    broken = write(tmp_path / "a.npy", b"")
    good = save(tmp_path, np.ones((2, 7)), "b.npy")
    other = save(tmp_path, np.ones((2, 9)), "c.npy")
    extractor = ArrayFeatures("acoustic", frame_rate_hz=25, content="egemaps")
    with pytest.raises(InputError, match="dim: not known"):
        _ = extractor.spec
    spec = extractor.sized([broken, good, other]).spec
    assert (spec.dim, spec.frame_rate_hz, spec.modality) == (7, 25.0, "acoustic")
    assert spec.parameters == {"content": "egemaps"}
    with pytest.raises(InputError, match=r"dim: no file .* can be read \(.*a\.npy"):
        extractor.sized([broken, broken])
    assert ArrayFeatures("visual", 3).sized([good]).dim == 3


def test_other_contents_are_other_features() -> None:
    keys = {ArrayFeatures("visual", 35, content=c).spec.key for c in ("openface", "libreface")}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"modality": "audiovisual"}, "modality"),
        ({"modality": "visual", "dim": 0}, "dim"),
        ({"modality": "visual", "frame_rate_hz": 0.0}, "frame_rate_hz"),
        ({"modality": "visual", "frame_rate_hz": float("nan")}, "frame_rate_hz"),
    ],
)
def test_arguments_that_make_no_sense(arguments, name: str) -> None:
    with pytest.raises(InputError, match=name):
        ArrayFeatures(**arguments)
