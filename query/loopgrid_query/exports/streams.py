"""Pages of an export as the bytes of an answer, and back.

Arrow's stream format carries every column and is what the command reads; newline-delimited JSON carries
finished rows, each with its lineage, for everybody else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
import pyarrow as pa

from loopgrid_query.exports.formats import FORMATS, jsonl
from loopgrid_query.exports.messages import Unfit
from loopgrid_query.exports.source import Standpoint

ARROW: Final = "application/vnd.apache.arrow.stream"
NDJSON: Final = "application/x-ndjson"
_STANDPOINT: Final = b"loopgrid.export"


def arrow(pages: Iterable[pa.Table], standpoint: Standpoint) -> Iterator[bytes]:
    """Arrow's stream format; the schema's metadata say what state it shows."""
    sink = io.BytesIO()
    writer: pa.ipc.RecordBatchStreamWriter | None = None
    for page in pages:
        told = page.replace_schema_metadata({_STANDPOINT: json.dumps(standpoint.record()).encode()})
        if writer is None:
            writer = pa.ipc.new_stream(sink, told.schema)
        writer.write_table(told)
        yield _taken(sink)
    if writer is not None:
        writer.close()
        yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


def standpoint_of(schema: pa.Schema) -> Standpoint:
    """What state a stream shows. Raises ``ValueError`` where it does not say."""
    said = (schema.metadata or {}).get(_STANDPOINT)
    if said is None:
        raise ValueError("the stream does not say which state of which ledger it shows")
    return Standpoint(**json.loads(said))


def ndjson(pages: Iterable[pa.Table], format_name: str) -> Iterator[bytes]:
    """A line a decision: its ``row`` in the format, or why it is ``left_out``; and its ``lineage``."""
    make = FORMATS[format_name].row or jsonl
    for page in pages:
        lines = []
        for row in rows_of(page):
            line: dict[str, Any] = {}
            try:
                text = make(row)
                line["row"] = text.decode() if format_name == "promptfoo" else orjson.Fragment(text)
            except Unfit as unfit:
                line["left_out"] = unfit.reason
            line["lineage"] = lineage(row)
            lines.append(orjson.dumps(line))
        yield b"".join(line + b"\n" for line in lines)


LINEAGE: Final = ("decision_id", "digest", "correction_id", "correction_digest", "corrected_by")
"""Columns that say what a row rests on."""

LINEAGE_NAMES: Final = {"digest": "decision_digest"}
"""What they are called there, where that differs."""


def lineage(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row rests on: the decision, the correction and the person."""
    return {LINEAGE_NAMES.get(name, name): row[name] for name in LINEAGE}


def rows_of(page: pa.Table) -> list[dict[str, Any]]:
    """The rows of a page as dictionaries. Columns without values cost nothing."""
    nothing = [None] * page.num_rows
    names = page.column_names
    columns = [
        nothing if column.null_count == page.num_rows else column.to_pylist() for column in page.columns
    ]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
