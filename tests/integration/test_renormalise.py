"""`loopgrid renormalize`: what a later mapping makes of what was received, appended and never changed."""

from __future__ import annotations

from datetime import datetime

import pytest

from loopgrid_collector import mapping
from loopgrid_collector.dialects.normalise import MAPPING_VERSION
from loopgrid_collector.ledger import renormalise as module
from loopgrid_collector.ledger.renormalise import renormalise
from loopgrid_collector.ledger.verify import Verification
from loopgrid_query.cli.app import run
from tests.support import samples
from tests.support.ledgers import house
from tests.support.spans import chat, traces

SHOWN = "SELECT decision_id, input, model_name, mapping_version FROM decisions ORDER BY decision_id"


def stumble(*_):
    raise KeyError("a mistake in a dialect")


@pytest.fixture
def unmapped(tmp_path, monkeypatch):
    """A ledger whose spans came while a dialect failed on all of them."""
    with monkeypatch.context() as broken, house(tmp_path) as it:
        broken.setattr(mapping, "normalise_spans", stumble)
        it.ingest.traces_blocking(traces(chat(1), chat(2), chat(3)))
        assert it.count("decisions") == 0
    return tmp_path


def test_spans_that_a_dialect_failed_on_become_decisions(unmapped):
    with house(unmapped) as it:
        received = it.rows("SELECT digest FROM store.spans ORDER BY position")
        report = renormalise(it.ledger)
        assert (report.spans, report.changed, report.commits) == (3, 3, 1)
        assert report.columns["kind"] == 3
        assert len(report.examples["kind"]) == 3

    with house(unmapped) as it:
        shown = it.rows(SHOWN)
        assert [row[2:] for row in shown] == [("gpt-5-mini", MAPPING_VERSION)] * 3
        assert '"ticket 1"' in shown[0][1]
        assert it.rows("SELECT digest FROM store.spans ORDER BY position") == received
        assert it.broken_evidence() == []
        assert renormalise(it.ledger).changed == 0
    with Verification(unmapped / "test.duckdb") as verification:
        assert verification.evidence(lambda *_: None).sound


def test_a_dry_run_reports_the_same_and_appends_nothing(unmapped):
    with house(unmapped) as it:
        report = renormalise(it.ledger, dry_run=True)

        assert (report.changed, report.commits) == (3, 0)
        assert it.rows("SELECT count(*) FROM store.renormalised") == [(0,)]


def test_only_what_was_recorded_since_is_looked_at(unmapped):
    with house(unmapped) as it:
        assert renormalise(it.ledger, since=datetime(2999, 1, 1)).spans == 0  # noqa: DTZ001


def test_small_batches_find_what_one_finds(unmapped, monkeypatch):
    monkeypatch.setattr(module, "BATCH_SPANS", 1)
    with house(unmapped) as it:
        report = renormalise(it.ledger)

        assert (report.changed, report.commits) == (3, 3)


def test_what_this_mapping_stored_is_not_changed_by_it(tmp_path):
    with house(tmp_path) as it:
        for pattern in ("*/*/*chat*", "*/*/*tools*", "otel-sdk-*/*"):
            for folder in samples.folders(pattern):
                for body in samples.bodies(folder, "traces"):
                    it.ingest.traces_blocking(body)

        report = renormalise(it.ledger, dry_run=True)

        assert report.spans > 100
        assert (report.changed, dict(report.columns)) == (0, {})


def test_the_command_says_what_changed(unmapped, capsys):
    ledger = str(unmapped / "test.duckdb")

    assert run(["renormalize", "--ledger", ledger, "--dry-run", "--json"]) == 0
    assert '"changed": 3' in capsys.readouterr().out
    assert run(["renormalize", "--ledger", ledger]) == 0
    assert "3 of 3 spans" in capsys.readouterr().out
    assert run(["renormalize", "--ledger", ledger, "--since", "yesterday"]) == 2
