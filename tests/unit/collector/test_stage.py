"""Requests decoded together get each their own receipt, and each their own error."""

from __future__ import annotations

import asyncio
from pathlib import Path

from loopgrid_collector.decoding import logs_append, traces_append
from loopgrid_collector.errors import Undecodable
from loopgrid_collector.ledger.records import Receipt
from tests.support.ledgers import house
from tests.support.spans import chat, log_record, logs, span, traces


def test_each_request_of_a_shared_append_gets_its_own_receipt(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(span(9, name="old")))
        shared = traces_append(
            traces(chat(1), chat(2)),
            b"",
            traces(chat(2), span(9, name="new"), chat(3)),
            traces(span(4, trace_id=b"short")),
        )

        parts = it.ledger.append(shared).result().parts

        assert [(2, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 0), (0, 0, 0, 1)] == [
            (part.stored, part.duplicates, part.conflicts, part.rejected) for part in parts
        ]
        assert [2, None, 2, 2] == [part.commit_id for part in parts]
        assert "" == parts[0].message
        assert "other content" in parts[2].message
        assert "trace_id" in parts[3].message
        assert [] == it.broken_evidence()


def test_log_requests_share_a_pass_too(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        shared = logs_append(logs(log_record(1)), logs(log_record(2), log_record(3)))

        assert [1, 2] == [part.stored for part in it.ledger.append(shared).result().parts]


def test_a_body_that_is_no_request_costs_those_it_waited_with_nothing(tmp_path: Path) -> None:
    async def at_once(ingest):
        bodies = [
            traces(chat(1)),
            b"no request",
            traces(chat(2)),
            b"",
            *(traces(chat(n)) for n in range(3, 60)),
        ]
        return await asyncio.gather(*map(ingest.traces, bodies), return_exceptions=True)

    with house(tmp_path) as it:
        outcomes = asyncio.run(at_once(it.ingest))

        assert isinstance(outcomes[1], Undecodable)
        assert Receipt() == outcomes[3]
        assert [1] * 59 == [
            outcome.stored for outcome in outcomes if isinstance(outcome, Receipt) and outcome.stored
        ]
        assert 59 == it.count("decisions")


def test_a_sender_that_goes_away_disturbs_nobody(tmp_path: Path) -> None:
    async def some_leave(ingest):
        tasks = [asyncio.create_task(ingest.traces(traces(chat(number)))) for number in range(1, 41)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with house(tmp_path) as it:
        outcomes = asyncio.run(some_leave(it.ingest))

        assert [1] * 20 == [outcome.stored for outcome in outcomes[1::2]]
        assert 1 == it.ingest.traces_blocking(traces(chat(99))).stored
        assert [] == it.broken_evidence()
