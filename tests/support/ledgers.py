"""A real ledger in a temporary folder, with its door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.ingest import Ingest
from loopgrid_collector.ledger import digest as digests
from loopgrid_collector.ledger import merkle
from loopgrid_collector.ledger.ledger import Ledger


@dataclass(frozen=True)
class House:
    """An open ledger and the door into it."""

    ledger: Ledger
    ingest: Ingest

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a query on the public views."""
        with self.ledger.cursor() as cursor:
            found: list[tuple[Any, ...]] = cursor.execute(query, list(parameters)).fetchall()
        return found

    def count(self, view: str) -> int:
        """How many rows a view has."""
        (row,) = self.rows(f"FROM {view} SELECT count(*)")
        return int(row[0])

    def broken_evidence(self) -> list[str]:
        """Everything about digests, roots and the chain that does not hold; empty for a sound ledger.

        Written apart from the writer: it reads the stored rows back and recomputes what they claim.
        """
        faults: list[str] = []
        leaves: dict[int, bytes] = {}
        for form in digests.FORMS:
            names = (*form.facts, *form.content, "position", "salt", "digest")
            for row in self.rows(f"FROM store.{form.table} SELECT {', '.join(names)}"):
                record = dict(zip(names, row, strict=True))
                if record["position"] in leaves:
                    faults.append(f"position {record['position']} is taken twice")
                leaves[record["position"]] = record["digest"]
                if digests.digest(form, record, record["salt"]) != record["digest"]:
                    faults.append(f"{form.table} at {record['position']} does not match its digest")
        chain, position = bytes(32), 0
        query = (
            "SELECT commit_id, first_record, records, root, previous, chain, epoch_us(recorded_at) "
            "FROM store.commits ORDER BY commit_id"
        )
        for commit_id, first, records, root, previous, claimed, time_us in self.rows(query):
            if first != position or previous != chain:
                faults.append(f"commit {commit_id} does not follow the one before")
            expected = merkle.root([leaves.get(place, b"") for place in range(first, first + records)])
            if expected != root:
                faults.append(f"commit {commit_id} has another root")
            chain = digests.chain(previous, commit_id, first, records, root, time_us)
            if chain != claimed:
                faults.append(f"commit {commit_id} has another chain value")
            position += records
        if position != len(leaves):
            faults.append(f"{len(leaves)} records, but commits speak of {position}")
        return faults


@contextmanager
def house(folder: Path, *, file: str = "test.duckdb", **settings: Any) -> Iterator[House]:
    """Open the ledger in a folder, and close it in the end."""
    config = CollectorConfig(ledger=str(folder / file), **settings)
    ledger = Ledger.open(config.ledger, config)
    ingest = Ingest(ledger, config)
    try:
        yield House(ledger, ingest)
    finally:
        ingest.close()
        ledger.close()
