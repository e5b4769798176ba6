"""What is handed to the ledger: rows that are complete but for their place in it.

Salts and digests are computed here, by the caller's thread, because they do not depend on where in
the ledger a row will stand. The writer adds position, commit and time, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from loopgrid_collector.ledger import digest as digests
from loopgrid_collector.ledger.digest import SALT_BYTES, Form
from loopgrid_collector.ledger.framing import column_digests
from loopgrid_collector.otlp.decode import Refused

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something said about a decision.

    Attributes:
        entry_id: ``mrk_``, ``cor_`` or ``rpl_`` and 32 hex digits.
        entry_type: ``mark``, ``correction`` or ``replay``.
        trace_id: trace of the decision.
        span_id: span of the decision.
        subject_id: id of the earlier entry that this one speaks of, if any.
        actor: who said it, if known.
        body: the rest, a JSON object.
    """

    entry_id: str
    entry_type: str
    trace_id: int
    span_id: int
    subject_id: str | None
    actor: str | None
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one append. It exists only once the commit is durable.

    Attributes:
        stored: new rows.
        duplicates: items that were stored already, with the same content.
        conflicts: spans kept apart, because other content is stored under their ids.
        rejected: items in quarantine.
        message: the reasons, for the sender; empty if there is nothing to say.
        commit_id: commit that holds the new rows; None if there were none.
        parts: where the append brought several requests, the receipt of each; the counts above are sums.
    """

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    message: str = ""
    commit_id: int | None = None
    parts: tuple[Receipt, ...] = ()


@dataclass(frozen=True, slots=True)
class Append:
    """One append: all of it is committed, or none.

    Attributes:
        spans: rows for ``store.spans``, with salt and digest.
        span_payloads: gives each span's own bytes, for the case that one conflicts.
        logs: rows for ``store.logs``, with salt and digest.
        entries: rows for ``store.entries``, with salt and digest.
        refused: items for quarantine.
        renormalised: rows for ``store.renormalised``; they need an entry beside them.
        requests: how many requests it brings; each gets a receipt of its own.
        span_request: per span, which request it came in; None if there is but one. Likewise the others.
    """

    spans: pa.Table | None = None
    span_payloads: Callable[[], pa.BinaryArray] | None = None
    logs: pa.Table | None = None
    entries: pa.Table | None = None
    refused: Sequence[Refused] = field(default_factory=tuple)
    renormalised: pa.Table | None = None
    requests: int = 1
    span_request: Index | None = None
    log_request: Index | None = None
    refused_request: Sequence[int] | None = None

    @property
    def rows(self) -> int:
        """How many rows it brings at most."""
        tables = (self.spans, self.logs, self.entries)
        return sum(len(table) for table in tables if table is not None) + len(self.refused)


def plain(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Python values of a column; ids as bytes instead of UUID objects, which are slow to build."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    values: list[Any] = column.to_pylist()
    return values


def sealed(form: Form, columns: Mapping[str, pa.Array]) -> pa.Table:
    """The columns as a table, with a fresh salt and the digest of each row."""
    table = pa.table(dict(columns))
    noise = os.urandom(SALT_BYTES * len(table))
    salts = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(SALT_BYTES), len(table), [None, pa.py_buffer(noise)]
    ).cast(pa.binary())
    found = column_digests(form, table, salts)
    return table.append_column("salt", salts).append_column("digest", found)


def uuids(values: Sequence[bytes | None]) -> pa.Array:
    """16-byte ids as an Arrow column that DuckDB reads as UUID."""
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))


def sealed_entries(entries: Sequence[Entry]) -> pa.Table:
    """Entries as rows for ``store.entries``.

    Raises:
        TypeError: a body holds something that is not JSON.
    """
    columns = {
        "entry_id": pa.array([entry.entry_id for entry in entries], pa.string()),
        "entry_type": pa.array([entry.entry_type for entry in entries], pa.string()),
        "trace_id": uuids([entry.trace_id.to_bytes(16, "big") for entry in entries]),
        "span_id": pa.array([entry.span_id for entry in entries], pa.uint64()),
        "subject_id": pa.array([entry.subject_id for entry in entries], pa.string()),
        "actor": pa.array([entry.actor for entry in entries], pa.string()),
        "body": pa.array([orjson.dumps(entry.body).decode() for entry in entries], pa.string()),
    }
    return sealed(digests.ENTRIES, columns)


def sealed_refusals(refused: Sequence[Refused]) -> pa.Table:
    """Refused items as rows for ``store.refused``."""
    columns = {
        "reason_code": pa.array([item.reason_code for item in refused], pa.string()),
        "reason": pa.array([item.reason for item in refused], pa.string()),
        "signal": pa.array([item.signal for item in refused], pa.string()),
        "trace_id": uuids([item.trace_id for item in refused]),
        "span_id": pa.array([item.span_id for item in refused], pa.uint64()),
        "payload": pa.array([item.payload for item in refused], pa.binary()),
        "resource": pa.array([item.resource for item in refused], pa.string()),
        "scope": pa.array([item.scope for item in refused], pa.string()),
    }
    return sealed(digests.REFUSED, columns)
