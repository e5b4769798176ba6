"""How far an import has come, in a small file, so that the next run goes on from there.

For each file: the bytes that are settled, and the SHA-256 of exactly these bytes. A file that no longer
begins with them is another file, and is imported from its beginning, which is safe: nothing is stored
twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.otlp_files import BEGINNING, Place

_VERSION: Final = 1
_READ_BYTES: Final = 2**20

WRITE_EVERY_S: Final = 0.5
"""What a killed import did in this time is done again, which stores nothing twice."""


class PrefixDigest:
    """SHA-256 of the first bytes of a file, for ever larger prefixes."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path
        self._hash = hashlib.sha256()
        self._at = 0

    def up_to(self, file_bytes: int) -> str | None:
        """The digest of the first ``file_bytes`` bytes; None if the file has fewer.

        Args:
            file_bytes: not less than last time.
        """
        with self._path.open("rb") as file:
            file.seek(self._at)
            while self._at < file_bytes:
                piece = file.read(min(_READ_BYTES, file_bytes - self._at))
                if not piece:
                    return None
                self._hash.update(piece)
                self._at += len(piece)
        return self._hash.hexdigest()


class ImportState:
    """The state file of one import."""

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one.

        Raises:
            CliError: there is one, and it is no state file.
        """
        self._path = path
        self._files: dict[str, dict[str, Any]] = {}
        self._digests: dict[Path, PrefixDigest] = {}
        self._written_at = -math.inf
        self.report: Mapping[str, Any] = {}
        """The report of what is settled, as JSON; the next run adds to it."""
        try:
            kept = json.loads(path.read_bytes())
            if kept["version"] != _VERSION:
                raise ValueError("another version")  # noqa: TRY301 - one sentence for every misfit
            self._files, self.report = dict(kept["files"]), dict(kept["report"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CliError(
                f"{path} is not the state of an import; name another file with --resume, or delete it to "
                "import from the beginning."
            ) from error

    def place(self, file: Path) -> Place:
        """Where to go on in a file; its beginning if it is new, or not the file it was.

        Raises:
            OSError: the file cannot be read.
        """
        self._digests[file] = digest = PrefixDigest(file)
        kept = self._files.get(str(file.resolve()))
        if kept is None:
            return BEGINNING
        if digest.up_to(kept["bytes"]) == kept["sha256"]:
            return Place(kept["bytes"], kept["line"])
        self._digests[file] = PrefixDigest(file)
        return BEGINNING

    def knows(self, file: Path) -> bool:
        """Whether an earlier run has settled a part of the file."""
        return str(file.resolve()) in self._files

    def settle(self, file: Path, place: Place, report: Mapping[str, Any]) -> None:
        """Keep that everything before `place` is settled. On disk at once, or soon with the next ones.

        Args:
            file: one that ``place`` was asked for.
            place: how far it has come.
            report: of the import up to here.

        Raises:
            CliError: the state file cannot be written.
        """
        try:
            digest = self._digests[file].up_to(place.file_bytes) if place != BEGINNING else None
        except OSError:
            # Gone since it was read: there is nothing to go on with.
            digest = None
        if digest is not None:
            entry = {"bytes": place.file_bytes, "line": place.line, "sha256": digest}
            self._files[str(file.resolve())] = entry
        self.report = report
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Put it on disk, whole.

        Raises:
            CliError: the state file cannot be written.
        """
        self._written_at = time.monotonic()
        content = {"version": _VERSION, "files": self._files, "report": self.report}
        beside = self._path.with_name(self._path.name + ".new")
        try:
            with beside.open("w", encoding="utf-8") as new:
                json.dump(content, new)
                new.flush()
                os.fsync(new.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise CliError(
                f"cannot write {self._path}: {error.strerror}; name another file with --resume."
            ) from error
