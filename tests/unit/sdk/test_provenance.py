"""The commit of a source file is read from the files of its repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from loopgrid.provenance import commit_of, repository_of


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "x")
    return folder


def test_of_a_branch_of_a_packed_one_and_of_none(repository):
    head = git(repository, "rev-parse", "HEAD")

    assert commit_of(repository) == head
    git(repository, "pack-refs", "--all")
    assert commit_of(repository) == head
    git(repository, "checkout", "--quiet", "--detach")
    assert commit_of(repository) == head


def test_of_a_work_tree_of_its_own(repository, tmp_path):
    tree = tmp_path / "tree"
    git(repository, "worktree", "add", "--quiet", "-b", "side", str(tree))
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "y")

    assert commit_of(tree) == git(tree, "rev-parse", "HEAD") != commit_of(repository)


def test_before_the_first_commit_and_in_a_broken_repository_there_is_none(tmp_path):
    git(tmp_path, "init", "--quiet")

    assert commit_of(tmp_path) is None
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert commit_of(tmp_path) is None


def test_an_installed_package_stands_in_no_repository(repository):
    assert repository_of(repository / "app" / "desk.py") == repository
    assert repository_of(repository / ".venv" / "lib" / "site-packages" / "desk.py") is None
    assert repository_of(Path("<string>")) is None
