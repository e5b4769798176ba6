"""Ends of replays are stored with the decisions that they led to, many in one commit: a real ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopgrid_collector.decoding import Kind, append_of
from loopgrid_collector.errors import CollectorError, ShuttingDown
from loopgrid_collector.ledger.records import Append, Entry
from loopgrid_query import ids
from loopgrid_query.errors import Invalid
from loopgrid_query.replay import finishing
from loopgrid_query.replay.finishing import Finisher
from tests.support.ledgers import House, house
from tests.support.spans import chat, traces

pytestmark = pytest.mark.integration


@pytest.fixture
def it(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


@pytest.fixture
def finisher(it: House) -> Iterator[Finisher]:
    made = Finisher(it.ingest)
    yield made
    made.close()


def end_of(number: int) -> Entry:
    body = {"status": "completed", "attempt": 1}
    return Entry(ids.new_replay_event_id(), "replay", number, number, f"rpl_{number}", "server", body)


def all_at_once(finisher: Finisher, spans: dict[int, bytes]) -> dict[int, BaseException | None]:
    """What each end was told that was handed in while the others were."""
    told: dict[int, BaseException | None] = {}
    begin = threading.Barrier(len(spans))

    def finish(number: int, span: bytes) -> None:
        begin.wait(60)
        try:
            finisher.finish(span, end_of(number))
            told[number] = None
        except (Invalid, CollectorError) as error:
            told[number] = error

    threads = [threading.Thread(target=finish, args=each) for each in spans.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return told


def test_a_decision_and_its_end_stand_in_one_commit(it, finisher):
    finisher.finish(traces(chat(7)), end_of(7))

    ((commits, records),) = it.rows(
        "SELECT count(DISTINCT commit_id), count(*) FROM "
        "(SELECT commit_id FROM store.spans UNION ALL SELECT commit_id FROM store.entries)"
    )
    assert (commits, records) == (1, 2)
    assert it.broken_evidence() == []


def test_ends_that_come_at_once_are_all_stored_and_share_commits(it, finisher):
    told = all_at_once(finisher, {number: traces(chat(number)) for number in range(1, 41)})

    assert set(told.values()) == {None}
    assert it.count("decisions") == 40
    assert it.rows("SELECT count(*), count(DISTINCT subject_id) FROM store.entries") == [(40, 40)]
    assert it.count("commits") < 40
    assert it.broken_evidence() == []


def test_an_end_whose_decision_cannot_be_stored_costs_the_others_nothing_and_leaves_no_end(it, finisher):
    spans = {number: traces(chat(number)) for number in range(1, 9)}
    spans[3] = b"no request at all"
    unnamed = chat(4)
    unnamed.span_id = b""
    spans[4] = traces(unnamed)
    told = all_at_once(finisher, spans)

    assert {number for number, error in told.items() if error is not None} == {3, 4}
    assert all(isinstance(told[number], Invalid) for number in (3, 4))
    found = it.rows("SELECT subject_id FROM store.entries ORDER BY subject_id")
    assert [name for (name,) in found] == [f"rpl_{number}" for number in (1, 2, 5, 6, 7, 8)]
    assert it.count("decisions") == 6
    assert it.count("quarantine") == 0


def test_a_mistake_of_ours_is_told_to_whom_it_strikes_and_the_others_are_stored(it, finisher, monkeypatch):
    real = append_of

    def mistaken(kind: Kind, *bodies: bytes) -> Append:
        if any(b"ticket 3" in body for body in bodies):
            raise RuntimeError("a mistake")
        return real(kind, *bodies)

    monkeypatch.setattr(finishing, "append_of", mistaken)
    told = all_at_once(finisher, {number: traces(chat(number)) for number in range(1, 6)})

    assert {number for number, error in told.items() if error is not None} == {3}
    assert "it is logged" in str(told[3])
    assert it.count("decisions") == 4


def test_an_end_that_is_said_twice_leads_to_one_decision(it, finisher):
    for _ in range(2):
        finisher.finish(traces(chat(7)), end_of(7))

    assert it.count("decisions") == 1
    assert it.count("conflicts") == 0


def test_a_door_that_refuses_is_told_to_everybody_who_waits(it, finisher):
    it.ledger.close()
    told = all_at_once(finisher, {number: traces(chat(number)) for number in range(1, 6)})

    assert len(told) == 5
    assert all(isinstance(error, ShuttingDown) for error in told.values())
