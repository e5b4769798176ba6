"""A page's JSON lines are those of its rows, byte for byte."""

from __future__ import annotations

from datetime import datetime

import orjson
import pyarrow as pa
import pytest

from loopgrid.schema import FIELDS
from loopgrid_query.exports import formats
from loopgrid_query.exports.lines import data_of, jsonl_lines, lineage_lines
from loopgrid_query.exports.streams import lineage, rows_of

TYPES = {
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR[]": pa.list_(pa.string()),
    "TIMESTAMP": pa.timestamp("us"),
}
SCHEMA = pa.schema(
    [
        *((field.column, TYPES[field.sql_type]) for field in FIELDS),
        *((name, pa.string()) for name in ("truth_output", "correction_id", "corrected_by", "marks")),
        ("correction_digest", pa.string()),
        ("corrected_at", pa.timestamp("us")),
    ]
)
HOSTILE = 'quote " \\ \x00 \n \r \u2028 \x85 😀'
WHOLE = {
    "VARCHAR": HOSTILE,
    "JSON": '{\n "a": [1.0e400, "\\ud800"] }\r\n',
    "BIGINT": -(2**63),
    "INTEGER": 7,
    "DOUBLE": 1e-20,
    "BOOLEAN": True,
    "VARCHAR[]": [HOSTILE, "b"],
    "TIMESTAMP": datetime(2026, 3, 1, 12),  # noqa: DTZ001 - as the ledger stores times
}
FULL = {field.column: WHOLE[field.sql_type] for field in FIELDS} | {
    "truth_output": '"\n"'.replace("\n", "\\n"),
    "correction_id": "cor_1",
    "corrected_by": HOSTILE,
    "correction_digest": "ab" * 32,
    "corrected_at": datetime(2026, 3, 1, 12, 0, 0, 5),  # noqa: DTZ001 - as the ledger stores times
    "marks": '[{"mark_id":"mrk_1"}]',
}

PLAIN = FULL | {
    "service_name": "naïve 😀",
    "decision_id": "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    "digest": "cd" * 32,
    "corrected_by": "dana",
    "started_at": datetime(2026, 3, 1, 12, 0, 0, 120_000),  # noqa: DTZ001 - as the ledger stores times
}
"""Texts that stand in JSON as they are."""


@pytest.mark.parametrize(
    "rows",
    [[{}], [FULL], [PLAIN], [{}, FULL, PLAIN, {}, FULL], []],
    ids=["nulls", "full", "plain", "all", "none"],
)
def test_lines_by_columns_are_the_lines_by_rows(rows):
    page = pa.Table.from_pylist(rows, SCHEMA)

    assert data_of(jsonl_lines(page)) == b"".join(formats.jsonl(row) + b"\n" for row in rows_of(page))


def test_chosen_lines_are_whole_lines():
    page = pa.Table.from_pylist([FULL, {}, FULL], SCHEMA)
    chosen = jsonl_lines(page).filter(pa.array([False, True, False]))

    assert data_of(chosen) == formats.jsonl(rows_of(page)[1]) + b"\n"


@pytest.mark.parametrize("rows", [[{}, FULL, PLAIN], [PLAIN], []], ids=["all", "plain", "none"])
def test_lines_of_lineage_by_columns_are_those_by_rows(rows):
    page = pa.Table.from_pylist(rows, SCHEMA)
    numbers = pa.array(range(1, len(rows) + 1), pa.int64())

    told = data_of(lineage_lines(page, 'chat "1".jsonl', numbers, "train"))

    assert bytes(told) == b"".join(
        orjson.dumps({"file": 'chat "1".jsonl', "row": number, **lineage(row), "split": "train"}) + b"\n"
        for number, row in enumerate(rows_of(page), 1)
    )
