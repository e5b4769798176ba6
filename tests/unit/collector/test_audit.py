"""What happens to accesses between a request and the ledger."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from loopgrid_collector import audit
from loopgrid_collector.audit import Access, Audit
from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import StorageTrouble
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Receipt
from tests.support.ledgers import House, house

GET = Access("rest", "GET", "/v1/decisions", 200, key_id="k")


def rows(house: House) -> list[tuple[object, ...]]:
    return house.rows("SELECT door, status, reason, attempts FROM access_log ORDER BY accessed_at")


def test_what_was_noted_before_the_end_is_stored(tmp_path: Path):
    with house(tmp_path) as opened:
        log = Audit(opened.ledger)
        for _ in range(audit.MAX_BATCH + 1):
            log.note(GET)
        log.close()

        assert opened.count("access_log") == audit.MAX_BATCH + 1
        assert opened.broken_evidence() == []


def test_refused_attempts_beyond_the_rate_are_counted_in_one_row(tmp_path: Path):
    seconds = [5.0]
    with house(tmp_path) as opened:
        log = Audit(opened.ledger, clock=lambda: seconds[0])
        for _ in range(audit.REFUSED_PER_S + 7):
            log.refused(GET)
        seconds[0] = 6.0
        log.refused(GET)
        log.close()

        assert sum(int(str(row[3])) for row in rows(opened)) == audit.REFUSED_PER_S + 8
        assert sum(int(str(row[3])) for row in rows(opened) if row[2] == "too_many_refused") == 7


def test_what_does_not_fit_the_queue_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit, "MAX_WAITING", 2)
    monkeypatch.setattr(audit, "GATHER_S", 3600)
    with house(tmp_path) as opened:
        log = Audit(opened.ledger)
        for _ in range(5):
            log.note(GET)
        log.close()

        assert rows(opened) == [("rest", 200, None, 1), ("rest", 200, None, 1), (None, None, "queue_full", 3)]


def test_a_commit_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit, "RETRY_S", 0)
    with house(tmp_path) as opened:
        stored, failures, again = opened.ledger.append, [1, 2], threading.Event()

        def append(*arguments: object) -> Future[Receipt]:
            if failures:
                failures.pop()
                failed: Future[Receipt] = Future()
                failed.set_exception(StorageTrouble("no space"))
                return failed
            again.set()
            return stored(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(opened.ledger, "append", append)
        log = Audit(opened.ledger)
        log.note(GET)
        assert again.wait(30)
        log.close()

        assert rows(opened) == [("rest", 200, None, 1)]


def test_without_accesses_nothing_is_begun_and_nothing_stored(tmp_path: Path):
    ledger = Ledger.open(str(tmp_path / "ledger.duckdb"), CollectorConfig())
    try:
        Audit(ledger).close()
        assert ledger.standing().records == 0
    finally:
        ledger.close()
