"""One group commit: what is new, what is a duplicate, what conflicts, and the evidence over it.

Idempotency: the key of a span is (trace_id, span_id). The same key with the same content is a
duplicate, however late it comes; with other content it is a conflict, kept beside the first one. "The
same" is decided by the record digest under the stored record's own salt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loopgrid_collector.ledger import digest as digests
from loopgrid_collector.ledger import merkle
from loopgrid_collector.ledger.digest import Form
from loopgrid_collector.ledger.head import Head
from loopgrid_collector.ledger.known import Fingerprints, KnownKeys, fingerprints
from loopgrid_collector.ledger.opening import now
from loopgrid_collector.ledger.records import Append, Receipt, plain, sealed_refusals
from loopgrid_collector.ledger.statements import QUERIES
from loopgrid_collector.otlp.decode import Refused

_CONFLICT: Final = "a span with these ids is stored already, with other content; the first one stands"
_MAX_REASONS: Final = 3

Index = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Tally:
    """What became of one append, while it is being found out."""

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)

    def receipt(self, commit_id: int | None) -> Receipt:
        message = "; ".join(dict.fromkeys(self.reasons[:_MAX_REASONS]))
        return Receipt(
            self.stored,
            self.duplicates,
            self.conflicts,
            self.rejected,
            message,
            commit_id if self.stored or self.conflicts or self.rejected else None,
        )


class Commit:
    """One transaction on the writer's connection. Use once."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        head: Head,
        known: KnownKeys,
        prepare: Callable[[Head], Callable[[], None]] | None = None,
    ) -> None:
        """A commit on top of ``head``.

        Args:
            connection: the writer's.
            head: the ledger's present head.
            known: the keys of all spans stored up to it.
            prepare: told the new head while its rows are written. What it answers with is called before it
                comes to be, and waits until all is prepared; what that raises calls the commit off.
        """
        self._prepare = prepare
        self._connection = connection
        self._head = head
        self._known = known
        self._new_keys: list[Fingerprints] = []
        self._leaves: list[bytes] = []
        self._tables: list[tuple[str, pa.Table]] = []
        self._derived: list[pa.Table] = []

    def run(self, appends: Sequence[Append]) -> tuple[list[Receipt], Head]:
        """Store what is new in ``appends``, durably.

        Returns:
            A receipt for each append, and the head of the ledger afterwards.

        Raises:
            duckdb.Error: nothing was stored.
        """
        tallies = [[_Tally() for _ in range(append.requests)] for append in appends]
        everyone = [tally for each in tallies for tally in each]
        self._connection.execute("BEGIN")
        try:
            conflicts = self._spans(appends, everyone)
            self._logs(appends, everyone)
            self._entries(appends, everyone)
            self._refusals(appends, everyone, conflicts)
            self._derived += [append.renormalised for append in appends if append.renormalised is not None]
            head = self._seal()
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        for keys in self._new_keys:
            self._known.add(keys)
        changed = head.commit_id if head.commit_id != self._head.commit_id else None
        return [_receipt([tally.receipt(changed) for tally in each]) for each in tallies], head

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.Error:
            # A COMMIT that failed has ended the transaction already; the error on its way up says why.
            return

    def _spans(self, appends: Sequence[Append], tallies: Sequence[_Tally]) -> list[tuple[int, Refused]]:
        table, owners = _joined(appends, "spans", "span_request")
        if table is None:
            return []
        keys = list(zip(plain(table.column("trace_id")), plain(table.column("span_id")), strict=True))
        marks = fingerprints(b"".join(key[0] for key in keys), np.array([key[1] for key in keys], np.uint64))
        suspects = np.flatnonzero(self._known.maybe(marks))
        candidates = self._stored("stored_spans", table, ("trace_id", "span_id"), suspects)
        _add_repeats(candidates, keys, table)
        duplicates, differing = _same_or_not(digests.SPANS, table, candidates)
        conflicts = []
        if differing:
            payloads = _payloads(appends)
            conflicts = [
                (owners[row], _conflict(table, keys[row], payloads[row].as_py(), row)) for row in differing
            ]
        for row in duplicates:
            tallies[owners[row]].duplicates += 1
        self._take("append_spans", table, owners, {*duplicates, *differing}, tallies)
        self._new_keys.append(np.delete(marks, sorted({*duplicates, *differing})))
        return conflicts

    def _logs(self, appends: Sequence[Append], tallies: Sequence[_Tally]) -> None:
        table, owners = _joined(appends, "logs", "log_request")
        if table is None:
            return
        columns = ("trace_id", "span_id", "time_ns", "observed_ns")
        candidates = self._stored("stored_logs", table, columns)
        _add_repeats(
            candidates, list(zip(*(plain(table.column(name)) for name in columns), strict=True)), table
        )
        duplicates, _ = _same_or_not(digests.LOGS, table, candidates)
        for row in duplicates:
            tallies[owners[row]].duplicates += 1
        self._take("append_logs", table, owners, duplicates, tallies)

    def _entries(self, appends: Sequence[Append], tallies: Sequence[_Tally]) -> None:
        table, owners = _joined(appends, "entries", None)
        if table is not None:
            self._take("append_entries", table, owners, set(), tallies)

    def _refusals(
        self, appends: Sequence[Append], tallies: Sequence[_Tally], conflicts: Sequence[tuple[int, Refused]]
    ) -> None:
        """Quarantine and conflicts. The same bytes refused again are the same fact, and kept once."""
        items = [
            (first + owner, item)
            for first, append in _numbered(appends)
            for owner, item in zip(append.refused_request or repeat(0), append.refused, strict=False)
        ]
        items += conflicts
        if not items:
            return
        table = sealed_refusals([item for _, item in items])
        known = {
            row for row, _, _ in self._stored("stored_refusals", table, ("reason_code", "signal", "payload"))
        }
        seen: set[tuple[str, str, bytes]] = set()
        for row, (owner, item) in enumerate(items):
            key = (item.reason_code, item.signal, item.payload)
            again = row in known or key in seen
            seen.add(key)
            if again:
                known.add(row)
            tally = tallies[owner]
            tally.reasons.append(item.reason)
            if item.reason_code != "conflict":
                tally.rejected += 1
            elif again:
                tally.duplicates += 1
            else:
                tally.conflicts += 1
        self._add("append_refused", table, known)

    def _take(
        self,
        statement: str,
        table: pa.Table,
        owners: Sequence[int],
        without: set[int],
        tallies: Sequence[_Tally],
    ) -> None:
        for owner, stored in Counter(owners).items():
            tallies[owner].stored += stored
        for row in without:
            tallies[owners[row]].stored -= 1
        self._add(statement, table, without)

    def _add(self, statement: str, table: pa.Table, without: set[int]) -> None:
        if without:
            table = table.filter(pa.array([row not in without for row in range(len(table))]))
        if len(table):
            self._leaves += plain(table.column("digest"))
            self._tables.append((statement, table))

    def _stored(
        self, query: str, table: pa.Table, columns: Sequence[str], suspects: Index | None = None
    ) -> list[tuple[int, bytes, bytes]]:
        """Rows of the batch under whose key the ledger holds something, with its salt and digest.

        Only ``suspects`` are looked up, where they are given.
        """
        rows = np.arange(len(table)) if suspects is None else suspects
        if not len(rows):
            return []
        places = pa.array(rows, pa.int64())
        batch = table.select(columns).take(places).append_column("row", places)
        with self._registered(batch):
            found = self._connection.execute(QUERIES[query]).fetchall()
        return [(row[0], *(row[1:] or (b"", b""))) for row in found]

    @contextmanager
    def _registered(self, batch: pa.Table) -> Iterator[None]:
        self._connection.register("batch", batch)
        try:
            yield
        finally:
            self._connection.unregister("batch")

    def _seal(self) -> Head:
        """Write the rows with their places, and the commit over them."""
        if not self._leaves:
            return self._head
        recorded_at = now()
        commit_id, first = self._head.commit_id + 1, self._head.records
        root = merkle.root(self._leaves)
        previous = bytes.fromhex(self._head.chain)
        chain = digests.chain(previous, commit_id, first, len(self._leaves), root, _microseconds(recorded_at))
        head = Head(self._head.ledger_id, commit_id, first + len(self._leaves), chain.hex())
        prepared = self._prepare(head) if self._prepare is not None else None
        try:
            self._write_rows(commit_id, first, recorded_at)
            self._connection.execute(
                QUERIES["append_commit"],
                {
                    "commit_id": commit_id,
                    "first_record": first,
                    "records": len(self._leaves),
                    "root": root,
                    "previous": previous,
                    "chain": chain,
                    "recorded_at": recorded_at,
                },
            )
        finally:
            # Also after a failure: what the next commit prepares must not meet what this one still writes.
            if prepared is not None:
                prepared()
        return head

    def _write_rows(self, commit_id: int, position: int, recorded_at: datetime) -> None:
        for statement, table in self._tables:
            count = len(table)
            placed = (
                table.append_column("position", pa.array(range(position, position + count), pa.int64()))
                .append_column("recorded_at", pa.repeat(pa.scalar(recorded_at, pa.timestamp("us")), count))
                .append_column("commit_id", pa.repeat(pa.scalar(commit_id, pa.int64()), count))
            )
            with self._registered(_without_nulls(placed)):
                self._connection.execute(QUERIES[statement])
            position += count
        for table in self._derived:
            told = table.append_column(
                "recorded_at", pa.repeat(pa.scalar(recorded_at, pa.timestamp("us")), len(table))
            ).append_column("commit_id", pa.repeat(pa.scalar(commit_id, pa.int64()), len(table)))
            with self._registered(told):
                self._connection.execute(QUERIES["append_renormalised"])


def _microseconds(moment: Any) -> int:
    value: int = pa.scalar(moment, pa.timestamp("us")).value
    return value


def _without_nulls(table: pa.Table) -> pa.Table:
    """The columns that say something: DuckDB fills in the others, at half the price of being told."""
    return table.select([name for name in table.column_names if table.column(name).null_count < len(table)])


def _payloads(appends: Sequence[Append]) -> pa.BinaryArray:
    given = [append.span_payloads() for append in appends if append.span_payloads is not None]
    return pa.concat_arrays(given)


def _numbered(appends: Sequence[Append]) -> Iterator[tuple[int, Append]]:
    """Each append, with the number of its first request among all requests of the commit."""
    first = 0
    for append in appends:
        yield first, append
        first += append.requests


def _joined(appends: Sequence[Append], name: str, request: str | None) -> tuple[pa.Table | None, list[int]]:
    """The tables of that name as one, and for each row the request that it belongs to."""
    tables: list[pa.Table] = []
    owners: list[int] = []
    for first, append in _numbered(appends):
        table = getattr(append, name)
        if table is None or not len(table):
            continue
        tables.append(table)
        within = getattr(append, request) if request is not None else None
        owners += [first] * len(table) if within is None else (within + first).tolist()
    if not tables:
        return None, []
    # Rows that no dialect could be applied to lack the derived columns.
    return pa.concat_tables(tables, promote_options="default"), owners


def _receipt(parts: Sequence[Receipt]) -> Receipt:
    if len(parts) == 1:
        return parts[0]
    return Receipt(
        stored=sum(part.stored for part in parts),
        duplicates=sum(part.duplicates for part in parts),
        conflicts=sum(part.conflicts for part in parts),
        rejected=sum(part.rejected for part in parts),
        commit_id=max((part.commit_id for part in parts if part.commit_id is not None), default=None),
        parts=tuple(parts),
    )


def _add_repeats(candidates: list[tuple[int, bytes, bytes]], keys: Sequence[Any], table: pa.Table) -> None:
    """Add the rows whose key came earlier in the same batch."""
    if len(set(keys)) == len(keys):
        return
    stored = {row for row, _, _ in candidates}
    first: dict[Any, int] = {}
    for row, key in enumerate(keys):
        earlier = first.setdefault(key, row)
        if earlier != row and row not in stored:
            salt, digest = (table.column(name)[earlier].as_py() for name in ("salt", "digest"))
            candidates.append((row, salt, digest))


def _same_or_not(
    form: Form, table: pa.Table, candidates: Sequence[tuple[int, bytes, bytes]]
) -> tuple[set[int], set[int]]:
    """Rows with the same content as a candidate, and rows for which no candidate has the same."""
    if not candidates:
        return set(), set()
    suspects = sorted({row for row, _, _ in candidates})
    place = {row: position for position, row in enumerate(suspects)}
    names = (*form.facts, *form.content)
    chosen = table.select(names).take(pa.array(suspects, pa.int64()))
    cells = [plain(chosen.column(name)) for name in names]
    same: set[int] = set()
    for row, salt, digest in candidates:
        record = {name: column[place[row]] for name, column in zip(names, cells, strict=True)}
        if digests.digest(form, record, salt) == digest:
            same.add(row)
    return same, set(suspects) - same


def _conflict(table: pa.Table, key: tuple[bytes, int], payload: bytes, row: int) -> Refused:
    resource, scope = (table.column(name)[row].as_py() for name in ("resource", "scope"))
    return Refused("conflict", _CONFLICT, "traces", payload, key[0], key[1], resource, scope)
