"""Stored items that hold what nothing here reads, credentials that were not stored: counted after the commit.

They are read from the ledger when somebody asks, and so cost ingest nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

import duckdb

from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.statements import QUERIES

NAMES: Final = ("unmapped", "scrubbed", "unknown_fields")


class Oddities:
    """Counts since this was made. Safe to use from any thread."""

    def __init__(self, ledger: Ledger) -> None:
        """Begin at zero, with the newest commit."""
        self._ledger = ledger
        self._lock = threading.Lock()
        self._read_until = ledger.standing().commit_id
        self._counts = dict.fromkeys(NAMES, 0)

    def read(self) -> Mapping[str, int]:
        """Items of mapping version 0, attribute values of credentials, items with unknown fields, by name.

        Reads the commits since the last time. While the storage is in trouble the counts stay as they are.
        """
        with self._lock:
            until = self._ledger.standing().commit_id
            try:
                if until > self._read_until:
                    with self._ledger.cursor() as cursor:
                        reach = {"after": self._read_until, "until": until}
                        row = cursor.execute(QUERIES["oddities"], reach).fetchone()
                    for name, count in zip(NAMES, row or (), strict=True):
                        self._counts[name] += count
                    self._read_until = until
            except (StorageTrouble, duckdb.Error):
                # The trouble has metrics of its own.
                pass
            return dict(self._counts)
