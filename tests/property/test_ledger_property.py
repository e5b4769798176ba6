"""Whatever is sent, in whatever order and grouping: stored once, conflicts apart, evidence sound."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledgers import house
from tests.support.spans import span, traces

# Few ids and few contents, so that duplicates and conflicts are the rule.
item = st.tuples(st.integers(1, 6), st.sampled_from(["a", "b", "c"]))
requests = st.lists(st.lists(item, min_size=1, max_size=6), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests)
def test_the_ledger_agrees_with_a_dictionary(sent: list[list[tuple[int, str]]]) -> None:
    first: dict[int, str] = {}
    conflicts: set[tuple[int, str]] = set()
    for number, name in (pair for request in sent for pair in request):
        if first.setdefault(number, name) != name:
            conflicts.add((number, name))

    with tempfile.TemporaryDirectory() as folder, house(Path(folder)) as it:
        receipts = [
            it.ingest.traces_blocking(traces(*(span(number, name=name) for number, name in request)))
            for request in sent
        ]

        assert [len(request) for request in sent] == [
            receipt.stored + receipt.duplicates + receipt.conflicts + receipt.rejected for receipt in receipts
        ]
        assert sorted(first.items()) == sorted(
            (int(span_id, 16), name) for span_id, name in it.rows("SELECT span_id, name FROM spans")
        )
        assert len(conflicts) == it.count("conflicts")
        assert [] == it.broken_evidence()
