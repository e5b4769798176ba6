"""Which source a decorated function is: digest of its text, git commit, version of its distribution.

What cannot be known cheaply stays absent. The commit is read from the files of the repository; only
whether tracked files differ from it needs `git`, which is asked once a folder, by a thread of its own. A
decision that ends before the answer is there goes without it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from opentelemetry.util.types import AnyValue

from loopgrid.schema import Key

GIT_TIMEOUT_S: Final = 5.0
MAX_REF_BYTES: Final = 2**20
"""Bytes read of one file of a repository."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


class Provenance:
    """What is known of the source of one function; found at its first call."""

    __slots__ = ("_attributes", "_function", "_repository")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._attributes: dict[str, AnyValue] | None = None
        self._repository: Path | None = None

    def attributes(self) -> Mapping[str, AnyValue]:
        """The attributes that carry it."""
        known = self._attributes
        if known is None:
            known = self._attributes = self._found()
        if self._repository is not None and Key.COMMIT_DIRTY not in known:
            dirty = _changes.of(self._repository)
            if dirty is not None:
                # A new dict: another thread may be copying this one.
                known = self._attributes = {**known, Key.COMMIT_DIRTY: dirty}
        return known

    @property
    def is_waiting(self) -> bool:
        """Whether `git` has not answered yet."""
        known = self._attributes
        return self._repository is not None and known is not None and Key.COMMIT_DIRTY not in known

    def _found(self) -> dict[str, AnyValue]:
        found: dict[str, AnyValue] = {}
        # Some have no file behind them: made by exec, typed into a session, or packed away.
        with contextlib.suppress(OSError, TypeError, ValueError, SyntaxError):
            source = inspect.getsource(self._function).encode()
            found[Key.FUNCTION_SHA256] = hashlib.sha256(source).hexdigest()
        package = self._function.__module__.partition(".")[0]
        version = _version(package)
        if version is not None:
            found |= {Key.PACKAGE_NAME: package, Key.PACKAGE_VERSION: version}
        file = getattr(getattr(inspect.unwrap(self._function), "__code__", None), "co_filename", None)
        self._repository = repository_of(Path(file)) if file else None
        commit = None if self._repository is None else commit_of(self._repository)
        if commit is None:
            self._repository = None
        else:
            found[Key.COMMIT] = commit
        return found


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def repository_of(file: Path) -> Path | None:
    """The git repository that a source file stands in; an installed package stands in none."""
    if not file.is_absolute() or _INSTALLED & set(file.parts):
        return None
    return next((folder for folder in file.parents if (folder / ".git").exists()), None)


def commit_of(repository: Path) -> str | None:
    """The commit that is checked out, read from the repository's files."""
    try:
        folder = _git_folder(repository)
        head = _read(folder / "HEAD")
        if not head.startswith("ref: "):
            return head if _COMMIT.fullmatch(head) else None
        name = head.removeprefix("ref: ")
        # A work tree of its own has its HEAD, and shares the branches.
        common = folder / "commondir"
        shared = (folder / _read(common)).resolve() if common.exists() else folder
        return _ref(shared, name)
    except (OSError, ValueError):
        return None


def _git_folder(repository: Path) -> Path:
    entry = repository / ".git"
    return entry if entry.is_dir() else (repository / _read(entry).removeprefix("gitdir: ")).resolve()


def _ref(folder: Path, name: str) -> str | None:
    loose = folder / name
    if loose.is_file():
        text = _read(loose)
        return text if _COMMIT.fullmatch(text) else None
    packed = folder / "packed-refs"
    lines = _read(packed).splitlines() if packed.is_file() else []
    return next((line.partition(" ")[0] for line in lines if line.endswith(f" {name}")), None)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_REF_BYTES).decode().strip()


class _Changes:
    """Whether tracked files of a repository differ from its commit, asked once a process."""

    def __init__(self) -> None:
        self._answers: dict[Path, bool | None] = {}

    def of(self, repository: Path) -> bool | None:
        """The answer, or None until there is one."""
        if repository not in self._answers:
            self._answers[repository] = None
            thread = threading.Thread(
                target=self._ask, args=(repository,), name="loopgrid-provenance", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down: nobody is there to ask.
                return None
        return self._answers[repository]

    def _ask(self, repository: Path) -> None:
        # Only who has a repository pays for the import, and in this thread.
        import subprocess  # noqa: PLC0415

        command = ["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]
        try:
            answer = subprocess.run(  # noqa: S603 - these words and no others
                command,
                cwd=repository,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=GIT_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return
        if answer.returncode == 0:
            self._answers[repository] = bool(answer.stdout.strip())


_changes: Final = _Changes()
