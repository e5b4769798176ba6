"""How many rows of a result are read at once."""

from __future__ import annotations

import pytest

from loopgrid_query.sql_stream import BATCH_ROWS, NARROW_BATCH_ROWS, batch_rows


def test_numbers_and_names_are_read_many_rows_at_once():
    assert batch_rows(["VARCHAR", "TIMESTAMP", "DOUBLE", "BIGINT"]) == NARROW_BATCH_ROWS


@pytest.mark.parametrize("kind", ["JSON", "BLOB", "VARCHAR[]", "STRUCT(a VARCHAR)", "MAP(VARCHAR, JSON)"])
def test_what_may_be_content_is_read_few_rows_at_once(kind):
    assert batch_rows(["BIGINT", kind]) == BATCH_ROWS
