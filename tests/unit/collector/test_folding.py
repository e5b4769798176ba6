"""When the log is folded: once for every row group that small commits fill, so that none is written twice."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_collector.decoding import Kind, append_of
from loopgrid_collector.ledger.folding import RowGroups
from loopgrid_collector.ledger.records import Append
from tests.support.ledgers import house
from tests.support.spans import chat, traces

ROWS = 2_048


def of(spans: int = 0, logs: int = 0) -> Append:
    """An append with so many rows of nothing."""
    return Append(spans=pa.table({"x": range(spans)}), logs=pa.table({"x": range(logs)}))


@given(st.lists(st.tuples(st.integers(0, 1_500), st.integers(0, 1_500)), max_size=60))
def test_small_commits_never_leave_more_than_a_row_group_of_a_table_in_the_log(sizes):
    groups = RowGroups(ROWS)
    spans = logs = folds = 0
    for more_spans, more_logs in sizes:
        append = of(more_spans, more_logs)
        if groups.are_full_with([append]):
            groups.folded()
            spans = logs = 0
            folds += 1
        groups.add([append])
        spans, logs = spans + more_spans, logs + more_logs
        assert max(spans, logs) <= ROWS
    assert folds <= sum(each for pair in sizes for each in pair) // (ROWS - 1_500) + 1


def test_a_commit_of_a_row_group_goes_past_the_log_and_folds_nothing():
    groups = RowGroups(ROWS)
    groups.add([of(100)])

    assert not groups.are_full_with([of(ROWS)])
    groups.add([of(ROWS)])
    assert not groups.are_full_with([of(ROWS - 100)])
    assert groups.are_full_with([of(ROWS - 99)])


def test_small_commits_fill_one_row_group_after_the_other(tmp_path: Path):
    with house(tmp_path) as it:
        for number in range(1, 500, 10):
            spans = [chat(1_000 * number + each) for each in range(100)]
            it.ledger.append(append_of(Kind.TRACES, traces(*spans))).result()
        found = it.rows(
            "SELECT sum(count) FROM pragma_storage_info('store.spans') WHERE column_name = 'trace_id' "
            "AND segment_type <> 'VALIDITY' GROUP BY row_group_id ORDER BY row_group_id"
        )

    assert [int(rows) for (rows,) in found[:2]] == [2_000, 2_000]
