from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vavl.system.atomic import atomic_write


def test_it_is_complete_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "notes.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"

    def fails() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half of the sec")
            assert path.read_text() == "first"
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fails()
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["notes.txt"]


def test_the_suffix_is_kept_for_those_who_look_at_it(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "frames.npy") as temporary:
        np.save(temporary, np.zeros(3))  # appends .npy where it is missing
    assert np.load(tmp_path / "frames.npy").shape == (3,)
