"""The revision of a working tree is what git says, and no program is run for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vavl.system.revision import git_revision

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def described(folder: Path) -> str:
    return git(folder, "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "inner" / "deep").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    for name in ("a.txt", "inner/b.txt", "inner/deep/a longer name.txt"):
        (folder / name).write_text(name)
    (folder / "link").symlink_to("a.txt")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_it_is_what_git_says(tree: Path, tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
    assert git_revision(tree) == git_revision(tree / "inner") == described(tree)
    (tree / "new.txt").write_text("git was not told of it")
    (tree / "a.txt").touch()  # another time, the same content
    assert git_revision(tree) == git(tree, "rev-parse", "HEAD")
    git(tree, "add", "new.txt")
    assert git_revision(tree) == described(tree) == git(tree, "rev-parse", "HEAD") + "+"
    git(tree, "commit", "-qm", "second")
    assert git_revision(tree) == described(tree)
    (tree / "a.txt").write_text("A.txt")  # the same size
    assert git_revision(tree) == described(tree) == git(tree, "rev-parse", "HEAD") + "+"
    git(tree, "checkout", "a.txt")
    (tree / "inner" / "b.txt").unlink()
    assert git_revision(tree) == described(tree)
    git(tree, "checkout", ".")
    git(tree, "pack-refs", "--all")
    git(tree, "checkout", "-q", "--detach", "HEAD~1")
    assert git_revision(tree) == described(tree)
    second = tmp_path / "second"
    git(tree, "worktree", "add", "-q", str(second), "main")
    assert git_revision(second) == described(second) == git(tree, "rev-parse", "main")


def test_what_a_repository_names_is_not_run(tree: Path) -> None:
    program = tree.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {tree.parent / 'was-run'}\n")
    program.chmod(0o755)
    git(tree, "config", "core.fsmonitor", str(program))
    git(tree, "config", "filter.x.clean", str(program))
    (tree / ".gitattributes").write_text("* filter=x\n")
    (tree / "a.txt").write_text("A.txt")
    assert str(git_revision(tree)).endswith("+")
    assert not (tree.parent / "was-run").exists()


@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_stands_in_its_files(tree: Path, data: st.DataObject) -> None:
    path = tree / ".git" / data.draw(st.sampled_from(["HEAD", "index", "refs/heads/main"]))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before)))
    path.write_bytes(before[:place] + data.draw(st.binary(max_size=8)) + before[place + 4 :])
    try:
        revision = git_revision(tree)
    finally:
        path.write_bytes(before)
    assert revision is None or len(revision) in (40, 41)
