"""Normalised columns made anew from what was received, with the mapping of this release.

Laws:

* Nothing received is touched, and nothing is changed: what differs is appended to ``store.renormalised``.
* A span is judged by its own record alone, so that the result does not depend on the size of a batch.
* Memory is bounded by one batch, whatever the size of the ledger.
* Each batch that found a difference is one commit: its rows, and an entry that says what was done.

Holes: what log records add to the content of their spans is not made anew.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid_collector.dialects.normalise import COLUMNS, MAPPING_VERSION
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Append, Entry, sealed_entries, uuids
from loopgrid_collector.ledger.statements import QUERIES
from loopgrid_collector.mapping import UNMAPPED, span_columns
from loopgrid_collector.otlp import unknown
from loopgrid_collector.otlp.decode import Batch, attributes_of_spans
from loopgrid_collector.otlp.stored import payloads_of_json

BATCH_SPANS: Final = 2_048
"""Places of the ledger that are read at once."""

EXAMPLES: Final = 3

_RECEIVED: Final = ("name", "span_kind", "status_code", "status_message", "events", "attributes")
_COUNTS: Final = ("dropped_attributes", "dropped_events")
_EVERYTHING: Final = datetime(1970, 1, 1)  # noqa: DTZ001 — the ledger's times are UTC and carry no zone

Progress = Callable[[int, int], None]
"""Told after each batch: spans looked at, and spans there are."""


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        mapping_version: of this release.
        spans: how many were looked at.
        changed: how many differ from what the ledger showed.
        unmapped: how many no dialect can be applied to even now.
        columns: column → in how many spans it differs.
        examples: column → decision ids of some of them.
        commits: how many commits were appended.
    """

    mapping_version: int = MAPPING_VERSION
    spans: int = 0
    changed: int = 0
    unmapped: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    commits: int = 0


def renormalise(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Make the normalised columns of stored spans anew.

    The views of a ledger show the result from its next opening on.

    Args:
        ledger: an open ledger that no server uses.
        since: only spans recorded then or later; UTC, without time zone.
        dry_run: report only.
        progress: told after each batch.

    Raises:
        StorageTrouble: a batch could not be committed; those before it are.
    """
    report = Report()
    for total, table in _batches(ledger, since or _EVERYTHING):
        made = _made_anew(table)
        differing = _compare(table, made, report)
        if differing and not dry_run:
            ledger.append(_append(table, made, differing)).result()
            report.commits += 1
        report.spans += len(table)
        if progress is not None:
            progress(report.spans, total)
    return report


def _batches(ledger: Ledger, since: datetime) -> Iterator[tuple[int, pa.Table]]:
    with ledger.cursor() as cursor:
        row = cursor.execute(QUERIES["spans_since"], {"since": since}).fetchone()
    first, last, total = row or (None, None, 0)
    if first is None:
        return
    for place in range(first, last + 1, BATCH_SPANS):
        between = {"first": place, "beyond": min(place + BATCH_SPANS, last + 1)}
        # A cursor of its own each time, so that no reader is open while the writer checkpoints.
        with ledger.cursor() as cursor:
            table = cursor.execute(QUERIES["spans_between"], between).to_arrow_table()
        if len(table):
            yield total, table


def _made_anew(table: pa.Table) -> dict[str, pa.Array]:
    columns = {name: table.column(name).combine_chunks() for name in (*_RECEIVED, *_COUNTS)}
    columns |= {name: columns[name].cast(pa.uint32()) for name in _COUNTS}
    columns["status_code"] = columns["status_code"].cast(pa.int32())
    payloads = payloads_of_json(columns["attributes"].to_pylist())
    scopes = [orjson.loads(scope).get("name", "") for scope in table.column("scope").to_pylist()]
    return span_columns(
        Batch(
            columns=columns,
            attributes=attributes_of_spans(payloads),
            payloads=payloads,
            scope_name=pa.array(scopes, pa.string()),
            service_name=table.column("service_name").combine_chunks(),
            unknown=_unknown(table),
            request=np.zeros(len(table), dtype=np.int64),
            refused=[],
            refused_request=[],
        )
    )


def _unknown(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows, resources or scopes hold fields that were not known when they were received."""
    mask = np.zeros(len(table), dtype=np.bool_)
    for name in ("attributes", "resource", "scope"):
        mask |= pc.starts_with(table.column(name), pattern=unknown.PREFIX).to_numpy()
    return mask


def _compare(table: pa.Table, made: dict[str, pa.Array], report: Report) -> list[int]:
    """The rows to be appended, counted into the report."""
    versions = made["mapping_version"].to_pylist()
    stored_versions = table.column("mapping_version").to_pylist()
    unmapped = {row for row, version in enumerate(versions) if version == UNMAPPED}
    report.unmapped += len(unmapped)
    # A row that no dialect could be applied to becomes a mapped one, even if it holds the same.
    differing = {row for row, version in enumerate(stored_versions) if version == UNMAPPED} - unmapped
    for name in COLUMNS:
        if name == "mapping_version" or name not in made:
            continue
        pairs = zip(table.column(name).to_pylist(), made[name].to_pylist(), strict=True)
        rows = [row for row, (old, new) in enumerate(pairs) if old != new and row not in unmapped]
        if not rows:
            continue
        differing.update(rows)
        report.columns[name] += len(rows)
        examples = report.examples.setdefault(name, [])
        examples += [_decision_id(table, row) for row in rows[: EXAMPLES - len(examples)]]
    report.changed += len(differing)
    return sorted(differing)


def _decision_id(table: pa.Table, row: int) -> str:
    trace: Any = table.column("trace_id")[row].as_py()
    return f"{str(trace).replace('-', '')}-{table.column('span_id')[row].as_py():016x}"


def _append(table: pa.Table, made: dict[str, pa.Array], rows: list[int]) -> Append:
    places = pa.array(rows, pa.int64())
    traces = [str(trace).replace("-", "") for trace in table.column("trace_id").take(places).to_pylist()]
    columns = {
        "trace_id": uuids([bytes.fromhex(trace) for trace in traces]),
        "span_id": table.column("span_id").take(places),
        **{name: made[name].take(places) for name in COLUMNS},
    }
    said = Entry(
        entry_id=f"rnm_{uuid.uuid4().hex}",
        entry_type="renormalisation",
        trace_id=0,
        span_id=0,
        subject_id=None,
        actor=None,
        body={
            "mapping_version": MAPPING_VERSION,
            "spans": len(rows),
            "first_record": table.column("position")[0].as_py(),
            "last_record": table.column("position")[-1].as_py(),
        },
    )
    return Append(entries=sealed_entries([said]), renormalised=pa.table(columns))
