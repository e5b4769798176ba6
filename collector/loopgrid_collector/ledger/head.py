"""The head file: what the ledger must at least contain, kept beside it.

Guarantee: when :func:`write` returns, the head survives a crash of the process and of the machine,
whole: either the old one or the new one is found, never a part of one.

Evidence: temporary file in the same folder, ``fsync``, ``rename``, ``fsync`` of the folder; the order
that POSIX asks for, and that ext4, XFS and APFS keep.

Hole: a device that acknowledges a flush it did not do. And whoever can write both files can rewrite
both; the head detects a ledger that got shorter, not a patient forger (see ``docs/spec/ledger.md``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from loopgrid_collector.errors import LedgerForeign

SUFFIX = ".head"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest commit that was acknowledged.

    Attributes:
        ledger_id: which ledger this is the head of.
        commit_id: number of that commit; 0 for a ledger without commits.
        records: how many records the ledger held with it.
        chain: its chain value, hex.
    """

    ledger_id: str
    commit_id: int
    records: int
    chain: str


def path_of(ledger: Path) -> Path:
    """Where the head of a ledger file lies."""
    return ledger.with_name(ledger.name + SUFFIX)


def read(path: Path) -> Head | None:
    """The head, or None where there is none yet.

    Raises:
        LedgerForeign: the file exists and is not a head.
    """
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LedgerForeign(
            f"{path} is damaged: it should hold the ledger's last commit as JSON. Restore it from a backup; "
            "only if there is none, and after checking the ledger, move it away to start without it."
        ) from error


def _parsed(text: str) -> Head:
    fields = json.loads(text)
    if {type(fields["commit_id"]), type(fields["records"])} != {int}:
        raise TypeError("commit_id and records are integers")
    return Head(**fields)


def write(path: Path, head: Head) -> None:
    """Replace the head durably.

    Raises:
        OSError: it could not be written; the old head is still there.
    """
    prepare(path, head)
    publish(path)


def prepare(path: Path, head: Head) -> None:
    """The first half of :func:`write`: all that needs space. The old head still holds.

    Done before a commit, so that a full disk refuses the commit instead of leaving one that is stored
    and cannot be acknowledged.

    Raises:
        OSError: there is no room, or no permission.
    """
    with _temporary(path).open("w", encoding="utf-8") as file:
        json.dump(asdict(head), file)
        file.flush()
        os.fsync(file.fileno())


def publish(path: Path) -> None:
    """The second half: what was prepared becomes the head, durably.

    Raises:
        OSError: it did not; the old head is still there.
    """
    _temporary(path).replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".new")


class HeadFile:
    """The head file of an open ledger. For its writer alone."""

    def __init__(self, path: Path, head: Head) -> None:
        """The file holds ``head``."""
        self._path = path
        self._attested = head
        self._prepared: Head | None = None
        self._aside = ThreadPoolExecutor(1, "ledger-head")

    def prepare(self, head: Head) -> Callable[[], None]:
        """Begin to prepare a head, beside what the caller does.

        Returns:
            What waits until that is done, and raises as :func:`prepare`.
        """
        preparing = self._aside.submit(prepare, self._path, head)

        def prepared() -> None:
            preparing.result()
            self._prepared = head

        return prepared

    def attest(self, head: Head) -> None:
        """Make it the head, durably, unless it is.

        Raises:
            OSError: it could not be written; the old head is still there.
        """
        if head == self._attested:
            return
        # Tried once: what a failed attempt left of the prepared file is not to be trusted.
        prepared, self._prepared = self._prepared, None
        if prepared == head:
            publish(self._path)
        else:
            write(self._path, head)
        self._attested = head

    def reset(self, head: Head) -> None:
        """The ledger was opened anew: the file holds ``head``."""
        self._attested = head

    def close(self) -> None:
        """End what prepares."""
        self._aside.shutdown()
