"""What is being decoded when a small commit begins is waited for, and nothing else is."""

from __future__ import annotations

from pathlib import Path

from loopgrid_collector.decoding import traces_append
from loopgrid_collector.ledger.ledger import WORTH_WAITING_BYTES
from tests.support.ledgers import house
from tests.support.spans import chat, traces

FOR_EVER_S = 600.0


def test_a_commit_waits_for_much_that_was_announced_before_it(tmp_path: Path) -> None:
    with house(tmp_path, max_commit_wait_s=FOR_EVER_S) as it:
        coming = it.ledger.announce(WORTH_WAITING_BYTES)
        first = it.ledger.append(traces_append(traces(chat(1))))
        second = it.ledger.append(traces_append(traces(chat(2))), [coming])

        assert first.result().commit_id == second.result().commit_id


def test_what_comes_to_nothing_is_not_waited_for_any_longer(tmp_path: Path) -> None:
    with house(tmp_path, max_commit_wait_s=FOR_EVER_S) as it:
        coming = it.ledger.announce(WORTH_WAITING_BYTES)
        stored = it.ledger.append(traces_append(traces(chat(1))))
        it.ledger.settle([coming])
        it.ledger.settle([coming])

        assert stored.result().stored == 1


def test_little_is_not_waited_for(tmp_path: Path) -> None:
    with house(tmp_path, max_commit_wait_s=FOR_EVER_S) as it:
        it.ledger.announce(WORTH_WAITING_BYTES - 1)

        assert it.ledger.append(traces_append(traces(chat(1)))).result().stored == 1


def test_the_wait_ends(tmp_path: Path) -> None:
    with house(tmp_path, max_commit_wait_s=0.01) as it:
        it.ledger.announce(WORTH_WAITING_BYTES)

        assert it.ledger.append(traces_append(traces(chat(1)))).result().stored == 1


def test_a_close_stores_what_was_handed_in_whatever_was_announced(tmp_path: Path) -> None:
    with house(tmp_path, max_commit_wait_s=FOR_EVER_S) as it:
        it.ledger.announce(WORTH_WAITING_BYTES)
        stored = it.ledger.append(traces_append(traces(chat(1))))
        it.ledger.close()

        assert stored.result().stored == 1
