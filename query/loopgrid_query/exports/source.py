"""The decisions of an export out of the ledger, as of one commit, in pages of bounded size.

No transaction stays open between pages: what a commit held never changes (``ledger/as_of.py``), so pages read
minutes apart, by another process or after an interruption, fit together.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import duckdb
import pyarrow as pa

from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.ledger.as_of import ledger_id, show_as_of
from loopgrid_query.errors import NotFound, SqlBusy
from loopgrid_query.exports.asking import NEWEST, POLICIES, After, Request
from loopgrid_query.instants import format_instant
from loopgrid_query.queries import TROUBLE, text_of

PAGE_BYTES: Final = 16 * 2**20
"""What a page is meant to take in memory; how many decisions that are is learned from the page before."""

FIRST_PAGE_DECISIONS: Final = 1024
MAX_PAGE_DECISIONS: Final = 16_384

BLOCK_DECISIONS: Final = 262_144
"""Decisions whose keys are looked up at once, without their content: some 200 bytes each."""

MAX_EXPORTS_AT_ONCE: Final = 4
"""Exports that a server streams at the same time."""

MAX_STANDING: Final = 1000
"""Decisions that are asked about in one request."""


class Readable(Protocol):
    """An open ledger, live or read-only."""

    def cursor(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A reader on the public views."""


@dataclass(frozen=True, slots=True)
class Standpoint:
    """The state that an export shows.

    Attributes:
        ledger_id: which ledger.
        commit_id: its newest commit that counts.
        chain: the chain value of that commit, hex.
        recorded_at: when that commit was made, RFC 3339.
    """

    ledger_id: str
    commit_id: int
    chain: str
    recorded_at: str

    def record(self) -> dict[str, Any]:
        """As JSON object."""
        return asdict(self)


class Exports:
    """Reads exports. Safe to use from many threads."""

    def __init__(self, ledger: Readable) -> None:
        self._ledger = ledger
        self._streams = threading.BoundedSemaphore(MAX_EXPORTS_AT_ONCE)

    def standpoint(self, request: Request) -> Standpoint:
        """The commit that a request is about.

        Raises:
            NotFound: nothing was on record then.
            StorageTrouble: the ledger cannot be read right now.
        """
        with self._reading() as cursor:
            values = {"commit_id": request.as_of_commit, "moment": request.as_of_moment}
            rows = cursor.execute(text_of("export_head"), values).to_arrow_table().to_pylist()
            ledger = ledger_id(cursor)
        if not rows:
            raise NotFound("The ledger holds nothing as of then; there is nothing to export.")
        (row,) = rows
        return Standpoint(ledger, row["commit_id"], row["chain"], format_instant(row["recorded_at"]))

    def pages(self, request: Request, standpoint: Standpoint) -> Iterator[pa.Table]:
        """The decisions in the order of their commits, a page at a time; a row is a decision.

        Raises:
            SqlBusy: as many exports run as may.
            StorageTrouble: the ledger cannot be read right now.
        """
        if not self._streams.acquire(blocking=False):
            raise SqlBusy("As many exports run as may run at once; ask again in a moment.")
        try:
            with self._reading() as cursor:
                show_as_of(cursor, standpoint.commit_id)
                yield from _pages(cursor, request)
        finally:
            self._streams.release()

    def standing(self, decision_ids: Sequence[str], since_commit: int, policy: str) -> dict[str, Any]:
        """What some decisions rest on now: the correction that is their truth, and marks since a commit.

        Returns:
            ``ledger_id``, and an item for each decision.

        Raises:
            StorageTrouble: the ledger cannot be read right now.
        """
        sql = text_of("export_standing").replace("{truth}", text_of(POLICIES[policy]))
        with self._reading() as cursor:
            show_as_of(cursor, NEWEST)
            cursor.register("page", pa.table({"decision_id": pa.array(decision_ids, pa.string())}))
            items = cursor.execute(sql, {"since": since_commit}).to_arrow_table().to_pylist()
            return {"ledger_id": ledger_id(cursor), "items": items}

    def truth(self, decision_id: str, policy: str, commit_id: int, moment: datetime) -> dict[str, Any] | None:
        """The ground truth of a decision under a policy, as of a commit and a moment; None if it had none.

        Raises:
            StorageTrouble: the ledger cannot be read right now.
        """
        with self._reading() as cursor:
            values = {"commit_id": commit_id, "moment": moment}
            heads = cursor.execute(text_of("export_head"), values).to_arrow_table().to_pylist()
            if not heads:
                return None
            show_as_of(cursor, heads[0]["commit_id"])
            asked = {"policy": policy, "decision_id": decision_id}
            found = cursor.execute(text_of("ground_truth_as_of"), asked).to_arrow_table().to_pylist()
            return {"as_of_commit": heads[0]["commit_id"], **found[0]} if found else None

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._ledger.cursor() as cursor:
                yield cursor
        except TROUBLE as error:
            raise StorageTrouble(f"The ledger cannot be read right now: {error}") from error


def _pages(cursor: duckdb.DuckDBPyConnection, request: Request) -> Iterator[pa.Table]:
    after = request.after
    page_sql = text_of("export_page").replace("{truth}", text_of(POLICIES[request.policy]))
    size = FIRST_PAGE_DECISIONS
    while True:
        keys = _keys(cursor, request, after)
        # An export of nothing has one page, too: it says which columns there are.
        start = 0
        while start < (keys.num_rows or 1):
            page = keys.slice(start, size)
            commits = page.column("commit_id").to_pylist() or [0]
            cursor.register("page", page)
            found = cursor.execute(page_sql, {"first": commits[0], "last": commits[-1]}).to_arrow_table()
            cursor.unregister("page")
            start += size
            size = _next_size(found)
            yield found
        if keys.num_rows < BLOCK_DECISIONS:
            return
        after = last_of(keys)


def _next_size(page: pa.Table) -> int:
    """Decisions of the page after this one; no more than four times as many, should they be larger there."""
    fitting = PAGE_BYTES * page.num_rows // (page.nbytes or 1)
    return max(1, min(int(fitting), 4 * int(page.num_rows), MAX_PAGE_DECISIONS))


def _keys(cursor: duckdb.DuckDBPyConnection, request: Request, after: After) -> pa.Table:
    values: dict[str, Any] = {
        **request.selection.parameters,
        "after_commit": after.commit_id,
        "after_decision": after.decision_id,
        "limit": BLOCK_DECISIONS,
    }
    name = "export_keys"
    if request.split_at is not None:
        name, values["split_at"] = "export_keys_at", request.split_at
    return cursor.execute(text_of(name, request.selection.conditions), values).to_arrow_table()


def last_of(table: pa.Table) -> After:
    """The last decision of a table that is not empty."""
    last = table.num_rows - 1
    return After(table.column("commit_id")[last].as_py(), table.column("decision_id")[last].as_py())
