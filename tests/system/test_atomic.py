from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vavl.system.atomic import atomic_folder, atomic_write, remove_leftovers


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


KILLED = """
import os, sys
from pathlib import Path
from vavl.system.atomic import atomic_folder, atomic_write
with atomic_write(Path(sys.argv[1]) / "model.pt") as file, atomic_folder(Path(sys.argv[1]) / "out"):
    file.write_text("half")
    os._exit(9)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_write(tmp_path / "notes.txt") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "model.pt") as file, atomic_folder(tmp_path / "out") as folder:
        file.write_text("half")
        remove_leftovers(tmp_path)
        assert file.is_file()
        assert folder.is_dir()


def test_a_name_that_does_not_tell_the_process_goes_after_an_hour(tmp_path: Path) -> None:
    old, young = tmp_path / ".0123456789abcdef.part.pt", tmp_path / ".89abcdef-7-0123.part"
    for path, hours in ((old, 1.1), (young, 0.9)):
        path.write_text("half")
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [young.name]
