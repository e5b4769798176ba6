"""A dialect that fails costs what it would have derived, never the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopgrid_collector import mapping
from loopgrid_collector.dialects.normalise import MAPPING_VERSION, normalise_spans
from loopgrid_collector.ledger.oddities import Oddities
from loopgrid_collector.otlp.attributes import Attributes
from tests.support.ledgers import house
from tests.support.spans import chat, log_record, logs, traces


def test_a_span_that_a_dialect_fails_on_is_stored_unmapped_and_its_neighbours_are_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = normalise_spans

    def stumbling(attributes: Attributes, facts: Any) -> Any:
        if "poison" in attributes.keys:
            raise KeyError("a mistake in a dialect")
        return working(attributes, facts)

    monkeypatch.setattr(mapping, "normalise_spans", stumbling)
    with house(tmp_path) as it:
        receipt = it.ingest.traces_blocking(traces(chat(1), chat(2, poison=True), chat(3)))

        assert (3, 0) == (receipt.stored, receipt.rejected)
        assert [("inference", MAPPING_VERSION), ("other", 0), ("inference", MAPPING_VERSION)] == it.rows(
            "SELECT kind, mapping_version FROM store.spans ORDER BY span_id"
        )
        assert 2 == it.count("decisions")
        assert [] == it.broken_evidence()


def test_a_log_record_that_a_dialect_fails_on_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbling(*_: object) -> Any:
        raise KeyError("a mistake in a dialect")

    monkeypatch.setattr(mapping, "normalise_logs", stumbling)
    with house(tmp_path) as it:
        oddities = Oddities(it.ledger)
        assert 2 == it.ingest.logs_blocking(logs(log_record(1), log_record(2))).stored
        assert [(0,), (0,)] == it.rows("SELECT mapping_version FROM store.logs")
        assert oddities.read() == oddities.read() == {"unmapped": 2, "scrubbed": 0, "unknown_fields": 0}
