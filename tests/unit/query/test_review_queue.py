"""Places, leases and progress of a review queue, by a clock of the test's own."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from loopgrid_query.review import queue as happened
from loopgrid_query.review.queue import Event, Queue

NOW = datetime(2026, 3, 1, 12)  # noqa: DTZ001 - as the ledger stores times
LEASE = timedelta(seconds=60)


@pytest.fixture
def queue() -> Queue:
    return made(wanted=1)


def made(*, wanted: int, items: int = 2) -> Queue:
    body = {
        "name": "q",
        "reviewers_per_item": wanted,
        "lease_s": 60,
        "decision_ids": [f"d{number}" for number in range(items)],
    }
    return Queue.made_by(Event("rev_1", happened.REVIEW, "rev_1", None, None, body))


def happens(queue: Queue, kind: str, item: str, who: str, **body: str) -> None:
    queue.apply(Event(f"{kind}-{item}-{who}", kind, "rev_1", item, who, body))


def claims(queue: Queue, who: str, now: datetime = NOW) -> str | None:
    item = queue.next_for(who, now)
    if item is None:
        return None
    happens(queue, happened.CLAIM, item.decision_id, who, expires_at=(now + LEASE).isoformat())
    return item.decision_id


def test_what_one_holds_is_not_given_to_another_and_given_to_oneself_again(queue):
    assert claims(queue, "ann") == "d0"
    assert claims(queue, "bob") == "d1"
    assert claims(queue, "cid") is None
    assert claims(queue, "ann") == "d0"


def test_an_expired_lease_is_taken_over_and_its_old_holder_has_no_place_any_more(queue):
    claims(queue, "ann")
    later = NOW + LEASE

    assert queue.has_place(queue.items["d0"], "ann", later)
    assert claims(queue, "bob", later) == "d0"
    assert not queue.has_place(queue.items["d0"], "ann", later)


def test_a_released_item_is_given_to_anybody_and_a_skipped_one_to_others_only(queue):
    claims(queue, "ann")
    happens(queue, happened.RELEASE, "d0", "ann")
    assert claims(queue, "bob") == "d0"
    happens(queue, happened.SKIP, "d0", "bob", reason="no idea")

    assert claims(queue, "bob") == "d1"
    assert claims(queue, "cid") == "d0"


def test_an_item_that_wants_three_answers_takes_three_of_different_reviewers():
    queue = made(wanted=3, items=1)
    for who in ("ann", "bob", "cid"):
        assert claims(queue, who) == "d0"
    assert claims(queue, "dan") is None
    for who in ("ann", "bob", "cid"):
        happens(queue, happened.ANSWER, "d0", who, judgement_id="apr_1")

    assert claims(queue, "ann") is None
    assert claims(queue, "dan") is None
    assert queue.complete(queue.items["d0"])


def test_a_closed_queue_gives_nothing(queue):
    queue.apply(Event("x", happened.CLOSED, "rev_1", None, None, {}))

    assert claims(queue, "ann") is None
    assert not queue.has_place(queue.items["d0"], "ann", NOW)


def test_progress_counts_answers_what_remains_and_each_reviewer():
    queue = made(wanted=2)
    claims(queue, "ann")
    happens(queue, happened.ANSWER, "d0", "ann", judgement_id="apr_1")
    claims(queue, "bob")
    happens(queue, happened.SKIP, "d0", "bob", reason="no idea")
    claims(queue, "bob")

    told = queue.progress(NOW)
    reviewers = {one.pop("reviewer"): one for one in told.pop("reviewers")}

    assert told == {"items": 2, "complete": 0, "answers": 1, "answers_wanted": 4, "remaining": 3}
    assert reviewers == {
        "ann": {"answered": 1, "skipped": 0, "holding": 0, "open": 1},
        "bob": {"answered": 0, "skipped": 1, "holding": 1, "open": 1},
    }
