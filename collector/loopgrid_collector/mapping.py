"""Decoded items through the dialects, so that a mistake in a dialect never costs a record.

What was received is the record; what the dialects make of it can be made anew. An item that a dialect
stumbles over is therefore stored all the same, with ``mapping_version`` 0 and nothing derived, which is
said in the log; `loopgrid renormalize` maps it once the dialect is mended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa

from loopgrid.schema import Kind
from loopgrid_collector.dialects.normalise import LogFacts, SpanFacts, normalise_logs, normalise_spans
from loopgrid_collector.otlp.attributes import Attributes
from loopgrid_collector.otlp.decode import Batch, attributes_of_logs, attributes_of_spans

UNMAPPED: Final = 0
"""``mapping_version`` of a row that no dialect could be applied to."""

_log = logging.getLogger(__name__)

Columns = dict[str, pa.Array]


def span_columns(batch: Batch) -> Columns:
    """The columns of ``store.spans`` that the dialects derive, one value per row."""
    return _derived(batch, _mapped_spans, attributes_of_spans)


def log_columns(batch: Batch) -> Columns:
    """The columns of ``store.logs`` that the dialects derive, one value per row."""
    return _derived(batch, _mapped_logs, attributes_of_logs)


def _mapped_spans(batch: Batch, attributes: Attributes, rows: slice) -> Columns:
    columns = {name: column[rows] for name, column in batch.columns.items()}
    dropped = columns["dropped_attributes"].fill_null(0)
    facts = SpanFacts(
        name=columns["name"],
        status_code=columns["status_code"].to_numpy(zero_copy_only=False),
        status_message=columns["status_message"],
        scope_name=batch.scope_name[rows],
        events=columns["events"],
        resource_service=batch.service_name[rows],
        dropped_attributes=np.asarray(dropped.to_numpy(zero_copy_only=False)),
        unknown_fields=batch.unknown[rows],
        dropped_events=columns["dropped_events"].fill_null(0).to_numpy(zero_copy_only=False),
    )
    return normalise_spans(attributes, facts)


def _mapped_logs(batch: Batch, attributes: Attributes, rows: slice) -> Columns:
    facts = LogFacts(
        event_name=batch.columns["event_name"][rows],
        body_json=batch.columns["body"][rows],
        resource_service=batch.service_name[rows],
    )
    return normalise_logs(attributes, facts)


def _derived(
    batch: Batch,
    mapped: Callable[[Batch, Attributes, slice], Columns],
    attributes_of: Callable[[pa.BinaryArray], Attributes],
) -> Columns:
    everything = slice(0, batch.rows)
    try:
        return mapped(batch, batch.attributes, everything)
    except Exception:  # noqa: BLE001 — the one boundary around the dialects: whatever they stumble over, the record is kept
        _log.exception("A dialect failed on a batch; its items are mapped one by one.")
    tables = []
    for row in range(batch.rows):
        alone = slice(row, row + 1)
        try:
            tables.append(pa.table(mapped(batch, attributes_of(batch.payloads[alone]), alone)))
        except Exception:  # noqa: BLE001 — as above; logged there, visible in the row's mapping_version
            tables.append(_unmapped(batch, alone))
    joined = pa.concat_tables(tables, promote_options="default")
    return {name: joined.column(name).combine_chunks() for name in joined.column_names}


def _unmapped(batch: Batch, row: slice) -> pa.Table:
    columns = {
        "mapping_version": pa.array([UNMAPPED], pa.int32()),
        "service_name": batch.service_name[row],
    }
    if "span_kind" in batch.columns:
        columns["kind"] = pa.array([Kind.OTHER.value], pa.string())
    return pa.table(columns)
